package broker

import (
	"fmt"
	"testing"

	"github.com/respirated/respirated/protocol"
)

// newSeveral is a schedule over two databases, whose first announcements have arrived.
func newSeveral(t *testing.T) *bench {
	t.Helper()
	l := testLimits()
	l.databases = 2
	b := benchOf(t, newSchedule(ID{1}, [32]byte{1}, l))
	b.step(t0, from{0, announced{}}, from{1, announced{}})
	return b
}

// dueIn are so many candidates of a database.
func dueIn(database, n int) from {
	var found ScanResult
	for i := range n {
		found.Candidates = append(found.Candidates, due(byte(100*database+i+1)))
	}
	return from{database, scanned{ScanResult: found}}
}

func leasesOf(fx effects) [2]int { return [2]int{len(fx.to(0).lease), len(fx.to(1).lease)} }

// startBoth has both databases grant what was asked of them.
func (b *bench) startBoth(now int64, fx effects) effects {
	return b.step(now, from{0, leased{granted: strandsOf(fx.to(0).lease)}}, from{1, leased{granted: strandsOf(fx.to(1).lease)}})
}

func ended(session sessionID, pairs []Pair) reported {
	rep := reported{session: session, re: 1}
	for _, p := range pairs {
		rep.reports = append(rep.reports, exitOf(p))
	}
	return rep
}

func applied(n int) committed {
	states := make([]VerdictState, n)
	for i := range states {
		states[i] = Applied
	}
	return verdicts(states...)
}

func TestDatabasesShareCreditEvenly(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 10)
	fx := b.step(t0, dueIn(0, 40), dueIn(1, 40))
	equal(t, "leases", leasesOf(fx), [2]int{5, 5})
}

func TestDatabasesTakeTurnsAtASingleSlot(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 1)
	fx := b.step(t0, dueIn(0, 10), dueIn(1, 10))
	var order []int
	for range 6 {
		no := 0
		if fx.to(1).lease != nil {
			no = 1
		}
		order = append(order, no)
		pairs := fx.to(no).lease
		b.step(t0, from{no, leased{granted: strandsOf(pairs)}})
		b.step(t0, ended(1, pairs))
		fx = b.step(t0, from{no, applied(1)})
	}
	equal(t, "order", order, []int{0, 1, 0, 1, 0, 1})
}

func TestDatabaseThatAloneHasWorkGetsAllCredit(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 8)
	equal(t, "leases", leasesOf(b.step(t0, dueIn(1, 40))), [2]int{0, 8})
}

func TestDatabaseWhoseStatementsFailDoesNotPutOffThoseOfTheOther(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 10)
	fx := b.step(t0, from{0, scanned{err: ErrAway}}, from{1, scanned{}})
	if fx.to(0).scan != nil {
		t.Error("the database that is away is scanned again at once")
	}
	if fx := b.step(t0+hintApart, from{1, hinted{Hint{}}}); fx.to(1).scan == nil || fx.to(0).scan != nil {
		t.Errorf("scans %+v and %+v after a hint of the second; want one there alone", fx.to(0).scan, fx.to(1).scan)
	}
	if fx := b.step(t0+errorRetry, heard{1}); fx.to(0).scan == nil {
		t.Error("the database that was away is not scanned again")
	}
}

