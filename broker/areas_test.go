package broker

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/respirated/respirated/protocol"
)

func queue(name string) Queue { return Queue{Name: name} }

// of is terms with these queues.
func of(names ...string) (t Terms) {
	for _, name := range names {
		t.Queues = append(t.Queues, queue(name))
	}
	return t
}

// in is a candidate in a queue.
func in(n byte, name string) Candidate {
	c := due(n)
	c.Queue = queue(name)
	return c
}

func granted(pairs []Pair, name string) leased {
	strands := strandsOf(pairs)
	for i := range strands {
		strands[i].Queue = name
	}
	return leased{granted: strands}
}

func TestStrandGoesToAWorkerWhosePoolMayTakeItsQueue(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "for a", 2, of("a"))
	b.agree(t0, 2, "for b and c", 2, of("b", "c"))
	fx := b.step(t0, found(in(1, "c"), in(2, "a"), in(3, "b"), in(4, "b"), in(5, "a"), in(6, "a")))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"for a": "25", "for b and c": "13"})
}

func TestAPoolWithoutQueuesTakesAll(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "for a", 1, of("a"))
	b.agree(t0, 2, "for all", 3, Terms{})
	fx := b.step(t0, found(in(1, "b"), in(2, "other"), in(3, "a"), in(4, "a")))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"for a": "3", "for all": "124"})
}

func TestPriorityHoldsAcrossTheQueuesOfAPool(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 0, Terms{})
	b.agree(t0, 2, "for a", 0, of("a"))
	b.step(t0, wanted{session: 1, n: 1})
	urgent := in(2, "a")
	urgent.Priority = 1
	equal(t, "leased", b.byWorker(b.step(t0, found(in(1, "b"), urgent)).lease), map[string]string{"w": "2"})
}

// TestScansLookWhereSomebodyMayTake: nowhere else, and in all queues only if somebody takes all.
func TestScansLookWhereSomebodyMayTake(t *testing.T) {
	b := newBench(t)
	fx := b.agree(t0, 1, "for a", 1, of("a"))
	equal(t, "kinds", fx.scan.Kinds, []string{"k"})
	equal(t, "queues", fx.scan.Queues, map[string]Queues{"k": {Names: []Queue{queue("a")}}})
	b.step(t0, found())
	fx = b.agree(t0+second, 2, "for b", 1, of("b"))
	equal(t, "queues", fx.scan.Queues, map[string]Queues{"k": {Names: []Queue{queue("a"), queue("b")}}})
	b.step(t0+second, found())
	fx = b.agree(t0+2*second, 3, "for all", 1, Terms{})
	if fx.scan == nil || !fx.scan.Bottom || len(fx.scan.Queues) > 0 {
		t.Errorf("scan %+v, want one of all queues from the bottom", fx.scan)
	}
}

// TestAQueueWithEnoughAtHandIsNotScannedForOthers: its backlog does not fill what they have at hand.
func TestAQueueWithEnoughAtHandIsNotScannedForOthers(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "for a", 1, of("a"))
	b.agree(t0, 2, "for all", 1, Terms{})
	var many []Candidate
	for i := range leastAhead {
		c := in(7, "a")
		c.ID[1] = byte(i)
		many = append(many, c)
	}
	fx := b.step(t0+6*second, scanned{ScanResult: ScanResult{Candidates: many, More: true}})
	if fx.scan == nil {
		t.Fatal("no scan though nothing of the other queues is at hand")
	}
	equal(t, "queues", fx.scan.Queues, map[string]Queues{"k": {Names: []Queue{queue("a")}, But: true}})
}

// TestWhatNobodyMayTakeIsNeitherLeasedNorKept: a scan that was in flight may bring it.
func TestWhatNobodyMayTakeIsNeitherLeasedNorKept(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 5, of("a"))
	alone := in(3, "b")
	alone.Alone = true
	fx := b.step(t0, found(in(1, "b"), in(2, "a"), alone))
	equal(t, "leased", b.byWorker(fx.lease), map[string]string{"w": "2"})
	if snap := b.snapshot(t0); snap.Candidates != 0 || b.scanner.passed != 0 || fx.nobodys != nil {
		t.Errorf("%d candidates at hand, %d passed over, the log is told of %v; want none", snap.Candidates, b.scanner.passed, fx.nobodys)
	}
}

