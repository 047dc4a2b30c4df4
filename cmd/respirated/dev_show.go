package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

// show inserts strands of the demo's kinds and tells what becomes of them.
type show struct {
	db     *database
	broker *broker.Broker
	out    io.Writer
	sum    summary
	open   map[string]time.Time // strands that have not finished, and when their insert had committed
}

func newShow(db *database, b *broker.Broker, out io.Writer) *show {
	return &show{db: db, broker: b, out: out, open: make(map[string]time.Time)}
}

const (
	showEvery  = 200 * time.Millisecond // a strand is inserted so often, and one look taken
	crashEvery = 300                    // strands; a crash ends worker processes, which then back off
	settleFor  = 10 * time.Second       // strands may finish for so long after the last was inserted
)

// script is what is inserted, over and over.
var script = []struct {
	args client.Args
	opts client.InsertOpts
}{
	{args: demo.Ping{}},
	{args: demo.Echo{RawMessage: json.RawMessage(`{"text":"hello"}`)}},
	{args: demo.Ping{}},
	{args: demo.Sleep{For: demo.Duration(500 * time.Millisecond)}},
	{args: demo.Ping{}},
	{args: demo.Smoke{}},
	{args: demo.Ping{}},
	{args: demo.Provision{}},
	{args: demo.Ping{}},
	{args: demo.Fail{Times: 1, Message: "the first try always fails"}},
	{args: demo.Ping{}},
	{args: demo.Panic{Message: "on purpose"}, opts: client.InsertOpts{MaxTries: 1}},
}

// run goes on for a time, 0 = until ctx ends. Then it waits for what is open, unless ctx has ended.
func (s *show) run(ctx context.Context, length time.Duration) error {
	kinds, err := s.served(ctx)
	if err != nil {
		return quiet(ctx, err)
	}
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	began := time.Now()
	for n := 0; ; n++ {
		inserting := length == 0 || time.Since(began) < length
		if !inserting && (len(s.open) == 0 || time.Since(began) > length+settleFor) {
			return nil
		}
		if inserting {
			err = s.insert(ctx, kinds, n)
		}
		if err == nil {
			err = s.look(ctx)
		}
		if err != nil {
			return quiet(ctx, err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// quiet forgives what fails because we were told to stop.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// served waits until workers have connected, and tells which kinds they serve.
func (s *show) served(ctx context.Context) ([]string, error) {
	for {
		snap, err := s.broker.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		for _, w := range snap.Workers {
			if w.Connected {
				return w.Kinds, nil
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// insert adds the n-th strand of the script, if anybody serves its kind.
func (s *show) insert(ctx context.Context, kinds []string, n int) error {
	next := script[n%len(script)]
	if n%crashEvery == 2*len(script) {
		next.args = demo.Crash{}
	}
	if !slices.Contains(kinds, next.args.Kind()) {
		return nil
	}
	next.opts.Keep = true
	inserted, err := s.db.Insert(ctx, next.args, &next.opts)
	if err != nil {
		return err
	}
	s.open[inserted.ID] = time.Now()
	s.sum.inserted++
	return nil
}

// look tells which strands have finished since the last look.
func (s *show) look(ctx context.Context) error {
	page, err := s.db.StrandList(ctx, &client.StrandListParams{
		States: []client.State{client.Done, client.Cancelled, client.Dead}, First: client.MaxFirst,
	})
	if err != nil {
		return err
	}
	for _, row := range slices.Backward(page.Strands) { // the newest is the first
		if committed, ok := s.open[row.ID]; ok {
			delete(s.open, row.ID)
			if err := s.finished(ctx, row, committed); err != nil {
				return err
			}
		}
	}
	s.sum.open = len(s.open)
	return s.countConnections(ctx)
}

func (s *show) finished(ctx context.Context, row *client.StrandRow, committed time.Time) error {
	s.sum.count(row, committed)
	what := "in " + row.FinishedAt.Sub(row.CreatedAt).Round(time.Millisecond).String()
	if row.State != client.Done || row.Try > 0 {
		full, err := s.db.StrandGet(ctx, row.ID)
		if err != nil {
			return err
		}
		if n := len(full.Attempts); n > 0 {
			what += fmt.Sprintf(", failures: %d, the last: %s", n, full.Attempts[n-1].Message)
		}
	}
	_, err := fmt.Fprintf(s.out, "%s  %-9s %-10s %.8s  %s\n", row.FinishedAt.Local().Format(time.TimeOnly), row.Kind, row.State, row.ID, plain(what))
	return err
}

// countConnections counts those of the daemon, which are all but ours.
func (s *show) countConnections(ctx context.Context) error {
	var n int
	const count = `select count(*) from pg_stat_activity
		where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
	if err := s.db.conn.QueryRow(ctx, count).Scan(&n); err != nil {
		return fmt.Errorf("count the connections: %w", err)
	}
	s.sum.connections = max(s.sum.connections, n)
	return nil
}

// summary is what is told at the end.
type summary struct {
	inserted, open        int
	done, dead, cancelled int
	failures, crashes     int
	connections           int
	latencies             []time.Duration // from commit to handler, one for each ping
}

func (s *summary) count(row *client.StrandRow, committed time.Time) {
	switch row.State {
	case client.Done:
		s.done++
	case client.Dead:
		s.dead++
	case client.Cancelled:
		s.cancelled++
	}
	s.failures += row.Try
	s.crashes += row.Crashes
	var pong demo.Pong
	if row.Kind == (demo.Ping{}).Kind() && json.Unmarshal(row.Value, &pong) == nil {
		// The handler may begin before the answer to the insert has reached us.
		s.latencies = append(s.latencies, max(0, pong.Began.Sub(committed)))
	}
}

func (s *summary) print(out io.Writer, procs int) error {
	if _, err := fmt.Fprintln(out, "\nsummary"); err != nil {
		return err
	}
	t := newTable(out)
	for _, line := range []struct {
		what string
		n    int
	}{
		{"strands inserted", s.inserted},
		{"done", s.done},
		{"dead, as they were meant to be", s.dead},
		{"cancelled", s.cancelled},
		{"not finished", s.open},
		{"tries that failed", s.failures},
		{"runs that ended with their worker", s.crashes},
	} {
		t.row("  "+line.what, fmt.Sprint(line.n))
	}
	if n := len(s.latencies); n > 0 {
		slices.Sort(s.latencies)
		t.row("  commit to handler", fmt.Sprintf("p50 %v, p99 %v, of %d pings",
			percentile(s.latencies, 50).Round(10*time.Microsecond), percentile(s.latencies, 99).Round(10*time.Microsecond), n))
	}
	t.row("  database connections", fmt.Sprintf("%d, for %d worker processes", s.connections, procs))
	return t.flush()
}

// percentile is the value that p per cent of the sorted values do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
