package protocol

// Version is the major number of the protocol that this package speaks. Within a major number only additions happen.
const Version = 1

// A Message travels in one frame. The set is closed: see [ToBroker] and [ToWorker].
type Message interface {
	// Op is the value of the frame's `op` key.
	Op() string
}

// ToBroker is any message that a worker may send.
type ToBroker interface {
	Message
	toBroker()
}

// ToWorker is any message that a broker may send.
type ToWorker interface {
	Message
	toWorker()
}

// Hello opens a session. It is the first frame on a connection, sent by the worker, exactly once.
type Hello struct {
	ID       uint64   `msgpack:"id"`
	Versions []uint64 `msgpack:"v"`              // [lowest, highest] major version the worker speaks
	Lib      string   `msgpack:"lib"`            // name/version of the client library; at most 64 bytes
	Worker   string   `msgpack:"wid"`            // UUID made at process start, the same over reconnects
	Build    string   `msgpack:"gen"`            // identifies the worker's build; free text
	PID      int64    `msgpack:"pid"`            // a hint; the broker trusts the socket's peer credentials
	Key      string   `msgpack:"key,omitempty"`  // RESPIRATE_WORKER_KEY, where the broker started this process
	Kinds    []Kind   `msgpack:"kinds"`          // what it can run
	Caps     []string `msgpack:"caps,omitempty"` // capabilities, see PROTOCOL.md
	BootNS   int64    `msgpack:"boot_bns"`       // the worker's own CLOCK_BOOTTIME, to notice a time namespace
	Hold     []Hold   `msgpack:"hold,omitempty"` // everything held from an earlier session; a Cancel follows for what is lost
}

// Capabilities of a worker.
const (
	CapSync   = "sync"    // single-threaded: it cannot answer while it runs a handler
	CapAckAll = "ack_all" // it takes Ack.All
)

// Kind announces one kind that a worker serves.
type Kind struct {
	Name   string   `msgpack:"kind"`
	RunMS  uint64   `msgpack:"run_ms,omitempty"` // longest run of one label; 0 = no limit
	Labels []string `msgpack:"labels,omitempty"` // those that it has; none = it does not say, and gets strands at any

	Isolate bool `msgpack:"isolate,omitempty"` // each strand of it needs a process of its own while it runs
}

// Hold names a strand that the worker still holds after a reconnect.
type Hold struct {
	Strand string `msgpack:"s"`
	Token  string `msgpack:"tok"`
	Kind   string `msgpack:"kind"`
	State  string `msgpack:"st"` // HoldRun or HoldDone
}

// States of a [Hold].
const (
	HoldRun  = "run"  // its handler is running or waiting for a slot
	HoldDone = "done" // its result is not acked yet and will be sent again
)

// Want is the worker's absolute credit: "I may hold N strands in all". It replaces any earlier want.
type Want struct {
	N     uint64 `msgpack:"n"`               // 0 pauses; above Welcome.MaxN is a fatal CodeRange
	Bytes uint64 `msgpack:"bytes,omitempty"` // payload bytes the worker may hold in all; 0 = no limit of its own
}

// Touch says that the handlers of these strands are alive, not merely the process.
type Touch struct {
	Grips []Grip `msgpack:"t"`
	Note  string `msgpack:"note,omitempty"`
}

// Grip is a strand and the token that proves the right to run it.
type Grip struct {
	Strand string `msgpack:"s"`
	Token  string `msgpack:"tok"`
}

// Save stores a checkpoint of a strand that stays leased. It is answered by an Ack with one entry.
type Save struct {
	ID     uint64 `msgpack:"id"`
	Strand string `msgpack:"s"`
	Token  string `msgpack:"tok"`
	Seq    uint64 `msgpack:"seq"`
	Stack  []byte `msgpack:"stack"` // JSON array of frames
}

// Results carries the outcomes of runs. Every entry is answered in an Ack, after the change is durable.
type Results struct {
	ID      uint64   `msgpack:"id"`
	Results []Result `msgpack:"r"` // at most Welcome.MaxBatch

	// Invalid has the entries that [DecodeToBroker] took out of Results because their content is refused. Each is to be acked as AckInvalid.
	Invalid []InvalidEntry `msgpack:"-"`
}

// InvalidEntry is a result of which only the sender is certain.
type InvalidEntry struct {
	Strand string
	Token  string
	Seq    uint64
	Why    string // for AckEntry.Why
}

