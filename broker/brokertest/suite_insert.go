package brokertest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// badInserts are refused; field is what the error names.
var badInserts = []struct {
	name, field string
	insert      broker.Insert
}{
	{"NoKind", "kind", broker.Insert{Args: []byte(`{}`)}},
	{"AKindTooLong", "kind", broker.Insert{Kind: strings.Repeat("x", maxName+1), Args: []byte(`{}`)}},
	{"AKindWithANUL", "kind", broker.Insert{Kind: "a\x00b", Args: []byte(`{}`)}},
	{"AKindWithAControlCharacter", "kind", broker.Insert{Kind: "a\tb", Args: []byte(`{}`)}},
	{"AKindThatIsNotUTF8", "kind", broker.Insert{Kind: "a\xff", Args: []byte(`{}`)}},
	{"ArgsThatAreNoJSON", "args", broker.Insert{Kind: kind, Args: []byte(`{"a"}`)}},
	{"ArgsWithTwoDocuments", "args", broker.Insert{Kind: kind, Args: []byte(`{} {}`)}},
	{"ArgsWithANUL", "args", broker.Insert{Kind: kind, Args: []byte("\"\x00\"")}},
	{"ArgsWithAnEscapedNUL", "args", broker.Insert{Kind: kind, Args: []byte(`{"a":"\u0000"}`)}},
	{"NoArgs", "args", broker.Insert{Kind: kind}},
	{"ArgsTooLarge", "args", broker.Insert{Kind: kind, Args: []byte(`"` + strings.Repeat("x", maxArgs) + `"`)}},
	{"ArgsTooDeep", "args", broker.Insert{Kind: kind, Args: deep}},
	{"ArgsThatAreNotUTF8", "args", broker.Insert{Kind: kind, Args: []byte("\"\xff\"")}},
	{"OptionsThatAreNoJSON", "opts", withOpts(`{`)},
	{"OptionsThatAreNull", "opts", withOpts(`null`)},
	{"OptionsThatAreNoObject", "opts", withOpts(`[1]`)},
	{"AnUnknownOption", "opts.colour", withOpts(`{"colour":"red"}`)},
	{"AnIDThatIsNoUUID", "opts.id", withOpts(`{"id":"7"}`)},
	{"AnEmptyQueue", "opts.queue", withOpts(`{"queue":""}`)},
	{"AQueueThatIsNoText", "opts.queue", withOpts(`{"queue":7}`)},
	{"AQueueTooLong", "opts.queue", withOpts(`{"queue":"` + strings.Repeat("x", maxName+1) + `"}`)},
	{"ATenantWithAControlCharacter", "opts.tenant", withOpts(`{"tenant":"a\nb"}`)},
	{"APriorityOfNought", "opts.priority", withOpts(`{"priority":0}`)},
	{"APriorityTooHigh", "opts.priority", withOpts(`{"priority":10}`)},
	{"APriorityThatIsNotWhole", "opts.priority", withOpts(`{"priority":1.5}`)},
	{"APriorityThatIsText", "opts.priority", withOpts(`{"priority":"high"}`)},
	{"ATimeThatIsNone", "opts.at", withOpts(`{"at":"soon"}`)},
	{"ATimeWithoutEnd", "opts.at", withOpts(`{"at":"infinity"}`)},
	{"ATimeBeforeAllOthers", "opts.at", withOpts(`{"at":"-infinity"}`)},
	{"ATimeThatIsANumber", "opts.at", withOpts(`{"at":7}`)},
	{"ADelayThatIsText", "opts.in", withOpts(`{"in":"1h"}`)},
	{"BothATimeAndADelay", "opts.in", withOpts(`{"at":"2030-01-01T00:00:00Z","in":5}`)},
	{"MaxTriesOfNought", "opts.max_tries", withOpts(`{"max_tries":0}`)},
	{"MaxTriesTooHigh", "opts.max_tries", withOpts(`{"max_tries":32768}`)},
	{"AnEmptyLabel", "opts.label", withOpts(`{"label":""}`)},
	{"ALabelTooLong", "opts.label", withOpts(`{"label":"` + strings.Repeat("x", maxName+1) + `"}`)},
	{"TagsThatAreNoArray", "opts.tags", withOpts(`{"tags":"a"}`)},
	{"TagsThatAreNoTexts", "opts.tags", withOpts(`{"tags":["a",1]}`)},
	{"AnEmptyTag", "opts.tags", withOpts(`{"tags":["a",""]}`)},
	{"ATagWithAControlCharacter", "opts.tags", withOpts(`{"tags":["a\n"]}`)},
	{"TooManyTags", "opts.tags", withOpts(`{"tags":["x"` + strings.Repeat(`,"x"`, maxTags) + `]}`)},
	{"MetadataTooLarge", "opts.metadata", withOpts(`{"metadata":{"a":"` + strings.Repeat("x", maxMetadata) + `"}}`)},
	{"MetadataThatIsNoObject", "opts.metadata", withOpts(`{"metadata":[1]}`)},
	{"KeepThatIsNeitherTrueNorFalse", "opts.keep", withOpts(`{"keep":"yes"}`)},
	{"RequireKindThatIsNeitherTrueNorFalse", "opts.require_kind", withOpts(`{"require_kind":1}`)},
	{"AKindThatNobodyServesWhenThatIsRequired", "kind", withOpts(`{"require_kind":true}`)},
}

