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
//	What strands have, by their ids: semaphore (what was signalled to them), child (their children, and how these ended),
//	deadline (by when a frame should be where), page (deadlines that have passed, for people),
//	audit (what operators did by hand).
//
// # What holds
//
//   - The hot table has two indexes. What a lease, a renewal or a failure changes is in neither, so these updates stay
//     on their page (HOT). What orders the scan, (lane, schedule, id), changes only when a strand is put off.
//
//   - A lane is what strands that start in order have in common. A scan asks for the lanes of kinds that somebody
//     serves and of queues that are not paused: all others cost it nothing, however many strands wait in them.
//
//   - A finished strand leaves the hot table in the statement that finishes it, and is appended to history in the same
//     one, unless its queue keeps none. A missing partition never fails a commit: there is a default one.
//
//   - Every write to a leased strand is fenced by its token. That a lease has run out is no reason to refuse a result;
//     that somebody else has been given the strand is.
//
//   - A report takes effect as a whole, with its inserts, its attempt and what it means to its parent, or not at all.
//     The plain ones, nearly all, share one transaction of a few statements (commitPlain). The rest share another, which
//     first locks all rows it will touch in the order of their ids, and applies what concerns parents in a later
//     statement than what ends their children: one statement for both would lose a wake (commitLooked).
//
//   - A strand that has semaphores, ended children or deadlines says so in its row (inbox, deadline: null in all others), which
//     the plain statements ask. Rows that belong to a strand are written by whoever holds the lock of its row, and leave with it.
//     But a dead strand keeps its children, whose ends are noted as ever, until it is retried or history forgets it: retry locks
//     those that live and then counts, so that an end is either counted or finds its parent. What brokers of before all that leave
//     behind is dropped once a day (DropOrphans).
//
//   - No wake is lost: a signal or the end of a last child sets woken, which the next nap hears. A lease, or a report after which
//     the strand stays, sets it back, and what waits is read after that has been committed: whatever came by then is in the
//     inbox, whatever came later is heard.
//
//   - Nobody's lock holds up others for long: a statement that waits is given up after 200 ms, and the strands whose rows
//     are locked are remembered and left out until they are free.
//
//   - One report or row that Postgres will not take does not harm its neighbours: batches are halved until it is alone.
//
//   - Leases, schedules and back-off are decided by the clock of the database, in SQL.
//
//   - A worker with a connection of its own may take a step in its own transaction: respirate.step() does what a look does, under the
//     same locks, and leaves a row in respirate.outcome, which is there from the COMMIT on. The report of such a step (Own) only
//     asks for that row. Where it is not there the strand's row is locked: if somebody holds it the COMMIT may be under way, if
//     nobody does it will never be.
//
// # Notifications
//
// They are hints, on two channels that one connection listens to.
//
// SCHEMA_wake says what is due. An inserter notifies only if there is a live broker whose slice the strand is in and that has
// not said that it is busy, which means that it looks often by itself. A broker that withdraws "busy" goes on looking until
// every transaction is over that may have read it (Settled): whoever inserts after that notifies again. All brokers hear
// every notification, so it names the first bytes of up to 8 ids, and those that look after others need not look:
//
//	due 0a 7f    ids that begin with 0a or 7f; the first notification of a transaction, if its ids are that few
//	(nothing)    any; the first of a transaction with more, the second of one that goes on, the last in any case
//	lane         there is a new lane
//	cancel       somebody wants the end of a leased strand
//
// Whatever else comes is read as any. SCHEMA_partition says which brokers are there: "3 6ba7b810-9dad-41d1-80b4-00c04fd430c8"
// is the number and the id of one, and " left" follows when it scans no more. Else " kinds:" follows, with the hashes of the kinds
// that its workers serve, 8 digits each; without that it is taken to serve all. Whatever else comes there is for the log.
//
// # Partition numbers
//
// A number is held by the broker's row, until that is deleted (Leave) or has run out. Who joins takes the lowest that no live
// row has, under a lock that others who join wait for, so that two never get the same. Nothing rests on that: a row that had
// run out may be refreshed by who was only asleep, and a number may be asked for although another broker has it. Leases
// keep such brokers apart, and they hear of each other.
//
// A scan is for the ids of one slice of each kind, which is a range, and, each few seconds, for what is overdue in the two
// ranges beside it: one statement, with a descent of strand_ready for each lane and range, which reads nothing but entries of the index
// until it meets strands of that range.
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
//
// # Why this layout
//
// Raw SQL loops on this table, which exchange the index strand_ready and the statements along it: `scripts/bench layout
// --rows 5000000`, PostgreSQL 15.18, 2 cores shared with others. Pages and log are exact; CPU is to be compared within a
// line only, and those with 16 owners are of one round. "all" has the statements of sql/ and asks every lane for a whole
// batch; "now" asks as this package does, 64 lanes and then more. The others keep a list of the lanes (a, c, e) and
// buckets (b, c, e) that have something due, ask 64 of them at a time, each for its share of the batch, and take the next
// ones then. Lines with one queue are the same for "all" and "now", which was measured later, with many.
//
//	                                           all     now       a       b       c       d       e
//	  lane, schedule, id                         x       x       x
//	  bucket, schedule, id                                               x
//	  bucket, lane, schedule, id                                                 x
//	  schedule, id                                                                       x
//	  lane, bucket, schedule, id                                                                 x
//	pages read to find 1,000 of 5,000,000
//	  1 queue, all buckets                     988     988     988    1271    1271     985    1271
//	  1 queue, 16 of 256 buckets              1078    1078    1078    1059    1059    1059    1059
//	  1 queue, 1 of 256 buckets               2509    2509    2509     991     991    2230     991
//	  10,000 queues, all buckets            543878    4409    1284    1268    1943     986       -
//	  10,000 queues, 16 of 256 buckets       75329    1543    2680    1067    5222    1066       -
//	  10,000 queues, 1 of 256 buckets        47491    2736    5168     992    4951    2241       -
//	  10,000 queues, the largest paused      542888    3476    1284   10044    4990    9870       -
//	  which of 10,000 queues have work       43977   43979   40001    1280 2221058       4       -
//	  198,000 dead entries, pinned horizon      25728   25728     988    1248    1138     987    1365
//	CPU us to find, lease and delete a strand
//	  1 queue                                 11.9    11.9    11.5    13.4    14.7    12.7    14.3
//	  1 queue, 16 owners                      16.6    16.6    15.6    14.6    14.8    15.4    14.6
//	  10,000 queues                           33.5    17.6    15.2    18.7    17.7    15.5    18.8
//	  10,000 queues, 16 owners                61.8       -    23.0    20.0    23.2    18.2    37.2
//	CPU us to insert one (1 queue)             7.8     7.8     7.9     7.9     8.9     7.5    10.3
//	log of an insert, B                        370     370     370     381     380     355     381
//	log of lease and deletion, B               173     173     173     182     182     173     182
//	index, B a strand                           50      50      50      50      50      41      50
//
// The index stays, and one owner of many buckets is served well by the range of ids in it. A lane that nobody serves
// costs nothing here, wherever its strands stand; b and d step over them in the table, one by one, so that a paused queue
// with a million strands in front costs each scan a million rows. (A late queue that was served alone behind 5,000,000
// strands of others was found in 1 ms, and in b not within 50 s.) c asks each lane in each bucket, e each bucket in each
// lane, and both pay when a batch comes from everywhere in the table. What (lane, schedule, id) pays is the walk over the
// ids of other owners: one entry of the index, not of the table, for each owner and strand. With 16 owners that is lost in
// the noise. With 256 a batch of 1,000 steps over 255,000 entries: about 1,500 pages and 8 to 20 ms more. Should so many
// hosts share one queue, e is the index to change to; up to 64 or so it is not worth what it costs everybody else.
//
// Columns included in the index change nothing, since a scan has to see the lease, which is in the table. Nor does it help
// to lease and delete at the ctid that the scan saw, instead of by id: 14.4 us against 11.5 with one queue.
//
// The generated column bucket costs nothing that we can measure. An insert takes 7.5 us and 369 B of log with it, 7.7 us
// and 368 B without, and the row is as large, since it fills a gap. It is for owners of buckets that do not lie side by
// side, and for notifications.
//
// Of many lanes those are asked first whose strands come first. To ask all of them for a whole batch reads all that waits
// in the small ones: 543,878 pages, in 4 to 7 s, instead of 4,409 in 5 ms. Shares of a batch would read less still, and give
// up that of one priority the oldest strand comes first.
//
// # Why leases are written
//
// A lease could be spared: a row that is locked and compared in each commit says who owns a part of the ids, the scan
// returns the payloads, and a short run costs a read and a deletion. A prototype without crashes, naps, wakes and take-overs,
// with real daemons and workers, says what that would give at most; scripts/bench.d/OWNERSHIP.md has the plan and all figures:
//
//	                                        as it is     no lease, read by id    no lease, payloads from the scan
//	CPU us a strand, without history            13.9                     10.7                                 8.0
//	CPU us a strand, with history               22.2                     16.9                                14.8
//	log B, without and with history       172 and 467              56 and 350                          56 and 350
//	strands/s, without and with      48,300 and 35,900        49,400 and 40,900                   53,300 and 39,500
//	p99 commit to start, idle, 5,000/s, ms   4.6, 10.4               4.5, 10.8                            5.0, 9.2
//
// With history, which is what queues have by default, that is a third, and three tenths once a commit locks all buckets that
// it is about, with more to pay on top. For it we would give up that the row says who runs a strand. Parts of brokers may
// overlap now, and a lease is refused; then they must never, for each kind that is divided, and a slow broker's strands wait
// for the hand-over of all it owns. What workers hold outlives a broker now, by the tokens in the rows; then by a journal on
// its host. The lease is the moment that tells signals that a run has seen from later ones, that has cancel ask a run to
// stop and not end it behind its back, that has views say leased, and after which a dead host's permits and keys are free
// again. Each would need another.
//
// # Past one database
//
// What one Postgres carries. A strand that is inserted in bulk and worked off takes 23 + 8 us of its CPU and 174 + 370 B of
// log, with history 31 + 8 us and 540 + 370 B (scripts/bench.d/README.md; the second figure is the insert). So a core that
// does nothing else carries 32,000 strands a second and 18 MB of log, or with history 26,000 and 23 MB: two billion a day.
// These are sums, measured on 2 cores that clients shared. With more cores the log comes first, which is one stream:
// 10 cores of strands with history would write 230 MB a second, and each standby replays all of it. What else is finite:
//
//   - Connections, 5 for each host, however many workers it has: 1,000 for 200 hosts.
//   - Inserts in transactions of their own, each with a commit of its own: what the disk can flush, not the figures above.
//   - Notifications. Each takes a lock of the whole database until its commit; brokers ask inserters to stop long before that
//     counts. Presences are heard by every host, so that they grow with the square of the hosts.
//
// Read replicas do not help. All that a strand costs is written, by the insert, the lease and the end, and a replica replays
// every byte of it. What is left to read is the scan, and that has to see the leases: a standby would show strands that are
// leased or gone, which the lease then refuses, and it cannot LISTEN. So the store refuses a standby. Listings and history may
// be read from one, through a client of its own, as they were a moment ago. A standby for failover is another matter, and
// needs nothing of us.
//
// Several databases. Nothing in a schema knows of a second one, and nothing that a tenant owns is shared with another: queues,
// lanes, strands, children and history each belong to one. So tenants can be spread over databases: the application chooses the
// database by tenant, and inserts there, in its own transaction if its tables are there as well. A host then has a store, a
// channel, a partition number and 5 connections for each database, and divides the ids in each with whoever is there
// (broker.NewSeveral, and --database-url given more than once). What does not go over the border: a child in another database
// than its parent, one transaction for strands of two, an id (cancel, retry, wait) without the tenant it belongs to. To move a
// tenant: pause its queues, wait for its leases, copy its rows of queue, lane, strand and history, and resume there.
//
// A distributed Postgres. Citus routes a statement to a shard by one column of the table, which must be in every unique key
// and may not be a generated one, so that bucket will not do. What our statements would need:
//
//   - By id: strand, history and attempt are distributed by the strand's id, side by side; lane and queue are copied to every
//     node (they change once in the life of a lane); broker stays on the coordinator, where notifications and advisory locks
//     are, too. lease, renew, locked, go_on, fail, exit, finish and attempt touch rows of one id each, and move them to
//     history in the same shard, so a batch that holds the ids of one shard is a statement on one shard. That is kept
//     in mind in their shape: each names its strands by id, and joins nothing else but lane and queue. The scan names a
//     range of ids, which says nothing of a hashed shard: either shards are ranges of ids, or a broker owns shards instead
//     of a range. What touches two shards, in two phases: a child and its parent (lock, child_done, children), unless
//     children draw ids beside their parent's; insert_many; and a batch of mixed ids, which the broker would have to sort.
//   - By tenant: the hot row would carry its tenant, 4 to 16 bytes more in both indexes, and each statement above would name
//     it beside the id. Then parents, children, lanes and queues lie in one shard, and no statement but the scan of a broker
//     that serves many tenants touches two. One large tenant stays on one node.
//   - Either way: ids are drawn before the row is sent (insert_strands draws some within the statement), since they or the
//     tenant say where to. Each row is judged by the clock of its node alone, so clocks need not agree. The barrier of
//     Settled counts transactions of one node: each would have its own, and a scan is settled when all are.
//
// Nothing of a distributed Postgres is built, or measured. Until one Postgres is full, all it brings is a hop to a second node for each statement;
// and after that several databases do the same without it.
package postgres
