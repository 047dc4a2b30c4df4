package worker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// named is a kind of any name.
type named struct{}

var nameOfNamed string // the kind that named has now; tests that set it do not run in parallel

func (named) Kind() string { return nameOfNamed }

func TestAddRefusesBadNames(t *testing.T) {
	for _, c := range []struct{ name, kind, want string }{
		{"empty", "", "the name of a kind is empty"},
		{"long", strings.Repeat("k", 256), "is 256 bytes long"},
		{"not UTF-8", "k\xff", "is not valid UTF-8"},
		{"control character", "k\n", "has a control character"},
	} {
		t.Run(c.name, func(t *testing.T) {
			nameOfNamed = c.kind
			wantError(t, AddSafely(NewMux(), Worker[named](workFunc[named](nil))), c.want)
		})
	}
}

func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("error %v, want one that contains %q", err, text)
	}
}

func TestAddRefusesAKindTwice(t *testing.T) {
	mux := muxOf(nil)
	wantError(t, AddSafely(mux, Worker[sums](workFunc[sums](nil))), `kind "sum": it is registered already`)
	defer func() {
		if v := recover(); v == nil || !strings.Contains(v.(string), "registered already") {
			t.Errorf("Add panicked with %v", v)
		}
	}()
	AddFunc(mux, func(context.Context, *Strand[sums]) error { return nil })
	t.Error("Add did not panic")
}

type mistyped struct{ workFunc[sums] }

func (mistyped) Timeout(Strand[sums]) time.Duration { return 0 }

type mistypedRetry struct{ workFunc[sums] }

func (mistypedRetry) NextRetry(*Strand[sums]) time.Duration { return 0 }

type fragile struct{ workFunc[sums] }

func (fragile) Timeout(s *Strand[sums]) time.Duration { panic("no id: " + s.ID) }

func TestAddRefusesOptionalMethodsThatWouldBeIgnored(t *testing.T) {
	wantError(t, AddSafely(NewMux(), Worker[sums](mistyped{})), "method Timeout is a func(worker.Strand[")
	wantError(t, AddSafely(NewMux(), Worker[sums](mistypedRetry{})), "method NextRetry is a func(")
	wantError(t, AddSafely(NewMux(), Worker[sums](fragile{})), "method Timeout panics")
}

func TestAddProgRefusesProgramsThatCannotRun(t *testing.T) {
	for _, c := range []struct {
		name string
		prog Prog[sums]
		want string
	}{
		{"no labels", Prog[sums]{}, `kind "sum": there is no label "start" to start at`},
		{"no start", Prog[sums]{Start: "one", Labels: map[string]Label[sums]{"two": nothing}}, `no label "one" to start at`},
		{"no function", Prog[sums]{Labels: map[string]Label[sums]{"start": nil}}, `label "start" has no function`},
		{"bad name", Prog[sums]{Labels: map[string]Label[sums]{"start": nothing, "": nothing}}, "the name of a label is empty"},
	} {
		t.Run(c.name, func(t *testing.T) { wantError(t, AddProgSafely(NewMux(), c.prog), c.want) })
	}
}

// pointed is a kind whose args type is a pointer.
type pointed struct{ name string }

func (p *pointed) Kind() string { return "pointed" + p.name }

func TestAddTakesPointersButNoInterfaces(t *testing.T) {
	mux := NewMux()
	AddFunc(mux, func(context.Context, *Strand[*pointed]) error { return nil })
	if got := mux.Kinds(); !slices.Equal(got, []string{"pointed"}) {
		t.Errorf("kinds %v", got)
	}
	wantError(t, AddSafely(mux, Worker[Args](workFunc[Args](nil))), "not an interface")
}

func TestChangingTheLabelsOfAProgramLaterChangesNothing(t *testing.T) {
	labels := map[string]Label[sums]{"start": nothing}
	mux := NewMux()
	AddProg(mux, Prog[sums]{Labels: labels})
	delete(labels, "start")
	if r := runOne(t, mux, "sum"); r.Act != "exit" {
		t.Errorf("result %+v, want exit", r)
	}
}
