package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/protocol"
)

// gate is a kind whose handlers wait until the test lets them go.
type gate struct{}

func (gate) Kind() string { return "gate" }

// gates registers the kind gate: each handler reports its start and returns what the test sends.
func gates(mux *Mux) (started chan string, open chan error) {
	started, open = make(chan string, 100), make(chan error)
	AddFunc(mux, func(_ context.Context, s *Strand[gate]) error {
		started <- s.ID
		return <-open
	})
	return started, open
}

// obedient registers the kind gate with handlers that end with their context, and tell its cause.
func obedient(mux *Mux) (causes chan error) {
	causes = make(chan error, 100)
	AddFunc(mux, func(ctx context.Context, _ *Strand[gate]) error {
		<-ctx.Done()
		causes <- context.Cause(ctx)
		return ctx.Err()
	})
	return causes
}

func TestWorkerIntroducesItself(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.cfg.Key, b.cfg.Build, b.cfg.Timeout = "secret", "v1", time.Minute
		gates(b.mux)
		Add(b.mux, Worker[sums](&slowWorker{timeout: 3 * time.Second}))
		AddProg(b.mux, Prog[plain]{Timeout: -1, Labels: map[string]Label[plain]{
			"start":  func(context.Context, *Strand[plain]) (Outcome, error) { return Hop("finish"), nil },
			"finish": func(context.Context, *Strand[plain]) (Outcome, error) { return Exit(nil), nil }}})
		b.start()
		p, hello := b.greet()
		want := []protocol.Kind{
			{Name: "gate", RunMS: 60_000, Labels: []string{"start"}},
			{Name: "plain", Labels: []string{"finish", "start"}},
			{Name: "sum", RunMS: 3000, Labels: []string{"start"}},
		}
		if d := cmp.Diff(want, hello.Kinds); d != "" {
			t.Errorf("kinds (-want +got):\n%s", d)
		}
		if hello.Key != "secret" || hello.Build != "v1" || !protocol.IsID(hello.Worker) || hello.PID == 0 || len(hello.Hold) != 0 {
			t.Errorf("hello %+v", hello)
		}
		if n := next[*protocol.Want](p).N; n != 2 {
			t.Errorf("want %d, want the number of slots, 2", n)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		next[*protocol.Bye](p)
		p.cut()
	})
}

func TestWorkerNeedsAKind(t *testing.T) {
	if err := Run(t.Context(), NewMux(), Config{}); !errors.Is(err, ErrConfig) {
		t.Errorf("Run: %v, want ErrConfig", err)
	}
}

func TestWorkerRefusesMoreKindsThanAHelloCarries(t *testing.T) {
	mux := NewMux()
	for i := range protocol.MaxItems + 1 {
		must(mux.add(&program{kind: fmt.Sprint("kind", i)}, nil))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := Run(ctx, mux, Config{Socket: filepath.Join(t.TempDir(), "s")})
	wantError(t, err, "1025 kinds are registered, a broker takes 1024 at most")
	if !errors.Is(err, ErrConfig) {
		t.Errorf("Run: %v, want ErrConfig", err)
	}
}

func TestWorkerOutlivesItsBrokerAndItsResultsLand(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		started, open := gates(b.mux)
		b.start()
		p, first := b.greet()
		done, running := p.give("gate"), p.give("gate")
		<-started
		<-started
		p.cut()
		open <- nil // one of the two returns while there is no broker

		p, again := b.greet()
		if again.Worker != first.Worker {
			t.Errorf("worker %s, was %s", again.Worker, first.Worker)
		}
		states := map[string]string{}
		for _, h := range again.Hold {
			states[h.Strand] = h.State
		}
		if len(states) != 2 || states[done.ID] == states[running.ID] {
			t.Errorf("holds %v, want one running and one done", again.Hold)
		}
		r := p.result()
		if r.Act != protocol.ActExit || states[r.Strand] != protocol.HoldDone {
			t.Errorf("result %+v, want the exit of the one that is done", r)
		}
		open <- nil
		p.result()
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerSendsAResultUntilItIsAcked(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.mux = muxOf(func(context.Context, *Strand[sums]) error { return nil })
		b.start()
		p, _ := b.greet()
		strand := p.give("sum")
		for range 3 {
			m := next[*protocol.Results](p)
			if m.Results[0].Token != strand.Token {
				t.Fatalf("result of %s, want %s", m.Results[0].Token, strand.Token)
			}
			p.cut()
			p, _ = b.greet()
		}
		p.ack(next[*protocol.Results](p), protocol.AckDup)
		if err := b.end(); err != nil {
			t.Error(err)
		}
		next[*protocol.Bye](p)
		p.cut()
	})
}

