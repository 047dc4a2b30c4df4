package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
	"github.com/respirated/respirated/protocol"
)

// benchConfig says what to measure, and where.
type benchConfig struct {
	url     string
	program string // respirated, to start the daemon and its workers from
	jobs    int    // 0 = no throughput
	latency int    // samples; 0 = no latency
	procs   int
	slots   int
	payload int // bytes
	history bool
	keep    bool   // the schema
	profile string // folder for CPU profiles of the daemon and its workers; "" = none
}

// benchRun is one measurement: a schema, and for each part of it a daemon of its own, so that what one part leaves in
// caches and counters is not taken for the next one's.
type benchRun struct {
	benchConfig
	errOut   io.Writer
	schema   string
	look     surroundings
	progress *benchProgress
	report   benchReport
}

func newBenchRun(c benchConfig, errOut io.Writer) *benchRun {
	return &benchRun{
		benchConfig: c,
		errOut:      errOut,
		progress:    newBenchProgress(errOut),
		report:      benchReport{Jobs: c.jobs, Procs: c.procs, Slots: c.slots, Payload: c.payload, History: c.history},
	}
}

var errInterrupted = errors.New("interrupted before everything was measured")

// run leaves nothing behind, however it ends.
func (b *benchRun) run(ctx context.Context) (report *benchReport, err error) {
	defer b.progress.finish()
	own, err := makeBenchSchema(ctx, b.url)
	if err != nil {
		return nil, err
	}
	b.schema = own.name
	defer func() {
		if ctx.Err() != nil {
			err = errInterrupted // whatever that has cut off
		}
		b.progress.phase("removing the schema", -1)
		err = errors.Join(err, own.close(ctx, b.keep, b.errOut))
	}()
	b.progress.phase("looking around", -1)
	if err := b.within(ctx, b.lookAround); err != nil {
		return nil, err
	}
	if err := migrateUp(ctx, fileConfig{DatabaseURLs: urls{b.url}, Schema: b.schema}, slog.New(slog.DiscardHandler)); err != nil {
		return nil, err
	}
	if err := b.within(ctx, b.makeQueue); err != nil {
		return nil, err
	}
	if b.latency > 0 {
		if err := b.measureLatency(ctx); err != nil {
			return nil, err
		}
	}
	if b.jobs > 0 {
		if err := b.measureThroughput(ctx); err != nil {
			return nil, err
		}
	}
	return &b.report, nil
}

// within does something on a connection of its own.
func (b *benchRun) within(ctx context.Context, do func(context.Context, *database) error) error {
	cfg := fileConfig{DatabaseURLs: urls{withApplicationName(b.url, b.schema)}, Schema: b.schema}
	db, err := connect(ctx, cfg, client.InsertOpts{})
	if err != nil {
		return err
	}
	defer db.close(ctx)
	return do(ctx, db)
}

// lookAround notes what the figures depend on.
func (b *benchRun) lookAround(ctx context.Context, db *database) (err error) {
	b.look, err = lookAround(ctx, db.conn, b.schema)
	b.report.Server, b.report.Warnings = b.look.server, b.look.warnings
	for _, warning := range b.look.warnings {
		b.progress.finish()
		fmt.Fprintln(b.errOut, "warning:", plain(warning))
	}
	return err
}

// makeQueue makes the queue of the backlog, and its wish for history, before its first strand does.
func (b *benchRun) makeQueue(ctx context.Context, db *database) error {
	retention := "0"
	if b.history {
		retention = "7 days"
	}
	_, err := db.conn.Exec(ctx, "insert into "+b.table("queue")+" (tenant, queue, retention) values ('', $1, $2::text::interval)",
		protocol.DefaultQueue, retention)
	if err != nil {
		return fmt.Errorf("make a queue: %w", err)
	}
	return nil
}

func (b *benchRun) table(name string) string { return pgx.Identifier{b.schema, name}.Sanitize() }

