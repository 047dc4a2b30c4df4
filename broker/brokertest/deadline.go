package brokertest

import (
	"cmp"
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
func (r *strand) proceed(report broker.Report, now time.Time) {
	for frame := range r.deadlines {
		if frame > report.Frame {
			r.forget(frame)
		}
	}
	if report.Due != nil {
		r.setDeadline(report.Frame, *report.Due, now)
	}
	if d := r.deadlines[report.Frame]; d != nil && report.Act == broker.Hop && d.target == report.Label {
		r.forget(report.Frame)
	}
}

func (r *strand) setDeadline(frame int, due broker.Due, now time.Time) {
	at := now.Add(max(due.In, 0))
	d := r.deadlines[frame]
	if d == nil || d.target != due.Target {
		r.forget(frame)
		if r.deadlines == nil {
			r.deadlines = map[int]*deadline{}
		}
		r.deadlines[frame] = &deadline{target: due.Target, at: at, first: now}
		return
	}
	if most := d.first.Add(due.Most); at.After(most) { // it may not be put off further
		at = most
		if at.Before(d.at) {
			at = d.at
		}
	}
	d.at = at
}

// forget takes a frame's deadline away, and closes its page.
func (r *strand) forget(frame int) {
	if d := r.deadlines[frame]; d != nil && d.page != nil {
		d.page.Resolved = true
	}
	delete(r.deadlines, frame)
}

// cut is when a nap until schedule ends. A deadline for which a page is open cuts none any more.
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

// openPages opens a page for each deadline that has passed and has none yet.
func (db *database) openPages(now time.Time) {
	for _, r := range db.live {
		for frame, d := range r.deadlines {
			if d.page == nil && !d.at.After(now) {
				d.page = &page{Page{Frame: frame, Target: d.target}, r.id}
				db.pages = append(db.pages, d.page)
			}
		}
	}
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
