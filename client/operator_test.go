package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
)

// napWith has a strand nap for an hour, and whatever else the report says.
func (f *fixture) napWith(id string, r broker.Report) {
	f.t.Helper()
	r.Act, r.Delay = broker.Nap, time.Hour
	end(f.t, f.store(), id, r)
}

func TestEditAndRetryAtSayWhatTheStrandIsThen(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{To: "a"}, nil)
	f.napWith(id, broker.Report{})
	if state := must(f.client.StrandEdit(t.Context(), id, json.RawMessage(`{"to": "b"}`), "eve@there"))(t); state != client.Deferred {
		t.Errorf("edit: got %s", state)
	}
	if state := must(f.client.StrandRetryAt(t.Context(), id, "two", ""))(t); state != client.Ready {
		t.Errorf("retry: got %s", state)
	}
	if row := f.get(id); string(row.Args) != `{"to": "b"}` || row.Label != "two" {
		t.Errorf("got args %s and label %s", row.Args, row.Label)
	}
	program := must(f.client.StrandProgram(t.Context(), id))(t)
	var audits []string
	for _, a := range program.Audits {
		audits = append(audits, fmt.Sprint(a.Who == "eve@there", a.Who == a.Role, " ", a.What, " ", string(a.Before), " ", string(a.After)))
	}
	want := []string{`true false edit {"args" : {"to": "a"}} {"args" : {"to": "b"}}`, `false true retry {"label" : "start", "state" : "deferred"} {"label" : "two"}`}
	if got := strings.ReplaceAll(strings.Join(audits, "\n"), " : ", ": "); got != strings.ReplaceAll(strings.Join(want, "\n"), " : ", ": ") {
		t.Errorf("audits: got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestEditAndRetryAtRefuseALeasedStrandAndOneThatIsNotThere(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	lease(t, f.store(), id)
	missing := "00000000-0000-4000-8000-000000000000"
	for _, c := range []struct {
		id   string
		want error
	}{{id, client.ErrLeased}, {missing, client.ErrNotFound}} {
		if _, err := f.client.StrandEdit(t.Context(), c.id, json.RawMessage(`1`), ""); !errors.Is(err, c.want) {
			t.Errorf("edit: got %v, want %v", err, c.want)
		}
		if _, err := f.client.StrandRetryAt(t.Context(), c.id, "two", ""); !errors.Is(err, c.want) {
			t.Errorf("retry: got %v, want %v", err, c.want)
		}
	}
	over := f.insert(mail{}, &client.InsertOpts{Keep: true})
	end(t, f.store(), over, done(`1`))
	if _, err := f.client.StrandEdit(t.Context(), over, json.RawMessage(`1`), ""); !errors.Is(err, client.ErrDone) {
		t.Errorf("edit of one that is done: got %v, want %v", err, client.ErrDone)
	}
	for _, args := range []string{``, `{`, `"` + strings.Repeat("x", 1<<20) + `"`} {
		if _, err := f.client.StrandEdit(t.Context(), id, json.RawMessage(args), ""); err == nil || errors.Is(err, client.ErrLeased) {
			t.Errorf("args %.10q: got %v", args, err)
		}
	}
	if _, err := f.client.StrandRetryAt(t.Context(), id, "", ""); err == nil || errors.Is(err, client.ErrLeased) {
		t.Errorf("no label: got %v", err)
	}
}

func TestOperatorVerbsInATransactionHappenWhenItCommits(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{}, nil)
	f.exec(`insert into respirate.page (strand, frame, kind, target, due_at) values ($1, 0, 'mail', 'sent', now())`, id)
	verbs := func(tx pgx.Tx) error {
		_, editErr := f.client.StrandEditTx(t.Context(), tx, id, json.RawMessage(`7`), "")
		_, retryErr := f.client.StrandRetryAtTx(t.Context(), tx, id, "two", "")
		_, signalErr := f.client.StrandSignalManyTx(t.Context(), tx, &client.StrandManyParams{All: true}, client.SignalParams{Name: "go"})
		_, pageErr := f.client.PageResolveTx(t.Context(), tx, 1, "")
		open, listErr := f.client.PageListTx(t.Context(), tx, nil)
		if len(open) != 0 {
			t.Errorf("the transaction sees %d open pages", len(open))
		}
		program, programErr := f.client.StrandProgramTx(t.Context(), tx, id)
		if programErr == nil && (program.Waiting != 1 || len(program.Audits) != 3) {
			t.Errorf("the transaction sees %+v", program)
		}
		return errors.Join(editErr, retryErr, signalErr, pageErr, listErr, programErr)
	}
	regret := errors.New("regret")
	err := pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error { return errors.Join(verbs(tx), regret) })
	if row := f.get(id); !errors.Is(err, regret) || row.Label != "start" {
		t.Fatalf("got %v, and the label is %s", err, row.Label)
	}
	check(t, pgx.BeginFunc(t.Context(), f.pool, verbs))
	if row := f.get(id); row.Label != "two" || string(row.Args) != "7" {
		t.Errorf("got label %s and args %s", row.Label, row.Args)
	}
}