func TestAChangeOfQueuesActsAtOnce(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 1, of("a"))
	b.step(t0, found(in(1, "a"), in(2, "a"), in(3, "a")))
	fx := b.step(t0+second, amended{"key of w", of("b")})
	if b.buffer.len() != 0 {
		t.Errorf("%d candidates of a are kept", b.buffer.len())
	}
	lease := b.step(t0+second, granted(pairsOf(b), "a")) // it was asked for before the change
	if len(lease.commit) != 1 || lease.commit[0].Act != Yield || sent(lease, 1) != nil {
		t.Errorf("commit %v, sent %v; want the strand of a given back", lease.commit, sent(lease, 1))
	}
	b.step(t0+second, verdicts(Applied))
	if fx.scan == nil {
		fx = b.step(t0+second, found())
	}
	if fx.scan == nil || !fx.scan.Bottom {
		t.Fatalf("scan %+v, want one from the bottom", fx.scan)
	}
	equal(t, "queues", fx.scan.Queues, map[string]Queues{"k": {Names: []Queue{queue("b")}}})
	equal(t, "leased", b.byWorker(b.step(t0+second, found(in(4, "b"))).lease), map[string]string{"w": "4"})
}

// pairsOf are the leases that are asked for.
func pairsOf(b *bench) (pairs []Pair) {
	for _, r := range b.runs {
		if r.state == leasing {
			pairs = append(pairs, r.Pair)
		}
	}
	return pairs
}

// TestWhatOnePoolMayNotTakeAnyMoreIsForAnotherAtOnce: it is at hand still.
func TestWhatOnePoolMayNotTakeAnyMoreIsForAnotherAtOnce(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "v", 1, of("a", "b"))
	b.agree(t0, 2, "w", 0, of("b"))
	b.step(t0, found(in(1, "a"), in(2, "b")))
	b.step(t0, granted(pairsOf(b), "a"))
	b.step(t0, amended{"key of v", of("a")})
	equal(t, "leased", b.byWorker(b.step(t0, wanted{session: 2, n: 1}).lease), map[string]string{"w": "2"})
}

func TestCandidatesKeepTheirOrderWhenQueuesAreNamed(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "w", 0, Terms{})
	b.step(t0, wanted{session: 1, n: 2})
	b.step(t0, found(in(1, "a"), in(2, "b"), in(3, "a"), in(4, "b"), in(5, "a"), in(6, "b")))
	b.agree(t0, 2, "for b", 1, of("b"))
	equal(t, "leased", b.byWorker(b.step(t0, granted(pairsOf(b), "a")).lease), map[string]string{"for b": "4"})
	b.step(t0, parted{2})
	got := ""
	for {
		c, ok := b.buffer.first(b.workers[1].class)
		if !ok {
			break
		}
		b.buffer.remove(c)
		got += fmt.Sprint(c.ID[0])
	}
	if got != "356" {
		t.Errorf("the rest comes as %s, want 356", got)
	}
}

// TestATakeIsOfQueuesThatFreeSlotsAreFor: what it brings goes to a worker that may have it.
func TestATakeIsOfQueuesThatFreeSlotsAreFor(t *testing.T) {
	l := testLimits()
	l.mostTaken = mostTaken
	b := benchOf(t, newSchedule(ID{1}, [32]byte{1}, l))
	b.agree(t0, 1, "for a", 1, of("a"))
	b.agree(t0, 2, "for b", 1, of("b"))
	at := t0
	for fx := b.step(at, found()); fx.scan != nil; fx = b.step(at, found()) {
		at += int64(20 * time.Millisecond)
	}
	fx := b.step(at+second, hinted{})
	if fx.take == nil {
		t.Fatalf("no take, but %+v", fx.scan)
	}
	equal(t, "queues", fx.take.scan.Queues, map[string]Queues{"k": {Names: []Queue{queue("a"), queue("b")}}})
	st := strandsOf([]Pair{{strandID(1), fx.take.tokens[0]}})
	st[0].Queue = "b"
	if fx = b.step(at+second, took{strands: st}); sent(fx, 2) == nil || sent(fx, 1) != nil {
		t.Errorf("sent %v to the worker for a and %v to the one for b", sent(fx, 1), sent(fx, 2))
	}
}

