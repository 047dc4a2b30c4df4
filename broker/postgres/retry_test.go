package postgres_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
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

// within begins a statement in a transaction that stays open, and tells its error when it is over.
func (s *subject) within(sql string, args ...any) (pgx.Tx, <-chan error) {
	s.t.Helper()
	tx := s.begin(pgx.TxOptions{}, `select`)
	told := make(chan error, 1)
	go func() {
		_, err := tx.Exec(s.t.Context(), sql, args...)
		told <- err
	}()
	return tx, told
}

// waits waits until a transaction waits for another.
func (s *subject) waits(waiter, holder pgx.Tx) {
	s.t.Helper()
	brokertest.Eventually(s.t, "one transaction waits for the other", func() bool {
		return one[bool](s, `select $1::int = any (pg_blocking_pids($2::int))`, holder.Conn().PgConn().PID(), waiter.Conn().PgConn().PID())
	})
}

// ordered inserts strands whose ids begin with these bytes.
func (s *subject) ordered(opts string, firsts ...byte) (ids []broker.ID) {
	s.t.Helper()
	for _, first := range firsts {
		id := newID()
		id[0] = first
		s.run(`select respirate.insert('k', '{}', $1::jsonb || jsonb_build_object('id', $2::text))`, opts, id.String())
		ids = append(ids, id)
	}
	return ids
}

// A child is made while a cancel of its tree waits, and takes a step of its own before the cancel comes to it. It has a smaller id
// than its parent, which the cancel has locked and the step waits for.
func TestCancelOfATreeAndAStepOfAChildThatIsNewInItDoNotWaitForEachOther(t *testing.T) {
	s := newSubject(t, migrated(t))
	root, last, kid := s.ordered(`{}`, 0x80)[0], newID(), newID()
	last[0], kid[0] = 0xf0, 0x10
	p := s.lease(root)[0]
	s.apply(broker.Report{Pair: p, Seq: 1, Act: broker.Save, Inserts: []broker.Insert{{ID: last, Kind: "k", Args: []byte(`{}`), Child: true}}})
	grows := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.step('%s', '%s', 2, '{"act": "nap", "ms": 3600000,
		"enq": [{"key": "%s", "kind": "k", "args": {}, "child": true}]}')`, root, p.Token, kid))
	cancels, cancelled := s.within(`select respirate.cancel($1)`, [16]byte(root))
	s.waits(cancels, grows) // for the root
	holds := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select from respirate.strand where id = '%s' for update`, last))
	s.commitTx(grows)
	s.waits(cancels, holds) // for the last, with the root
	k := s.lease(kid)[0]
	steps, stepped := s.within(`select respirate.step($1, $2, 1, '{"act": "exit"}')`, [16]byte(kid), [16]byte(k.Token))
	s.waits(steps, cancels) // for the root, with the new child
	s.commitTx(holds)
	if err := <-stepped; err != nil {
		t.Fatalf("the step: %v", err)
	}
	s.commitTx(steps)
	if err := <-cancelled; err != nil {
		t.Fatalf("the cancel: %v", err)
	}
	s.commitTx(cancels)
	for id, want := range map[broker.ID]string{root: "cancelled", last: "cancelled", kid: "done"} {
		if f, _ := s.Finished(id); f.State != want {
			t.Errorf("%s: got %q, want %s", id, f.State, want)
		}
	}
}

// A dead parent comes back while a step of its child waits, and is locked by a cancel that waits for that child.
func TestAStepWhoseParentHasComeBackMeanwhileIsGivenUpAtOnce(t *testing.T) {
	s := newSubject(t, migrated(t))
	ids := s.ordered(`{}`, 0x10, 0xf0)
	parent, last, kid := s.lease(ids[0])[0], ids[1], newID()
	kid[0] = 0x80
	s.apply(broker.Report{Pair: parent, Seq: 1, Act: broker.Save, Inserts: []broker.Insert{{ID: kid, Kind: "k", Args: []byte(`{}`), Child: true}}})
	s.apply(deathOf(parent))
	k := s.lease(kid)[0]
	retries := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select respirate.retry('%s')`, parent.ID))
	steps, stepped := s.within(`select respirate.step($1, $2, 1, $3::text::jsonb)`, [16]byte(kid), [16]byte(k.Token),
		fmt.Sprintf(`{"act": "exit", "sig": [{"s": "%s", "name": "x"}]}`, last))
	s.waits(steps, retries) // for its own row
	holds := s.begin(pgx.TxOptions{}, fmt.Sprintf(`select from respirate.strand where id = '%s' for update`, last))
	s.commitTx(retries)
	s.waits(steps, holds) // for the last
	cancels, cancelled := s.within(`select respirate.cancel($1)`, [16]byte(parent.ID))
	s.waits(cancels, steps) // for the child, with its parent
	s.commitTx(holds)
	if err := <-stepped; err == nil || !strings.Contains(err.Error(), "40001") || !strings.Contains(err.Error(), "has just come back") {
		t.Errorf("the step: got %v, want one that may be repeated", err)
	}
	if err := steps.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-cancelled; err != nil {
		t.Fatalf("the cancel: %v", err)
	}
	s.commitTx(cancels)
	if f, _ := s.Finished(parent.ID); f.State != "cancelled" {
		t.Errorf("the parent: got %q", f.State)
	}
	s.apply(broker.Report{Pair: k, Seq: 1, Act: broker.Release}) // what a worker answers then
	if f, _ := s.Finished(kid); f.State != "cancelled" {
		t.Errorf("the child: got %q", f.State)
	}
}
