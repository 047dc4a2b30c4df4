package broker

import (
	"context"
	"errors"
	"time"

	"github.com/respirated/respirated/protocol"
)

// A Store keeps strands. broker/postgres is the real one, broker/brokertest has one in memory; the suite in
// broker/brokertest holds for both.
//
// The loop calls the looking methods (Scan, Take), Lease and the writing methods (Commit, Renew) each from a goroutine of its
// own, one call of each kind at a time, so an implementation needs one connection for each and never deadlocks with itself:
// Commit and Renew are never in flight together.
//
// An error means that the outcome is unknown: the change may or may not have been made. Every method but Take may then be
// called again with the same arguments.
type Store interface {
	// Scan finds due strands in the order in which they should start. It locks and leases nothing. Where it meets a
	// cancelled strand whose lease has run out, it ends that one, since no report will.
	Scan(ctx context.Context, req ScanRequest) (ScanResult, error)
	// Take leases for ttl the first strands that a scan would find, at most one under each token, each as Lease does. What
	// must run alone, is to be ended, or is locked by somebody's transaction is passed over without waiting. It may take
	// none: a scan follows anyhow. It moves no cursor.
	Take(ctx context.Context, req ScanRequest, tokens []Token, ttl time.Duration) ([]Strand, error)
	// Held finds what a Take of that request, which failed so long ago, has leased under its tokens and nobody has given back.
	// It gives an error as long as that Take may still lease something.
	Held(ctx context.Context, req ScanRequest, tokens []Token, ago time.Duration) ([]Pair, error)
	// Left finds what is leased under tokens with one of these marks, which are those of brokers that are gone, and whose leases
	// last for ttl at most. It may pass over some where there is very much.
	Left(ctx context.Context, marks []Mark, ttl time.Duration) ([]Pair, error)
	// Lease takes the given strands for ttl, each under its token, and returns those it got, in no particular order.
	// A strand that is not due, leased, cancelled, gone or locked by somebody's transaction is left out without waiting.
	// The same pairs again give the same strands again, as long as their leases last.
	Lease(ctx context.Context, pairs []Pair, ttl time.Duration) ([]Strand, error)
	// Renew extends leases whose token is still current, run out or not, and returns them. The rest are lost.
	Renew(ctx context.Context, pairs []Pair, ttl time.Duration) ([]Kept, error)
	// Commit applies reports, each fenced by its token, and answers one verdict for each, in order. Each is applied as a
	// whole, its inserts and all that its strand's end does to others included, or not at all; those of one strand are
	// applied in order. It may take several transactions, so that after an error some may be applied and others not.
	// A report with a data error is answered Invalid and does not harm its neighbours. Where somebody has asked for a
	// strand's end, any report but Save and Exit ends it as cancelled, a Crash too.
	Commit(ctx context.Context, reports []Report) ([]Verdict, error)
	// Insert adds strands in one transaction, all or none, and returns their ids in order. An insert whose ID exists
	// already changes nothing and returns that id. A bad insert gives an *InsertError.
	Insert(ctx context.Context, inserts []Insert) ([]ID, error)
	// Signal sends semaphores in one transaction, and says of each whether there is such a strand; for one that there is not,
	// nothing is kept. It touches no lease: a leased strand is woken for the time after its next nap. A bad signal gives a
	// *SignalError, and nothing is sent.
	Signal(ctx context.Context, signals []Signal) ([]bool, error)
	// Join settles a broker's partition number, and makes it known under that number until it is silent for ttl, with no
	// kinds yet; its announcements go on from there. Two that join at once never get the same number, unless they ask for
	// it. A broker that joins again gives up the number that it had.
	Join(ctx context.Context, req JoinRequest, ttl time.Duration) (Joined, error)
	// Announce makes this broker known (or refreshes it) until it is silent for ttl: where it runs, its partition, which
	// kinds its workers serve, and whether it is busy. While every live broker is busy, inserters send no notification.
	Announce(ctx context.Context, a Announcement, ttl time.Duration) error
	// Tell sends a presence to everybody who listens, this broker included. Nothing depends on its arrival.
	Tell(ctx context.Context, p Presence) error
	// Leave withdraws the announcement, and gives the partition number back. If the broker still had one, the others are told
	// that it has left. It need not be the one that asks: who follows a killed one knows that it is dead.
	Leave(ctx context.Context, broker ID) error
}