// measureLatency inserts pings one by one. Both of their times are by this host's clock.
func (b *benchRun) measureLatency(ctx context.Context) error {
	return b.withHost(ctx, &observer{}, func(ctx context.Context, db *database, _ *benchHost) error {
		b.progress.phase("one at a time", b.latency)
		delays := make([]time.Duration, b.latency)
		for i := range delays {
			var err error
			if delays[i], err = ping(ctx, db); err != nil {
				return err
			}
			b.progress.set(i + 1)
		}
		b.report.CommitToStart = newLatency(delays)
		return nil
	})
}

// ping measures the time from the commit of one insert to the begin of its handler.
func ping(ctx context.Context, db *database) (time.Duration, error) {
	inserted, err := db.Insert(ctx, demo.Ping{}, &client.InsertOpts{Keep: true})
	if err != nil {
		return 0, err
	}
	committed := time.Now()
	row, err := db.StrandWait(ctx, inserted.ID)
	if err != nil {
		return 0, err
	}
	var pong demo.Pong
	if err := json.Unmarshal(row.Value, &pong); err != nil {
		return 0, fmt.Errorf("read when strand %s began: %w", row.ID, err)
	}
	// A handler may begin before the answer to the insert is here.
	return max(0, pong.Began.Sub(committed)), nil
}

// measureThroughput inserts a backlog and has it run. What we ourselves ask meanwhile is not counted.
func (b *benchRun) measureThroughput(ctx context.Context) error {
	var lastID string
	err := b.within(ctx, func(ctx context.Context, db *database) (err error) {
		lastID, err = b.insertBacklog(ctx, db)
		return err
	})
	if err != nil {
		return err
	}
	o := &observer{}
	before, err := b.readCounters(ctx, o)
	if err != nil {
		return err
	}
	err = b.withHost(ctx, o, func(ctx context.Context, db *database, host *benchHost) error {
		return b.drain(ctx, o, db, host, lastID)
	})
	if err != nil {
		return err
	}
	after, err := b.readCounters(ctx, o)
	if err != nil {
		return err
	}
	b.report.count(before, after)
	return nil
}

const (
	backlogChunk = 10_000   // strands in one call, unless they are large
	chunkBytes   = 16 << 20 // of their payload
)

// insertBacklog fills a queue that is paused, so that all of it is there when the first strand starts. It returns the id
// of the strand that starts last.
func (b *benchRun) insertBacklog(ctx context.Context, db *database) (lastID string, err error) {
	if _, err := db.conn.Exec(ctx, "update "+b.table("queue")+" set paused_at = now()"); err != nil {
		return "", fmt.Errorf("pause the queue: %w", err)
	}
	b.progress.phase("inserting", b.jobs)
	args := benchArgs(b.payload)
	most := max(1, min(backlogChunk, chunkBytes/len(args.JSON)))
	chunk := slices.Repeat([]client.InsertManyParams{{Args: args}}, min(most, b.jobs))
	began := time.Now()
	for left := b.jobs - 1; left > 0; left -= len(chunk) {
		chunk = chunk[:min(left, len(chunk))]
		if _, err := db.InsertManyFast(ctx, chunk); err != nil {
			return "", err
		}
		b.progress.set(b.jobs - left + len(chunk))
	}
	inserted, err := db.Insert(ctx, args, &client.InsertOpts{Priority: 9})
	if err != nil {
		return "", err
	}
	b.report.InsertPerSecond = float64(b.jobs) / time.Since(began).Seconds()
	return inserted.ID, nil
}

// benchArgs are those of a strand that does nothing, with so many bytes of random text.
func benchArgs(payload int) client.RawArgs {
	args := client.RawArgs{Name: demo.Noop{}.Kind(), JSON: json.RawMessage("{}")}
	if payload > 0 {
		text := make([]byte, payload/2+1)
		rand.Read(text) // never fails: see its documentation
		args.JSON = fmt.Appendf(nil, `{"text":"%s"}`, hex.EncodeToString(text)[:payload])
	}
	return args
}