// TestResultsForADatabaseThatIsAwayLendTheirSlots: all that the worker may hold is of the database that goes away.
func TestResultsForADatabaseThatIsAwayLendTheirSlots(t *testing.T) {
	for name, answer := range map[string][]event{"it refuses": {from{0, committed{err: ErrAway}}}, "it does not answer": nil} {
		t.Run(name, func(t *testing.T) {
			b := newSeveral(t)
			b.connect(t0, 1, "w", 4)
			fx := b.step(t0, dueIn(0, 40))
			first := fx.to(0).lease
			b.startBoth(t0, fx)
			if fx := b.step(t0, ended(1, first), dueIn(1, 40)); len(fx.to(0).commit) != 4 || leasesOf(fx) != [2]int{} {
				t.Fatalf("commit %v, leases %v; want the four results on their way, and no free slot yet", fx.to(0).commit, leasesOf(fx))
			}
			now := t0 + second/2
			fx = b.step(now, answer...)
			for i := 0; leasesOf(fx) == [2]int{} && i < 20; i++ {
				now = b.nextTick()
				fx = b.step(now)
			}
			equal(t, "leases", leasesOf(fx), [2]int{0, 4})
			if waited := now - t0; waited > 2*second {
				t.Errorf("the other database waited for %d s", waited/second)
			}

			// The second goes on; the first gets nothing more until it has answered.
			second := fx.to(1).lease
			b.startBoth(now, fx)
			b.step(now, ended(1, second))
			fx = b.step(now, from{1, applied(4)})
			equal(t, "leases while the first is away", leasesOf(fx), [2]int{0, 4})
			b.startBoth(now, fx)

			// It comes back: its results are taken, its workers are told, and then it takes part again.
			for range 20 {
				if b.databases[0].commits.flying != nil {
					break
				}
				now = b.nextTick()
				b.step(now)
			}
			back := b.step(now, from{0, applied(4)})
			if acks := firstSent[*protocol.Ack](t, back); len(acks.Entries) != 4 {
				t.Errorf("%d results are acked, want 4", len(acks.Entries))
			}
			if w := b.workers[1]; w.lent != 0 || w.held != 4 || b.databases[0].lent != 0 {
				t.Errorf("the worker holds %d and lends %d, the database has lent %d; want 4, 0 and 0", w.held, w.lent, b.databases[0].lent)
			}
			fx = b.step(now, ended(1, fx.to(1).lease))
			fx = b.step(now, from{1, applied(4)})
			equal(t, "leases when it is back", leasesOf(fx), [2]int{2, 2})
		})
	}
}

func TestLeaseThatIsGrantedLateTakesAFreeSlotOrIsGivenBack(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4)
	late := b.step(t0, dueIn(0, 4)).lease
	now := t0 + 2*second
	fx := b.step(now, dueIn(1, 3))
	equal(t, "leases", leasesOf(fx), [2]int{0, 3})
	b.step(now, from{1, leased{granted: strandsOf(fx.to(1).lease)}})
	fx = b.step(now, from{0, leased{granted: strandsOf(late)}})
	if got := firstSent[*protocol.Strands](t, fx); len(got.Strands) != 1 {
		t.Errorf("%d strands are handed out, want 1 for the slot that is left", len(got.Strands))
	}
	if got := len(fx.to(0).commit); got != 3 {
		t.Errorf("%d leases are given back, want 3", got)
	}
	if w := b.workers[1]; w.held != 4 || w.lent != 0 {
		t.Errorf("the worker holds %d and lends %d, want 4 and 0", w.held, w.lent)
	}
}

func TestWorkerThatDiesWithLentSlotsLeavesNothingBehind(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4)
	fx := b.step(t0, dueIn(0, 4))
	b.startBoth(t0, fx)
	b.step(t0, ended(1, fx.to(0).lease))
	b.step(t0 + 2*second)
	if b.databases[0].lent != 4 {
		t.Fatalf("%d slots are lent, want 4", b.databases[0].lent)
	}
	b.step(t0+2*second, parted{1}, exited{WorkerExit{Key: "key of w", How: "signal: killed"}})
	b.step(t0+2*second, from{0, applied(4)})
	if b.databases[0].lent != 0 || len(b.runs) != 0 || len(b.workers) != 0 {
		t.Errorf("%d slots lent, %d runs, %d workers; want none", b.databases[0].lent, len(b.runs), len(b.workers))
	}
}

func holdOf(n byte) hold { return hold{Pair{strandID(n), Token{n}}, "k", false} }

func TestHoldOfAFormerBrokerIsAskedForInOneDatabaseAfterTheOther(t *testing.T) {
	b := newSeveral(t)
	fx := b.connect(t0, 1, "w", 4, holdOf(1), holdOf(2), holdOf(3))
	held := []Pair{holdOf(1).Pair, holdOf(2).Pair, holdOf(3).Pair}
	equal(t, "asked first", fx.to(0).renew, held)
	if fx.to(1).renew != nil {
		t.Errorf("the second is asked for %v before the first has answered", fx.to(1).renew)
	}
	fx = b.step(t0, from{0, renewed{kept: []Kept{{Pair: held[0]}}}})
	equal(t, "asked then", fx.to(1).renew, held[1:])
	equal(t, "told", sent(fx, 1), []string{"lease"})
	fx = b.step(t0, from{1, renewed{kept: []Kept{{Pair: held[1], Locked: true}}}})
	lost := firstSent[*protocol.Cancel](t, fx).Cancels
	if len(lost) != 1 || lost[0].Strand != held[2].ID.String() || lost[0].Why != protocol.StopLost {
		t.Errorf("told %+v, want that the third is lost, which nobody knows", lost)
	}
	if first, second := b.runs[held[0].ID], b.runs[held[1].ID]; first.of != 0 || second.of != 1 || b.runs[held[2].ID] != nil {
		t.Errorf("runs %+v, %+v and %+v; want the first in 0, the second in 1, and no third", first, second, b.runs[held[2].ID])
	}

	// From now on each is the affair of its own database.
	if fx := b.step(t0+10*second, heard{1}); len(fx.to(0).renew) != 0 || len(fx.to(1).renew) != 1 {
		t.Errorf("renewals %v and %v; want the second's alone, which was locked", fx.to(0).renew, fx.to(1).renew)
	}
	b.step(t0+10*second, ended(1, held[:2]), from{1, renewed{kept: []Kept{{Pair: held[1]}}}})
	if got := [2]int{len(b.databases[0].commits.flying), len(b.databases[1].commits.flying)}; got != [2]int{1, 1} {
		t.Errorf("results in flight: %v, want one to each", got)
	}
}

