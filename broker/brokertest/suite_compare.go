package brokertest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// sameRow compares rows, of one store at two moments or of two stores: times by tolerance, JSON by meaning.
func sameRow(a, b Row) bool {
	if !near(a.Due, b.Due) || !near(a.Left, b.Left) || !jsonEqual(a.Stack, b.Stack) {
		return false
	}
	a.Due, a.Left, a.Stack = b.Due, b.Left, b.Stack
	return reflect.DeepEqual(a, b)
}

func near(a, b time.Duration) bool { return (a - b).Abs() <= tolerance }

// jsonEqual compares two documents by meaning; nil and null are the same.
func jsonEqual(a, b []byte) bool {
	x, errX := jsonValue(a)
	y, errY := jsonValue(b)
	return errX == nil && errY == nil && reflect.DeepEqual(x, y)
}

func jsonValue(b []byte) (v any, err error) {
	if b == nil {
		return nil, nil
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return nil, fmt.Errorf("read JSON %.80q: %w", b, err)
	}
	return v, nil
}

// acts are all of them, by name.
var acts = []struct {
	act  broker.Act
	name string
}{
	{broker.Exit, "Exit"},
	{broker.Nap, "Nap"},
	{broker.Hop, "Hop"},
	{broker.Fail, "Fail"},
	{broker.Cancel, "Cancel"},
	{broker.Release, "Release"},
	{broker.Save, "Save"},
	{broker.Yield, "Yield"},
	{broker.Crash, "Crash"},
}

// ofBroker says whether an act comes from the broker itself: it carries no seq, and ends the token.
func ofBroker(a broker.Act) bool { return a == broker.Yield || a == broker.Crash }

var stateNames = map[broker.VerdictState]string{
	broker.Applied: "applied",
	broker.Dup:     "dup",
	broker.Stale:   "stale",
	broker.Gone:    "gone",
	broker.Invalid: "invalid",
	broker.Later:   "later",
}

func stateText(states []broker.VerdictState) string {
	var names []string
	for _, s := range states {
		names = append(names, stateNames[s])
	}
	return "[" + strings.Join(names, ", ") + "]"
}

func verdictText(verdicts []broker.Verdict) string {
	var texts []string
	for _, v := range verdicts {
		text := stateNames[v.State]
		if v.Why != "" {
			text += " (" + v.Why + ")"
		}
		texts = append(texts, text)
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// canonical is the one spelling of a document.
func canonical(doc []byte) []byte {
	v, err := jsonValue(doc)
	if err != nil || v == nil {
		return nil
	}
	doc, _ = json.Marshal(v)
	return doc
}

// sameDeadlines compares deadlines: times by tolerance.
func sameDeadlines(a, b []Deadline) bool {
	return slices.EqualFunc(a, b, func(a, b Deadline) bool {
		same := near(a.In, b.In)
		a.In = b.In
		return same && a == b
	})
}
