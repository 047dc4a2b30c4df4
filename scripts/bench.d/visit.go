package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

const (
	stopPatience = 20 * time.Second     // for a system's processes to end
	lookEvery    = 5 * time.Millisecond // whether all is persisted, once all handlers have ended
)

// visit is one system at work in a database of its own: its inserter, and after start its workers.
type visit struct {
	lab    *lab
	system system.System
	place  system.Place
	hub    *hub.Hub
	conn   *pgx.Conn // of the harness, to the visit's database
	meter  meter.Meter
	log    *os.File

	ctx     context.Context // ends, with the reason, when a process ends that should not
	fail    context.CancelCauseFunc
	waiting sync.WaitGroup
	cmds    []*exec.Cmd
	next    int   // number of the next job
	txBegin int64 // transactions before the drain
}

// open makes the database and starts the inserter.
func (l *lab) open(ctx context.Context, s system.System) (_ *visit, err error) {
	v := &visit{lab: l, system: s}
	v.ctx, v.fail = context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			_, closeErr := v.close()
			err = errors.Join(err, closeErr)
		}
	}()
	if v.meter.Database, v.place.URL, err = l.database(ctx, s); err != nil {
		return nil, err
	}
	v.meter.Server = l.meter
	if v.place.Dir, err = l.folder(); err != nil {
		return nil, err
	}
	v.place.Hub = filepath.Join(v.place.Dir, "hub.sock")
	if v.log, err = os.Create(filepath.Join(v.place.Dir, "output")); err != nil {
		return nil, err
	}
	if v.hub, err = hub.Listen(v.place.Hub); err != nil {
		return nil, err
	}
	if v.conn, err = pgx.Connect(ctx, meter.AsHarness(v.place.URL)); err != nil {
		return nil, err
	}
	at := v.place
	at.URL = meter.AsInserter(at.URL)
	return v, v.spawn(s.Inserter(at))
}

// spawn starts a process, whose end before the visit's is a failure.
func (v *visit) spawn(cmd *exec.Cmd) error {
	system.Tether(cmd, v.log)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a process of %s: %w", v.system.Name(), err)
	}
	v.cmds = append(v.cmds, cmd)
	v.waiting.Go(func() {
		err := cmd.Wait()
		v.fail(fmt.Errorf("a process of %s ended by itself (%v), saying: %s", v.system.Name(), err, v.said()))
	})
	return nil
}

// said is the end of what the processes have printed.
func (v *visit) said() string {
	const most = 2000
	text, err := os.ReadFile(v.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-most):])
}

// insert makes a backlog by the system's bulk insert. It begins after a checkpoint, so that the log holds what the work
// costs, and no full pages that depend on when the last checkpoint was. Afterwards the tables are vacuumed and analyzed, as
// autovacuum would do at some moment.
func (v *visit) insert(jobs, size int) (r Insert, err error) {
	if err := v.lab.meter.Exec(v.ctx, "checkpoint"); err != nil {
		return r, err
	}
	m := v.meter
	m.Workers = []int{v.cmds[0].Process.Pid}
	before, err := m.Begin(v.ctx)
	if err != nil {
		return r, err
	}
	took, err := v.hub.Bulk(v.ctx, v.next, jobs, v.system.Batch(), size)
	if err != nil {
		return r, fmt.Errorf("insert with %s: %w", v.system.Name(), err)
	}
	after, err := m.End(v.ctx)
	if err != nil {
		return r, err
	}
	v.next += jobs
	return Insert{Rate: float64(jobs) / took.Seconds(), Cost: after.Since(before, jobs)}, v.vacuum()
}

// vacuum has a connection of its own, whose end tells the server of its transactions before others are counted.
func (v *visit) vacuum() error {
	conn, err := pgx.Connect(v.ctx, meter.AsHarness(v.place.URL))
	if err != nil {
		return err
	}
	if _, err := conn.Exec(v.ctx, "vacuum analyze"); err != nil {
		return errors.Join(fmt.Errorf("vacuum the backlog: %w", err), conn.Close(v.ctx))
	}
	return conn.Close(v.ctx)
}

