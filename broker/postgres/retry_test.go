package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// deathOf ends a strand as dead.
func deathOf(p broker.Pair) broker.Report {
	return broker.Report{Pair: p, Seq: 3, Act: broker.Fail, Final: true, Failure: &broker.Failure{}}
}

// retrying retries in a transaction of its own, and tells what that says.
func (s *subject) retrying(id broker.ID) <-chan string {
	told := make(chan string, 1)
	go func() { told <- s.retryText(id) }()
	return told
}

// has checks how many children a parent has left, and how many ends to reap, by its row and by what is stored.
func (s *subject) has(parent broker.ID, left, ended int) {
	s.t.Helper()
	row, ok := s.Row(parent)
	if in := s.Waiting(parent); !ok || row.ChildrenLeft != left || row.Inbox != ended || in.Left != left || len(in.Ended) != ended {
		s.t.Errorf("parent: got %+v (found: %t), %d stored that live and %d that have ended, want %d and %d", row, ok, in.Left, len(in.Ended), left, ended)
	}
}

func TestRetryOfADeadParentWaitsForTheEndOfAChildThatIsBeingCommitted(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(2)
	s.apply(deathOf(parent))
	end, err := s.Step(broker.Report{Pair: kids[0], Seq: 2, Act: broker.Exit})
	if err != nil {
		t.Fatal(err)
	}
	told := s.retrying(parent.ID)
	s.awaitWaiting()
	end(true)
	if got := <-told; got != "ready" {
		t.Fatalf("retry: got %q, want ready", got)
	}
	s.has(parent.ID, 1, 1)
}

func TestEndOfAChildWaitsForTheRetryOfItsParent(t *testing.T) {
	for name, end := range map[string]func(*subject, broker.Pair){
		"Reported":  func(s *subject, p broker.Pair) { s.apply(exitOf(p)) },
		"Cancelled": func(s *subject, p broker.Pair) { s.Cancel(p.ID) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSubject(t, migrated(t))
			parent, kids := s.family(1)
			s.apply(deathOf(parent), broker.Report{Pair: kids[0], Seq: 2, Act: broker.Release})
			kid := kids[0]
			if name == "Reported" {
				kid = s.lease(kid.ID)[0]
			}
			retry := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.retry('%s')`, parent.ID))
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				end(s, kid)
			}()
			if name == "Cancelled" {
				s.awaitWaiting()
			}
			s.commitTx(retry)
			<-ended
			s.has(parent.ID, 0, 1)
			s.awake(parent)
		})
	}
}

// Whatever meets whatever, the counts of the parent come out right, and it is due when its last child has ended.
func TestDeadParentsRetriedWhileTheirChildrenEndHaveThemAll(t *testing.T) {
	url := migrated(t)
	subjects := []*subject{newSubject(t, url), newSubject(t, url)}
	s := subjects[0]
	for round := range 12 {
		parent, kids := s.family(4)
		if round%2 == 0 {
			s.apply(deathOf(parent))
		}
		var wg sync.WaitGroup
		if round%2 == 1 { // it dies only now
			wg.Go(func() { subjects[1].apply(deathOf(parent)) })
		}
		wg.Go(func() { subjects[0].apply(exitOf(kids[0]), exitOf(kids[1])) })
		wg.Go(func() { s.apply(broker.Report{Pair: kids[2], Seq: 2, Act: broker.Cancel}) })
		wg.Go(func() { s.Cancel(kids[3].ID) })
		for range 2 {
			wg.Go(func() {
				for got := ""; got != "ready"; { // leased until it is dead
					if got = s.retryText(parent.ID); got != "ready" && got != "leased" {
						t.Errorf("retry: got %q", got)
						return
					}
				}
			})
		}
		wg.Wait()
		s.has(parent.ID, 1, 3)
		s.apply(broker.Report{Pair: kids[3], Seq: 3, Act: broker.Nap}) // it was asked to end
		s.has(parent.ID, 0, 4)
		s.awake(parent)
	}
}

func TestCancelOfADeadParentSparesTheChildrenItHasLeft(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(1)
	s.apply(deathOf(parent))
	if got := one[string](s, `select respirate.cancel($1)`, [16]byte(parent.ID)); got != "dead" {
		t.Errorf("cancel: got %q, want dead", got)
	}
	if row, ok := s.Row(kids[0].ID); !ok || row.CancelAsked {
		t.Errorf("child: got %+v (found: %t), want it to go on", row, ok)
	}
}

func TestRetryAtALabelHasTheChildrenToo(t *testing.T) {
	s := newSubject(t, migrated(t))
	parent, kids := s.family(2)
	s.apply(deathOf(parent))
	s.apply(exitOf(kids[0]))
	if got := one[string](s, `select respirate.retry($1, 'two')`, [16]byte(parent.ID)); got != "ready" {
		t.Errorf("retry: got %q", got)
	}
	s.has(parent.ID, 1, 1)
}

func TestRetryOfAParentOf10000ChildrenIsOneStatement(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	s.grow(p.ID, 10_000)
	s.apply(deathOf(p))
	start := time.Now()
	s.Retry(p.ID)
	t.Logf("retried in %v", time.Since(start))
	if row, _ := s.Row(p.ID); row.ChildrenLeft != 10_000 || row.Inbox != 0 {
		t.Errorf("got %+v, want 10,000 children left", row)
	}
}