func TestProgramTellsWhatAStrandHas(t *testing.T) {
	f := newFixture(t)
	id := f.insert(mail{To: "a"}, nil)
	report := broker.Report{
		Stack: []byte(`[{"n": 1}, {"ret": 7}, {"kind": "caller", "label": "l", "args": 2}]`), Frame: 1,
		Due: &broker.Due{Target: "sent", In: time.Minute},
	}
	for i := range 25 {
		report.Inserts = append(report.Inserts, broker.Insert{Kind: fmt.Sprint("k", i%2), Args: []byte(`1`), Child: true})
	}
	f.napWith(id, report)
	for range 25 {
		check(t, f.client.Signal(t.Context(), id, "go", 3))
	}
	ended := scalar[string](f, `select min(child::text) from respirate.children where kind is null and parent = $1`, id)
	end(t, f.store(), ended, done(`"yes"`))
	f.exec(`update respirate.deadline set at = now() - interval '1 min'`)
	f.exec(`select respirate.page_due()`)

	got := must(f.client.StrandProgram(t.Context(), id))(t)
	switch {
	case len(got.Semaphores) != 20 || got.Waiting != 25 || got.Semaphores[0].Name != "go" || string(got.Semaphores[0].Value) != "3":
		t.Errorf("semaphores: %d of %d, %+v", len(got.Semaphores), got.Waiting, got.Semaphores)
	case len(got.Children) != 20 || got.Ended != 1 || f.get(id).ChildrenLeft != 24:
		t.Errorf("children: %d, %d ended", len(got.Children), got.Ended)
	case got.Children[0].ID != ended || got.Children[0].State != client.Done || string(got.Children[0].Value) != `"yes"`:
		t.Errorf("first child: %+v", got.Children[0])
	case got.Children[1].State != client.Ready || got.Children[1].Kind[0] != 'k' || got.Children[1].EndedAt != nil:
		t.Errorf("second child: %+v", got.Children[1])
	case len(got.Deadlines) != 1 || got.Deadlines[0].Target != "sent" || got.Deadlines[0].Frame != 1 || got.Deadlines[0].PagedAt == nil:
		t.Errorf("deadlines: %+v", got.Deadlines)
	case len(got.Pages) != 1 || got.Pages[0].Strand != id || got.Pages[0].ID != 1:
		t.Errorf("pages: %+v", got.Pages)
	}
	frames := string(must(json.Marshal(f.get(id).Frames()))(t))
	if want := `[{"kind":"mail","label":"start","args":{"n":1},"ret":7},{"kind":"caller","label":"l","args":2}]`; frames != want {
		t.Errorf("frames: got %s\nwant %s", frames, want)
	}
}

