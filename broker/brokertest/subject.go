package brokertest

import (
	"time"

	"github.com/respirated/respirated/broker"
)

// Subject is a store under test, together with the eyes and hands of the test. The methods that are not of
// [broker.Store] fail the test that opened the subject where they cannot do their work.
type Subject interface {
	broker.Store

	// Row shows a live strand; false when there is none of that id.
	Row(id broker.ID) (Row, bool)
	// Finished shows what history keeps of a strand; false when it keeps nothing.
	Finished(id broker.ID) (Finished, bool)
	// Waiting shows what is stored for a strand in the tables of semaphores and of children, however much: Left counts the
	// live ones. It is empty for a strand that is not live, but for the children of a dead one.
	Waiting(id broker.ID) broker.Inbox
	// Deadlines lists those of a live strand, by frame.
	Deadlines(id broker.ID) []Deadline
	// Pages lists the pages ever opened for a strand, live or finished, oldest first.
	Pages(id broker.ID) []Page
	// Attempts lists the failures recorded for a strand, live or finished, oldest first.
	Attempts(id broker.ID) []broker.Failure

	// Cancel asks for the end of a strand, as an operator does: a free one ends as cancelled at once, a leased one
	// carries the wish until its next report.
	Cancel(id broker.ID)
	// Wake does to a strand what the end of its last child does to a parent: it is due now, and if it is leased, once
	// more after that run.
	Wake(id broker.ID)
	// Retry has a strand go on, as an operator does: a finished one comes back, free and with its counts anew, where it ended.
	Retry(id broker.ID)
	// Pause stops the strands of a queue from being found, or lets them be found again.
	Pause(tenant, queue string, paused bool)
	// OpenPages opens a page for every deadline that has passed and has none, as a broker does now and then.
	OpenPages()
	// Age makes a live strand older by d: its schedule, its deadlines and, unless it is free, its lease move back by d.
	Age(id broker.ID, d time.Duration)
	// Listen has notify called for every hint of the store's channel, from its return until stop is called.
	Listen(notify func(broker.Hint)) (stop func())
	// Step takes the step that an Exit, Nap or Hop reports in a transaction of its own, as a worker does that has a connection, and
	// leaves that open until end is called. An error: the token is not current, or the content is bad; nothing has changed.
	Step(r broker.Report) (end func(commit bool), err error)
	// Lock keeps the strand's row locked, as a transaction of somebody else would, until unlock is called.
	Lock(id broker.ID) (unlock func())
}

// Row is what the suite looks at in a live strand. Times are relative to the store's own clock.
type Row struct {
	Kind         string
	Label        string
	Stack        []byte        // JSON, in any spelling; nil = none stored yet
	Due          time.Duration // until its schedule; negative once that has passed
	Leased       bool          // the lease is not free; it may have run out
	Left         time.Duration // until the lease runs out; negative once it has; 0 when free
	Try          int
	Crashes      int
	Rescues      int
	Parent       broker.ID // zero = none
	Watched      bool      // its end wakes that, unless it is done
	ChildrenLeft int
	CancelAsked  bool
	Inbox        int // semaphores and ended children that wait, as the row itself counts them
}

// Deadline is what the suite looks at in the deadline of a frame.
type Deadline struct {
	Frame  int
	Target string
	In     time.Duration // until then; negative once it has passed
	Paged  bool          // a page has been opened for it
}

// Page is what the suite looks at in a page.
type Page struct {
	Frame    int
	Target   string
	Resolved bool
}

// Finished is what the suite looks at in a strand that is over.
type Finished struct {
	State string // Done, Cancelled or Dead
	Value []byte // JSON, in any spelling, where done; nil stands for null
}

// States of a [Finished] strand.
const (
	Done      = "done"
	Cancelled = "cancelled"
	Dead      = "dead"
)
