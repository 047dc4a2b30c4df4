// Package protocol is RWP/1, the words that a broker and its workers speak over a Unix socket.
//
// [PROTOCOL.md] is the specification, which a worker in any language can be written from; this package is one reading of it, used by
// both ends. A frame is a length and one msgpack map; a message is a struct of message.go, and belongs to one or both of two closed
// sets, [ToBroker] and [ToWorker].
//
//	worker                                        broker
//	  | ---- hello{kinds, hold} ------------------> |  new
//	  | <--- welcome{limits} ---------------------- |  open: both state their limits once
//	  | ---- want{n} -----------------------------> |  I may hold n strands in all
//	  | <--- strands{b: [...]} -------------------- |  each under a token, with a deadline
//	  | ---- save{stack} -------------------------> |  a checkpoint; the strand stays leased
//	  | <--- lease{l: [...]} ---------------------- |  the deadline has moved
//	  | <--- cancel{c: [...]} --------------------- |  stop: cancelled, timeout, lost
//	  | ---- result{r: [...]} --------------------> |  exit, nap, hop, fail, cancel, release
//	  | <--- ack{r: [...]} ------------------------ |  it is in the database; the slot is free
//	  | <--- drain{by_ms} ------------------------- |  draining: nothing new; finish or release
//	  | ---- bye ---------------------------------> |  closed
//
// ping and pong go both ways at any time after hello, and err at any time at all; a fatal err is the last frame.
//
// # What both ends may rely on
//
//   - Nothing that a peer sends costs memory or stack beyond a small multiple of the bytes that have arrived: [Reader] grows with them,
//     and a scanner without recursion or allocation holds each frame to its limits before a decoder sees it.
//   - A slot is free when its ack is there, and not before: want is absolute, so a lost or doubled frame cannot make the two ends drift.
//   - The token proves the right to run a strand. It is compared, never computed with. Every result may be sent again: at most one copy
//     is applied, the others are answered dup, stale or gone.
//   - A result is answered only when it is durable, refused for good, or to be kept for later.
//   - One bad result of a frame is refused alone ([Results].Invalid). A fault that would make the ends believe different things is
//     fatal; any other is answered and forgotten.
//   - [Append] produces nothing that the peer's scanner refuses, so a bad message fails at its sender and not in a session.
//   - Within a major version things are only added: unknown keys and ops are ignored, unless an op is marked must.
//
// # States of a session
//
//	new       connected; the worker owes a hello within [HandshakeTimeout]
//	open      welcome is sent; everything is allowed but another hello
//	draining  drain is sent; want has no effect, the rest goes on until nothing is held
//	closed    bye, a fatal err, the end of the stream, or silence beyond dead_ms; what is held stays held until its lease ends, and the
//	          worker lists it in its next hello
//
// # Reading order
//
// message.go has the messages, code.go the faults and limits.go the bounds. frame.go cuts a stream into frames, lexer.go and scan.go
// look at one, decode.go turns it into a message by the tables in tobroker.go and toworker.go, encode.go goes the other way, and
// outbox.go sends. jsonb.go and decimal.go know what Postgres makes of a payload.
//
// [PROTOCOL.md]: https://github.com/respirated/respirated/blob/main/protocol/PROTOCOL.md
package protocol
