// Package worker is the life of a worker process: it runs strands, durable jobs, that the broker of its host hands out.
//
//	type Hello struct{ Name string }
//
//	func (Hello) Kind() string { return "hello" }
//
//	func main() {
//		mux := worker.NewMux()
//		worker.AddFunc(mux, func(ctx context.Context, s *worker.Strand[Hello]) error {
//			fmt.Println("hello,", s.Args.Name)
//			return nil
//		})
//		worker.Main(mux)
//	}
//
// A kind is served by a function ([AddFunc]), a [Worker] ([Add]), or a [Prog] of several labels ([AddProg]). The process
// needs a socket and nothing else: no database connection, no password, no configuration beyond [Config].
//
// # What a handler can rely on
//
// A strand is run by one worker at a time, under a lease. A run may be repeated, if its process or host dies on the way;
// its outcome is stored once. What a handler does by returning an [Outcome] and by [Insert] is stored in one transaction,
// all or nothing; what it does elsewhere should bear being done twice. What it does to tables of its own, in the database
// of the strands, it can store in one transaction with its outcome: see [CommitTx].
//
// An error means another try after a back-off, until tries run out; see [Cancel], [Dead], [RetryIn] and [Snooze] for the
// rest. A panic, or runtime.Goexit, is an error too. The context of a handler ends with a cause: [ErrTimeout],
// [ErrCancelled], [ErrLeaseLost] or [ErrStopping]. A handler should return soon after; the broker ends the process of one
// that does not, and with it its neighbours.
//
// A handler runs on a goroutine on which others have run, and will. One that changes it, by runtime.LockOSThread or
// pprof.SetGoroutineLabels, changes it back.
//
// # Programs
//
// A [Prog] is a state machine whose state is in the row: the label it is at, and the args of its frame. What a label
// returns says how the strand goes on:
//
//	Hop(label)            at another label                        After(d), With(args), To(kind)
//	Nap(d), Hibernate()   at the same label, later or when woken  With(args)
//	Push(args)            in a new frame, of another program      At(label), Then(label), With(args)
//	Pop(value)            in the frame that pushed this one, which finds the value with Returned
//	Exit(value)           not at all: it is done
//
// Each of these is one commit, with all that the run has done besides: [Insert] and [Bud] make strands, [Signal] and
// [Strand.Incr] send semaphores, [Strand.Take], [Strand.Decr] and [Strand.Await] take them, [Strand.Reap] takes note of
// children that have ended, and [Strand.RegisterDeadline] says by when the frame should be where. A strand that naps
// holds no slot, no process and no lease. A semaphore wakes it, also one that comes in the very moment in which it goes
// to sleep; so does the end of its last child, and the failure of one that was budded with [BudWatched].
//
// While a program hops, it goes on under one lease and in one worker: the next label starts as soon as the step before is
// in the database, and sees what came meanwhile.
//
// # How it works
//
//	            goroutine of a connection            the loop, one goroutine              goroutines of handlers
//	          ┌───────────────────────────┐     ┌──────────────────────────────┐     ┌───────────────────────────┐
//	broker ──▶│ read, decode              │────▶│ events ─▶ session ─▶ effects │────▶│ start, stop               │
//	       ◀──│ outbox, write             │◀────│          step(now)           │◀────│ returned: result          │
//	          └───────────────────────────┘     └──────────────────────────────┘     └───────────────────────────┘
//	            ends and is replaced              lives as long as the worker           one for each running strand
//
// The session (session.go) is all the logic: what is held, what is promised, what waits. It is a value that takes the
// time and events and returns effects; it calls nothing, so every rule is tested in a few lines and in a random walk. It
// has three parts: link.go is the talk with the broker, runs.go the way of a strand from its lease to its handler,
// results.go the way of its outcome to the database. run.go turns the world into events and effects into the world.
//
// A strand's way: leased ─▶ queue ─▶ slot: its handler runs ─▶ result ─▶ sent ─▶ acked: forgotten, or to the head of the
// queue with its next label. What fails on that way, and what happens then:
//
//   - The connection ends: handlers run on and results wait. The next broker is told of all that is held, and gets every
//     result that was not acked; it stores one copy.
//   - No broker for long: a handler is asked to stop shortly before its lease ends. If it does not, the process ends
//     itself: the strand is about to run elsewhere. After [Config.OrphanAfter] the worker gives up.
//   - The database is away: results wait here, and are sent again when the broker says so.
//   - The broker takes the strand away: the handler is asked to stop, and what it returns is dropped.
//   - A strand is at a kind or label that this build does not have: it is given back for [ParkTime], until a worker has it.
//   - The worker is told to stop, by a signal or by the broker: what has not begun is given back, what runs may finish.
//     Near the end of that time handlers are asked to stop; their strands lose no try.
//   - Runs are so short that slots wait for the broker: the worker asks for more strands than it has slots (credit.go).
//     One that waits for a slot for a second is given back.
//
// Reading order: worker.go, prog.go, errors.go, insert.go, semaphore.go, children.go, deadline.go and own.go are what users see;
// then env.go, stack.go, outcome.go, mux.go and handler.go; then
// session.go and what follows from it; run.go and conn.go last.
package worker