func TestWorkerCoalescesResults(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.cfg.Slots = 50
		started, open := gates(b.mux)
		b.start()
		p, _ := b.greet()
		for range 50 {
			p.give("gate")
			<-started
		}
		close(open)
		frames, results := 0, 0
		for results < 50 {
			m := next[*protocol.Results](p)
			p.ack(m, protocol.AckApplied)
			frames, results = frames+1, results+len(m.Results)
		}
		if frames > 10 {
			t.Errorf("50 results came in %d frames, want them coalesced", frames)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerReconnectsWithoutAFrenzy(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.away.Store(true)
		b.start()
		time.Sleep(time.Minute) // attempts after 50, 100, ... 1600 ms, then each 2 s
		b.away.Store(false)
		began := time.Now()
		p, _ := b.greet()
		if waited := time.Since(began); waited > 2*time.Second {
			t.Errorf("connected %v after the broker came, want 2s at most, as the broker ends workers it misses for 5s", waited)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerWithoutABrokerGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.away.Store(true)
		b.cfg.OrphanAfter = time.Minute
		began := time.Now()
		b.start()
		if err := b.ended(); !errors.Is(err, ErrNoBroker) || ExitCode(err) != ExitTemporary {
			t.Errorf("Run: %v, want ErrNoBroker", err)
		}
		if lived := time.Since(began); lived != time.Minute {
			t.Errorf("lived %v, want 1m", lived)
		}
	})
}

func TestWorkerThatGivesUpAsksItsHandlersToStop(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		causes := obedient(b.mux)
		b.cfg.OrphanAfter = time.Minute
		b.start()
		p, _ := b.greet()
		p.give("gate")
		synctest.Wait()
		b.away.Store(true)
		p.cut()
		if err := b.ended(); !errors.Is(err, ErrNoBroker) {
			t.Errorf("Run: %v, want ErrNoBroker", err)
		}
		if cause := <-causes; cause != ErrStopping {
			t.Errorf("cause %v, want ErrStopping", cause)
		}
	})
}

func TestWorkerHandsCancelsToItsHandlers(t *testing.T) {
	for _, c := range []struct {
		why   string
		cause error
		act   string // of the result; "" = none
	}{
		{protocol.StopCancelled, ErrCancelled, protocol.ActCancel},
		{protocol.StopTimeout, ErrTimeout, protocol.ActFail},
		{protocol.StopLost, ErrLeaseLost, ""},
	} {
		t.Run(c.why, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				causes := obedient(b.mux)
				b.start()
				p, _ := b.greet()
				strand := p.give("gate")
				synctest.Wait()
				p.send(&protocol.Cancel{Cancels: []protocol.Stop{{Strand: strand.ID, Token: strand.Token, Why: c.why, ByMS: 1000}}})
				if cause := <-causes; cause != c.cause {
					t.Errorf("cause %v, want %v", cause, c.cause)
				}
				if c.act != "" {
					if r := p.result(); r.Act != c.act {
						t.Errorf("result %+v, want %s", r, c.act)
					}
				}
				if err := b.end(); err != nil {
					t.Error(err)
				}
				next[*protocol.Bye](p) // and no result before
				p.cut()
			})
		})
	}
}

