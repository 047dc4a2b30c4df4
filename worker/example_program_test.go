package worker_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/protocol"
	"github.com/respirated/respirated/worker"
)

// Area is computed by a program that others push.
type Area struct{ Width, Height int }

func (Area) Kind() string { return "area" }

// Room needs to know its area.
type Room struct{ Width, Height int }

func (Room) Kind() string { return "room" }

func paint(ctx context.Context, s *worker.Strand[Room]) (worker.Outcome, error) {
	area, err := worker.Returned[int](s)
	switch {
	case err != nil:
		return worker.Outcome{}, err
	case area == nil: // nothing has returned yet
		return worker.Push(Area{s.Args.Width, s.Args.Height}), nil
	}
	fmt.Println("paint", *area, "m²")
	return worker.Exit(nil), nil
}

func measure(ctx context.Context, s *worker.Strand[Area]) (worker.Outcome, error) {
	return worker.Pop(s.Args.Width * s.Args.Height), nil
}

func ExamplePush() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Room]{Start: "paint", Labels: map[string]worker.Label[Room]{"paint": paint}})
	worker.AddProg(mux, worker.Prog[Area]{Start: "measure", Labels: map[string]worker.Label[Area]{"measure": measure}})
	serve(mux, strand("room", `{"Width":3,"Height":4}`))
	// Output:
	// the broker gets: hop to start of area with [{"Width":3,"Height":4},{"kind":"room","label":"start","args":{"Width":3,"Height":4}}]
	// the broker gets: hop to start of room with [{"Width":3,"Height":4},{"ret":12}]
	// paint 12 m²
	// the broker gets: exit
}

// Survey sends a question to many.
type Survey struct {
	To   []string `json:"to"`
	Yes  int      `json:"yes,omitempty"`
	Dead int      `json:"dead,omitempty"`
}

func (Survey) Kind() string { return "survey" }

// Question is put to one of them.
type Question struct {
	To string `json:"to"`
}

func (Question) Kind() string { return "question" }

func put(ctx context.Context, s *worker.Strand[Survey]) (worker.Outcome, error) {
	for _, to := range s.Args.To {
		if _, err := worker.Bud(ctx, Question{to}, nil); err != nil {
			return worker.Outcome{}, err
		}
	}
	return worker.Hop("count"), nil
}

func count(ctx context.Context, s *worker.Strand[Survey]) (worker.Outcome, error) {
	survey, errs := s.Args, []error(nil)
	o, wait := s.Reap(worker.ReapOpts{Each: func(c worker.Child) {
		if c.State != worker.ChildDone {
			survey.Dead++
			return
		}
		yes, err := worker.Decode[bool](c.Value)
		if yes {
			survey.Yes++
		}
		errs = append(errs, err)
	}})
	if err := errors.Join(errs...); err != nil {
		return worker.Outcome{}, err
	}
	if wait {
		return o.With(survey), nil
	}
	return worker.Exit(survey.Yes), nil
}

func ExampleBud() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Survey]{Labels: map[string]worker.Label[Survey]{"start": put, "count": count}})
	some := strand("survey", `{"to":["ada","bob","eve"]}`)
	some.Label, some.Inbox = "count", &protocol.Inbox{Left: 1, Ended: []protocol.Ended{
		{Strand: "00000000-0000-4000-8000-000000000001", Kind: "question", State: "done", Value: []byte("true")},
		{Strand: "00000000-0000-4000-8000-000000000002", Kind: "question", State: "dead"}}}
	last := strand("survey", `{"to":["ada","bob","eve"],"yes":1,"dead":1}`)
	last.Label, last.Inbox = "count", &protocol.Inbox{Ended: []protocol.Ended{
		{Strand: "00000000-0000-4000-8000-000000000003", Kind: "question", State: "done", Value: []byte("true")}}}
	serve(mux, strand("survey", `{"to":["ada","bob"]}`), some, last)
	// Output:
	// the broker gets: hop to count
	// and buds question {"to":"ada"}
	// and buds question {"to":"bob"}
	// the broker gets: nap with [{"to":["ada","bob"]}] until it is woken
	// the broker gets: nap with [{"to":["ada","bob","eve"],"yes":1,"dead":1}] until it is woken
	// and forgets 0 semaphores and 2 children
	// the broker gets: exit with 2
	// and forgets 0 semaphores and 1 children
}

// Order is shipped when it has been paid.
type Order struct {
	Shop string `json:"shop"` // id of the strand that wants to know
}

func (Order) Kind() string { return "order" }

// Payment is the value of the signal "paid".
type Payment struct{ Cents int }