// start starts so many worker processes, up to where they are loaded and wait.
func (v *visit) start(processes int) error {
	cmds, err := v.system.Workers(v.place, processes)
	if err != nil {
		return err
	}
	for _, cmd := range cmds {
		if err := v.spawn(cmd); err != nil {
			return err
		}
	}
	if b, ok := v.system.(system.Brokered); ok {
		for _, cmd := range cmds[:b.Brokers()] {
			v.meter.Brokers = append(v.meter.Brokers, cmd.Process.Pid)
		}
	}
	v.meter.Workers, err = v.hub.Workers(v.ctx, processes)
	return err
}

// drain lets the workers go, and measures until all of the backlog is persisted as finished.
func (v *visit) drain(jobs int) (r Drain, err error) {
	if v.txBegin, err = v.lab.meter.Transactions(v.ctx, v.meter.Database); err != nil {
		return r, err
	}
	before, err := v.meter.Begin(v.ctx)
	if err != nil {
		return r, err
	}
	if err := v.hub.Go(); err != nil {
		return r, err
	}
	first, err := v.hub.Handled(v.ctx, jobs)
	if err != nil {
		return r, err
	}
	if err := v.persisted(); err != nil {
		return r, err
	}
	took := hub.Now().Since(first)
	after, err := v.meter.End(v.ctx)
	if err != nil {
		return r, err
	}
	r = Drain{Rate: float64(jobs) / took.Seconds(), Cost: after.Since(before, jobs)}
	r.Connections, err = v.lab.meter.Connections(v.ctx, v.meter.Database)
	return r, err
}

func (v *visit) persisted() error {
	for {
		var left bool
		if err := v.conn.QueryRow(v.ctx, v.system.Unfinished()).Scan(&left); err != nil {
			return fmt.Errorf("ask whether all jobs of %s are finished: %w", v.system.Name(), err)
		}
		if !left {
			return nil
		}
		select {
		case <-v.ctx.Done():
			return context.Cause(v.ctx)
		case <-time.After(lookEvery):
		}
	}
}

// idle counts the statements per second that the processes send while nothing happens.
func (v *visit) idle(during time.Duration) (statements, seconds float64, err error) {
	if err := pause(v.ctx, settle); err != nil {
		return 0, 0, err
	}
	before, err := v.lab.meter.Statements(v.ctx, v.meter.Database)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	if err := pause(v.ctx, during); err != nil {
		return 0, 0, err
	}
	after, err := v.lab.meter.Statements(v.ctx, v.meter.Database)
	seconds = time.Since(began).Seconds()
	return float64(after-before) / seconds, seconds, err
}

// close ends the processes, counts the transactions since the drain began, now that all of them have been told, and
// removes everything.
func (v *visit) close() (transactions int64, err error) {
	err = context.Cause(v.ctx) // why it failed, where it did
	v.fail(errors.New("the visit is over"))
	for _, cmd := range v.cmds {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	ended := make(chan struct{})
	go func() {
		v.waiting.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(stopPatience):
		err = errors.Join(err, fmt.Errorf("processes of %s did not end within %v of SIGTERM, saying: %s", v.system.Name(), stopPatience, v.said()))
		for _, cmd := range v.cmds {
			_ = cmd.Process.Kill() // as above
		}
		<-ended
	}
	return v.remove(err)
}

// remove takes away what open has made, as far as it came.
func (v *visit) remove(soFar error) (transactions int64, err error) {
	ctx := context.Background() // also after Ctrl-C
	err = soFar
	if v.hub != nil {
		v.hub.Close()
	}
	if v.conn != nil {
		_ = v.conn.Close(ctx)
	}
	if v.log != nil {
		_ = v.log.Close()
	}
	if v.place.Dir != "" {
		err = errors.Join(err, os.RemoveAll(v.place.Dir))
	}
	if v.meter.Database != "" {
		transactions, _ = v.lab.meter.Transactions(ctx, v.meter.Database) // a server that is gone tells so in the next call
		transactions -= v.txBegin
		err = errors.Join(err, v.lab.meter.Exec(ctx, "drop database "+v.meter.Database+" with (force)"))
	}
	return transactions, err
}