func TestWorkerGivesItsHandlersUpWhenTheirLeaseEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		causes := obedient(b.mux)
		b.start()
		p, _ := b.greet()
		p.give("gate")
		synctest.Wait()
		b.away.Store(true)
		p.cut()
		began := time.Now()
		if cause := <-causes; cause != ErrLeaseLost {
			t.Errorf("cause %v, want ErrLeaseLost", cause)
		}
		if ran := time.Since(began); ran != 110*time.Second {
			t.Errorf("asked to stop after %v, want 1m50s of a lease of 2m", ran)
		}
		b.away.Store(false)
		p, hello := b.greet()
		if len(hello.Hold) != 1 {
			t.Errorf("hold %v, want the strand that is to be given back", hello.Hold)
		}
		if r := p.result(); r.Act != protocol.ActRelease {
			t.Errorf("result %+v, want it given back", r)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerRunsOnWhileItsLeaseIsRenewed(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		started, open := gates(b.mux)
		b.start()
		p, _ := b.greet()
		strand := p.give("gate")
		<-started
		for range 10 {
			for range 8 {
				time.Sleep(5 * time.Second)
				p.send(&protocol.Ping{N: 1})
			}
			p.send(&protocol.Lease{Leases: []protocol.Deadline{{Strand: strand.ID, Token: strand.Token,
				DeadlineNS: bubbleClock() + int64(2*time.Minute), TTLMS: 120_000}}})
		}
		open <- nil
		if r := p.result(); r.Act != protocol.ActExit {
			t.Errorf("result %+v, want exit after 400 s", r)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerEndsItsProcessWhenAHandlerOutlivesItsLease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		started, open := gates(b.mux) // they ignore their context
		b.start()
		p, _ := b.greet()
		p.give("gate")
		<-started
		b.away.Store(true)
		p.cut()
		began := time.Now()
		if code := <-b.exited; code != ExitTemporary {
			t.Errorf("exit status %d, want %d", code, ExitTemporary)
		}
		if lived := time.Since(began); lived != 119*time.Second {
			t.Errorf("ended after %v, want 1m59s of a lease of 2m", lived)
		}
		open <- nil // the real exit does not return; here the worker goes on and stops in peace
		b.away.Store(false)
		p, _ = b.greet()
		p.result()
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerDrainsOnDemand(t *testing.T) {
	for name, ask := range map[string]func(b *bench, p *peer){
		"of the broker":  func(_ *bench, p *peer) { p.send(&protocol.Drain{ByMS: 60_000, Why: "roll"}) },
		"of its process": func(b *bench, _ *peer) { b.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				b.cfg.Slots, b.cfg.MaxHold = 1, 2
				started, open := gates(b.mux)
				b.start()
				p, _ := b.greet()
				next[*protocol.Want](p)
				running, waiting := p.give("gate"), p.give("gate")
				<-started
				synctest.Wait() // until the second has arrived
				ask(b, p)
				m := next[*protocol.Results](p)
				if r := m.Results[0]; len(m.Results) != 1 || r.Act != protocol.ActRelease || r.Strand != waiting.ID {
					t.Errorf("results %+v, want the waiting strand given back", m.Results)
				}
				if n := next[*protocol.Want](p).N; n != 0 {
					t.Errorf("want %d, want 0", n)
				}
				p.ack(m, protocol.AckApplied)
				open <- nil
				if r := p.result(); r.Act != protocol.ActExit || r.Strand != running.ID {
					t.Errorf("result %+v, want the exit of the running strand", r)
				}
				next[*protocol.Bye](p)
				if err := b.ended(); err != nil {
					t.Error(err)
				}
				p.cut()
				b.stop()
			})
		})
	}
}

func TestWorkerInterruptsHandlersAtTheEndOfADrain(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		causes := obedient(b.mux)
		b.start()
		p, _ := b.greet()
		p.give("gate")
		synctest.Wait()
		began := time.Now()
		b.stop()
		go p.keepAlive()
		if cause := <-causes; cause != ErrStopping {
			t.Errorf("cause %v, want ErrStopping", cause)
		}
		if waited := time.Since(began); waited != 20*time.Second {
			t.Errorf("interrupted after %v, want 20s of 25s", waited)
		}
		if r := p.result(); r.Act != protocol.ActRelease {
			t.Errorf("result %+v, want it given back without a try used up", r)
		}
		if err := b.ended(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerLeavesAHandlerBehindThatWillNotStop(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		started, open := gates(b.mux)
		b.start()
		p, _ := b.greet()
		p.give("gate")
		<-started
		go p.keepAlive()
		b.stop()
		if err := b.ended(); !errors.Is(err, ErrUnfinished) {
			t.Errorf("Run: %v, want ErrUnfinished", err)
		}
		p.cut()
		open <- nil // it can still end, and nobody minds
	})
}

