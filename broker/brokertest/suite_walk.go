package brokertest

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/respirated/respirated/broker"
)

// tick is the unit of all times of a walk: so long that whatever really passes is nothing against it.
const tick = 1000 * time.Second

// walkTTL is how long the leases of a walk last.
const walkTTL = 2 * tick

// walkRandomly does the same random things to a subject and to a [Store], and compares what they answer and hold.
func walkRandomly(t *testing.T, subject Subject) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWalk(subject)
		t.Repeat(map[string]func(*rapid.T){
			"insert": w.insert,
			"lease":  w.lease,
			"commit": w.commit,
			"again":  w.again,
			"step":   w.step,
			"renew":  w.renew,
			"cancel": w.cancel,
			"retry":  w.retry,
			"wake":   w.wake,
			"signal": w.signal,
			"page":   w.page,
			"age":    w.age,
			"pause":  w.pause,
			"scan":   w.scan,
			"":       w.compare,
		})
	})
}

// walk is a model and a subject in step. Strands of other walks may be in the subject: this one has names of its own.
type walk struct {
	model   *Store
	subject Subject
	name    string             // its own, so that walks may share a subject
	ids     []broker.ID        // every strand ever made
	over    map[broker.ID]bool // those that have ended and were compared
	pairs   []broker.Pair      // every lease ever asked for
	last    []broker.Report    // to the subject
	same    []broker.Report    // the same to the model, whose semaphores have other numbers
	book    book
}

func newWalk(subject Subject) *walk {
	id := newID()
	return &walk{
		model:   NewStore(time.Now),
		subject: subject,
		name:    hex.EncodeToString(id[:4]),
		over:    map[broker.ID]bool{},
		book:    newBook(),
	}
}

// kinds are those of this walk.
func (w *walk) kinds() []string { return []string{w.name + "-a", w.name + "-b"} }

func (w *walk) queues() []string { return []string{w.name + "-q", w.name + "-r"} }

// drawInsert makes a strand up, mostly a new one.
func (w *walk) drawInsert(t *rapid.T) broker.Insert {
	in := broker.Insert{
		ID:   newID(),
		Kind: rapid.SampledFrom(w.kinds()).Draw(t, "kind"),
		Args: []byte(`{}`),
		Opts: fmt.Appendf(nil, `{"queue":%q,"priority":%d,"max_tries":%d,"in":%d}`,
			rapid.SampledFrom(w.queues()).Draw(t, "queue"),
			rapid.IntRange(1, 2).Draw(t, "priority"),
			rapid.IntRange(1, 4).Draw(t, "max tries"),
			rapid.IntRange(0, 1).Draw(t, "in")*int(tick/time.Second)),
	}
	if len(w.ids) > 0 && rapid.IntRange(0, 9).Draw(t, "old") == 0 {
		in.ID = drawFrom(t, w.ids, 1)[0]
	}
	w.know(in.ID)
	return in
}

// know notes an id that may be a strand from now on.
func (w *walk) know(id broker.ID) {
	if !slices.Contains(w.ids, id) {
		w.ids = append(w.ids, id)
	}
	delete(w.over, id)
}

func (w *walk) insert(t *rapid.T) {
	var inserts []broker.Insert
	for range rapid.IntRange(1, 3).Draw(t, "inserts") {
		inserts = append(inserts, w.drawInsert(t))
	}
	got, err := w.subject.Insert(t.Context(), inserts)
	want, _ := w.model.Insert(t.Context(), inserts)
	agree(t, "insert", got, err, want)
}

// lease asks for strands, and perhaps once more, as a broker does that has not learned what it got.
func (w *walk) lease(t *rapid.T) {
	var pairs []broker.Pair
	for _, id := range w.drawLive(t, 3) {
		pairs = append(pairs, broker.Pair{ID: id, Token: newToken()})
	}
	w.pairs = append(w.pairs, pairs...)
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		got, err := w.subject.Lease(t.Context(), pairs, walkTTL)
		want, _ := w.model.Lease(t.Context(), pairs, walkTTL)
		for _, s := range want {
			w.book.hears(s.ID)
		}
		agree(t, "lease", leasedByID(got), err, leasedByID(want))
	}
}

