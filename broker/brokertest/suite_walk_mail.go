package brokertest

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/respirated/respirated/broker"
)

// This is what a walk does with semaphores, ended children and deadlines. Each semaphore of a walk has a value of its own,
// by which the two stores' numbers for it are told.

// drawSignal makes a signal up, to a strand that lives or to nobody.
func (w *walk) drawSignal(t *rapid.T) broker.Signal {
	w.book.sent++
	sig := broker.Signal{
		ID:    newID(),
		Name:  rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
		Value: fmt.Append(nil, w.book.sent),
		Quiet: rapid.Bool().Draw(t, "quiet"),
	}
	if rapid.IntRange(0, 5).Draw(t, "to nobody") > 0 {
		sig.ID = w.drawLive(t, 1)[0]
	}
	return sig
}

// signal sends semaphores outside of any report.
func (w *walk) signal(t *rapid.T) {
	var signals []broker.Signal
	for range rapid.IntRange(1, 3).Draw(t, "signals") {
		signals = append(signals, w.drawSignal(t))
	}
	got, err := w.subject.Signal(t.Context(), signals)
	want, _ := w.model.Signal(t.Context(), signals)
	agree(t, "found", got, err, want)
	for i, sig := range signals {
		if want[i] {
			w.book.sends(sig)
		}
	}
}

// page has the pages opened that are due.
func (w *walk) page(*rapid.T) {
	w.subject.OpenPages()
	w.model.OpenPages()
}

// drawEffects adds to a report what may go with its act, but for the semaphores that it uses.
func (w *walk) drawEffects(t *rapid.T, r *broker.Report) {
	if _, live := w.model.Row(r.ID); live {
		for range rapid.IntRange(0, 2).Draw(t, "signals") {
			sig := w.drawSignal(t)
			switch rapid.IntRange(0, 4).Draw(t, "to") {
			case 0:
				sig.ID = broker.ID{}
			case 1:
				sig.ID = r.ID
			case 2:
				if len(r.Inserts) > 0 {
					sig.ID = r.Inserts[0].ID
				}
			}
			r.Signals = append(r.Signals, sig)
		}
	}
	children := []broker.ID{newID()}
	for _, id := range w.ids {
		if w.book.parents[id] == r.ID {
			children = append(children, id)
		}
	}
	if rapid.Bool().Draw(t, "reaps") {
		r.Reaped = drawFrom(t, children, 3)
	}
	if r.Act == broker.Exit {
		return
	}
	r.Frame = rapid.IntRange(0, 1).Draw(t, "frame")
	if rapid.IntRange(0, 2).Draw(t, "with due") == 0 {
		r.Due = &broker.Due{
			Target: rapid.SampledFrom([]string{"x", "y"}).Draw(t, "target"),
			In:     tick * time.Duration(rapid.IntRange(0, 2).Draw(t, "due in")),
			Most:   tick * time.Duration(rapid.IntRange(0, 3).Draw(t, "at most")),
		}
	}
	if rapid.IntRange(0, 2).Draw(t, "stay") == 0 {
		r.Stay, r.Delay = true, 0
	}
}

// drawUsed has a report use semaphores of the subject, and returns it with those of the model.
func (w *walk) drawUsed(t *rapid.T, r *broker.Report) (same broker.Report) {
	same = *r
	theirs := w.model.Waiting(r.ID).Semaphores
	if !hasEffects(r.Act) || len(theirs) == 0 || !rapid.Bool().Draw(t, "uses") {
		return same
	}
	ours := map[string]int64{}
	for _, s := range w.subject.Waiting(r.ID).Semaphores {
		ours[string(s.Value)] = s.ID
	}
	for _, s := range drawFrom(t, theirs, 2) {
		w.book.values[s.ID] = string(s.Value)
		same.Used = append(same.Used, s.ID)
		r.Used = append(r.Used, ours[string(s.Value)])
	}
	return same
}

// anyStores are verdicts without what is for people, and without what each store chooses by itself.
func anyStores(verdicts []broker.Verdict) []broker.Verdict {
	verdicts = slices.Clone(verdicts)
	for i := range verdicts {
		verdicts[i].Why = ""
		verdicts[i].Inbox = anyStoresInbox(verdicts[i].Inbox)
	}
	return verdicts
}

// anyStoresInbox leaves numbers, times and orders out, which each store chooses by itself.
func anyStoresInbox(in *broker.Inbox) *broker.Inbox {
	if in == nil {
		return nil
	}
	same := &broker.Inbox{Left: in.Left, More: in.More}
	for _, s := range in.Semaphores {
		same.Semaphores = append(same.Semaphores, broker.Semaphore{Name: s.Name, Value: canonical(s.Value)})
	}
	for _, e := range in.Ended {
		e.Value = canonical(e.Value)
		same.Ended = append(same.Ended, e)
	}
	slices.SortFunc(same.Semaphores, func(a, b broker.Semaphore) int { return bytes.Compare(a.Value, b.Value) })
	slices.SortFunc(same.Ended, func(a, b broker.Ended) int { return bytes.Compare(a.ID[:], b.ID[:]) })
	return same
}

// compareMail looks at what is stored for a strand, as far as there is anything or was the last time.
func (w *walk) compareMail(t *rapid.T, id broker.ID) {
	row, live := w.subject.Row(id)
	want, wantPages := w.model.Waiting(id), w.model.Pages(id)
	var wantDue []Deadline
	if live {
		wantDue = w.model.Deadlines(id)
	}
	is := len(want.Semaphores)+len(want.Ended)+want.Left+len(wantPages)+len(wantDue) > 0
	if was := w.book.mail[id]; !is && !was && row.Inbox == 0 {
		return
	}
	w.book.mail[id] = is
	got := w.subject.Waiting(id)
	if !reflect.DeepEqual(anyStoresInbox(&got), anyStoresInbox(&want)) {
		differ(t, "mail differs", "stored for %s: got %+v, want %+v", id, got, want)
	}
	if n := len(got.Semaphores) + len(got.Ended); live && (n != row.Inbox || got.Left != row.ChildrenLeft) {
		differ(t, "mail miscounted", "%s by its row: got %d and %d children, want %d and %d, which are stored", id, row.Inbox, row.ChildrenLeft, n, got.Left)
	}
	if live {
		if got := w.subject.Deadlines(id); !sameDeadlines(got, wantDue) {
			differ(t, "deadlines differ", "deadlines of %s: got %+v, want %+v", id, got, wantDue)
		}
	}
	got2, want2 := sortedPages(w.subject.Pages(id)), sortedPages(wantPages)
	if !slices.Equal(got2, want2) {
		differ(t, "pages differ", "pages of %s: got %+v, want %+v", id, got2, want2)
	}
}

func sortedPages(pages []Page) []Page {
	return slices.SortedFunc(slices.Values(pages), func(a, b Page) int {
		return cmp.Or(cmp.Compare(a.Frame, b.Frame), cmp.Compare(a.Target, b.Target), cmp.Compare(fmt.Sprint(a.Resolved), fmt.Sprint(b.Resolved)))
	})
}