func TestWorkerNoticesASilentBroker(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.start()
		p, _ := b.greet()
		began := time.Now()
		next := b.accept()
		if waited := time.Since(began); waited < 15*time.Second || waited > 16*time.Second {
			t.Errorf("reconnected after %v of silence, want 15s", waited)
		}
		next.cut()
		p.cut()
		b.stop()
		if err := b.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkerPingsWhenItHasNothingToSay(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.start()
		p, _ := b.greet()
		for range 5 {
			began := time.Now()
			n := next[*protocol.Ping](p).N
			if waited := time.Since(began); waited > 5*time.Second {
				t.Errorf("a ping after %v, want one each 5s", waited)
			}
			p.send(&protocol.Pong{N: n})
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerAnswersAPing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.start()
		p, _ := b.greet()
		p.send(&protocol.Ping{N: 42})
		if n := next[*protocol.Pong](p).N; n != 42 {
			t.Errorf("pong %d, want 42", n)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerLeavesABrokerAloneThatDeniesIt(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		gates(b.mux)
		b.start()
		p := b.accept()
		hello := next[*protocol.Hello](p)
		p.send(&protocol.Err{Re: hello.ID, Code: protocol.CodeDenied, Message: "no", Fatal: true})
		began := time.Now()
		again := b.accept()
		if waited := time.Since(began); waited != time.Minute {
			t.Errorf("came back after %v, want 1m", waited)
		}
		again.cut()
		p.cut()
		b.stop()
		if err := b.ended(); err != nil {
			t.Error(err)
		}
	})
}

func TestWorkerHangsUpOnGarbageAndComesBack(t *testing.T) {
	for name, garbage := range map[string]string{
		"no frame":       "GET / HTTP/1.1\r\n\r\n",
		"an empty frame": "\x00\x00\x00\x00",
		"no map":         "\x00\x00\x00\x01\x93",
		"a half welcome": "\x00\x00\x00\x0c\x81\xa2op\xa7welcome",
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				gates(b.mux)
				b.start()
				p := b.accept()
				next[*protocol.Hello](p)
				if _, err := p.conn.Write([]byte(garbage)); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if fault := next[*protocol.Err](p); !fault.Fatal {
					t.Errorf("the worker says %+v, want a fatal fault", fault)
				}
				p2, _ := b.greet()
				if waited := time.Since(began); waited != time.Second {
					t.Errorf("came back after %v, want 1s", waited)
				}
				p.cut()
				if err := b.end(); err != nil {
					t.Error(err)
				}
				p2.cut()
			})
		})
	}
}

func TestWorkerSkipsWhatItDoesNotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.mux = muxOf(func(context.Context, *Strand[sums]) error { return nil })
		b.start()
		p, _ := b.greet()
		if _, err := p.conn.Write([]byte("\x00\x00\x00\x0a\x81\xa2op\xa5rumba")); err != nil {
			t.Fatal(err)
		}
		if fault := next[*protocol.Err](p); fault.Fatal || fault.Code != protocol.CodeUnknownOp {
			t.Errorf("the worker says %+v, want unknown_op, not fatal", fault)
		}
		p.give("sum")
		p.result()
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestWorkerFailsAStrandWhoseResultIsTooLarge(t *testing.T) {
	huge := strings.Repeat("x", protocol.DefaultMaxFrame)
	for name, mux := range map[string]*Mux{
		"value": progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return Exit(huge), nil }),
		"args":  progOf(func(context.Context, *Strand[sums]) (Outcome, error) { return Nap(0).With(huge), nil }),
		"insert": progOf(func(ctx context.Context, _ *Strand[sums]) (Outcome, error) {
			_, err := Insert(ctx, bulky{huge}, nil)
			return Exit(nil), err
		}),
	} {
		t.Run(name, func(t *testing.T) {
			wantFailure(t, runOne(t, mux, "sum"), "", "keep large data elsewhere")
		})
	}
}

