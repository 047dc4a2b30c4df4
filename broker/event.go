package broker

import (
	"time"

	"github.com/respirated/respirated/protocol"
)

// A sessionID numbers a connection. Numbers are never used again within one run of the broker; 0 is no connection.
type sessionID uint64

// An event is something that happened outside. The schedule learns of the world only through events.
type event interface{ event() }

type (
	// greeted: a worker said hello and its session is admitted.
	greeted struct {
		session sessionID
		re      uint64 // id of the hello frame
		worker  string // the worker's own UUID, the same over reconnects
		key     string // spawn key; "" = not one of our processes
		name    string // for people, such as "pid 4711"
		kinds   []protocol.Kind
		sync    bool // single-threaded: silence is not death
		ackAll  bool // it takes one word for all results of a frame
		hold    []hold
		terms   Terms
	}
	// amended: the terms of one of our processes are others now.
	amended struct {
		key   string
		terms Terms
	}
	// wanted: a worker set its absolute credit.
	wanted struct {
		session  sessionID
		n, bytes int
	}
	// reported: a worker sent outcomes. Entries that are no valid reports are in refused.
	reported struct {
		session sessionID
		re      uint64
		reports []Report
		refused []refusal
	}
	// called: a worker asks for inserts or signals outside a run.
	called struct {
		session sessionID
		id      uint64
		inserts []Insert
		signals []Signal
		home    int    // the database to insert in, or to signal in first
		found   []bool // of all its signals, those whose strands are found so far; nil = nobody has looked
		places  []int  // among those, of the signals
	}
	// heard: a frame without content for the schedule arrived.
	heard struct{ session sessionID }
	// touched: a worker says that these handlers are at work.
	touched struct {
		session sessionID
		runs    []Pair
	}
	// parted: a connection ended, for whatever reason.
	parted struct{ session sessionID }
	// vanished: the process behind a connection that has parted is no more.
	vanished struct{ session sessionID }
	// overslept: the loop was called so much later than it wanted: the process was stopped, or the host asleep.
	overslept struct{ by int64 }
	// exited: one of our worker processes ended.
	exited struct{ WorkerExit }
	// from: what follows is from this database. A bare one is from the first.
	from struct {
		database int
		what     event
	}
	// hinted: a notification arrived.
	hinted struct{ Hint }
	// scanned, took, foundLeft, recovered, leased, committed, renewed, joined, announced, told, inserted, signalled: a statement
	// came back.
	scanned struct {
		ScanResult
		err error
	}
	took struct {
		strands []Strand
		err     error
	}
	foundLeft struct {
		pairs []Pair
		err   error
	}
	recovered struct {
		held []Pair
		err  error
	}
	leased struct {
		granted []Strand
		err     error
	}
	committed struct {
		verdicts []Verdict
		err      error
	}
	renewed struct {
		kept []Kept
		err  error
	}
	joined struct {
		Joined
		err error
	}
	announced struct{ err error }
	told      struct {
		Presence
		err error
	}
	inserted struct {
		ids []ID
		err error
	}
	signalled struct {
		found []bool
		err   error
	}
	// draining: stop handing out; give up waiting for workers at by.
	draining struct{ by int64 }
	// pausing: begin nothing new, hear nobody, and come to a rest.
	pausing struct{}
	// resuming: go on after a pause.
	resuming struct{}
	// reclaiming: all who may hold what was leased under these marks have said so.
	reclaiming struct{ marks []Mark }
)

func (greeted) event()    {}
func (from) event()       {}
func (amended) event()    {}
func (wanted) event()     {}
func (reported) event()   {}
func (called) event()     {}
func (heard) event()      {}
func (touched) event()    {}
func (parted) event()     {}
func (vanished) event()   {}
func (overslept) event()  {}
func (exited) event()     {}
func (hinted) event()     {}
func (scanned) event()    {}
func (took) event()       {}
func (recovered) event()  {}
func (leased) event()     {}
func (committed) event()  {}
func (renewed) event()    {}
func (joined) event()     {}
func (announced) event()  {}
func (told) event()       {}
func (inserted) event()   {}
func (signalled) event()  {}
func (draining) event()   {}
func (pausing) event()    {}
func (resuming) event()   {}
func (reclaiming) event() {}
func (foundLeft) event()  {}

// A hold is a strand that a worker says it holds.
type hold struct {
	Pair
	kind string
	done bool // its result is on the way
}

// A refusal is an entry of a result frame that cannot be a report.
type refusal struct {
	strand, token string // as the worker wrote them
	seq           uint64
	why           string
	known         bool // strand and token were readable: pair is set, and the run counts as failed
	pair          Pair
}

// effects is what the outside world shall do. A nil or empty field means nothing.
type effects struct {
	requests             // to the first database: most brokers have no other
	more      []requests // to those after it, in order
	send      []sending
	ended     []sessionID // whose process has ended: what it has sent is read, and then they end, whoever else holds their socket
	hangUp    []hangUp
	connected []string // spawn keys of workers that have said hello
	handed    []string // and of those that have got strands
	served    []string // and of those that have brought a good result, once for each
	end       []ending
	finished  bool // drained: everything is settled or given up
	rested    bool // pausing: nothing is under way
}

// requests are those to one database. There is at most one statement of each kind in flight: the schedule asks for the next
// one only after the answer to the last.
type requests struct {
	scan     *ScanRequest
	take     *takeRequest
	held     *heldRequest
	left     []Mark
	lease    []Pair
	commit   []Report
	renew    []Pair
	join     *JoinRequest
	announce *Announcement
	present  *Presence
	call     *called
	nobodys  []kindLabel // labels at which strands wait and that no worker here has, for the log
	change   *change     // of the division of the ids, for the log
	relisten bool        // what we tell the others does not come back: the channel shall connect anew
}

// to are the requests to a database.
func (fx *effects) to(database int) *requests {
	if database == 0 {
		return &fx.requests
	}
	return &fx.more[database-1]
}

// sending is a frame for a session.
type sending struct {
	session sessionID
	message protocol.ToWorker
}

// hangUp ends a session with a last word.
type hangUp struct {
	session sessionID
	last    *protocol.Err
}

// ending asks for the end of a worker process.
type ending struct {
	key, name, why string
	within         time.Duration // it is killed then at the latest; 0 = when its pool says
}
