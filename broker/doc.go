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
//	     hints, deaths,
//	     other brokers ─────▶ │  schedule  │  step(now, events) effects
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
// Where a hint comes and there is nothing else to do, the first strands are leased in one round trip, before the scan, for
// whoever has a free slot (take.go).
//
// # Chains
//
// A program goes from label to label. Where its worker asks for that and nothing speaks against it, the strand goes on at its
// next label under the lease it has, in the slot it has: the step is committed as ever, and its ack says go, with what waits
// for the strand.
//
//	running ── report, agreed to ──▶ settling ── applied, nothing has come between ──▶ running at the next label
//	                                    │
//	                                    └── any other end ──▶ given back, unless the verdict says that nothing is leased
//
// We agree when the report comes, for it decides what is stored, and say go when it is stored. What may come between is that the
// worker's connection or process ends, that it or the broker drains, that the lease runs out, that its slot has been lent and
// taken, or that somebody cancels the strand; or the answer is lost, and the next one says dup. Then the lease that stayed is
// given back by a Yield, which the token fences. A copy that comes later, even to another broker, is answered dup, and what it
// may have left leased is given back in the same way. So there are never two who believe that they may go on, and never a
// lease that everybody has forgotten. A chain ends after a quarter of a lease, before its first renewal, and after a second
// if others wait for its slot.
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
//   - I1 one owner: a strand has at most one current token; a token is issued once. Who is told to go on holds the
//     lease that it goes on under. (Store: lease; chain.go)
//   - I2 fence: no change is committed under a token that is not the current one. Late is fine, stale is not. (Store: commit)
//   - I3 no lost result: an ack that says applied is sent only after the change is durable; a report is kept until the
//     database has answered for it. (commits.go)
//   - I4 once: what travels in a result commits with it, or not at all. (Store: commit)
//   - I5 no lost wake: a wake during a run makes the strand run again. What is sent between two labels of a chain is in the
//     inbox that the second one is told, or makes it run again after its nap. (Store: lease, nap, and what stays)
//   - I6 progress: in a quiet world every due strand for which there is credit comes to its end, and nothing stays held
//     by the dead: what a dead process held is settled as soon as its end is seen, what was lost on the wire at the next
//     hello, a step that stayed and that nobody goes on with when its verdict is known, and the rest when its lease ends.
//     (worker.go, run.go, chain.go)
//   - I7 credit: no lease for a worker that holds all it wants, but for what waits for a database that does not answer; the
//     broker's memory is bounded by what workers want, once for each database, not by the backlog. (schedule.go, scanner.go)
//   - I8 holder stops: a worker is told a deadline that lies before the end of the lease. A handler that ignores it is
//     asked, then its worker drained, then its process ended: it is killed before a lease that is not renewed can pass on. What
//     it reports later is stale. (run.go)
//   - I9 coverage: every id is scanned by somebody, also when brokers die, come, or disagree. See below. (members.go, place.go)
//   - I10 isolation: one bad worker, frame, row or database changes nothing for others: its connection is closed, its report
//     is refused, its lock is waited for elsewhere, its slots are lent. (session.go, commits.go, database.go)
//   - I11 attempts: a strand's tries are burnt by its own failures alone. A death makes suspects of all that were held,
//     and a culprit only of what was alone. (worker.go)
//
// # Many brokers
//
// Brokers of one database divide the ids among them, so that they do not fight over rows ([Partition]). Each has a number,
// its own or the lowest that is free, and tells the others every two seconds that it is there, and which kinds its workers
// serve, over the channel that brings the hints. What a broker believes follows from what it has heard, by one of two rules for
// numbers that nobody has:
//
//   - rank: of each kind part r of n, where n is how many live numbers serve the kind and r the place of its own among them. No
//     part is left over.
//   - overdue: part p of n, where p is its own number and n the highest live one. The parts of numbers below n that nobody
//     has belong to nobody. This is the rule of Ubicloud's respirate.
//
// Part r of n is [(r-1)*2^32/n, r*2^32/n), rounded down. A number is live from the first word of its broker until that says
// goodbye, or is silent for four seconds; our own is live always. A change is acted on at once: the new part is scanned from
// the bottom and announced.
//
// A broker serves a kind while some worker of its wants strands of it. A kind that is new to it counts from the word that says
// so, which goes at once. A kind that it serves no more is given up a beat later, with a word of its own: workers that are
// only started anew are back by then. A broker counts as serving what it last said, and what it goes by itself is what it has
// said or says just now, so that both sides agree but for the time that the word is under way. One that is known from the
// table alone counts as serving all until its answer comes, so a newcomer begins with parts that are too narrow for a moment.
//
// Parts are hints. Nothing relies on them being disjoint: who runs a strand is decided by its lease, and two brokers that
// both scan for it cost a lease that is not granted. Nor does anything rely on them covering the ids, since that cannot be had
// while beliefs differ, as they do for as long as a word is under way, lost, or its host cut off. I9 rests on two legs:
//
//   - When all who live have heard of each other, and of nobody else, their parts cover the ids. By rank they believe in the
//     same set of numbers for each kind, so in the same n, and have the ranks 1 to n. A word is repeated every two seconds, and the dead
//     are forgotten within seven, so that this is so seven seconds after the last disturbance.
//   - Always, whatever anybody believes: each broker looks every scanEvery, at a time of its own, for strands outside of its
//     part that could have started long ago. So every due strand is found by every live broker that serves its kind and
//     has credit, once it is overdue and that time has come, whosever it is. That takes five seconds and a fifth more than
//     all but a twentieth of the broker's own strands had to wait: where all are late, nobody is asked to help.
//
// With the rule overdue the first leg covers only the parts of numbers that are live, and the second one carries the rest.
//
// Silence counts only while something is heard. A broker that hears not even itself forgets nobody, since it cannot tell the
// dead from the unheard; it has its channel connect anew, tells the others again, and everybody gets four seconds more.
//
// A strand that became due while its part was changing hands is found by the scan from the bottom that comes with the new
// part. Its inserter may have seen neither the old owner idle nor the new one announced, and sent no hint; so the part is
// looked through once more when its announcement is known to all.
//
// Two brokers may have one number, because they were told so or because one was cut off for long: both scan the same part,
// which is safe. Of two that chose theirs the one with the lower id keeps it.
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
//   - Another broker dies: its part is divided among the rest, or found as overdue, and what it held when its leases end.
//   - The host sleeps or is stopped: the clock (CLOCK_BOOTTIME) knows. Leases that ran out are given up, and nothing is
//     trusted that the database does not confirm.
//
// Reading order: event.go (what comes in and goes out), schedule.go, database.go, worker.go, terms.go, areas.go, run.go, commits.go, chain.go, label.go, call.go,
// scanner.go, take.go, notice.go; then partition.go, kinds.go, members.go, place.go and share.go; then broker.go and session.go.
package broker