// ErrAway marks an error of a Store that cannot be reached now; everything else it returns is a fault to report.
var ErrAway = errors.New("database away")

// A Channel brings hints that a strand may be due. Nothing depends on one arriving.
type Channel interface {
	// Run listens until ctx ends, through reconnects. It calls notify for each hint, and once after each (re)connect,
	// since hints may have been missed. notify must not block.
	Run(ctx context.Context, notify func(Hint)) error
}

// Hint says that something may be due, or that a broker is there.
type Hint struct {
	Connected bool      // the channel has just (re)connected; scan everything
	Cancel    bool      // somebody asked to cancel a leased strand: renew now, which tells
	Lanes     bool      // there is a lane that no scan has met yet
	Due       []byte    // first bytes of the ids that became due; nil = any may have
	Presence  *Presence // a broker told that it is there, or leaves; this one included. Nothing is due
	Bad       string    // a presence that cannot be read, for the log; "" = none. Nothing is due
}

// ScanRequest asks for due strands.
type ScanRequest struct {
	Kinds     []string          // only these, sorted; never empty
	Queues    map[string]Queues // and of kinds of which not all queues are to be looked at, only these; nil = there are none
	Slice     Slice             // the ids to look at
	Otherwise map[string]Slice  // and of kinds, or areas of kinds, of which it is others; nil = there are none. See SliceOf

	Limit  int  // at least 1
	Bottom bool // look at everything that is due; else go on behind what earlier scans returned, or a moment before
	Known  bool // with Bottom: the lanes that earlier scans have met will do; queues may have been paused meanwhile

	// Overdue has strands outside of those ids be found too, in order among the others, if their Age is more than that; 0 = none.
	// It counts only with Bottom; scans that go on pass over them. Limit is for all together.
	Overdue time.Duration
}

// SliceOf is where to look for strands of a kind and queue.
func (r *ScanRequest) SliceOf(kind string, q Queue) Slice {
	if some := r.Queues[kind]; r.Otherwise != nil && some.Names != nil && !some.But {
		if s, other := r.Otherwise[areaName(kind, q)]; other {
			return s
		}
	}
	if s, other := r.Otherwise[kind]; other {
		return s
	}
	return r.Slice
}

// ScanResult answers a scan.
type ScanResult struct {
	Candidates []Candidate
	More       bool          // the limit was reached: there may be more due right now
	NextDue    time.Duration // when the next strand of these kinds becomes due, as far as known; 0 = not known
	Settled    bool          // every transaction that may have seen an older announcement of this broker is over
}

// Candidate is a due strand that nobody has promised to anybody.
type Candidate struct {
	ID       ID
	Kind     string
	Queue    Queue
	Label    string        // where it is
	Priority int           // 1 is first
	Bytes    int           // about what its payload takes; an estimate for flow control, 0 = small
	Alone    bool          // run it alone in a worker: it was held at two deaths of workers, or at five losses of hosts
	Age      time.Duration // since it could have started, by the store's clock: its schedule, or the end of the lease that ran out
}

// Pair is a strand and the token that it is, or shall be, leased under.
type Pair struct {
	ID    ID
	Token Token
}

// Strand is a leased strand.
type Strand struct {
	ID       ID
	Token    Token
	Kind     string
	Label    string
	Args     []byte // JSON, as inserted
	Stack    []byte // JSON array of frames; nil until a run has stored one
	Tenant   string
	Queue    string
	Priority int
	Try      int // failures so far; 0 on the first run
	MaxTries int
	Crashes  int // deaths of workers that held it since its last progress
	Created  time.Time
	Tags     []string
	Metadata []byte // JSON object; nil = none
	Inbox    *Inbox // nil = nothing waits for it, and it has no children
}

