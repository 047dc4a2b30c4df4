package brokertest

import (
	"strings"

	"github.com/respirated/respirated/broker"
)

// bad are reports that cannot be stored.
var bad = []struct {
	name   string
	report broker.Report
}{
	{"ValueThatIsNoJSON", broker.Report{Act: broker.Exit, Value: []byte(`{"a":`)}},
	{"ValueThatIsEmpty", broker.Report{Act: broker.Exit, Value: []byte{}}},
	{"ValueWithANUL", broker.Report{Act: broker.Exit, Value: []byte("\"a\x00b\"")}},
	{"ValueWithAnEscapedNUL", broker.Report{Act: broker.Exit, Value: []byte(`{"a":["\u0000"]}`)}},
	{"ValueWithHalfASurrogatePair", broker.Report{Act: broker.Exit, Value: []byte(`"\ud83d"`)}},
	{"ValueWithTheSecondHalfOfASurrogatePair", broker.Report{Act: broker.Exit, Value: []byte(`"\ude00"`)}},
	{"ValueWithASurrogateAndSomethingElse", broker.Report{Act: broker.Exit, Value: []byte(`"\ud83d\u0041"`)}},
	{"ValueThatIsNotUTF8", broker.Report{Act: broker.Exit, Value: []byte("\"\xff\"")}},
	{"ValueThatIsTooDeep", broker.Report{Act: broker.Exit, Value: deep}},
	{"StackThatIsNoJSON", broker.Report{Act: broker.Nap, Stack: []byte(`[`)}},
	{"StackThatIsNoArray", broker.Report{Act: broker.Save, Stack: []byte(`{}`)}},
	{"StackWithAnEscapedNUL", broker.Report{Act: broker.Fail, Stack: []byte(`["\u0000"]`), Failure: &boom}},
	{"LabelThatIsEmpty", broker.Report{Act: broker.Hop}},
	{"LabelThatIsTooLong", broker.Report{Act: broker.Hop, Label: strings.Repeat("x", maxName+1)}},
	{"LabelWithANUL", broker.Report{Act: broker.Hop, Label: "a\x00b"}},
	{"LabelWithAControlCharacter", broker.Report{Act: broker.Hop, Label: "a\nb"}},
	{"LabelThatIsNotUTF8", broker.Report{Act: broker.Hop, Label: "a\xff"}},
	{"KindThatIsTooLong", broker.Report{Act: broker.Hop, Label: "a", Kind: strings.Repeat("x", maxName+1)}},
	{"KindWithANUL", broker.Report{Act: broker.Hop, Label: "a", Kind: "a\x00b"}},
	{"SignalWithoutAName", broker.Report{Act: broker.Nap, Signals: []broker.Signal{{}}}},
	{"SignalWithABadName", broker.Report{Act: broker.Exit, Signals: []broker.Signal{{Name: "a\x00b"}}}},
	{"SignalWhoseValueIsNoJSON", broker.Report{Act: broker.Exit, Signals: []broker.Signal{{Name: "a", Value: []byte(`{`)}}}},
	{"SignalWhoseValueHasAnEscapedNUL", broker.Report{Act: broker.Nap, Signals: []broker.Signal{{Name: "a", Value: []byte(`"\u0000"`)}}}},
	{"DueWithoutATarget", broker.Report{Act: broker.Nap, Due: &broker.Due{}}},
	{"DueWithABadTarget", broker.Report{Act: broker.Hop, Label: "a", Due: &broker.Due{Target: "a\xff"}}},
	{"FrameBelowTheFirst", broker.Report{Act: broker.Nap, Frame: -1}},
	{"InsertOfNoKind", broker.Report{Act: broker.Nap, Inserts: []broker.Insert{{Args: []byte(`{}`)}}}},
	{"InsertOfArgsThatAreNoJSON", broker.Report{Act: broker.Save, Inserts: []broker.Insert{{Kind: kind, Args: []byte(`{`)}}}},
	{"InsertOfAnUnknownOption", broker.Report{Act: broker.Exit,
		Inserts: []broker.Insert{{Kind: kind, Args: []byte(`{}`), Opts: []byte(`{"colour":"red"}`)}}}},
}

