package worker_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
	"github.com/respirated/respirated/worker"
)

// Welcome is sent to each new customer.
type Welcome struct {
	Email string `json:"email"`
}

func (Welcome) Kind() string { return "welcome" }

// WelcomeWorker sends it.
type WelcomeWorker struct {
	worker.Defaults[Welcome]
}

func (w *WelcomeWorker) Work(ctx context.Context, s *worker.Strand[Welcome]) error {
	if s.Args.Email == "" {
		return worker.Dead(errors.New("nobody to write to"))
	}
	fmt.Println("to", s.Args.Email, "on try", s.Try)
	return nil
}

func (w *WelcomeWorker) Timeout(*worker.Strand[Welcome]) time.Duration { return 30 * time.Second }

func ExampleAdd() {
	mux := worker.NewMux()
	worker.Add(mux, &WelcomeWorker{})
	serve(mux, strand("welcome", `{"email":"ada@example.com"}`), strand("welcome", `{}`))
	// Output:
	// to ada@example.com on try 1
	// the broker gets: exit
	// the broker gets: fail (declared dead by its handler: nobody to write to)
}

// Rollout goes through the hosts of a fleet, one after the other.
type Rollout struct {
	Hosts []string `json:"hosts"`
	Done  int      `json:"done,omitempty"`
}

func (Rollout) Kind() string { return "rollout" }

func upgrade(ctx context.Context, s *worker.Strand[Rollout]) (worker.Outcome, error) {
	r := s.Args
	if r.Done == len(r.Hosts) {
		return worker.Exit(r.Done), nil
	}
	fmt.Println("upgrade", r.Hosts[r.Done])
	return worker.Hop("watch").After(time.Minute), nil
}

func watch(ctx context.Context, s *worker.Strand[Rollout]) (worker.Outcome, error) {
	r := s.Args
	fmt.Println("all is well on", r.Hosts[r.Done])
	r.Done++
	return worker.Hop("upgrade").With(r), nil
}

func ExampleAddProg() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Rollout]{
		Start:  "upgrade",
		Labels: map[string]worker.Label[Rollout]{"upgrade": upgrade, "watch": watch},
	})
	atWatch := strand("rollout", `{"hosts":["a","b"]}`)
	atWatch.Label = "watch"
	serve(mux, strand("rollout", `{"hosts":["a","b"]}`), atWatch)
	// Output:
	// upgrade a
	// the broker gets: hop to watch in 1m0s
	// all is well on a
	// the broker gets: hop to upgrade with [{"hosts":["a","b"],"done":1}]
	// upgrade b
	// the broker gets: hop to watch in 1m0s
}

func ExampleInsert() {
	mux := worker.NewMux()
	worker.AddFunc(mux, func(ctx context.Context, s *worker.Strand[Rollout]) error {
		for _, host := range s.Args.Hosts {
			_, err := worker.Insert(ctx, Welcome{Email: "root@" + host}, &worker.InsertOpts{Queue: "mail"})
			if err != nil {
				return err
			}
		}
		return nil
	})
	serve(mux, strand("rollout", `{"hosts":["a","b"]}`))
	// Output:
	// the broker gets: exit
	// and inserts welcome {"email":"root@a"} {"queue":"mail"}
	// and inserts welcome {"email":"root@b"} {"queue":"mail"}
}

func ExampleSnooze() {
	mux := worker.NewMux()
	worker.AddFunc(mux, func(ctx context.Context, s *worker.Strand[Welcome]) error {
		return worker.Snooze(8 * time.Hour) // it is night
	})
	serve(mux, strand("welcome", `{}`))
	// Output:
	// the broker gets: nap in 8h0m0s
}

func ExampleRetryIn() {
	mux := worker.NewMux()
	worker.AddFunc(mux, func(ctx context.Context, s *worker.Strand[Welcome]) error {
		return worker.RetryIn(90*time.Second, errors.New("greylisted"))
	})
	serve(mux, strand("welcome", `{}`))
	// Output:
	// the broker gets: fail in 1m30s (to be retried in 1m30s: greylisted)
}

// strand is what a broker would send.
func strand(kind, args string) protocol.Strand {
	return protocol.Strand{ID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Kind: kind, Label: worker.StartLabel, Args: []byte(args),
		Queue: "default", Try: 1, MaxTries: 25, TTLMS: 120_000}
}