// Inbox is what waits for a strand. It may be younger than the lease or the commit it comes with, never older: whatever is sent
// after that wakes the strand at its next nap.
type Inbox struct {
	Semaphores []Semaphore // in the order sent; where not all fit, the first 8 of each name go before others, so that none hides another
	Ended      []Ended     // children that have ended and are not reaped, in the order of their ends
	Left       int         // children that have not ended
	More       bool        // more semaphores or ended children wait than are listed
}

// Semaphore is a durable signal that has come.
type Semaphore struct {
	ID    int64 // unique in the store
	Name  string
	Value []byte    // JSON; nil = none
	Sent  time.Time // by the store's clock
}

// Ended is a child that has ended.
type Ended struct {
	ID    ID
	Kind  string
	State string // done, cancelled or dead
	Value []byte // its exit value, JSON; nil = null
}

// Limits of an [Inbox], whose payloads are bounded besides.
const (
	InboxItems = 256       // of semaphores, and of ended children
	InboxBytes = 256 << 10 // of the values of either list, after which it has no more; it has the first always
)

// SignalBytes is how long the value of a semaphore may be. It fits beside all else that a strand has.
const SignalBytes = protocol.MaxSignal

// Kept is a renewed lease.
type Kept struct {
	Pair
	Cancel bool // somebody has asked to cancel it
	Locked bool // its row is locked by somebody's transaction: it is still ours, but not extended; ask again
}

// Act says what a report does to its strand.
type Act uint8

// The acts. Yield and Crash are the broker's own, the others come from workers.
const (
	Exit    Act = iota + 1 // finish it as done, with Value
	Nap                    // due again after Delay, same label; crashes, rescues and try start anew
	Hop                    // as Nap, at Label, of Kind if set
	Fail                   // Failure is recorded, try rises; due again after Delay or the back-off; dead when tries run out or Final
	Cancel                 // finish it as cancelled
	Release                // due again after Delay; nothing else changes
	Save                   // store Stack; the lease goes on
	Yield                  // as Release, but the token dies with it: a later result of the worker is stale
	Crash                  // its worker died: Failure is recorded, crashes rises, back-off; dead at the third; the token dies
	Own                    // its worker has taken the step in a transaction of its own; if that did not commit, as NotCommitted
)

// Report is what a run ended in.
type Report struct {
	Pair
	Seq     uint64 // rises per token; ignored for Yield and Crash
	Act     Act
	Delay   time.Duration // Nap, Hop, Release, Yield; Fail: negative means the default back-off
	Label   string        // Hop
	Kind    string        // Hop to another kind; "" = the same
	Value   []byte        // Exit: JSON; nil = null
	Stack   []byte        // Nap, Hop, Fail, Save: JSON array of frames; nil = unchanged
	Failure *Failure      // Fail, Cancel, Crash; Own: why the worker is not sure, nil = it is
	Final   bool          // Fail: do not retry
	Guilty  bool          // Crash: it was alone in its worker, so the death is its own failure: try rises too

	// Exit, Nap, Hop: effects that commit with the report, exactly once.
	Inserts []Insert
	Signals []Signal // without an ID: to the strand itself, which they do not wake
	Used    []int64  // semaphores of the strand to remove; those that are not there are passed over
	Reaped  []ID     // ended children of the strand to forget; those that are not there are passed over

	// Nap, Hop.
	Due   *Due // a deadline for the frame that goes on
	Frame int  // callers below that frame: deadlines of frames above it are over
	Stay  bool // the lease goes on, and the strand is not due: it runs on at once. Delay is 0
}

// NotCommitted is the failure that an Own comes to when there is no trace of its transaction, and nothing of it is under way any
// more. As long as that holds the strand's row, the report is for Later; once it is committed, the report is Applied.
func (r Report) NotCommitted() Report {
	f := Failure{Class: "not_committed", Message: "the transaction in which the worker took the step did not commit"}
	if r.Failure != nil {
		f.Message += ": " + r.Failure.Message
		f.Trace, f.Worker = r.Failure.Trace, r.Failure.Worker
	}
	return Report{Pair: r.Pair, Seq: r.Seq, Act: Fail, Delay: -1, Failure: &f}
}

