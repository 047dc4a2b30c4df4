package system

import (
	"context"
	"crypto/md5"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/worker"
)

// Programs of several steps, which our workers run beside the plain jobs.

func addPrograms(mux *worker.Mux, line *hub.Line) {
	worker.AddProg(mux, sleeperProg(line))
	worker.AddProg(mux, hopperProg(line))
	worker.AddProg(mux, parentProg(line))
	worker.AddFunc(mux, func(context.Context, *worker.Strand[Leaf]) error {
		line.Handle(hub.Args{})
		return nil
	})
}

// Sleeper hibernates. Signals tell it its number, which it tells the harness.
type Sleeper struct{}

// Kind implements worker.Args.
func (Sleeper) Kind() string { return "sleeper" }

// wakeSignal is its name.
const wakeSignal = "wake"

func sleeperProg(line *hub.Line) worker.Prog[Sleeper] {
	return worker.Prog[Sleeper]{Labels: map[string]worker.Label[Sleeper]{
		"start": func(_ context.Context, s *worker.Strand[Sleeper]) (worker.Outcome, error) {
			if signal, ok := s.Take(wakeSignal); ok {
				n, err := worker.Decode[int](signal.Value)
				if err != nil {
					return worker.Outcome{}, err
				}
				line.Handle(hub.Args{N: n, Trace: true})
			}
			return worker.Hibernate(), nil
		},
	}}
}

// Sleeping is respirate with so many strands asleep in its tables: every other one hibernates, the others nap for days.
type Sleeping struct {
	Respirate
	Rows int
}

// Name implements System.
func (s Sleeping) Name() string { return fmt.Sprintf("%s, %d asleep", s.Respirate.Name(), s.Rows) }

// Prepare implements System. The strands are as their programs would leave them: inserted, run once, and asleep. The indexes are filled
// afterwards, which takes minutes less, to where insertions in random order fill them.
func (s Sleeping) Prepare(ctx context.Context, url string) error {
	if err := s.Respirate.Prepare(ctx, url); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, sql := range []string{
		`select respirate.lane('', 'default', 5, 'sleeper')`,
		`update pg_index set indisready = false where indrelid = 'respirate.strand'::regclass`,
		fmt.Sprintf(`insert into respirate.strand (id, lane, args, schedule)
			select md5('sleeper ' || n)::uuid, (select lane from respirate.lane where kind = 'sleeper'), '{}',
				now() + case when n %% 2 = 0 then interval '100 years' else '1 day' + interval '29 days' * random() end
			from generate_series(0, %d - 1) n`, s.Rows),
		`alter index respirate.strand_pkey set (fillfactor = 70)`,
		`alter index respirate.strand_ready set (fillfactor = 70)`,
		`reindex table respirate.strand`, // which has them ready again
		`alter index respirate.strand_pkey reset (fillfactor)`,
		`alter index respirate.strand_ready reset (fillfactor)`,
		`vacuum analyze`,
		`checkpoint`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return fmt.Errorf("put strands to sleep: %w", err)
		}
	}
	return nil
}

// Unfinished implements System: those who sleep are not counted. The order has it ask the index.
func (Sleeping) Unfinished() string {
	return `select exists (select from respirate.lane l
		cross join lateral (select from respirate.strand s where s.lane = l.lane order by s.schedule, s.id limit 1) s
		where l.kind <> 'sleeper')`
}

// Signal implements hub.Signaller.
func (c respirateClient) Signal(ctx context.Context, sleeper int) error {
	id := md5.Sum(fmt.Appendf(nil, "sleeper %d", sleeper))
	text := fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	return c.Client.Signal(ctx, text, wakeSignal, sleeper)
}

// Hopper goes from label to label, so many times, and keeps count in its row.
type Hopper struct {
	Left int `json:"left"`
}

// Kind implements worker.Args.
func (Hopper) Kind() string { return "hopper" }

func hopperProg(line *hub.Line) worker.Prog[Hopper] {
	to := func(label string) worker.Label[Hopper] {
		return func(_ context.Context, s *worker.Strand[Hopper]) (worker.Outcome, error) {
			line.Handle(hub.Args{})
			if s.Args.Left <= 0 {
				return worker.Exit(nil), nil
			}
			return worker.Hop(label).With(Hopper{s.Args.Left - 1}), nil
		}
	}
	return worker.Prog[Hopper]{Labels: map[string]worker.Label[Hopper]{"start": to("even"), "even": to("odd"), "odd": to("even")}}
}

// Parent buds children in portions and reaps them. It tells the harness when it has budded all, when it first finds none left, and when
// it has reaped all; how often it ran to reap, and in how many of these runs a child was left.
type Parent struct {
	Children int  `json:"children"`
	Portion  int  `json:"portion"`
	Idle     bool `json:"idle"` // the children have nothing to do until tomorrow

	Budded int `json:"budded"`
	Reaped int `json:"reaped"`
	Runs   int `json:"runs"`
	Waits  int `json:"waits"`

	Alone bool `json:"alone"` // no child is left
}

// Kind implements worker.Args.
func (Parent) Kind() string { return "parent" }

// What a Parent tells: moments, and then counts.
const (
	TellBudded = "budded"
	TellAlone  = "alone"
	TellReaped = "reaped"
	TellRuns   = "runs"
	TellWaits  = "waits"
)

// Leaf is a child of Parent. It does nothing.
type Leaf struct{}

// Kind implements worker.Args.
func (Leaf) Kind() string { return "leaf" }

func parentProg(line *hub.Line) worker.Prog[Parent] {
	return worker.Prog[Parent]{Labels: map[string]worker.Label[Parent]{
		"start": func(ctx context.Context, s *worker.Strand[Parent]) (worker.Outcome, error) {
			p := s.Args
			var opts *worker.InsertOpts
			if p.Idle {
				opts = &worker.InsertOpts{ScheduledAt: time.Now().Add(24 * time.Hour)}
			}
			for range min(p.Portion, p.Children-p.Budded) {
				if _, err := worker.Bud(ctx, Leaf{}, opts); err != nil {
					return worker.Outcome{}, err
				}
				p.Budded++
			}
			if p.Budded < p.Children {
				return worker.Hop("start").With(p), nil
			}
			return worker.Hop("reap").With(p), nil
		},
		"reap": func(_ context.Context, s *worker.Strand[Parent]) (worker.Outcome, error) {
			p := s.Args
			if p.Runs == 0 {
				line.Tell(TellBudded, int64(hub.Now()))
			}
			if s.Children().Left > 0 {
				p.Waits++
			} else if !p.Alone {
				p.Alone = true
				line.Tell(TellAlone, int64(hub.Now()))
			}
			p.Runs++
			o, wait := s.Reap(worker.ReapOpts{Each: func(worker.Child) { p.Reaped++ }})
			if wait {
				return o.With(p), nil
			}
			if p.Reaped != p.Children {
				return worker.Outcome{}, worker.Dead(fmt.Errorf("it has reaped %d children of %d", p.Reaped, p.Children))
			}
			line.Tell(TellRuns, int64(p.Runs))
			line.Tell(TellWaits, int64(p.Waits))
			line.Tell(TellReaped, int64(hub.Now()))
			return worker.Exit(nil), nil
		},
	}}
}