// Acts of a [Result].
const (
	ActExit    = "exit"    // the strand is done; Value is its exit value
	ActNap     = "nap"     // run the same label again after DelayMS
	ActHop     = "hop"     // go on at Label (of NewKind, if set) after DelayMS
	ActFail    = "fail"    // the run failed; retried after DelayMS, or the default back-off, until tries run out
	ActCancel  = "cancel"  // the handler gives the strand up; it ends as cancelled
	ActRelease = "release" // not run, or stopped on purpose: give it back, no attempt burnt
	ActOwn     = "own"     // the worker has stored what came of it itself, or has tried to
)

// Result is the outcome of one run of one strand.
type Result struct {
	Strand  string   `msgpack:"s"`
	Token   string   `msgpack:"tok"`
	Seq     uint64   `msgpack:"seq"` // starts at 1 per token and rises
	Act     string   `msgpack:"act"`
	DelayMS *uint64  `msgpack:"ms,omitempty"`    // nap, hop, fail, release
	Label   string   `msgpack:"label,omitempty"` // hop
	NewKind string   `msgpack:"kind,omitempty"`  // hop, to another kind
	Value   []byte   `msgpack:"val,omitempty"`   // exit: JSON
	Stack   []byte   `msgpack:"stack,omitempty"` // nap, hop, fail: the frames from now on, JSON array
	Failure *Failure `msgpack:"err,omitempty"`   // fail, cancel
	Final   bool     `msgpack:"final,omitempty"` // fail: do not retry, the strand is dead
	Inserts []Insert `msgpack:"enq,omitempty"`   // strands to insert in the same commit
	Signals []Signal `msgpack:"sig,omitempty"`   // exit, nap, hop: semaphores to send in the same commit
	Used    []uint64 `msgpack:"used,omitempty"`  // exit, nap, hop: ids of semaphores to remove
	Reaped  []string `msgpack:"reap,omitempty"`  // exit, nap, hop: children whose end is taken note of, to be forgotten
	Due     *Due     `msgpack:"due,omitempty"`   // nap, hop: a deadline for the frame that goes on
	Frame   uint64   `msgpack:"frame,omitempty"` // nap, hop: how many callers are below the frame that goes on
	Chain   bool     `msgpack:"chain,omitempty"` // nap, hop: go on at once under this lease, if the broker agrees: see AckEntry.Next
}

// Signal sends a semaphore to a strand, which wakes it.
type Signal struct {
	Strand string `msgpack:"s,omitempty"`     // in a result: "" = the strand itself, which it does not wake
	Name   string `msgpack:"name"`            // as kinds are named
	Value  []byte `msgpack:"val,omitempty"`   // JSON
	Quiet  bool   `msgpack:"quiet,omitempty"` // do not wake it
}

// Due sets a deadline: the strand should be at Target by then. An earlier one replaces a later one; the one there is
// replaces an earlier one for the same Target only within MostMS of the time at which it was first set. One for another Target
// replaces what there was.
type Due struct {
	Target string `msgpack:"target"`            // a label of the frame's kind
	MS     uint64 `msgpack:"ms"`                // from now
	MostMS uint64 `msgpack:"most_ms,omitempty"` // 0 = it cannot be put off
}

// Failure says why a run failed, for people.
type Failure struct {
	Class   string `msgpack:"class"`           // at most 255 bytes
	Message string `msgpack:"msg"`             // at most 4 KiB
	Trace   string `msgpack:"trace,omitempty"` // at most 64 KiB
}

// Insert asks for a new strand. Opts is the JSON object that respirate.insert takes.
type Insert struct {
	Key   string `msgpack:"key"` // UUID made by the worker; becomes the strand's id, so that a replay inserts nothing twice
	Kind  string `msgpack:"kind"`
	Args  []byte `msgpack:"args"`            // JSON
	Opts  []byte `msgpack:"opts,omitempty"`  // JSON object
	Child bool   `msgpack:"child,omitempty"` // a child of the strand whose result carries it
	Watch bool   `msgpack:"watch,omitempty"` // Child: an end other than done wakes the parent, also if others are left
}

// Call asks the broker for something outside a result. Methods are listed in PROTOCOL.md.
type Call struct {
	ID      uint64   `msgpack:"id"`
	Method  string   `msgpack:"m"`
	Inserts []Insert `msgpack:"enq,omitempty"` // MethodInsert
	Signals []Signal `msgpack:"sig,omitempty"` // MethodSignal
}

// Methods of a [Call].
const (
	MethodInsert = "insert" // inserts strands at once, outside any run. Its Reply lists their ids
	MethodSignal = "signal" // sends semaphores. Its Reply says of each whether there is such a strand
)

