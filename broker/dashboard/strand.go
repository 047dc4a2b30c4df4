package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/client/explain"
)

// strandPage shows what `respirated strand show` and `strand why` say of a strand.
func (d *dashboard) strandPage(w http.ResponseWriter, r *http.Request) {
	v := &view{frame: frameOf(r, "strand")}
	v.Refresh = refresh
	id, err := broker.ParseID(strings.TrimPrefix(r.URL.Path, strandsPrefix))
	if err != nil {
		v.block("Strand").Trouble = "That is no id of a strand."
		v.write(w, http.StatusNotFound)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*patience)
	defer cancel()
	snap, _ := d.snapshot(ctx) // without it one does not know who has the strand
	s, err := d.find(ctx, id, snap)
	switch {
	case errors.Is(err, client.ErrNotFound):
		v.block("Strand " + id.String()).Trouble = "There is no such strand. Those that have ended are forgotten by and by."
		v.write(w, http.StatusNotFound)
	case err != nil:
		v.block("Strand " + id.String()).Trouble = "The database does not answer: " + err.Error()
		v.write(w, http.StatusServiceUnavailable)
	default:
		v.Title = "strand " + s.ID
		v.strand(s)
		v.write(w, http.StatusOK)
	}
}

const strandsPrefix = "/strands/"

// find looks for a strand in each database.
func (d *dashboard) find(ctx context.Context, id broker.ID, snap broker.Snapshot) (s explain.Strand, err error) {
	missing := client.ErrNotFound
	for i, db := range d.Databases {
		if db.Reader == nil {
			continue
		}
		s, err = d.lookAt(ctx, i, id, snap)
		switch {
		case err == nil:
			return s, nil
		case !errors.Is(err, client.ErrNotFound):
			missing = err // it may be there
		}
	}
	return s, missing
}

func (d *dashboard) lookAt(ctx context.Context, i int, id broker.ID, snap broker.Snapshot) (s explain.Strand, err error) {
	reader := d.Databases[i].Reader
	if s.StrandRow, err = reader.StrandGet(ctx, id.String()); err != nil {
		return s, err
	}
	if s.Program, err = reader.StrandProgram(ctx, s.ID); err != nil {
		return s, err
	}
	all, err := d.seen[i].get(ctx)
	if err != nil {
		return s, err
	}
	s.Brokers, s.Now = all.brokers, time.Now()
	for _, b := range s.Brokers {
		if b.ID == snap.Broker {
			d.askHere(ctx, b, id, &s)
		}
	}
	return s, nil
}

// askHere asks our broker what only it knows: who of its workers has the strand, or could take it.
func (d *dashboard) askHere(ctx context.Context, here *client.BrokerRow, id broker.ID, s *explain.Strand) {
	switch s.State {
	case client.Leased:
		if h, err := d.Broker.Holder(ctx, id); err == nil {
			s.Here = here
			s.Holder = explain.Holder{Held: h.Held, Worker: h.Worker, For: time.Duration(h.HeldMS) * time.Millisecond}
		}
	case client.Ready:
		if n, err := d.Broker.Servers(ctx, s.Kind, s.Label, broker.Queue{Tenant: s.Tenant, Name: s.Queue}); err == nil {
			s.Here, s.Holder.Servers = here, (*explain.Servers)(&n)
		}
	}
}