type bulky struct{ Load string }

func (bulky) Kind() string { return "bulky" }

func TestWorkerAsksForMoreOnlyWhileRunsAreShort(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		var length time.Duration
		AddFunc(b.mux, func(context.Context, *Strand[gate]) error {
			time.Sleep(length)
			return nil
		})
		b.start()
		p, _ := b.greet()
		serve := func(n int) { // by a broker that needs 5 ms to store a result
			for range n {
				p.give("gate")
				m := next[*protocol.Results](p)
				time.Sleep(5 * time.Millisecond)
				p.ack(m, protocol.AckApplied)
			}
		}
		length = 100 * time.Microsecond
		serve(20)
		length = 3 * time.Second
		serve(20)
		if want := []uint64{2, 128, 2}; !slices.Equal(p.wants, want) {
			t.Errorf("wants %v, want %v: the slots, then 64 for each, then the slots", p.wants, want)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}

func TestLoopForgetsTheContextOfAHandlerThatHasReturned(t *testing.T) {
	l := &loop{cancels: map[string]context.CancelCauseFunc{"t": nil}, crew: newCrew(1)}
	if l.admit(nil, incoming{event: returned{token: "t"}}); len(l.cancels) != 0 {
		t.Errorf("%d contexts kept, want none", len(l.cancels))
	}
}

func TestLoopReportsAFrameThatCannotBeEncoded(t *testing.T) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	l := &loop{session: &session{}, conn: &conn{nc: near, out: protocol.NewOutbox(near, 1000, nil)}}
	l.send(&protocol.Results{ID: 7, Results: []protocol.Result{{Label: "\xff"}}})
	if len(l.echo) != 1 || l.echo[0].(unsendable).id != 7 {
		t.Errorf("echo %+v, want frame 7 reported", l.echo)
	}
}