// Welcome answers Hello and states every limit of the session.
type Welcome struct {
	Re       uint64   `msgpack:"re"`
	Version  uint64   `msgpack:"v"`
	Broker   string   `msgpack:"bid"` // UUID per boot of the broker
	Session  string   `msgpack:"sid"`
	MaxFrame uint64   `msgpack:"max_frame"` // bytes, both directions
	MaxN     uint64   `msgpack:"max_n"`     // highest Want.N
	MaxBatch uint64   `msgpack:"max_batch"` // entries in one Results
	HeartMS  uint64   `msgpack:"hb_ms"`     // send something at least this often
	DeadMS   uint64   `msgpack:"dead_ms"`   // silence after which the peer is given up
	LeaseMS  uint64   `msgpack:"lease_ms"`
	Caps     []string `msgpack:"caps,omitempty"`
	BootNS   int64    `msgpack:"boot_bns"`
}

// Strands hands work to a worker.
type Strands struct {
	Strands []Strand `msgpack:"b"`
}

// Strand is one leased strand on its way to a handler.
type Strand struct {
	ID         string   `msgpack:"s"`
	Token      string   `msgpack:"tok"`
	Kind       string   `msgpack:"kind"`
	Label      string   `msgpack:"label"`
	Args       []byte   `msgpack:"args"`            // JSON, as inserted
	Stack      []byte   `msgpack:"stack,omitempty"` // JSON array of frames; absent until a run has stored one
	Tenant     string   `msgpack:"tenant,omitempty"`
	Queue      string   `msgpack:"queue"`
	Priority   int64    `msgpack:"prio"`
	Try        uint64   `msgpack:"try"` // 1 for the first run
	MaxTries   uint64   `msgpack:"max_tries"`
	CreatedMS  int64    `msgpack:"created_ms"`       // Unix ms, the database's clock; for people
	DeadlineNS int64    `msgpack:"dl_bns"`           // CLOCK_BOOTTIME at which the right to run ends, unless a Lease moves it
	TTLMS      uint64   `msgpack:"ttl_ms"`           // the same as a duration from now, for languages without that clock
	RunMS      uint64   `msgpack:"run_ms,omitempty"` // this run's own limit; 0 = none
	Tags       []string `msgpack:"tags,omitempty"`
	Metadata   []byte   `msgpack:"meta,omitempty"` // JSON object
	Inbox      *Inbox   `msgpack:"in,omitempty"`   // what waits for it; nil = nothing, and no children
}

// Inbox is what waits for a strand, as of the moment at which it was handed out or went on. What is not used or reaped stays.
type Inbox struct {
	Semaphores []Semaphore `msgpack:"sem,omitempty"`   // in the order sent
	Ended      []Ended     `msgpack:"ended,omitempty"` // children that have ended, and are not reaped
	Left       uint64      `msgpack:"left,omitempty"`  // children that have not ended
	More       bool        `msgpack:"more,omitempty"`  // there are more semaphores or ended children than fit
}

// Semaphore is a durable signal that has come.
type Semaphore struct {
	ID     uint64 `msgpack:"id"` // for Result.Used
	Name   string `msgpack:"name"`
	Value  []byte `msgpack:"val,omitempty"` // JSON
	SentMS int64  `msgpack:"at_ms"`         // Unix ms, the database's clock
}

// Ended is a child that has ended.
type Ended struct {
	Strand string `msgpack:"s"`
	Kind   string `msgpack:"kind"`
	State  string `msgpack:"st"`            // EndedDone, EndedCancelled or EndedDead
	Value  []byte `msgpack:"val,omitempty"` // its exit value, JSON
}

// States of an [Ended].
const (
	EndedDone      = "done"
	EndedCancelled = "cancelled"
	EndedDead      = "dead"
)

// Lease moves deadlines. One frame serves all of a worker's strands.
type Lease struct {
	Leases []Deadline `msgpack:"l"`
}

// Deadline is the new deadline of one strand.
type Deadline struct {
	Strand     string `msgpack:"s"`
	Token      string `msgpack:"tok"`
	DeadlineNS int64  `msgpack:"dl_bns"`
	TTLMS      uint64 `msgpack:"ttl_ms"`
}

// Cancel asks to stop runs.
type Cancel struct {
	Cancels []Stop `msgpack:"c"`
}

// Reasons of a [Stop].
const (
	StopCancelled = "cancelled" // an operator cancelled the strand; what the handler returns is still sent
	StopTimeout   = "timeout"   // the run's own limit has passed
	StopLost      = "lost"      // the token is not current any more; no result will be accepted
)

// Stop asks to stop one run.
type Stop struct {
	Strand string `msgpack:"s"`
	Token  string `msgpack:"tok"`
	Why    string `msgpack:"why"`
	ByMS   uint64 `msgpack:"by_ms"` // after this the process may be ended
}