func awaitPayment(ctx context.Context, s *worker.Strand[Order]) (worker.Outcome, error) {
	switch paid, left := s.Await("paid", 48*time.Hour); {
	case paid != nil:
		payment, err := worker.Decode[Payment](paid.Value)
		if err != nil {
			return worker.Outcome{}, err
		}
		fmt.Println("paid:", payment.Cents)
		return worker.Hop("ship"), nil
	case left > 0:
		return worker.Nap(left), nil
	}
	return worker.Exit("cancelled, as nobody paid"), nil
}

func ship(ctx context.Context, s *worker.Strand[Order]) (worker.Outcome, error) {
	if err := worker.Signal(ctx, s.Args.Shop, "shipped", s.ID); err != nil {
		return worker.Outcome{}, err
	}
	return worker.Exit(nil), nil
}

func orders() *worker.Mux {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Order]{Labels: map[string]worker.Label[Order]{"start": awaitPayment, "ship": ship}})
	return mux
}

func ExampleStrand_Await() {
	paid := strand("order", `{"shop":"6ba7b811-9dad-41d1-80b4-00c04fd430c8"}`)
	paid.Inbox = &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 1, Name: "paid", Value: []byte(`{"Cents":995}`)}}}
	serve(orders(), strand("order", `{}`), paid)
	// Output:
	// the broker gets: nap in 48h0m0s
	// and signals itself: respirate.await paid
	// paid: 995
	// the broker gets: hop to ship
	// and forgets 1 semaphores and 0 children
	// the broker gets: exit
	// and signals 6ba7b811-9dad-41d1-80b4-00c04fd430c8: shipped "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
}

func ExampleSignal() {
	atShip := strand("order", `{"shop":"6ba7b811-9dad-41d1-80b4-00c04fd430c8"}`)
	atShip.Label = "ship"
	serve(orders(), atShip)
	// Output:
	// the broker gets: exit
	// and signals 6ba7b811-9dad-41d1-80b4-00c04fd430c8: shipped "6ba7b810-9dad-41d1-80b4-00c04fd430c8"
}

// Counter counts signals.
type Counter struct{ Sum int }

func (Counter) Kind() string { return "counter" }

func ExampleStrand_Take() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Counter]{Labels: map[string]worker.Label[Counter]{
		"start": func(ctx context.Context, s *worker.Strand[Counter]) (worker.Outcome, error) {
			c := s.Args
			for {
				add, ok := s.Take("add")
				if !ok {
					return worker.Hibernate().With(c), nil // until somebody signals
				}
				n, err := worker.Decode[int](add.Value)
				if err != nil {
					return worker.Outcome{}, err
				}
				c.Sum += n
			}
		},
	}})
	woken := strand("counter", `{"Sum":1}`)
	woken.Inbox = &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 1, Name: "add", Value: []byte("2")}, {ID: 2, Name: "add", Value: []byte("3")}}}
	serve(mux, woken)
	// Output:
	// the broker gets: nap with [{"Sum":6}] until it is woken
	// and forgets 2 semaphores and 0 children
}

func ExampleStrand_RegisterDeadline() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Rollout]{Start: "upgrade", Labels: map[string]worker.Label[Rollout]{
		"upgrade": func(ctx context.Context, s *worker.Strand[Rollout]) (worker.Outcome, error) {
			// Page somebody if no host is being watched within ten minutes.
			return worker.Nap(time.Minute), s.RegisterDeadline("watch", 10*time.Minute)
		},
		"watch": watch,
	}})
	serve(mux, strand("rollout", `{"hosts":["a"]}`))
	// Output:
	// the broker gets: nap in 1m0s
	// and expects watch in 10m0s
}

// Server is a thing that has to be taken down in order.
type Server struct{}

func (Server) Kind() string { return "server" }

// The signal "destroy" leads to the label of that name, from wherever the strand is.
func ExampleProg() {
	mux := worker.NewMux()
	worker.AddProg(mux, worker.Prog[Server]{Labels: map[string]worker.Label[Server]{
		"start": func(ctx context.Context, s *worker.Strand[Server]) (worker.Outcome, error) {
			return worker.Hibernate(), nil
		},
		"destroy": func(ctx context.Context, s *worker.Strand[Server]) (worker.Outcome, error) {
			fmt.Println("the disk is erased")
			return worker.Exit(nil), nil
		},
	}})
	told := strand("server", `{}`)
	told.Inbox = &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 1, Name: "destroy"}}}
	serve(mux, told)
	// Output:
	// the broker gets: hop to destroy
	// and signals itself: destroying
	// and forgets 1 semaphores and 0 children
	// the disk is erased
	// the broker gets: exit
}