func TestFramesOfAStackOfAnotherForm(t *testing.T) {
	for stack, want := range map[string]string{
		``:                             `[{"kind":"k","label":"l","args":1}]`,
		`[]`:                           `[{"kind":"k","label":"l","args":1}]`,
		`[2]`:                          `[{"kind":"k","label":"l","args":2}]`,
		`[2, 3, "x", null, {"a": 1}]`:  `[{"kind":"k","label":"l","args":2}]`,
		`[2, {"kind": 5}, {"ret": 1}]`: `[{"kind":"k","label":"l","args":2}]`,
	} {
		row := client.StrandRow{Kind: "k", Label: "l", Args: json.RawMessage(`1`), Stack: json.RawMessage(stack)}
		if got := string(must(json.Marshal(row.Frames()))(t)); got != want {
			t.Errorf("%s: got %s, want %s", stack, got, want)
		}
	}
}

func TestListOfTheChildrenOfAStrand(t *testing.T) {
	f := newFixture(t)
	id, other := f.insert(mail{}, nil), f.insert(mail{}, nil)
	for _, parent := range []string{id, other} {
		var report broker.Report
		for i := range 5 {
			report.Inserts = append(report.Inserts, broker.Insert{Kind: fmt.Sprint("k", i%2), Args: []byte(`1`), Child: true})
		}
		f.napWith(parent, report)
	}
	ended := scalar[string](f, `select min(child::text) from respirate.children where parent = $1`, id)
	end(t, f.store(), ended, done(`1`))
	count := func(params client.StrandListParams) int {
		t.Helper()
		params.Parent = id
		strands, _ := pages(t, f.client, params)
		for _, s := range strands {
			if s.Parent != id {
				t.Errorf("%s is a child of %s", s.ID, s.Parent)
			}
		}
		return len(strands)
	}
	look := func(when string) {
		t.Helper()
		if n := count(client.StrandListParams{First: 2}); n != 5 {
			t.Errorf("%s: got %d of all", when, n)
		}
		if n := count(client.StrandListParams{States: []client.State{client.Done}}); n != 1 {
			t.Errorf("%s: got %d done", when, n)
		}
		if n := count(client.StrandListParams{States: []client.State{client.Ready}}); n != 4 {
			t.Errorf("%s: got %d ready", when, n)
		}
		if n := count(client.StrandListParams{Kinds: []string{"k0"}}) + count(client.StrandListParams{Kinds: []string{"k1"}}); n != 5 {
			t.Errorf("%s: got %d of the two kinds", when, n)
		}
	}
	look("while it lives")
	f.exec(`delete from respirate.child where parent = $1`, id)
	f.exec(`delete from respirate.strand where id = $1`, id)
	look("when it is over")
	if _, err := f.client.StrandList(t.Context(), &client.StrandListParams{Parent: "x"}); err == nil {
		t.Error("a parent that is no id was taken")
	}
}

