package dashboard

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/client/explain"
)

// seen is what all who look at the overview are shown of a database.
type seen struct {
	pages   []*client.PageRow // the newest that are open
	brokers []*client.BrokerRow
}

const (
	seenKeep  = 3 * time.Second
	pagesSeen = 50
)

func seenOf(db Database) *cached[seen] {
	if db.Reader == nil {
		return nil
	}
	return newCached(seenKeep, func(ctx context.Context) (s seen, err error) {
		if s.pages, err = db.Reader.PageList(ctx, &client.PageListParams{First: pagesSeen}); err != nil {
			return s, err
		}
		s.brokers, err = db.Reader.BrokerList(ctx)
		return s, err
	})
}

// overview is the first page.
func (d *dashboard) overview(w http.ResponseWriter, r *http.Request) {
	v := &view{frame: frameOf(r, "overview")}
	v.Refresh = refresh
	snap, err := d.snapshot(r.Context())
	for i := range d.Databases {
		d.showPages(r.Context(), v, i, snap)
	}
	d.showBroker(v, snap, err)
	if err != nil {
		v.write(w, http.StatusOK)
		return
	}
	for i, db := range snap.Databases {
		d.showDatabase(r.Context(), v, i, db)
	}
	d.showPools(v, snap)
	v.write(w, http.StatusOK)
}

// about says which database a block is about, if there are several.
func (d *dashboard) about(what string, i int) string {
	if len(d.Databases) < 2 {
		return what
	}
	return what + " of " + d.Databases[i].Name
}

// look is what is known of a database. One that the broker knows to be away is not asked.
func (d *dashboard) look(ctx context.Context, i int, snap broker.Snapshot) (s seen, at time.Time, err error) {
	if i < len(snap.Databases) && snap.Databases[i].Away {
		return d.seen[i].before()
	}
	return d.seen[i].last(ctx)
}

// showPages shows which pages are open, as the first thing.
func (d *dashboard) showPages(ctx context.Context, v *view, i int, snap broker.Snapshot) {
	if d.seen[i] == nil {
		return
	}
	b := v.block(d.about("Open pages", i))
	s, at, err := d.look(ctx, i, snap)
	if err != nil {
		b.Trouble = "The database does not answer."
		if at.IsZero() {
			return
		}
		b.Note = "This is what it was " + explain.Ago(at, time.Now()) + "."
	}
	b.pages(s.pages)
	if len(s.pages) > 0 && b.Trouble == "" {
		b.Trouble = "Deadlines of strands have passed."
	}
	if b.Empty = "None is open."; len(s.pages) == pagesSeen {
		b.More = cell{Text: "all open pages", Link: pagesLink(i, 0, false)}
	}
}

// pages lists pages in a table.
func (b *block) pages(pages []*client.PageRow) {
	b.Header = []string{"page", "strand", "kind", "target", "due", "opened", "resolved", "why"}
	now := time.Now()
	for _, p := range pages {
		resolved := ""
		if p.ResolvedAt != nil {
			resolved = explain.Ago(*p.ResolvedAt, now)
		}
		cells := texts(strconv.FormatInt(p.ID, 10), p.Strand, p.Kind, p.Target, explain.Ago(p.DueAt, now), explain.Ago(p.OpenedAt, now), resolved, p.Why)
		cells[1].Link = "strands/" + url.PathEscape(p.Strand)
		b.row(cells...)
	}
}

func (d *dashboard) showBroker(v *view, snap broker.Snapshot, err error) {
	b := v.block("Broker")
	if err != nil {
		b.Trouble = "It does not answer: " + err.Error() + "."
		return
	}
	if snap.Draining {
		b.Trouble = "It drains: the daemon is about to stop."
	}
	b.fact("host", snap.Host)
	b.fact("id", snap.Broker)
	b.fact("build", d.Build)
	b.fact("strands held", strconv.Itoa(snap.Held))
	b.fact("workers", workersOf(snap.Workers))
	b.fact("worker processes", fmt.Sprintf("%d have died, %d have ended when asked to", snap.Exits.Died, snap.Exits.Asked))
}