func (v *view) strand(s explain.Strand) {
	b := v.block("Strand " + s.ID)
	b.fact("state", string(s.State))
	b.fact("why", s.Why())
	b.fact("kind", s.Kind)
	b.fact("label", s.Label)
	b.fact("queue", s.Queue)
	b.fact("tenant", s.Tenant)
	b.fact("priority", strconv.Itoa(s.Priority))
	b.fact("failures", fmt.Sprintf("%d of %d", s.Try, s.MaxTries))
	if s.Crashes > 0 {
		b.fact("crashes", fmt.Sprintf("%d workers ended while they ran it", s.Crashes))
	}
	if s.Rescues > 0 {
		b.fact("rescues", fmt.Sprintf("%d leases of it ran out", s.Rescues))
	}
	b.fact("created", explain.Time(&s.CreatedAt, s.Now))
	b.fact("due", explain.Time(s.ScheduledAt, s.Now))
	b.fact("leased until", explain.Time(s.LeasedUntil, s.Now))
	b.fact("cancel asked", explain.Time(s.CancelAt, s.Now))
	b.fact("finished", explain.Time(s.FinishedAt, s.Now))
	if s.Parent != "" {
		b.Facts = append(b.Facts, cell{Label: "parent", Text: cut(s.Parent, mostInCell), Link: "strands/" + url.PathEscape(s.Parent)})
	}
	b.fact("tags", strings.Join(s.Tags, ", "))
	b.fact("args", string(s.Args))
	b.fact("value", string(s.Value))
	b.fact("metadata", string(s.Metadata))
	if len(s.Program.Pages) > 0 {
		b.Trouble = "It has missed a deadline."
	}
	v.program(s)
	v.attempts(s)
}

// table adds a block that is shown only if it gets rows.
func (v *view) table(title string, header ...string) *block {
	b := v.block(title)
	b.Header = header
	return b
}

// program shows what a strand has as a program, a table for each part that it has.
func (v *view) program(s explain.Strand) {
	ago := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return explain.Ago(*t, s.Now)
	}
	p := s.Program
	if len(p.Pages) > 0 {
		b := v.block("Open pages")
		pages := make([]*client.PageRow, len(p.Pages))
		for i := range p.Pages {
			pages[i] = &p.Pages[i]
		}
		b.pages(pages)
	}
	if len(p.Deadlines) > 0 {
		b := v.table("Deadlines", "kind", "target", "due", "paged")
		for _, d := range p.Deadlines {
			b.row(texts(d.Kind, d.Target, explain.Ago(d.At, s.Now), ago(d.PagedAt))...)
		}
	}
	if len(s.Stack) > 0 {
		b := v.table("Frames, the one that runs next first", "kind", "label", "args", "returned")
		for _, f := range s.Frames() {
			b.row(texts(f.Kind, f.Label, jsonText(f.Args), jsonText(f.Ret))...)
		}
	}
	if p.Waiting > 0 {
		b := v.table(fmt.Sprintf("%d semaphores wait", p.Waiting), "name", "sent", "value")
		for _, m := range p.Semaphores {
			b.row(texts(m.Name, explain.Ago(m.SentAt, s.Now), jsonText(m.Value))...)
		}
	}
	if len(p.Children) > 0 {
		b := v.table(fmt.Sprintf("%d children are left, %d have ended", s.ChildrenLeft, p.Ended), "id", "kind", "state", "ended", "value")
		for _, c := range p.Children {
			cells := texts(c.ID, c.Kind, string(c.State), ago(c.EndedAt), jsonText(c.Value))
			cells[0].Link = "strands/" + url.PathEscape(c.ID)
			b.row(cells...)
		}
	}
	if len(p.Audits) > 0 {
		b := v.table("Done by hand", "when", "who", "role", "what", "before", "after")
		for _, a := range p.Audits {
			b.row(texts(explain.Ago(a.At, s.Now), a.Who, a.Role, a.What, jsonText(a.Before), jsonText(a.After))...)
		}
	}
}

// attemptsShown is how many failures are shown, the latest.
const attemptsShown = 10

// attempts shows how runs of a strand have failed, the last one first.
func (v *view) attempts(s explain.Strand) {
	for i := range min(len(s.Attempts), attemptsShown) {
		a := s.Attempts[len(s.Attempts)-1-i]
		b := v.block(fmt.Sprintf("It has %s %s", a.Outcome, explain.Ago(a.At, s.Now)))
		b.fact("error", a.Class+": "+a.Message)
		b.fact("worker", a.Worker+" on "+a.Host)
		b.fact("ended", a.Exit)
		b.text(a.Stderr)
		b.text(a.Trace)
	}
}

// jsonText is a value as it is stored; "" = null, or none.
func jsonText(value json.RawMessage) string {
	if string(value) == "null" {
		return ""
	}
	return string(value)
}
