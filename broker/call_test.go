package broker

import (
	"testing"

	"github.com/respirated/respirated/protocol"
)

func signalsTo(ids ...byte) (signals []Signal) {
	for _, n := range ids {
		signals = append(signals, Signal{ID: strandID(n), Name: "n", Value: []byte{'0' + n}})
	}
	return signals
}

func TestSignalsOutsideRunsWaitTheirTurnWithInserts(t *testing.T) {
	b := newBench(t)
	b.connect(t0, 1, "w", 0)
	fx := b.step(t0, called{session: 1, id: 1, signals: signalsTo(1, 2)}, called{session: 1, id: 2, inserts: []Insert{{Kind: "k"}}})
	equal(t, "signals", fx.call.signals, signalsTo(1, 2))
	fx = b.step(t0, signalled{found: []bool{false, true}})
	equal(t, "reply", firstSent[*protocol.Reply](t, fx), &protocol.Reply{Re: 1, Found: []bool{false, true}})
	equal(t, "inserts", fx.call.inserts, []Insert{{Kind: "k"}})
	fx = b.step(t0, inserted{ids: []ID{strandID(7)}})
	equal(t, "reply", firstSent[*protocol.Reply](t, fx), &protocol.Reply{Re: 2, IDs: []string{strandID(7).String()}})
	if b.callBytes != 0 {
		t.Errorf("%d bytes are on the account of calls that are answered", b.callBytes)
	}
}

func TestWhySignalsWereNotSent(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		code protocol.Code
	}{
		"database is away": {ErrAway, protocol.CodeDBAway},
		"one is bad":       {&SignalError{Index: 1, Why: "no"}, protocol.CodeBadField},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.connect(t0, 1, "w", 0)
			b.step(t0, called{session: 1, id: 1, signals: signalsTo(1, 2)})
			if r := firstSent[*protocol.Reply](t, b.step(t0, signalled{err: c.err})); r.Err == nil || r.Err.Code != c.code || r.Found != nil {
				t.Errorf("reply %+v, want the fault %s alone", r, c.code)
			}
		})
	}
}

// TestEachDatabaseIsAskedForStrandsThatTheOthersDoNotHave: nobody says where a strand is.
func TestEachDatabaseIsAskedForStrandsThatTheOthersDoNotHave(t *testing.T) {
	b := newSeveral(t)
	b.connect(t0, 1, "w", 0)
	fx := b.step(t0, called{session: 1, id: 1, signals: signalsTo(1, 2, 3)})
	if fx.to(0).call == nil || fx.to(1).call != nil {
		t.Fatal("want the first asked, and the second not yet")
	}
	fx = b.step(t0, from{0, signalled{found: []bool{false, true, false}}})
	equal(t, "signals", fx.to(1).call.signals, signalsTo(1, 3))
	fx = b.step(t0, from{1, signalled{found: []bool{false, true}}})
	equal(t, "reply", firstSent[*protocol.Reply](t, fx), &protocol.Reply{Re: 1, Found: []bool{false, true, true}})
	if fx.to(0).call != nil || fx.to(1).call != nil || b.databases[1].callBytes != 0 {
		t.Error("a database is asked again")
	}
	b.step(t0, called{session: 1, id: 2, signals: signalsTo(1)})
	fx = b.step(t0, from{0, signalled{found: []bool{true}}})
	equal(t, "reply", firstSent[*protocol.Reply](t, fx), &protocol.Reply{Re: 2, Found: []bool{true}})
}