func workersOf(workers []broker.WorkerSnapshot) string {
	connected, want, held := 0, 0, 0
	for _, w := range workers {
		if w.Connected {
			connected, want, held = connected+1, want+w.Want, held+w.Held
		}
	}
	return fmt.Sprintf("%d connected, which want %d strands and hold %d", connected, want, held)
}

func (d *dashboard) showDatabase(ctx context.Context, v *view, i int, db broker.DatabaseSnapshot) {
	b := v.block("Database " + db.Name)
	if db.Away {
		b.Trouble = "It has been away for " + explain.Span(time.Duration(db.AwayMS)*time.Millisecond) + ": results are kept until it is back."
	}
	if d.misfits[i] != nil && !db.Away {
		if why, err := d.misfits[i].get(ctx); err == nil && why != "" {
			b.Trouble = why
		}
	}
	b.fact("candidates", fmt.Sprintf("%d at hand", db.Candidates))
	b.fact("strands held", strconv.Itoa(db.Held))
	b.fact("reports unsettled", strconv.Itoa(db.Unsettled))
	if p := db.Counts.Delays; p.P95 > 0 {
		b.fact("delay", fmt.Sprintf("half within %v, 95 of 100 within %v, of the strands leased in the last 10 s", short(p.P50), short(p.P95)))
	}
	b.fact("reports", counted(db.Counts.Applied))
	b.fact("not applied", counted(without(db.Counts.Verdicts, "applied")))
	if p := db.Partition; p != nil {
		b.fact("partition", partition(p))
	}
	d.showBrokers(ctx, v, i, db)
}

func short(d time.Duration) time.Duration {
	if d > time.Second {
		return d.Round(10 * time.Millisecond)
	}
	return d.Round(100 * time.Microsecond)
}

// counted lists what there was any of, most first.
func counted(counts map[string]uint64) string {
	var names []string
	for name, n := range counts {
		if n > 0 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b)) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%d %s", counts[name], name)
	}
	return strings.Join(names, ", ")
}

func without(counts map[string]uint64, name string) map[string]uint64 {
	rest := map[string]uint64{}
	for other, n := range counts {
		if other != name {
			rest[other] = n
		}
	}
	return rest
}

func partition(p *broker.PartitionSnapshot) string {
	if p.Number == 0 {
		return "none yet"
	}
	text := fmt.Sprintf("%d, as %d of %d, ids %s", p.Number, p.Rank, p.Of, p.Range)
	if p.Rank == 0 {
		text = fmt.Sprintf("%d, which has no workers", p.Number)
	}
	if !p.Ready {
		text += "; it does not scan yet"
	}
	return text
}

// showBrokers shows who else is there, by the database, and when this broker has heard of them.
func (d *dashboard) showBrokers(ctx context.Context, v *view, i int, db broker.DatabaseSnapshot) {
	if i >= len(d.seen) || d.seen[i] == nil {
		return
	}
	b := v.block(d.about("Brokers", i))
	s, _, err := d.look(ctx, i, broker.Snapshot{Databases: slices.Concat(make([]broker.DatabaseSnapshot, i), []broker.DatabaseSnapshot{db})})
	if err != nil && s.brokers == nil {
		b.Empty = "The database does not answer."
		return
	}
	b.Header = []string{"host", "pid", "state", "partition", "heard", "workers", "want", "kinds", "build"}
	now := time.Now()
	for _, one := range s.brokers {
		state := cell{Text: "idle"}
		switch {
		case !one.Alive:
			state = cell{Text: "gone, seen " + explain.Ago(one.AliveUntil, now), Mood: "warn"}
		case one.Busy:
			state.Text = "busy"
		}
		part := ""
		if one.Partition != 0 {
			part = fmt.Sprintf("%d, as %d of %d", one.Partition, one.Rank, one.Members)
		}
		cells := texts(one.Host, strconv.Itoa(one.PID), "", part, heard(one.ID, db.Partition), strconv.Itoa(one.Workers), strconv.Itoa(one.Slots),
			strings.Join(one.Kinds, " "), one.Build)
		cells[2] = state
		b.row(cells...)
	}
}