func TestDatabaseThatIsAwayDoesNotMakeAHoldLost(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4, holdOf(1))
	fx := b.step(t0, from{0, renewed{err: ErrAway}})
	if len(fx.send) != 0 || fx.to(1).renew != nil {
		t.Errorf("sent %v, the second is asked for %v; want that the first is waited for", fx.send, fx.to(1).renew)
	}
	fx = b.step(t0+errorRetry, heard{1})
	equal(t, "asked again", fx.to(0).renew, []Pair{holdOf(1).Pair})
	fx = b.step(t0+errorRetry, from{0, renewed{}})
	equal(t, "asked then", fx.to(1).renew, []Pair{holdOf(1).Pair})
	fx = b.step(t0+errorRetry, from{1, renewed{err: ErrAway}})
	if len(fx.send) != 0 || b.runs[strandID(1)] == nil {
		t.Errorf("sent %v; want nothing while the second is away", fx.send)
	}
}

func TestResultWithoutARunIsAskedForInOneDatabaseAfterTheOther(t *testing.T) {
	for _, c := range []struct {
		second VerdictState
		want   string
	}{{Applied, protocol.AckApplied}, {Stale, protocol.AckStale}, {Gone, protocol.AckGone}} {
		b := newSeveral(t)
		b.connect(t0, 1, "w", 4)
		p := holdOf(1).Pair
		fx := b.step(t0, ended(1, []Pair{p}))
		equal(t, "asked first", fx.to(0).commit, []Report{exitOf(p)})
		fx = b.step(t0, from{0, committed{err: ErrAway}})
		if len(fx.send) != 0 || fx.to(1).commit != nil {
			t.Errorf("sent %v, the second is asked for %v; want that the first is waited for", fx.send, fx.to(1).commit)
		}
		b.step(t0+errorRetry, heard{1})
		fx = b.step(t0+errorRetry, from{0, verdicts(Gone)}, ended(1, []Pair{p})) // sent again meanwhile
		equal(t, "asked then", fx.to(1).commit, []Report{exitOf(p)})
		if len(fx.send) != 0 {
			t.Errorf("sent %v before the second has answered", fx.send)
		}
		fx = b.step(t0+errorRetry, from{1, verdicts(c.second)})
		equal(t, "answer", firstSent[*protocol.Ack](t, fx).Entries[0].State, c.want)
		for _, d := range b.databases {
			if w := b.workers[1]; *w.account(d) != (account{}) || len(d.commits.carriers) != 0 {
				t.Errorf("on the account of database %d: %+v, and %d carriers; want none", d.no, *w.account(d), len(d.commits.carriers))
			}
		}
	}
}

func TestResultWithARunGoesToItsOwnDatabaseAlone(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4)
	fx := b.step(t0, dueIn(1, 1))
	pairs := fx.to(1).lease
	b.startBoth(t0, fx)
	fx = b.step(t0, ended(1, pairs))
	equal(t, "commit", fx.to(1).commit, []Report{exitOf(pairs[0])})
	fx = b.step(t0, from{1, verdicts(Gone)})
	equal(t, "answer", firstSent[*protocol.Ack](t, fx).Entries[0].State, protocol.AckGone)
	if fx.to(0).commit != nil {
		t.Errorf("the other is asked for %v", fx.to(0).commit)
	}
}