// Signal sends a semaphore. It wakes its strand: that is due now, or, if it is leased, once more after its nap.
type Signal struct {
	ID    ID
	Name  string
	Value []byte // JSON; nil = none
	Quiet bool   // do not wake it
}

// SignalError says which of several signals was refused, and why.
type SignalError struct {
	Index int
	Why   string
}

// Error says why.
func (e *SignalError) Error() string { return e.Why }

// Due is a deadline: the strand's frame should be at Target by then. Where the frame has one for the same target, the earlier
// of both counts; but a later one does, up to Most after the first was set. One for another target replaces it.
type Due struct {
	Target string
	In     time.Duration
	Most   time.Duration // 0 = it cannot be put off
}

// Failure is the record of a failed run.
type Failure struct {
	Class   string
	Message string
	Trace   string
	Worker  string // who ran it, such as host:pid
	Exit    string // Crash: how the process ended, such as "signal: killed" or "exit status 3"
	Stderr  string // Crash: its last lines

	MaxRSS int64         // Crash: bytes of memory that it had in use at most; 0 = not known
	CPU    time.Duration // Crash: that it had used, to the millisecond; 0 = not known
}

// Insert is a strand to be made.
type Insert struct {
	ID    ID // the zero ID: the store draws one
	Kind  string
	Args  []byte // JSON
	Opts  []byte // JSON object as respirate.insert takes it; nil = none
	Child bool   // its parent is the strand whose report carries it
	Watch bool   // Child: its end wakes that parent, unless it is done, although other children are left
}

// InsertError says which of several inserts was refused, and why.
type InsertError struct {
	Index int
	Field string // "kind", "args", "opts.priority" ...
	Why   string
}

// Error names the field.
func (e *InsertError) Error() string { return e.Field + ": " + e.Why }

// Verdict is the fate of a report.
type Verdict struct {
	State VerdictState
	Why   string // Invalid: what is wrong

	// Applied, of a report with Stay.
	Stays bool   // the lease goes on; false: the strand has ended, since somebody had asked for that
	Inbox *Inbox // Stays: what waits for the strand now; nil = nothing, and it has no children
}

// VerdictState is the kind of a [Verdict].
type VerdictState uint8

// The verdicts. All but Later are final.
const (
	Applied VerdictState = iota + 1 // it is durable
	Dup                             // an earlier copy is durable
	Stale                           // the token is not current; nothing changed
	Gone                            // there is no such strand; nothing changed
	Invalid                         // refused for its content; nothing changed
	Later                           // its row is locked by somebody's transaction; nothing changed, report it again
)

// Announcement is what a broker tells the others, and inserters.
type Announcement struct {
	Broker  ID     // drawn at boot
	Host    string // stable name
	PID     int
	Slice   Slice // the narrowest that has all its parts, of whichever kind
	Busy    bool
	Kinds   []string // kinds that connected workers serve
	Workers int      // connected workers
	Slots   int      // sum of their credit
	Build   string

	Number  int // its partition number; 0 = none, or it scans no more
	Rank    int // place of that among the numbers of those it knows to have workers, from 1; 0 = it has none itself
	Members int // into how many parts it believes the ids to be divided
}

// JoinRequest asks for a partition number.
type JoinRequest struct {
	Broker ID
	Host   string
	PID    int
	Build  string
	Number int // the one it shall be, whoever else has it; 0 = the lowest that no other live broker has
	Most   int // highest number
}

// Joined answers a [JoinRequest].
type Joined struct {
	Number  int        // 0 = none is free, and nothing has changed but that the broker's former one is given up
	Members []Presence // the other live brokers that have a number, by number and id
}

// Presence says that a broker is there, or leaves.
type Presence struct {
	Broker ID
	Number int  // its partition number
	Left   bool // it scans no more

	// Kinds are those that its workers serve, as 32-bit FNV-1a hashes of their names; sorted, never changed in place. None: it has
	// no part. nil = all: it does not say, or there are too many to say, or nobody has heard it yet.
	Kinds []uint32
}