func TestSignalOfAllThatMatch(t *testing.T) {
	f := newFixture(t)
	must(f.client.InsertManyFast(t.Context(), many(1234)))(t)
	other := f.insert(urgent{}, nil)
	f.exec(`update respirate.strand set schedule = now() + interval '1 hour'`)
	mails := &client.StrandManyParams{Kinds: []string{"mail"}}
	if n := must(f.client.StrandSignalMany(t.Context(), mails, client.SignalParams{Name: "go", Value: 3, Quiet: true}))(t); n != 1234 {
		t.Errorf("sent to %d", n)
	}
	if n := scalar[int](f, `select count(distinct strand) from respirate.semaphores where name = 'go' and value = '3'`); n != 1234 {
		t.Errorf("%d have it", n)
	}
	if n := scalar[int](f, `select count(*) from respirate.strands where state = 'ready'`); n != 0 {
		t.Errorf("%d are awake", n)
	}
	must(f.client.StrandSignalMany(t.Context(), &client.StrandManyParams{All: true}, client.SignalParams{Name: "go"}))(t)
	if f.get(other).State != client.Ready {
		t.Error("the other one sleeps on")
	}
	for _, bad := range []client.SignalParams{{Name: ""}, {Name: "go", ID: other}} {
		if _, err := f.client.StrandSignalMany(t.Context(), mails, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	if _, err := f.client.StrandSignalMany(t.Context(), nil, client.SignalParams{Name: "go"}); err == nil {
		t.Error("nobody said that all are meant")
	}
}

func TestPagesAreListedNewestFirstAndResolvedOnce(t *testing.T) {
	f := newFixture(t)
	f.exec(`insert into respirate.page (strand, frame, kind, target, due_at, resolved_at, why)
		select gen_random_uuid(), 0, 'mail', 'sent', now(), case when n % 2 = 0 then now() end, case when n % 2 = 0 then 'reached' end
		from generate_series(1, 6) n`)
	ids := func(params *client.PageListParams) (ids string) {
		t.Helper()
		for _, p := range must(f.client.PageList(context.Background(), params))(t) {
			ids += fmt.Sprint(p.ID)
		}
		return ids
	}
	for _, c := range []struct {
		params *client.PageListParams
		want   string
	}{
		{nil, "531"}, {&client.PageListParams{All: true}, "654321"}, {&client.PageListParams{First: 2}, "53"},
		{&client.PageListParams{First: 2, Before: 3}, "1"}, {&client.PageListParams{All: true, Before: 3}, "21"},
	} {
		if got := ids(c.params); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.params, got, c.want)
		}
	}
	if why := must(f.client.PageResolve(t.Context(), 5, "eve"))(t); why != "by hand" || ids(nil) != "31" {
		t.Errorf("got %s and %s", why, ids(nil))
	}
	if why := must(f.client.PageResolve(t.Context(), 2, "eve"))(t); why != "reached" {
		t.Errorf("one that is over: got %s", why)
	}
	if _, err := f.client.PageResolve(t.Context(), 7, ""); !errors.Is(err, client.ErrPageNotFound) {
		t.Errorf("got %v", err)
	}
	if _, err := f.client.PageList(t.Context(), &client.PageListParams{First: -1}); err == nil {
		t.Error("-1 was taken")
	}
}

func TestOperatorVerbsWorkWithEveryDriver(t *testing.T) {
	f := newFixture(t)
	for _, driver := range drivers {
		c := must(client.NewSQL(f.openSQL(driver), &client.Config{Logger: slog.New(slog.DiscardHandler)}))(t)
		id := f.insert(mail{}, nil)
		must(c.StrandEdit(t.Context(), id, json.RawMessage(`{"to":"ä\\"}`), "eve"))(t)
		must(c.StrandRetryAt(t.Context(), id, "two", ""))(t)
		must(c.StrandSignalMany(t.Context(), &client.StrandManyParams{All: true}, client.SignalParams{Name: "go"}))(t)
		page := scalar[int64](f, `insert into respirate.page (strand, frame, kind, target, due_at) values ($1, 0, 'mail', 'sent', now()) returning id`, id)
		if program := must(c.StrandProgram(t.Context(), id))(t); len(program.Audits) != 2 || program.Waiting == 0 || len(program.Pages) != 1 {
			t.Errorf("%s: got %+v", driver, program)
		}
		if open := must(c.PageList(t.Context(), nil))(t); len(open) != 1 || open[0].ID != page {
			t.Errorf("%s: got %+v", driver, open)
		}
		must(c.PageResolve(t.Context(), page, ""))(t)
		must(c.StrandList(t.Context(), &client.StrandListParams{Parent: id}))(t)
		if _, err := c.StrandEdit(t.Context(), id, json.RawMessage(`1`), "a\nb"); err == nil {
			t.Errorf("%s: a name with a line break was taken", driver)
		}
		lease(t, f.store(), id)
		if _, err := c.StrandEdit(t.Context(), id, json.RawMessage(`1`), ""); !errors.Is(err, client.ErrLeased) {
			t.Errorf("%s: got %v", driver, err)
		}
	}
}
