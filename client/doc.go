// Package client is what an application imports to have work done: it inserts strands, reads what became of them, and
// steers them. A strand is a durable job: a row that some worker process runs, at once or later, again if it fails.
//
//	your application ── client ──┐                                   ┌── worker process
//	                             ├── Postgres ── broker (one a host) ┤
//	any SQL: respirate.insert() ─┘                                   └── worker process
//
// The client talks to Postgres and to nothing else. So a strand can be inserted in the transaction that gives the reason
// for it: it exists if and when that commits, and no broker need be there yet.
//
//	c, err := client.New(pool, nil)
//	...
//	tx, err := pool.Begin(ctx)
//	...                                                        // an order is written
//	_, err = c.InsertTx(ctx, tx, SendReceipt{Order: id}, nil)  // and its receipt will be sent
//	...
//	err = tx.Commit(ctx)
//
// # Two libraries
//
// [New] is for pgx and [NewSQL] for database/sql with any driver. Each verb has a twin whose name ends in Tx and that
// works inside the caller's transaction, of the type that the library has.
//
// # What may be relied on
//
//   - An insert stores all its strands or none. What the database would refuse is refused before it is sent, by an
//     [InsertError] that names the strand and the field, and the caller's transaction stays usable.
//   - A strand is never due before the database's own clock says so, and never counts as older than it is.
//   - No statement waits for the database for longer than [Config].Timeout, and none holds a lock for longer than a batch, unless
//     the caller's transaction does.
//   - No listing grows with the number of strands: see [Client.StrandList].
//
// # What it needs
//
// The schema, which `respirated migrate up` makes, and the rights that the SQL function respirate.grant_client(role) gives:
// to call the public functions, to read the views, and to COPY into the few columns that an insert sets.
//
// No call depends on the state of a session, so that a pooler may stand in between. For PgBouncer in transaction mode
// configure pgx with QueryExecModeCacheDescribe:
//
//	config, err := pgxpool.ParseConfig(url)
//	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
package client