// deep is JSON that nobody can follow to its end.
var deep = []byte(strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000))

func withOpts(opts string) broker.Insert {
	return broker.Insert{Kind: kind, Args: []byte(`{}`), Opts: []byte(opts)}
}

func insertCases() []testCase {
	cases := []testCase{
		{"InsertReturnsIDsInOrder", func(tr *trial) {
			a, b := newID(), newID()
			got := tr.insertAll(
				broker.Insert{ID: a, Kind: kind, Args: []byte(`1`)},
				broker.Insert{ID: b, Kind: kind, Args: []byte(`null`)},
			)
			tr.equal("ids", got, []broker.ID{a, b})
			tr.sameJSON("args of the first", tr.lease(a).Args, `1`)
			tr.sameJSON("args of the second", tr.lease(b).Args, `null`)
		}},
		{"InsertOfManyIsOneCall", func(tr *trial) {
			seen := map[broker.ID]bool{}
			for _, id := range tr.insertAll(make2000()...) {
				seen[id] = true
			}
			tr.equal("different ids", len(seen), 2000)
		}},
		{"InsertDrawsAnIDWhereNoneIsGiven", func(tr *trial) {
			in := broker.Insert{Kind: kind, Args: []byte(`{}`)}
			ids := tr.insertAll(in, in)
			if ids[0] == (broker.ID{}) || ids[0] == ids[1] {
				tr.t.Errorf("ids: got %v, want two of their own", ids)
			}
			tr.row(ids[0])
			tr.row(ids[1])
		}},
		{"InsertTakesTheIDOfItsOptions", func(tr *trial) {
			id := newID()
			tr.equal("ids", tr.insertAll(withOpts(fmt.Sprintf(`{"id":%q}`, id))), []broker.ID{id})
		}},
		{"InsertAgainChangesNothing", func(tr *trial) {
			id := tr.insert(`{"in":3600}`)
			before := tr.row(id)
			tr.equal("id", tr.insertAs(id, "other", `{"priority":1}`), id)
			tr.sameRow("row", tr.row(id), before)
		}},
		{"InsertOfAStrandThatIsOverChangesNothing", func(tr *trial) {
			p := tr.insertLeased(`{"keep":true}`)
			tr.applied(broker.Report{Pair: p, Seq: 1, Act: broker.Exit})
			tr.equal("id", tr.insertAs(p.ID, kind, ""), p.ID)
			tr.finished(p.ID, Done)
		}},
		{"InsertOfOneIDTwiceInACallIsOneStrand", func(tr *trial) {
			in := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`)}
			tr.equal("ids", tr.insertAll(in, in), []broker.ID{in.ID, in.ID})
			tr.finds(in.ID)
		}},
		{"InsertWithNullOptionsHasTheDefaults", func(tr *trial) {
			s := tr.lease(tr.insert(`{"queue":null,"tenant":null,"priority":null,"at":null,"in":null,"max_tries":null,` +
				`"label":null,"tags":null,"metadata":null,"keep":null,"require_kind":null}`))
			tr.equal("label, queue", []string{s.Label, s.Queue}, []string{"start", "default"})
			tr.equal("priority, max tries", []int{s.Priority, s.MaxTries}, []int{5, 25})
			tr.sameJSON("metadata", s.Metadata, "null")
		}},
		{"InsertForLaterIsDueThen", func(tr *trial) {
			tr.about("in", tr.row(tr.insert(`{"in":90.5}`)).Due, 90500*time.Millisecond)
			at := time.Now().Add(time.Hour)
			id := tr.insert(fmt.Sprintf(`{"at":%q}`, at.Format(time.RFC3339)))
			if due := tr.row(id).Due; !near(due, time.Hour) {
				tr.t.Errorf("at: got due in %v, want 1h", due)
			}
			tr.finds()
		}},
		{"InsertForATimeThatHasPassedIsDueBehindThoseWhoCameFirst", func(tr *trial) {
			first := tr.insert("")
			second := tr.insert(`{"at":"2001-01-01T00:00:00Z"}`)
			third := tr.insert(`{"in":-3600}`)
			tr.finds(first, second, third)
		}},
		{"InsertOfAServedKindMayRequireThat", func(tr *trial) {
			b := newID()
			tr.announce(broker.Announcement{Broker: b, Host: "h", Kinds: []string{"a", kind}, Workers: 1, Slots: 1})
			tr.insert(`{"require_kind":true}`)
			if err := tr.store.Leave(tr.ctx, b); err != nil {
				tr.t.Fatalf("leave: %v", err)
			}
			tr.refused("kind", withOpts(`{"require_kind":true}`))
		}},
		{"InsertOfAKindWhoseBrokerFellSilentIsNotServed", func(tr *trial) {
			a := broker.Announcement{Broker: newID(), Host: "h", Kinds: []string{kind}, Workers: 1, Slots: 1}
			if err := tr.store.Announce(tr.ctx, a, time.Millisecond); err != nil {
				tr.t.Fatalf("announce: %v", err)
			}
			tr.until("refused", func() bool {
				_, err := tr.store.Insert(tr.ctx, []broker.Insert{withOpts(`{"require_kind":true}`)})
				return err != nil
			})
		}},
	}
	for _, b := range badInserts {
		cases = append(cases, testCase{"InsertOf" + b.name + "IsRefused", func(tr *trial) { tr.refused(b.field, b.insert) }})
	}
	return cases
}

func make2000() []broker.Insert {
	inserts := make([]broker.Insert, 2000)
	for i := range inserts {
		inserts[i] = broker.Insert{Kind: kind, Args: fmt.Appendf(nil, `{"i":%d}`, i)}
	}
	return inserts
}

// refused inserts a bad one behind a good one, and checks that neither is made.
func (tr *trial) refused(field string, in broker.Insert) {
	tr.t.Helper()
	good := broker.Insert{ID: newID(), Kind: kind, Args: []byte(`{}`)}
	_, err := tr.store.Insert(tr.ctx, []broker.Insert{good, in})
	var refusal *broker.InsertError
	if !errors.As(err, &refusal) {
		tr.t.Fatalf("insert: got error %v, want an *InsertError", err)
	}
	if refusal.Index != 1 || refusal.Field != field || refusal.Why == "" {
		tr.t.Errorf("refusal: got %+v, want index 1, field %s and a reason", refusal, field)
	}
	if _, made := tr.store.Row(good.ID); made {
		tr.t.Error("the insert before the bad one was made, want all or none")
	}
}
