// Package broker decides who runs which strand when. It is the heart of the daemon, and a library: an application may
// embed a [Broker] over any [Store].
//
//	  broker/postgres                                     worker processes
//	┌─────────────────┐                                 ┌──────────────────┐
//	│ scan lease      │   statements      frames        │ hello want       │
//	│ commit renew    │◀────────────┐ ┌────────────────▶│ result ping      │
//	└───────┬─────────┘             │ │                 └────────┬─────────┘
//	        │ answers               │ │                          │ sessions
//	        ▼                       │ │                          ▼
//	     events ────────────▶ ┌─────┴─┴────┐ ◀──────────────── events
//	                          │    loop    │
//	     hints, deaths ─────▶ │  schedule  │  step(now, events) effects
//	                          └────────────┘
//
// One goroutine, the loop in [Broker.Run], owns the schedule. It hands in the time and whatever has happened, and
// performs what the schedule decides. At most one statement of each kind is in flight to a database; whatever meets or arrives in the
// meantime goes into the next one. So load makes batches larger, not statements more frequent, and back-pressure needs
// no rule of its own: no want, no lease; enough candidates at hand, no scan; a slow commit, larger commits.
//
// One strand's way: a scan finds its id (a [Candidate]: nothing is locked or leased) and it waits in the buffer. A
// worker with credit and the candidate meet; the next lease statement takes all pairs that met. What was granted goes
// out in a strands frame. The worker's result becomes a [Report]; the next commit statement takes all reports that came.
// The ack goes out after the commit is durable, and only then is the slot free.
//
// # Several databases
//
// A broker may serve several databases ([NewSeveral]). Workers, their credit and what they hold are the schedule's; all that
// is under way in one database is in a value of its own, a database (database.go), with its candidates, statements, reports,
// errors and partition:
//
//	db 0 ◀──▶ database ─┐                ┌─ workers, classes
//	                    ├── schedule ────┤
//	db 1 ◀──▶ database ─┘   runs         └─ sessions
//
// Databases take turns at free credit, one strand each. A strand is in one of them for ever. Where nobody says in which, as of
// what a former broker has handed out, they are asked one after the other, from the first on, and only when each has said
// that it does not know the strand is it lost. One that is away has said nothing.
//
// What waits for a database that does not answer takes slots, which could be all. So after a second those slots are lent to
// the strands of the others, and until all of that is settled nothing more is leased in the one that does not answer.
//
// # Invariants
//
// They hold in every state that the exhaustive search (search_test.go) can reach, and its mutants show that it looks.
//
//   - I1 one owner: a strand has at most one current token; a token is issued once. (Store: lease)
//   - I2 fence: no change is committed under a token that is not the current one. Late is fine, stale is not. (Store: commit)
//   - I3 no lost result: an ack that says applied is sent only after the change is durable; a report is kept until the
//     database has answered for it. (commits.go)
//   - I4 once: what travels in a result commits with it, or not at all. (Store: commit)
//   - I5 no lost wake: a wake during a run makes the strand run again. (Store: lease and nap)
//   - I6 progress: in a quiet world every due strand for which there is credit comes to its end, and nothing stays held
//     by the dead: what a dead process held is settled as soon as its end is seen, what was lost on the wire at the next
//     hello, and the rest when its lease ends. (worker.go, run.go)
//   - I7 credit: no lease for a worker that holds all it wants, but for what waits for a database that does not answer; the
//     broker's memory is bounded by what workers want, once for each database, not by the backlog. (schedule.go, scanner.go)
//   - I8 holder stops: a worker is told a deadline that lies before the end of the lease. A handler that ignores it is
//     asked, then its worker drained, then its process ended; what it reports later is stale. (run.go)
//   - I9 coverage, that every id is scanned by somebody, is the affair of several hosts: one broker scans its [Slice],
//     which is all ids unless it is told otherwise.
//   - I10 isolation: one bad worker, frame, row or database changes nothing for others: its connection is closed, its report
//     is refused, its lock is waited for elsewhere, its slots are lent. (session.go, commits.go, database.go)
//   - I11 attempts: a strand's tries are burnt by its own failures alone. A death makes suspects of all that were held,
//     and a culprit only of what was alone. (worker.go)
//
// # When things fail
//
//   - A statement fails: its outcome is unknown. A lease is given back under its token; reports are sent again, and the
//     fence makes that harmless; a renewal is repeated.
//   - A connection ends: its worker keeps what it holds. It comes back and says what that is, or its process ends, or
//     the leases do.
//   - A worker's process ends: frames it had sent are read first, then the rest is settled at once.
//   - This process ends: workers go on. The next broker learns from their hellos what they hold, renews it under the
//     tokens they bring, and takes their results as its own.
//   - The host sleeps or is stopped: the clock (CLOCK_BOOTTIME) knows. Leases that ran out are given up, and nothing is
//     trusted that the database does not confirm.
//
// Reading order: event.go (what comes in and goes out), schedule.go, database.go, worker.go, run.go, commits.go, scanner.go, notice.go;
// then broker.go and session.go.
package broker