// heard says when a broker was last heard of.
func heard(id string, p *broker.PartitionSnapshot) string {
	if p == nil {
		return ""
	}
	for _, m := range p.Members {
		switch {
		case m.Broker != id:
		case m.SilentMS < 0:
			return "not yet"
		default:
			return explain.Span(time.Duration(m.SilentMS)*time.Millisecond) + " ago"
		}
	}
	return ""
}

func (d *dashboard) showPools(v *view, snap broker.Snapshot) {
	if d.Pools != nil {
		b := v.block("Pools")
		b.Header, b.Empty = []string{"pool", "state", "processes", "connected", "slots", "build", "note"}, "There are none."
		for _, p := range d.Pools() {
			cells := texts(p.Name, p.State, strconv.Itoa(p.Procs), strconv.Itoa(p.Connected), strconv.Itoa(p.Slots), p.Build, p.Note)
			cells[1].Mood = moodOf(p.State)
			b.row(cells...)
			if cells[1].Mood == "bad" {
				b.Trouble = "A pool does not run as it should."
			}
		}
	}
	if d.Workers == nil {
		return
	}
	b := v.block("Workers")
	b.Header, b.Empty = []string{"pool", "seat", "pid", "state", "started", "restarts", "want", "held", "last exit", "kinds"}, "There are none."
	now := time.Now()
	for _, w := range d.Workers(snap) {
		seat, pid, state := strconv.Itoa(w.Index), "", w.State
		if w.Pool == external {
			seat = ""
		}
		if w.PID != 0 {
			pid = strconv.Itoa(w.PID)
		}
		switch {
		case w.Connected && w.Draining:
			state = "draining"
		case w.Paused && w.State == "connected":
			state = "paused"
		}
		cells := texts(w.Pool, seat, pid, state, explain.Ago(w.Started, now), strconv.Itoa(w.Restarts), strconv.Itoa(w.Want),
			strconv.Itoa(w.Held), w.LastExit, strings.Join(w.Kinds, " "))
		cells[3].Mood = moodOf(state)
		b.row(cells...)
	}
}

func moodOf(state string) string {
	switch state {
	case "crash-looping", "halted", "refused", "stuck":
		return "bad"
	case "old build", "backing-off", "killed", "draining", "ending", "paused":
		return "warn"
	case "running", "connected":
		return "good"
	}
	return ""
}

// pagesPage lists pages, those that are resolved, too, if it is asked to.
func (d *dashboard) pagesPage(w http.ResponseWriter, r *http.Request) {
	v := &view{frame: frameOf(r, "pages")}
	v.Refresh = refresh
	query := r.URL.Query()
	all := query.Get("all") != ""
	only, err := strconv.Atoi(query.Get("database"))
	if err != nil {
		only = -1
	}
	before, _ := strconv.ParseInt(query.Get("before"), 10, 64) // 0 = from the newest
	for i, db := range d.Databases {
		if db.Reader == nil || only >= 0 && i != only {
			continue
		}
		title := "Open pages"
		if all {
			title = "Pages"
		}
		b := v.block(d.about(title, i))
		d.listPages(r.Context(), b, i, all, max(before, 0))
		b.Empty = "There are none."
	}
	other := cell{Text: "those that are resolved, too", Link: "pages?all=1"}
	if all {
		other = cell{Text: "only those that are open", Link: "pages"}
	}
	v.block("").More = other
	v.write(w, http.StatusOK)
}

func (d *dashboard) listPages(ctx context.Context, b *block, i int, all bool, before int64) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	pages, err := d.Databases[i].Reader.PageList(ctx, &client.PageListParams{All: all, First: mostRows, Before: before})
	if err != nil {
		b.Trouble = "The database does not answer, or not with pages: " + err.Error()
		return
	}
	b.pages(pages)
	if len(pages) == mostRows {
		b.More = cell{Text: "older ones", Link: pagesLink(i, pages[len(pages)-1].ID, all)}
	}
}

func pagesLink(database int, before int64, all bool) string {
	link := fmt.Sprintf("pages?database=%d", database)
	if before > 0 {
		link += fmt.Sprintf("&before=%d", before)
	}
	if all {
		link += "&all=1"
	}
	return link
}
