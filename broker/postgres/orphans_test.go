package postgres_test

import (
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
)

func (s *subject) dropOrphans() {
	s.t.Helper()
	if err := s.DropOrphans(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// owned counts the rows that are kept of a strand outside of its own: semaphores, children, deadlines and open pages.
func (s *subject) owned(id broker.ID) [4]int {
	s.t.Helper()
	return [4]int(one[[]int](s, `select array[
		(select count(*) from respirate.semaphore where strand = $1), (select count(*) from respirate.child where parent = $1),
		(select count(*) from respirate.deadline where strand = $1), (select count(*) from respirate.page where strand = $1 and resolved_at is null)]`,
		[16]byte(id)))
}

// mother is a strand that has something of everything: a semaphore, two children of which one has ended, a deadline, and a page.
func (s *subject) mother() (broker.Pair, []broker.Pair) {
	s.t.Helper()
	parent, kids := s.family(2)
	s.apply(exitOf(kids[0]))
	if _, err := s.Signal(s.t.Context(), []broker.Signal{{ID: parent.ID, Name: "go"}}); err != nil {
		s.t.Fatal(err)
	}
	s.apply(broker.Report{Pair: parent, Seq: 2, Act: broker.Nap, Delay: hour, Due: &broker.Due{Target: "x", In: time.Minute}})
	s.Age(parent.ID, hour)
	s.OpenPages()
	return parent, kids
}

// A binary of schema 5 deletes a strand and looks at nothing else.
func TestWhatStrandsHaveLeftThatAreGoneIsDropped(t *testing.T) {
	s := newSubject(t, migrated(t))
	lives, _ := s.mother()
	dead, _ := s.mother()
	s.apply(deathOf(s.lease(dead.ID)[0]))
	gone, _ := s.mother()
	forgotten, _ := s.mother()
	s.apply(deathOf(s.lease(forgotten.ID)[0]))
	s.run(`delete from respirate.strand where id = $1`, [16]byte(gone.ID))
	s.run(`delete from respirate.history where id = $1`, [16]byte(forgotten.ID))
	s.dropOrphans()
	for what, c := range map[string]struct {
		id   broker.ID
		want [4]int
	}{
		"one that lives":                   {lives.ID, [4]int{1, 2, 1, 1}},
		"a dead one, which may be retried": {dead.ID, [4]int{0, 2, 0, 0}},
		"one that is gone":                 {gone.ID, [4]int{}},
		"a dead one that history has not":  {forgotten.ID, [4]int{}},
	} {
		if got := s.owned(c.id); got != c.want {
			t.Errorf("%s: got %v, want %v", what, got, c.want)
		}
	}
	if got := one[string](s, `select why from respirate.page where strand = $1`, [16]byte(gone.ID)); got != "gone" {
		t.Errorf("page of one that is gone: got %q, want gone", got)
	}
	s.Retry(dead.ID)
	s.has(dead.ID, 1, 1)
}

func TestPageOfAStrandThatIsInHistoryTellsHowItEnded(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert("")
	s.apply(exitOf(s.lease(id)[0]))
	s.run(`insert into respirate.page (strand, frame, kind, target, due_at) values ($1, 0, 'one', 'x', now())`, [16]byte(id))
	s.dropOrphans()
	if got := one[string](s, `select why from respirate.page where resolved_at is not null`); got != "done" {
		t.Errorf("got %q, want done", got)
	}
}

// However many there are, each is found, in portions.
func TestOrphansAreDroppedInPortions(t *testing.T) {
	s := newSubject(t, migrated(t))
	lives := s.insert(`{"in":3600}`)
	s.run(`insert into respirate.semaphore (strand, name) select $1, 'x' from generate_series(1, 100)`, [16]byte(lives))
	s.run(`insert into respirate.semaphore (strand, name) select gen_random_uuid(), 'x' from generate_series(1, 2500)`)
	s.run(`insert into respirate.semaphore (strand, name) select '80000000-0000-4000-8000-000000000000', 'x' from generate_series(1, 25000)`)
	s.run(`insert into respirate.child (parent, child) select '00000000-0000-4000-8000-000000000000', gen_random_uuid() from generate_series(1, 12000)`)
	portions := 0
	for after := `null`; after != "end"; portions++ {
		before := one[int](s, `select (select count(*) from respirate.semaphore) + (select count(*) from respirate.child)`)
		after = one[string](s, `select coalesce(quote_literal(respirate.drop_orphans(`+after+`)), 'end')`)
		if n := before - one[int](s, `select (select count(*) from respirate.semaphore) + (select count(*) from respirate.child)`); n > 20000 {
			t.Errorf("portion %d: got %d rows dropped, want 10,000 of a table at most", portions, n)
		}
	}
	if n := one[int](s, `select (select count(*) from respirate.semaphore) + (select count(*) from respirate.child)`); n != 100 {
		t.Errorf("left: got %d, want the 100 of a strand that lives", n)
	}
	if portions < 4 || portions > 10 {
		t.Errorf("portions: got %d", portions)
	}
}

func TestAuditsAreForgottenByMaintenance(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{}`)
	s.run(`update respirate.queue set retention = '30 days'`)
	for range 3 {
		s.run(`select respirate.edit($1, '2', 'eve')`, [16]byte(id))
	}
	s.run(`update respirate.audit set at = now() - interval '29 days' where id = 1`)
	s.run(`update respirate.audit set at = now() - interval '31 days' where id = 2`)
	s.maintain()
	if got := one[string](s, `select string_agg(id::text, ' ' order by id) from respirate.audit`); got != "1 3" {
		t.Errorf("got %s", got)
	}
}