func TestConfigHasUsefulDefaults(t *testing.T) {
	env := map[string]string{}
	cfg, err := Config{}.withDefaults(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	if socket, _ := protocol.SocketPath(protocol.DefaultSocket); cfg.Socket != socket || cfg.Slots != 10 || cfg.MaxHold != 640 || cfg.OrphanAfter != 10*time.Minute ||
		cfg.DrainTimeout != 25*time.Second || cfg.Key != "" || cfg.Logger == nil {
		t.Errorf("config %+v", cfg)
	}
	env = map[string]string{"RESPIRATE_SOCKET": "/run/s", "RESPIRATE_WORKER_KEY": "k", "RESPIRATE_SLOTS": "3"}
	cfg, err = Config{}.withDefaults(func(name string) string { return env[name] })
	if err != nil || cfg.Socket != "/run/s" || cfg.Key != "k" || cfg.Slots != 3 || cfg.MaxHold != 192 {
		t.Errorf("config from the environment %+v, error %v", cfg, err)
	}
	cfg, err = Config{Socket: "/mine", Key: "mine", Slots: 5}.withDefaults(func(name string) string { return env[name] })
	if err != nil || cfg.Socket != "/mine" || cfg.Key != "mine" || cfg.Slots != 5 {
		t.Errorf("config of its own %+v, error %v", cfg, err)
	}
}

func TestConfigFindsTheSocketOfAPathThatIsTooLong(t *testing.T) {
	long := "/" + strings.Repeat("s", 200)
	cfg, err := Config{Socket: long}.withDefaults(func(string) string { return "" })
	want, _ := protocol.SocketPath(long)
	if err != nil || cfg.Socket != want || cfg.Socket == long {
		t.Errorf("socket %q, error %v; want %q, where a broker would listen", cfg.Socket, err, want)
	}
}

func TestConfigRefusesASocketThatNoFolderIsShortEnoughFor(t *testing.T) {
	t.Setenv("TMPDIR", "/"+strings.Repeat("t", 90))
	_, err := Config{Socket: "/" + strings.Repeat("s", 200)}.withDefaults(func(string) string { return "" })
	wantError(t, err, "has 201 bytes, 103 are possible")
	if !errors.Is(err, ErrConfig) {
		t.Errorf("%v: want ErrConfig", err)
	}
}

func TestConfigRefusesWhatCannotBe(t *testing.T) {
	for _, c := range []struct {
		cfg  Config
		env  string
		want string
	}{
		{Config{}, "many", `RESPIRATE_SLOTS is "many"`},
		{Config{}, "-1", "Slots is -1"},
		{Config{Slots: 2000}, "", "Slots is 2000, want 1 to 1024"},
		{Config{Slots: 5, MaxHold: 4}, "", "MaxHold is 4, want at least Slots, which is 5"},
		{Config{Timeout: -1}, "", "a duration is negative"},
		{Config{Key: strings.Repeat("k", 256)}, "", "the key is 256 bytes long, at most 255"},
	} {
		_, err := c.cfg.withDefaults(func(name string) string {
			if name == "RESPIRATE_SLOTS" {
				return c.env
			}
			return ""
		})
		wantError(t, err, c.want)
		if !errors.Is(err, ErrConfig) || ExitCode(err) != ExitConfig {
			t.Errorf("%v: exit status %d, want %d", err, ExitCode(err), ExitConfig)
		}
	}
}

// One strand goes through its labels under one lease: what each has stored is what the next one finds.
func TestWorkerTakesAStrandThroughItsLabelsUnderOneLease(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		AddProg(b.mux, Prog[sums]{Labels: map[string]Label[sums]{
			"start": func(context.Context, *Strand[sums]) (Outcome, error) { return Push(tree{2}).Then("last"), nil },
			"last": func(_ context.Context, s *Strand[sums]) (Outcome, error) {
				grown, err := Returned[int](s)
				if err != nil || grown == nil {
					return Outcome{}, fmt.Errorf("returned %v, %v", grown, err)
				}
				_, came := s.Take("x")
				return Exit(fmt.Sprint(s.Args.A, *grown, came, s.Try)), nil
			},
		}})
		AddProg(b.mux, Prog[tree]{Labels: map[string]Label[tree]{
			"start": func(_ context.Context, s *Strand[tree]) (Outcome, error) { return Pop(s.Args.Height * 10), nil },
		}})
		b.start()
		p, _ := b.greet()
		strand := p.give("sum", withArgs(`{"a":7}`), func(s *protocol.Strand) { s.Try = 3 })
		var acts []string
		for seq := uint64(1); ; seq++ {
			m := next[*protocol.Results](p)
			r := m.Results[0]
			acts = append(acts, fmt.Sprintf("%s %s.%s", r.Act, r.NewKind, r.Label))
			if r.Seq != seq || r.Token != strand.Token || r.Chain != (r.Act == protocol.ActHop) {
				t.Errorf("result %+v, want number %d", r, seq)
			}
			if r.Act != protocol.ActHop {
				p.ack(m, protocol.AckApplied)
				if got, want := string(r.Value), `"7 20 true 1"`; got != want || !slices.Equal(r.Used, []uint64{9}) {
					t.Errorf("exit with %s and used %v, want %s", got, r.Used, want)
				}
				break
			}
			in := &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 9, Name: "x"}}}
			p.send(&protocol.Ack{Re: m.ID, Entries: []protocol.AckEntry{{Strand: r.Strand, Token: r.Token, Seq: r.Seq,
				State: protocol.AckApplied, Next: protocol.NextGo, Inbox: in}}})
		}
		if want := []string{"hop tree.start", "hop sum.last", "exit ."}; !slices.Equal(acts, want) {
			t.Errorf("acts %v, want %v", acts, want)
		}
		if err := b.end(); err != nil {
			t.Error(err)
		}
		p.cut()
	})
}