func TestAStrandAloneGoesToAWorkerOfItsQueue(t *testing.T) {
	b := newBench(t)
	b.agree(t0, 1, "for a", 2, of("a"))
	b.agree(t0, 2, "for b", 2, of("b"))
	c := in(1, "b")
	c.Alone = true
	equal(t, "leased", b.byWorker(b.step(t0, found(c)).lease), map[string]string{"for b": "1"})
}

func TestNamesOfQueuesAreRead(t *testing.T) {
	for text, want := range map[string]Queue{
		"mail": {"", "mail"}, "acme/mail": {"acme", "mail"}, "acme/a/b": {"acme", "a/b"}, "": {}, "/mail": {}, "acme/": {},
	} {
		got, err := ParseQueue(text)
		if got != want || (err == nil) != (want != Queue{}) {
			t.Errorf("%q is read as %+v, %v", text, got, err)
		}
		if err == nil && got.String() != text {
			t.Errorf("%q is written as %q", text, got)
		}
	}
}

func TestKindsOfAScanAreSortedAndEachNamedOnce(t *testing.T) {
	b := newBench(t)
	names := []protocol.Kind{{Name: "k"}, {Name: "k2"}, {Name: "ka"}}
	b.step(t0, greeted{session: 1, worker: "v", kinds: names, terms: of("a", "b")}, greeted{session: 2, worker: "w", kinds: names[1:2]})
	fx := b.step(t0, wanted{session: 1, n: 1}, wanted{session: 2, n: 1})
	if fx.scan == nil || !slices.Equal(fx.scan.Kinds, []string{"k", "k2", "ka"}) {
		t.Fatalf("scan %+v", fx.scan)
	}
	ab := Queues{Names: []Queue{queue("a"), queue("b")}}
	equal(t, "queues", fx.scan.Queues, map[string]Queues{"k": ab, "ka": ab})
}

// TestBrokersDivideTheQueuesThatTheirPoolsAreFor: a host that serves a kind in one queue has no part of the kind, and relies for
// that queue on those alone who say the same.
func TestBrokersDivideTheQueuesThatTheirPoolsAreFor(t *testing.T) {
	ka := areaName("k", queue("a"))
	s := newHirer(t, Partition{Number: 2}, ka).sit(t0, 2)
	s.heard(t0, serving(1, 1, "k"))
	s.heard(t0, serving(3, 3, ka))
	s.divided(t0, 2, 3, "joined, 1 has come, 3 has come")
	equal(t, "part of the queue", s.part(ka), "00000000-7fffffff")
	req := ScanRequest{Slice: s.parts.slice(), Otherwise: s.parts.slices(), Queues: map[string]Queues{"k": {Names: []Queue{queue("a")}}}}
	equal(t, "where scans look", req.SliceOf("k", queue("a")).String(), "00000000-7fffffff")

	whole := newHirer(t, Partition{Number: 1}, "k").sit(t0, 1)
	whole.heard(t0, serving(2, 2, ka))
	whole.heard(t0, serving(3, 3, "k"))
	whole.divided(t0, 1, 3, "joined, 2 has come, 3 has come")
	equal(t, "part of who takes all", whole.part("k"), "00000000-7fffffff")
	equal(t, "also of the queue", whole.part(ka), "00000000-7fffffff")
}

func TestAKindIsServedInSomeQueuesAloneWhereNobodyTakesAll(t *testing.T) {
	b := newBench(t)
	ka, kb := areaName("k", queue("a")), areaName("k", queue("b"))
	b.agree(t0, 1, "for a", 1, of("a"))
	b.agree(t0, 2, "for b", 0, of("b"))
	equal(t, "served", b.served(), []string{ka})
	b.step(t0, wanted{session: 2, n: 1})
	equal(t, "served", b.served(), []string{ka, kb})
	b.agree(t0, 3, "for all", 1, Terms{})
	equal(t, "served", b.served(), []string{"k"})
	b.step(t0, amended{"key of for all", Terms{Paused: true}})
	equal(t, "served", b.served(), []string{ka, kb})
}
