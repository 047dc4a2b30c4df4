package brokertest

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// deadline says when a frame of a strand should be at a label.
type deadline struct {
	target string
	at     time.Time
	first  time.Time // when it was set first
	page   *page     // nil = none has been opened for it
}

// page is an alarm for people.
type page struct {
	Page
	strand broker.ID
}

// proceed brings the deadlines of a strand in line with a nap or a hop that leads to label in the frame that the report
// names.
func (db *database) proceed(r *strand, report broker.Report, now time.Time) {
	for frame := range r.deadlines {
		if frame > report.Frame {
			db.forget(r, frame, now)
		}
	}
	reaches := func(target string) bool { return report.Act == broker.Hop && target == report.Label }
	d, due := r.deadlines[report.Frame], report.Due
	if d != nil && (reaches(d.target) || due != nil && due.Target != d.target) {
		db.forget(r, report.Frame, now)
	}
	if due != nil && !reaches(due.Target) {
		r.setDeadline(report.Frame, *due, now)
	}
}

func (r *strand) setDeadline(frame int, due broker.Due, now time.Time) {
	at := now.Add(max(due.In, 0))
	d := r.deadlines[frame]
	if d == nil {
		if r.deadlines == nil {
			r.deadlines = map[int]*deadline{}
		}
		r.deadlines[frame] = &deadline{target: due.Target, at: at, first: now}
		return
	}
	most := d.first.Add(max(due.Most, 0)) // it may not be put off further
	if most.Before(d.at) {
		most = d.at
	}
	if at.After(most) {
		at = most
	}
	d.at = at
}

// forget takes a frame's deadline away, and closes its page. One that has passed has a page, if only for that.
func (db *database) forget(r *strand, frame int, now time.Time) {
	d := r.deadlines[frame]
	if d == nil {
		return
	}
	if d.page == nil && !d.at.After(now) {
		db.openPage(r, frame)
	}
	if d.page != nil {
		d.page.Resolved = true
	}
	delete(r.deadlines, frame)
}

// cut is when a nap until schedule ends. A deadline that has passed cuts one nap more, which opens its page.
func (r *strand) cut(schedule, now time.Time) time.Time {
	for _, d := range r.deadlines {
		if d.page == nil && d.at.Before(schedule) {
			schedule = d.at
		}
	}
	if schedule.Before(now) {
		return now
	}
	return schedule
}

// late says whether a deadline has passed and has no page yet.
func (r *strand) late(now time.Time) bool {
	for _, d := range r.deadlines {
		if d.page == nil && !d.at.After(now) {
			return true
		}
	}
	return false
}

// openPages opens the pages that are due.
func (db *database) openPages(now time.Time) {
	for _, r := range db.live {
		db.openPagesOf(r, now)
	}
}

// openPagesOf opens a page for each deadline of a strand that has passed and has none yet.
func (db *database) openPagesOf(r *strand, now time.Time) {
	for _, frame := range slices.Sorted(maps.Keys(r.deadlines)) {
		if d := r.deadlines[frame]; d.page == nil && !d.at.After(now) {
			db.openPage(r, frame)
		}
	}
}

func (db *database) openPage(r *strand, frame int) {
	d := r.deadlines[frame]
	d.page = &page{Page{Frame: frame, Target: d.target}, r.id}
	db.pages = append(db.pages, d.page)
}

// Deadlines implements [Subject].
func (s *Store) Deadlines(id broker.ID) []Deadline {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Deadline
	for frame, d := range s.mustLive("deadlines", id).deadlines {
		all = append(all, Deadline{Frame: frame, Target: d.target, In: d.at.Sub(s.clock()), Paged: d.page != nil})
	}
	slices.SortFunc(all, func(a, b Deadline) int { return cmp.Compare(a.Frame, b.Frame) })
	return all
}

// Pages implements [Subject].
func (s *Store) Pages(id broker.ID) []Page {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Page
	for _, p := range s.pages {
		if p.strand == id {
			all = append(all, p.Page)
		}
	}
	return all
}

// OpenPages implements [Subject].
func (s *Store) OpenPages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.openPages(s.clock())
}
