package brokertest

import (
	"context"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// maxCrashes is how many deaths of workers a strand may hold before it is set aside.
const maxCrashes = 3

// Commit implements [broker.Store]. It takes a round for the first reports of all strands, one for their second ones,
// and so on. Wakes and signals come after all reports of a round, so that a parent's nap and its child's exit may meet
// in one batch in any order. What waits for the strands that go on is read at the end of their round.
func (s *Store) Commit(ctx context.Context, reports []broker.Report) ([]broker.Verdict, error) {
	verdicts := make([]broker.Verdict, len(reports))
	hint := false
	err := s.call(ctx, Commit, func(now time.Time) error {
		for _, round := range rounds(reports) {
			b := batch{store: s, now: now}
			for _, i := range round {
				verdicts[i] = b.apply(reports[i])
			}
			b.settle()
			hint = hint || b.worthAHint()
			for _, i := range round {
				if row, ok := s.live[reports[i].ID]; ok && reports[i].Stay && rests(reports[i].Act) && verdicts[i].State == broker.Applied {
					verdicts[i].Stays, verdicts[i].Inbox = true, row.inbox()
				}
			}
		}
		return nil
	})
	if hint {
		s.channel.Hint(broker.Hint{})
	}
	if err != nil {
		return nil, err
	}
	return verdicts, nil
}

// rounds sorts the places of reports so that no strand is twice in one round.
func rounds(reports []broker.Report) [][]int {
	var all [][]int
	seen := map[broker.ID]int{}
	for i, r := range reports {
		n := seen[r.ID]
		seen[r.ID]++
		if n == len(all) {
			all = append(all, nil)
		}
		all[n] = append(all[n], i)
	}
	return all
}

// batch is one round of a Commit, or another change, on its way.
type batch struct {
	store   *Store
	now     time.Time
	ends    []end           // of strands that have a parent
	signals []broker.Signal // to be sent
	madeDue bool            // something may have become due
	asked   bool            // a leased strand is to be cancelled
}

// worthAHint says whether some broker would care for what has been done.
func (b *batch) worthAHint() bool { return b.madeDue && b.store.hintWanted(b.now) }

// hints are what is told to the brokers: that something may have become due, and that leased strands are to end.
func (b *batch) hints() (hints []broker.Hint) {
	if b.asked {
		hints = append(hints, broker.Hint{Cancel: true})
	}
	if b.worthAHint() {
		hints = append(hints, broker.Hint{})
	}
	return hints
}

// apply judges one report and carries it out if it passes.
func (b *batch) apply(r broker.Report) broker.Verdict {
	if r.Act == broker.Own && b.store.outcomes[r.Token] {
		return broker.Verdict{State: broker.Applied}
	}
	row, ok := b.store.live[r.ID]
	if !ok {
		return broker.Verdict{State: broker.Gone}
	}
	if b.store.locked[r.ID] {
		return broker.Verdict{State: broker.Later}
	}
	if r.Act == broker.Own {
		r = r.NotCommitted()
	}
	made, v := b.judge(row, &r)
	if v.State == broker.Applied {
		b.add(row, r.Inserts, made)
		b.act(row, r)
	}
	return v
}

// judge says whether a report passes, and makes the strands that it brings along. Those that are not to be made leave it.
func (b *batch) judge(row *strand, r *broker.Report) (made []*strand, _ broker.Verdict) {
	if state := fence(row, *r); state != broker.Applied {
		return nil, broker.Verdict{State: state}
	}
	if why := checkReport(*r); why != "" {
		return nil, broker.Verdict{State: broker.Invalid, Why: why}
	}
	if row.cancelAsked && rests(r.Act) { // its children would be of the tree that is to end
		r.Inserts = slices.DeleteFunc(slices.Clone(r.Inserts), func(in broker.Insert) bool { return in.Child })
	}
	if why := b.store.checkFamily(row, r.Inserts); why != "" {
		return nil, broker.Verdict{State: broker.Invalid, Why: why}
	}
	made, err := b.store.prepare(r.Inserts, b.now)
	if err != nil {
		return nil, broker.Verdict{State: broker.Invalid, Why: err.Error()}
	}
	return made, broker.Verdict{State: broker.Applied}
}

// fence says whether a report still has a say, and if not, why not.
func fence(row *strand, r broker.Report) broker.VerdictState {
	mine := row.token == r.Token
	own := r.Act == broker.Yield || r.Act == broker.Crash // of the broker itself, which does not count
	switch {
	case mine && !row.free() && (own || row.seq < r.Seq):
		return broker.Applied
	case mine && row.seq >= r.Seq:
		return broker.Dup
	default:
		return broker.Stale
	}
}

// add makes the strands that a report brings along.
func (b *batch) add(row *strand, inserts []broker.Insert, made []*strand) {
	for i, child := range made {
		if !b.store.admit(child) {
			continue
		}
		b.madeDue = true
		if inserts[i].Child {
			child.parent, child.watched = row.id, inserts[i].Watch
			row.childrenLeft++
		}
	}
}

// act carries out a report that has passed every check.
func (b *batch) act(row *strand, r broker.Report) {
	if r.Failure != nil {
		b.store.attempts[row.id] = append(b.store.attempts[row.id], *r.Failure)
	}
	if r.Act != broker.Yield && r.Act != broker.Crash {
		row.seq = r.Seq
	}
	if r.Stack != nil && keepsStack(r.Act) {
		row.stack = r.Stack
	}
	if hasEffects(r.Act) {
		row.use(r.Used, r.Reaped)
		for _, sig := range r.Signals {
			if sig.ID == (broker.ID{}) {
				sig.ID, sig.Quiet = row.id, true
			}
			b.signals = append(b.signals, sig)
		}
	}
	switch r.Act {
	case broker.Save:
	case broker.Exit:
		b.finish(row, Finished{State: Done, Value: r.Value})
	case broker.Cancel:
		b.finish(row, Finished{State: Cancelled})
	default:
		if row.cancelAsked {
			b.finish(row, Finished{State: Cancelled})
			return
		}
		b.goOn(row, r)
	}
}

func keepsStack(a broker.Act) bool {
	return a == broker.Nap || a == broker.Hop || a == broker.Fail || a == broker.Save
}

// hasEffects says whether a report may send signals, use semaphores and reap children.
func hasEffects(a broker.Act) bool { return a == broker.Exit || rests(a) }

// rests says whether a report is progress of a strand that lives on.
func rests(a broker.Act) bool { return a == broker.Nap || a == broker.Hop }

// goOn frees a strand for its next run, or sets it aside when it has used up its chances.
func (b *batch) goOn(row *strand, r broker.Report) {
	switch r.Act {
	case broker.Nap:
		b.rest(row, r)
	case broker.Hop:
		row.label = r.Label
		if r.Kind != "" {
			row.kind = r.Kind
		}
		b.rest(row, r)
	case broker.Release:
		row.give(b.now.Add(r.Delay))
	case broker.Yield:
		row.disown()
		row.give(b.now.Add(r.Delay))
	case broker.Fail:
		b.fail(row, r)
	case broker.Crash:
		b.crash(row, r)
	}
	b.madeDue = true
}

// rest ends a run in peace. A wake that came during it cuts the delay, and so does a deadline. Or the run goes on: then
// it has seen what came up to now.
func (b *batch) rest(row *strand, r broker.Report) {
	late := row.late(b.now)
	row.progress()
	b.store.proceed(row, r, b.now)
	switch {
	case r.Stay:
		row.woken = false
	case row.woken:
		row.give(b.now)
	default:
		row.give(row.cut(b.now.Add(r.Delay), b.now))
	}
	if late {
		b.store.openPagesOf(row, b.now)
	}
}

func (b *batch) fail(row *strand, r broker.Report) {
	row.try++
	if r.Final || row.try >= row.maxTries {
		b.finish(row, Finished{State: Dead})
		return
	}
	delay := r.Delay
	if delay < 0 {
		delay = backoff(row.try)
	}
	row.give(b.now.Add(delay))
}

func (b *batch) crash(row *strand, r broker.Report) {
	row.crashes++
	if r.Guilty {
		row.try++
	}
	if row.crashes >= maxCrashes || row.try >= row.maxTries {
		b.finish(row, Finished{State: Dead})
		return
	}
	row.disown()
	row.give(b.now.Add(max(backoff(row.crashes), time.Second)))
}

// backoff is min(2^(n-1) s, 1 day) times 0.75: the middle of what the real store draws from, so that tests repeat.
func backoff(n int) time.Duration {
	const day = 24 * time.Hour
	full := day
	if n < 17 { // 2^16 s is the last below a day
		full = min(day, time.Second<<(n-1))
	}
	return full / 4 * 3
}

// finish moves a strand to history.
func (b *batch) finish(row *strand, f Finished) {
	b.store.history[row.id] = f
	b.store.over[row.id] = row
	delete(b.store.live, row.id)
	for frame := range row.deadlines {
		b.store.forget(row, frame, b.now)
	}
	if f.State != Dead {
		b.store.leave(row)
	}
	if row.parent != (broker.ID{}) && !row.orphan {
		failed := row.watched && f.State != Done
		b.ends = append(b.ends, end{row.parent, failed, broker.Ended{ID: row.id, Kind: row.kind, State: f.State, Value: f.Value}})
	}
}