// serve plays a broker that hands out strands, one after the other, to a worker that it then lets go.
func serve(mux *worker.Mux, strands ...protocol.Strand) {
	dir, err := os.MkdirTemp("", "w")
	check(err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	check(err)
	defer l.Close()

	ended := make(chan error, 1)
	go func() {
		ended <- worker.Run(context.Background(), mux, worker.Config{Socket: socket, Logger: slog.New(slog.DiscardHandler)})
	}()
	conn, err := l.Accept()
	check(err)
	defer conn.Close()
	b := &exampleBroker{conn, protocol.NewReader(conn, protocol.DefaultMaxFrame)}
	await[*protocol.Hello](b)
	b.send(&protocol.Welcome{Re: 1, Version: 1, Broker: "0d2a1c6e-5b0a-4a4e-9d38-1f1f5f7a3a10", Session: "1", MaxFrame: 1 << 20,
		MaxN: 100, MaxBatch: 100, HeartMS: 5000, DeadMS: 15000, LeaseMS: 120_000})
	for i, s := range strands {
		s.Token = fmt.Sprint("token ", i)
		b.send(&protocol.Strands{Strands: []protocol.Strand{s}})
		for b.next() == protocol.NextGo { // it runs its next label
		}
	}
	b.send(&protocol.Drain{ByMS: 1000, Why: "stop"})
	await[*protocol.Bye](b)
	check(<-ended)
}

// next shows a result, and tells that it is stored and whether the strand goes on: at once, if it asks for that.
func (b *exampleBroker) next() (next string) {
	m := await[*protocol.Results](b)
	r := &m.Results[0]
	show(r)
	e := protocol.AckEntry{Strand: r.Strand, Token: r.Token, Seq: r.Seq, State: protocol.AckApplied}
	if r.Chain {
		e.Next, e.Inbox = protocol.NextGo, &protocol.Inbox{Left: uint64(len(r.Inserts))}
	}
	b.send(&protocol.Ack{Re: m.ID, Entries: []protocol.AckEntry{e}})
	return e.Next
}

type exampleBroker struct {
	conn   net.Conn
	frames *protocol.Reader
}

func (b *exampleBroker) send(m protocol.Message) {
	frame, err := protocol.Append(nil, m)
	check(err)
	_, err = b.conn.Write(frame)
	check(err)
}

// await reads until an M comes.
func await[M protocol.ToBroker](b *exampleBroker) M {
	for {
		body, err := b.frames.Next()
		check(err)
		m, err := protocol.DecodeToBroker(body)
		check(err)
		if m, ok := m.(M); ok {
			return m
		}
	}
}

// show prints a result for people.
func show(r *protocol.Result) {
	text := r.Act
	if r.Label != "" {
		text += " to " + r.Label
	}
	if r.NewKind != "" {
		text += " of " + r.NewKind
	}
	if len(r.Stack) > 0 {
		text += " with " + string(r.Stack)
	}
	if r.DelayMS != nil && *r.DelayMS > 0 {
		text += fmt.Sprint(" in ", time.Duration(*r.DelayMS)*time.Millisecond)
		text = strings.Replace(text, fmt.Sprint("in ", protocol.MaxDuration), "until it is woken", 1)
	}
	if r.Failure != nil {
		text += " (" + r.Failure.Message + ")"
	}
	if len(r.Value) > 0 {
		text += " with " + string(r.Value)
	}
	fmt.Println("the broker gets:", text)
	for _, in := range r.Inserts {
		what := "inserts"
		if in.Child {
			what = "buds"
		}
		fmt.Println(strings.TrimSpace(fmt.Sprintf("and %s %s %s %s", what, in.Kind, in.Args, in.Opts)))
	}
	for _, sig := range r.Signals {
		fmt.Println("and signals", cmp.Or(sig.Strand, "itself")+":", strings.TrimSpace(sig.Name+" "+string(sig.Value)))
	}
	if len(r.Used)+len(r.Reaped) > 0 {
		fmt.Println("and forgets", len(r.Used), "semaphores and", len(r.Reaped), "children")
	}
	if due := r.Due; due != nil {
		fmt.Println("and expects", due.Target, "in", time.Duration(due.MS)*time.Millisecond)
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