// Ack answers Results and Save. A strand's slot is free once its ack is here.
type Ack struct {
	Re      uint64     `msgpack:"re"`
	Entries []AckEntry `msgpack:"r"`
	All     bool       `msgpack:"all,omitempty"` // every entry of that frame is AckApplied, and not listed; only for workers with CapAckAll
}

// States of an [AckEntry].
const (
	AckApplied = "applied" // it is in the database
	AckDup     = "dup"     // an earlier copy was applied
	AckStale   = "stale"   // the token is not current; this copy changed nothing
	AckGone    = "gone"    // there is no such strand any more; this copy changed nothing
	AckInvalid = "invalid" // refused for its content; Why says what; the run counts as failed
	AckLater   = "later"   // the database is away: keep it and send it again after RetryMS
)

// AckEntry is the fate of one result.
type AckEntry struct {
	Strand  string `msgpack:"s"`
	Token   string `msgpack:"tok"`
	Seq     uint64 `msgpack:"seq"`
	State   string `msgpack:"st"`
	Why     string `msgpack:"why,omitempty"`
	RetryMS uint64 `msgpack:"retry_ms,omitempty"`
	Next    string `msgpack:"next,omitempty"` // NextGo; "" = the slot is free
	Inbox   *Inbox `msgpack:"in,omitempty"`   // with NextGo: what waits for the strand now
}

// NextGo in an [AckEntry] says that the strand goes on under the same token, as its result has asked with Result.Chain.
const NextGo = "go"

// Reply answers a Call.
type Reply struct {
	Re    uint64   `msgpack:"re"`
	IDs   []string `msgpack:"ids,omitempty"`   // MethodInsert: ids in the order asked
	Found []bool   `msgpack:"found,omitempty"` // MethodSignal: whether there is such a strand, in the order asked
	Err   *Err     `msgpack:"err,omitempty"`
}

// Ping asks for a Pong with the same N. Any frame counts as a sign of life.
type Ping struct {
	N uint64 `msgpack:"n"`
}

// Pong answers a Ping.
type Pong struct {
	N uint64 `msgpack:"n"`
}

// Drain tells a worker that it gets nothing more: finish or release what is held, then say bye.
type Drain struct {
	ByMS uint64 `msgpack:"by_ms"`
	Why  string `msgpack:"why"` // "stop", "roll", "scale", "recycle"
}

// Bye ends a session in peace; the peer may close.
type Bye struct {
	Why string `msgpack:"why"`
}

// Err reports a fault. A fatal one is the last frame before its sender closes.
type Err struct {
	Re      uint64 `msgpack:"re,omitempty"`
	Code    Code   `msgpack:"code"`
	Message string `msgpack:"msg"`
	Fatal   bool   `msgpack:"fatal"`
	RetryMS uint64 `msgpack:"retry_ms,omitempty"`
}

func (*Hello) Op() string   { return "hello" }
func (*Want) Op() string    { return "want" }
func (*Touch) Op() string   { return "touch" }
func (*Save) Op() string    { return "save" }
func (*Results) Op() string { return "result" }
func (*Call) Op() string    { return "call" }
func (*Welcome) Op() string { return "welcome" }
func (*Strands) Op() string { return "strands" }
func (*Lease) Op() string   { return "lease" }
func (*Cancel) Op() string  { return "cancel" }
func (*Ack) Op() string     { return "ack" }
func (*Reply) Op() string   { return "reply" }
func (*Ping) Op() string    { return "ping" }
func (*Pong) Op() string    { return "pong" }
func (*Drain) Op() string   { return "drain" }
func (*Bye) Op() string     { return "bye" }
func (*Err) Op() string     { return "err" }

func (*Hello) toBroker()   {}
func (*Want) toBroker()    {}
func (*Touch) toBroker()   {}
func (*Save) toBroker()    {}
func (*Results) toBroker() {}
func (*Call) toBroker()    {}
func (*Ping) toBroker()    {}
func (*Pong) toBroker()    {}
func (*Bye) toBroker()     {}
func (*Err) toBroker()     {}

func (*Welcome) toWorker() {}
func (*Strands) toWorker() {}
func (*Lease) toWorker()   {}
func (*Cancel) toWorker()  {}
func (*Ack) toWorker()     {}
func (*Reply) toWorker()   {}
func (*Ping) toWorker()    {}
func (*Pong) toWorker()    {}
func (*Drain) toWorker()   {}
func (*Bye) toWorker()     {}
func (*Err) toWorker()     {}