// tokensOf lists what a strand was asked for under, the latest last.
func (w *walk) tokensOf(id broker.ID) (pairs []broker.Pair) {
	for _, p := range w.pairs {
		if p.ID == id {
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// drawLive picks up to n live strands, each once.
func (w *walk) drawLive(t *rapid.T, n int) []broker.ID {
	var live []broker.ID
	for _, id := range w.ids {
		if _, ok := w.model.Row(id); ok {
			live = append(live, id)
		}
	}
	if len(live) == 0 {
		t.Skip("no live strand")
	}
	return drawFrom(t, live, n)
}

// drawFrom picks up to n of all, each once.
func drawFrom[T any](t *rapid.T, all []T, n int) (some []T) {
	index := rapid.IntRange(0, len(all)-1)
	for _, i := range rapid.SliceOfNDistinct(index, 1, min(n, len(all)), rapid.ID).Draw(t, "index") {
		some = append(some, all[i])
	}
	return some
}

// commit sends a batch of reports, fit or unfit.
func (w *walk) commit(t *rapid.T) {
	if len(w.pairs) == 0 {
		t.Skip("nothing was leased yet")
	}
	w.last, w.same = nil, nil
	for range rapid.IntRange(1, 4).Draw(t, "reports") {
		w.last = append(w.last, w.drawReport(t))
	}
	if slices.ContainsFunc(w.last, func(r broker.Report) bool { return r.Stay }) {
		// Where data is bad, the store on Postgres takes several transactions, so that a signal may come before a stay.
		for i := range w.last {
			w.last[i].Value = []byte(`1`)
		}
	}
	for i := range w.last {
		w.same = append(w.same, w.drawUsed(t, &w.last[i]))
	}
	w.send(t)
}

// again sends the last batch again.
func (w *walk) again(t *rapid.T) {
	if len(w.last) == 0 {
		t.Skip("nothing was sent yet")
	}
	w.send(t)
}

func (w *walk) send(t *rapid.T) {
	got, err := w.subject.Commit(t.Context(), w.last)
	want, _ := w.model.Commit(t.Context(), w.same)
	agree(t, "verdicts", anyStores(got), err, anyStores(want))
	w.enter(want)
	for i, v := range want {
		if v.State == broker.Applied && hasDice(w.last[i]) {
			w.settleBackoff(t, w.last[i].ID)
		}
	}
}

// step takes a step in a transaction of its own, which commits or does not, and reports it.
func (w *walk) step(t *rapid.T) {
	if len(w.pairs) == 0 {
		t.Skip("nothing was leased yet")
	}
	r := w.drawReport(t)
	if !hasEffects(r.Act) {
		t.Skip("no act of a step")
	}
	r.Stay = false
	same := w.drawUsed(t, &r)
	end, err := w.subject.Step(r)
	wantEnd, wantErr := w.model.Step(same)
	if (err == nil) != (wantErr == nil) {
		differ(t, "steps differ", "step %+v: got error %v, want %v", r, err, wantErr)
	}
	if err != nil {
		return
	}
	commits := rapid.Bool().Draw(t, "commits")
	end(commits)
	wantEnd(commits)
	w.book.reported[r.ID] = true
	w.book.naps[r.ID] = false
	if commits {
		w.book.acts(same)
		w.enterSignals(same)
	}
	w.last = []broker.Report{{Pair: r.Pair, Seq: r.Seq, Act: broker.Own}}
	w.same = w.last
	w.send(t)
	if !commits {
		w.settleBackoff(t, r.ID)
	}
}

// drawReport makes a report up, mostly for the latest lease of a strand.
func (w *walk) drawReport(t *rapid.T) broker.Report {
	pair := drawFrom(t, w.pairs, 1)[0]
	if all := w.tokensOf(pair.ID); rapid.IntRange(0, 3).Draw(t, "latest") > 0 {
		pair = all[len(all)-1]
	}
	r := broker.Report{
		Pair:  pair,
		Seq:   rapid.Uint64Range(1, 5).Draw(t, "seq"),
		Act:   acts[rapid.IntRange(0, len(acts)-1).Draw(t, "act")].act,
		Delay: tick * time.Duration(rapid.IntRange(0, 2).Draw(t, "delay")),
		Label: rapid.SampledFrom([]string{"x", "y", "y\x00"}).Draw(t, "label"),
		Value: []byte(rapid.SampledFrom([]string{`1`, `{"a":1}`, `{`}).Draw(t, "value")),
	}
	if ofBroker(r.Act) {
		r.Seq = 0
	}
	if rapid.Bool().Draw(t, "with stack") {
		r.Stack = []byte(rapid.SampledFrom([]string{`[1]`, `[2]`}).Draw(t, "stack"))
	}
	switch r.Act {
	case broker.Hop:
		r.Kind = rapid.SampledFrom(append(w.kinds(), "")).Draw(t, "new kind")
	case broker.Fail:
		r.Final = rapid.IntRange(0, 4).Draw(t, "final") == 0
		if rapid.Bool().Draw(t, "default back-off") {
			r.Delay = -1
		}
		r.Failure = &broker.Failure{Class: "E", Message: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "message")}
	case broker.Crash:
		r.Guilty = rapid.Bool().Draw(t, "guilty")
		r.Failure = &broker.Failure{Exit: "exit status 1"}
	}
	for range rapid.IntRange(0, 2).Draw(t, "inserts") {
		in := w.drawInsert(t)
		in.Child = rapid.IntRange(0, 3).Draw(t, "child") > 0
		in.Watch = rapid.Bool().Draw(t, "watch")
		r.Inserts = append(r.Inserts, in)
	}
	if hasEffects(r.Act) {
		w.drawEffects(t, &r)
	}
	t.Logf("report: %+v", r)
	return r
}

// hasDice says whether the store chooses the delay.
func hasDice(r broker.Report) bool {
	return r.Act == broker.Crash || r.Act == broker.Fail && r.Delay < 0
}

// settleBackoff moves a strand whose back-off was drawn to the same time in both stores. What may be drawn is the
// matter of other cases.
func (w *walk) settleBackoff(t *rapid.T, id broker.ID) {
	got, live := w.subject.Row(id)
	want, wantLive := w.model.Row(id)
	if live != wantLive {
		differ(t, "lives differ", "%s after a failure: got live %t, want %t", id, live, wantLive)
	}
	if !live || want.Leased {
		return
	}
	if got.Due > tick {
		differ(t, "back-off too long", "%s after a failure: got due in %v, want a short back-off", id, got.Due)
	}
	w.subject.Age(id, got.Due-tick/2)
	w.model.Age(id, want.Due-tick/2)
}

func (w *walk) renew(t *rapid.T) {
	if len(w.pairs) == 0 {
		t.Skip("nothing was leased yet")
	}
	pairs := drawFrom(t, w.pairs, 3)
	got, err := w.subject.Renew(t.Context(), pairs, walkTTL)
	want, _ := w.model.Renew(t.Context(), pairs, walkTTL)
	agree(t, "renewed", keptByID(got), err, keptByID(want))
}

func (w *walk) cancel(t *rapid.T) {
	id := w.drawLive(t, 1)[0]
	w.subject.Cancel(id)
	w.model.Cancel(id)
}

// retry brings dead strands back.
func (w *walk) retry(t *rapid.T) {
	var dead []broker.ID
	for _, id := range w.ids {
		if f, ok := w.model.Finished(id); ok && f.State == Dead && w.over[id] {
			dead = append(dead, id)
		}
	}
	if len(dead) == 0 {
		t.Skip("no dead strand")
	}
	id := drawFrom(t, dead, 1)[0]
	w.subject.Retry(id)
	w.model.Retry(id)
	w.know(id)
	w.book.returns(id)
}

func (w *walk) wake(t *rapid.T) {
	id := w.drawLive(t, 1)[0]
	w.subject.Wake(id)
	w.model.Wake(id)
}

func (w *walk) age(t *rapid.T) {
	d := tick * time.Duration(rapid.IntRange(1, 3).Draw(t, "ticks"))
	for _, id := range w.drawLive(t, 3) {
		w.subject.Age(id, d)
		w.model.Age(id, d)
	}
}

func (w *walk) pause(t *rapid.T) {
	queue := rapid.SampledFrom(w.queues()).Draw(t, "queue")
	paused := rapid.Bool().Draw(t, "paused")
	w.subject.Pause("", queue, paused)
	w.model.Pause("", queue, paused)
}

// scan compares what is found, and that the subject's order is one of priority. Schedules of the two stores differ by
// what really passed between them, so order within a priority is the matter of other cases.
func (w *walk) scan(t *rapid.T) {
	kinds := w.kinds()[:rapid.IntRange(1, 2).Draw(t, "kinds")]
	req := broker.ScanRequest{Kinds: kinds, Bottom: true, Limit: plenty}
	got, err := w.subject.Scan(t.Context(), req)
	want, _ := w.model.Scan(t.Context(), req)
	agree(t, "found", foundByID(got), err, foundByID(want))
	if !slices.IsSortedFunc(got.Candidates, func(a, b broker.Candidate) int { return a.Priority - b.Priority }) {
		differ(t, "scan out of order", "scan: got %+v, want it in order of priority", got.Candidates)
	}
}

// agree compares two answers.
func agree(t *rapid.T, what string, got any, err error, want any) {
	if err != nil || !reflect.DeepEqual(got, want) {
		differ(t, what+" differ", "%s: got %+v and error %v, want %+v", what, got, err, want)
	}
}

// differ ends a walk. Its verdict holds no id and no time, so that rapid knows the same fault in another walk and can
// look for the shortest.
func differ(t *rapid.T, verdict, format string, args ...any) {
	t.Logf(format, args...)
	t.Fatal(verdict)
}

// compare looks at every strand in both stores.
func (w *walk) compare(t *rapid.T) {
	for _, id := range w.ids {
		if w.over[id] {
			continue
		}
		got, live := w.subject.Row(id)
		want, wantLive := w.model.Row(id)
		if got.Leased && want.Leased {
			got.Due = want.Due // means nothing until it is free
		}
		if live != wantLive || !sameRow(got, want) {
			differ(t, "rows differ", "%s: got live %t %+v, want live %t %+v", id, live, got, wantLive, want)
		}
		if !live {
			w.compareFinished(t, id)
		}
		w.compareMail(t, id)
	}
	w.checkBook(t)
	w.countChildren(t)
}

// compareFinished looks at a strand that has ended since the last time, or was never made.
func (w *walk) compareFinished(t *rapid.T, id broker.ID) {
	got, found := w.subject.Finished(id)
	want, wantFound := w.model.Finished(id)
	if found != wantFound || got.State != want.State || !jsonEqual(got.Value, want.Value) {
		differ(t, "histories differ", "%s in history: got %t %+v, want %t %+v", id, found, got, wantFound, want)
	}
	if got, want := w.subject.Attempts(id), w.model.Attempts(id); len(got)+len(want) > 0 && !reflect.DeepEqual(got, want) {
		differ(t, "attempts differ", "attempts of %s: got %+v, want %+v", id, got, want)
	}
	w.over[id] = true
	w.enterEnd(id)
}

// countChildren checks the one number that could drift away from what it counts.
func (w *walk) countChildren(t *rapid.T) {
	children := map[broker.ID]int{}
	for _, id := range w.ids {
		if row, live := w.model.Row(id); live {
			children[row.Parent]++
		}
	}
	for _, id := range w.ids {
		if row, live := w.model.Row(id); live && row.ChildrenLeft != children[id] {
			differ(t, "children miscounted", "%s: got %d children left, want %d, which are live", id, row.ChildrenLeft, children[id])
		}
	}
}

func leasedByID(strands []broker.Strand) map[broker.ID]broker.Strand {
	m := map[broker.ID]broker.Strand{}
	for _, s := range strands {
		s.Created = time.Time{} // by each store's own clock
		s.Stack, s.Args = canonical(s.Stack), canonical(s.Args)
		s.Inbox = anyStoresInbox(s.Inbox)
		m[s.ID] = s
	}
	return m
}

func keptByID(kept []broker.Kept) map[broker.ID]broker.Kept {
	m := map[broker.ID]broker.Kept{}
	for _, k := range kept {
		m[k.ID] = k
	}
	return m
}

func foundByID(r broker.ScanResult) map[broker.ID]broker.Candidate {
	m := map[broker.ID]broker.Candidate{}
	for _, c := range ageless(r) {
		m[c.ID] = c
	}
	return m
}
