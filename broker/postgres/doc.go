// Package postgres keeps strands in Postgres, 13 or newer. It owns the tables, and every statement that touches them:
// one per file in sql/, each saying what it promises and which index carries it. Applications call the functions and
// views that migrations/ publish; nobody else writes to the tables.
//
//	 insert(), COPY                                                        retry()
//	      │                                       ┌───────────────────────────────────────────┐
//	      ▼                                       ▼                                           │
//	┌──────────────────────────────┐  exit   ┌──────────────────────────────┐                 │
//	│ strand    what is to be done │────────▶│ history   what became of it  │─────────────────┘
//	│ strand_pkey (id)             │ finish  │ by day; done, cancelled, dead│
//	│ strand_ready (lane,          │         └──────────────────────────────┘
//	│               schedule, id)  │  fail   ┌──────────────────────────────┐
//	└──────┬───────────────────────┘────────▶│ attempt   its failures       │
//	       │ lane                     crash  │ by day                       │
//	       ▼                                 └──────────────────────────────┘
//	┌──────────────────────────────┐         ┌──────────────────────────────┐
//	│ lane      tenant, queue,     │         │ broker    who is there, and  │
//	│           priority, kind     │         │           whether it is busy │
//	│ queue     pause, retention   │         └──────────────────────────────┘
//	└──────────────────────────────┘
//
// # What holds
//
//   - The hot table has two indexes. What a lease, a renewal or a failure changes is in neither, so these updates stay
//     on their page (HOT). What orders the scan, (lane, schedule, id), changes only when a strand is put off.
//   - A lane is what strands that start in order have in common. A scan asks for the lanes of kinds that somebody
//     serves and of queues that are not paused: all others cost it nothing, however many strands wait in them.
//   - A finished strand leaves the hot table in the statement that finishes it, and is appended to history in the same
//     one, unless its queue keeps none. A missing partition never fails a commit: there is a default one.
//   - Every write to a leased strand is fenced by its token. That a lease has run out is no reason to refuse a result;
//     that somebody else has been given the strand is.
//   - A report takes effect as a whole, with its inserts, its attempt and what it means to its parent, or not at all.
//     The plain ones, nearly all, share one transaction of a few statements (commitPlain). The rest share another, which
//     first locks all rows it will touch in the order of their ids, and applies what concerns parents in a later
//     statement than what ends their children: one statement for both would lose a wake (commitLooked).
//   - Nobody's lock holds up others for long: a statement that waits is given up after 200 ms, and the strands whose rows
//     are locked are remembered and left out until they are free.
//   - One report or row that Postgres will not take does not harm its neighbours: batches are halved until it is alone.
//   - Leases, schedules and back-off are decided by the clock of the database, in SQL.
//
// # Notifications
//
// They are hints. An inserter notifies only if there is a live broker whose slice the strand is in and that has not said
// that it is busy, which means that it looks often by itself. A broker that withdraws "busy" goes on looking until every
// transaction is over that may have read it (Settled): whoever inserts after that notifies again.
//
// # When things fail
//
//   - The server is away: every method gives an error that wraps broker.ErrAway, at the latest when its timeout has
//     passed, and may be called again. A COMMIT is never cancelled by the caller.
//   - The outcome of a statement is unknown: asked again, it gives the same answer, or "gone" for what it had finished.
//   - Some transaction elsewhere pins the horizon: dead entries pile up at the head of strand_ready. Scans start at a
//     floor above them; see lanes for what that may overlook, and for how long.
//   - The channel's connection is cut without a word: a ping each 5 s notices it.
//   - Binary and schema do not fit: Open refuses, and says which of the two is to be brought up to date.
package postgres
