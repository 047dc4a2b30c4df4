// Package brokertest has what the tests of a broker stand on: a [Store], a [Channel] and [Processes] in memory that
// fail on demand, and the suite that holds for every [broker.Store].
//
// The store in memory is worth something only because it behaves like the one on Postgres. [TestStore] keeps them
// together in two ways: each promise of broker.Store has a test that both must pass, and a random walk does the same
// things to both and compares what they say and what they hold.
//
// A strand in the store, and what moves it (token and lease are those of the last taker):
//
//	              Lease                       Nap, Hop, Fail, Release, Yield, Crash
//	free, due  ───────────> leased ──────────────────────────────────────────> free, due later
//	   ^                      │  Exit, Cancel, and any of the above once a cancel is asked for,
//	   │ lease runs out:      │  or when tries or crashes run out
//	   └──────────────────────┤
//	     rescues rises at     v
//	     the next lease     history: done, cancelled, dead; its parent has one child less and one end to reap, and at
//	                   no child is woken
//
// A nap or hop that stays is no arrow: the lease goes on.
//
// Every arrow out of leased is fenced by the token, and those that workers draw also by seq.
package brokertest