// invalidCases put each bad report between good ones.
func invalidCases() []testCase {
	cases := []testCase{
		{"BatchOfBadReportsHarmsNoneOfTheGood", manyBad},
		{"InsertBesideABadOneIsNotMade", func(tr *trial) {
			p := tr.insertLeased("")
			good := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`), Child: true}
			tr.report(broker.Invalid, broker.Report{Pair: p, Seq: 1, Act: broker.Nap, Inserts: []broker.Insert{good, {Kind: "\x00"}}})
			if row, made := tr.store.Row(good.ID); made {
				tr.t.Errorf("insert beside a bad one: got %+v, want none", row)
			}
			tr.equal("children left", tr.row(p.ID).ChildrenLeft, 0)
		}},
		{"NamesMayBeAsLongAsAllowed", func(tr *trial) {
			p := tr.insertLeased("")
			long := strings.Repeat("é", maxName/2)
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Hop, Label: long, Kind: long})
			tr.equal("label and kind", []string{tr.row(p.ID).Label, tr.row(p.ID).Kind}, []string{long, long})
		}},
		{"JSONMayHaveWholeSurrogatePairs", func(tr *trial) {
			p := tr.insertLeased("")
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit, Value: []byte(`"\ud83d\ude00 \\u0000"`)})
			tr.sameJSON("value", tr.finished(p.ID, Done).Value, `"😀 \\u0000"`)
		}},
	}
	for _, b := range bad {
		cases = append(cases, testCase{b.name + "IsInvalidAndHarmsNobody", func(tr *trial) { tr.isInvalid(b.report) }})
	}
	return cases
}

// isInvalid sends a bad report between good ones, then a good one in its place.
func (tr *trial) isInvalid(r broker.Report) {
	tr.t.Helper()
	before, after := tr.insertLeased(""), tr.insertLeased("")
	r.Pair, r.Seq = tr.insertLeased(""), 1
	tr.signal(broker.Signal{ID: r.ID, Name: "go"})
	target := tr.insert(`{"in":3600}`)
	if hasEffects(r.Act) {
		r.Signals = append([]broker.Signal{{ID: target, Name: "from a bad one"}}, r.Signals...)
		r.Used = semaphoreIDs(tr.store.Waiting(r.ID))
	}
	row := tr.row(r.ID)
	verdicts := tr.commit([]broker.VerdictState{broker.Applied, broker.Invalid, broker.Applied},
		broker.Report{Pair: before, Seq: 1, Act: broker.Exit},
		r,
		broker.Report{Pair: after, Seq: 1, Act: broker.Nap},
	)
	if verdicts[1].Why == "" {
		tr.t.Error("why: got nothing, want what is wrong")
	}
	tr.finished(before.ID, Done)
	tr.finds(after.ID)
	tr.sameRow("row", tr.row(r.ID), row)
	tr.equal("attempts", len(tr.store.Attempts(r.ID)), 0)
	tr.isEmpty(target)
	tr.equal("stored for it", tr.stored(r.ID), []string{"go"})
	tr.report(broker.Applied, broker.Report{Pair: r.Pair, Seq: 1, Act: broker.Exit})
}

// manyBad sends all bad reports in one batch, each between good ones.
func manyBad(tr *trial) {
	var reports []broker.Report
	var want []broker.VerdictState
	for _, b := range bad {
		r := b.report
		r.Pair, r.Seq = tr.insertLeased(""), 1
		reports = append(reports, r, broker.Report{Pair: tr.insertLeased(""), Seq: 1, Act: broker.Exit})
		want = append(want, broker.Invalid, broker.Applied)
	}
	tr.commit(want, reports...)
}
