package postgres

import "github.com/respirated/respirated/broker"

// maxCrashes is how many deaths of workers a strand may be held at before it is set aside.
const maxCrashes = 3

// States that a strand ends in, as history writes them.
const (
	done      = "done"
	cancelled = "cancelled"
	dead      = "dead"
)

// lockedRow is what decides about a report, as lock.sql shows it.
type lockedRow struct {
	token     broker.Token // zero = none
	held      bool         // the lease is not free, run out or not
	seq       uint64
	cancelled bool // somebody has asked for its end
	try       int
	maxTries  int
	crashes   int
	parent    broker.ID // zero = none
	lane      int32
	timed     bool // it has deadlines
	late      bool // one of them has passed and has no page yet
}

// fate is what becomes of a report and its strand.
type fate struct {
	verdict broker.VerdictState
	end     string // Applied: the state it ends in; "" = it lives on
	try     int    // where it ends: its counts then
	crashes int
}

// judge decides about one report by the row that it is about. It is the whole rule for the reports that are not plain;
// the plain ones are those for which exit.sql, go_on.sql and fail.sql come to the same result by their conditions.
func judge(row lockedRow, r *broker.Report) fate {
	f := fate{verdict: fence(row, r), try: row.try, crashes: row.crashes}
	if f.verdict != broker.Applied {
		return f
	}
	switch r.Act {
	case broker.Exit:
		f.end = done
	case broker.Cancel:
		f.end = cancelled
	case broker.Save:
	case broker.Fail:
		f.try++
		f.end = endIf(row.cancelled, r.Final || f.try >= row.maxTries)
	case broker.Crash:
		f.crashes++
		if r.Guilty {
			f.try++
		}
		f.end = endIf(row.cancelled, f.crashes >= maxCrashes || f.try >= row.maxTries)
	default:
		f.end = endIf(row.cancelled, false)
	}
	return f
}

func endIf(isCancelled, isDead bool) string {
	switch {
	case isCancelled:
		return cancelled
	case isDead:
		return dead
	}
	return ""
}

// fence says whether a report still has a say, and if not, why not. A lease that has run out is no reason: late is
// fine, stale is not.
func fence(row lockedRow, r *broker.Report) broker.VerdictState {
	mine := row.token == r.Token
	switch {
	case mine && row.held && (ownAct(r.Act) || row.seq < r.Seq):
		return broker.Applied
	case mine && row.seq >= r.Seq:
		return broker.Dup
	}
	return broker.Stale
}

// ownAct says that a report is the broker's own: it has no place in the worker's sequence, and its token dies with it.
func ownAct(a broker.Act) bool { return a == broker.Yield || a == broker.Crash }