// TestStrandThatTwoDatabasesHaveRunsInOneAtATime: one was restored from a copy of the other.
func TestStrandThatTwoDatabasesHaveRunsInOneAtATime(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4)
	same := scanned{ScanResult: ScanResult{Candidates: []Candidate{due(1)}}}
	equal(t, "leases", leasesOf(b.step(t0, from{0, same}, from{1, same})), [2]int{1, 0})
}

func TestCallsGoToTheDatabaseOfTheirTenant(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 0)
	fx := b.step(t0, called{session: 1, id: 1, home: 1}, called{session: 1, id: 2, home: 0}, called{session: 1, id: 3, home: 0})
	if fx.to(0).call.id != 2 || fx.to(1).call.id != 1 {
		t.Errorf("calls %+v and %+v; want the second in the first database, the first in the second", fx.to(0).call, fx.to(1).call)
	}
	fx = b.step(t0, from{0, inserted{}})
	if fx.to(0).call == nil || fx.to(0).call.id != 3 {
		t.Errorf("then %+v, want the third, though the other database has not answered", fx.to(0).call)
	}
}

func TestTenantsSpreadOverDatabasesAndStayThere(t *testing.T) {
	tenants := func(names ...string) (inserts []Insert) {
		for _, name := range names {
			inserts = append(inserts, Insert{Opts: fmt.Appendf(nil, `{"tenant": %q, "priority": 3}`, name)})
		}
		return inserts
	}
	count := [3]int{}
	for i := range 300 {
		name := fmt.Sprint("tenant ", i)
		home, one := homeOf(tenants(name, name), 3)
		if again, _ := homeOf(tenants(name), 3); !one || again != home {
			t.Errorf("tenant %q is in %d, and in %d", name, home, again)
		}
		count[home]++
	}
	for _, n := range count {
		if n < 70 {
			t.Errorf("%v tenants are in each database, want about 100", count)
		}
	}
	// FNV-1a, for whoever inserts by other means: 0xe40c292c is that of "a".
	equal(t, "home of a", DatabaseOf("a", 7), int(uint32(0xe40c292c)%7))
	for _, none := range [][]Insert{nil, {{}}, {{Opts: []byte(`{"priority": 3}`)}}, {{Opts: []byte(`{"tenant": 7}`)}}, {{Opts: []byte(`no`)}}} {
		if home, one := homeOf(none, 3); home != 0 || !one {
			t.Errorf("without a tenant: database %d, want the first", home)
		}
	}
	if _, one := homeOf(tenants("a", "b", "c", "d", "e"), 3); one {
		t.Error("a call whose tenants are in several databases is taken")
	}
}

func TestPartitionsOfSeveralDatabasesAreApart(t *testing.T) {
	l := testLimits()
	l.databases = 2
	l.partition, _ = Partition{Number: Auto}.withDefaults()
	b := benchOf(t, newSchedule(brokerID(9), [32]byte{1}, l))
	fx := b.connect(t0, 1, "w", 4)
	if fx.to(0).join == nil || fx.to(1).join == nil {
		t.Fatal("no number is asked for in one of them")
	}
	fx = b.step(t0, from{1, joined{Joined: Joined{Number: 2, Members: []Presence{present(3, 1)}}}})
	equal(t, "told to the second", fx.to(1).present, &Presence{Broker: brokerID(9), Number: 2, Kinds: hashKinds([]string{"k"})})
	if fx.to(0).present != nil || fx.to(0).scan != nil {
		t.Errorf("the first is told %v, and scanned: %v; want neither before it has given a number", fx.to(0).present, fx.to(0).scan)
	}
	fx = b.step(t0, from{0, joined{Joined: Joined{Number: 1}}})
	if fx.to(0).scan == nil || !fx.to(0).scan.Slice.Whole() {
		t.Errorf("scan %+v, want one of the whole of the first", fx.to(0).scan)
	}
	equal(t, "division of the first", b.databases[0].place.parts.division, division{1, 1, 1})
	equal(t, "division of the second", b.databases[1].place.parts.division, division{2, 2, 2})
}

func TestDrainWaitsForEachDatabase(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 4)
	fx := b.step(t0, dueIn(0, 1), dueIn(1, 1))
	pairs := [2][]Pair{fx.to(0).lease, fx.to(1).lease}
	b.startBoth(t0, fx)
	b.step(t0, draining{by: t0 + 30*second}, ended(1, append(pairs[0], pairs[1]...)))
	if b.step(t0, from{0, applied(1)}).finished {
		t.Error("the drain is over before the second database has answered")
	}
	if !b.step(t0, from{1, applied(1)}).finished {
		t.Error("the drain is not over when all have answered")
	}
}
