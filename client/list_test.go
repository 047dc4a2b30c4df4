package client_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
)

// pages lists everything that matches, page by page.
func pages(t *testing.T, c *client.Client[pgx.Tx], params client.StrandListParams) (strands []*client.StrandRow, n int) {
	t.Helper()
	for n = 1; ; n++ {
		page := must(c.StrandList(t.Context(), &params))(t)
		strands = append(strands, page.Strands...)
		if page.After == "" {
			return strands, n
		}
		params.After = page.After
	}
}

// zoo is a strand in each state, by state. Half of the kinds are mail.
func zoo(t *testing.T, f *fixture) map[client.State]string {
	t.Helper()
	store := f.store()
	ids := map[client.State]string{
		client.Ready:     f.insert(mail{}, nil),
		client.Deferred:  f.insert(mail{}, &client.InsertOpts{ScheduledAt: time.Now().Add(time.Hour)}),
		client.Leased:    f.insert(urgent{}, &client.InsertOpts{Tenant: "acme"}),
		client.Paused:    f.insert(urgent{}, &client.InsertOpts{Queue: "stopped"}),
		client.Done:      f.insert(mail{}, nil),
		client.Cancelled: f.insert(mail{}, &client.InsertOpts{Tenant: "acme"}),
		client.Dead:      f.insert(urgent{}, &client.InsertOpts{Queue: "stopped"}),
	}
	lease(t, store, ids[client.Leased])
	end(t, store, ids[client.Done], done("null"))
	must(f.client.StrandCancel(t.Context(), ids[client.Cancelled]))(t)
	end(t, store, ids[client.Dead], dead())
	f.exec("update respirate.queue set paused_at = now() where queue = 'stopped'")
	return ids
}

func TestListFindsEveryStateOncePageByPage(t *testing.T) {
	f := newFixture(t)
	ids := zoo(t, f)
	for _, first := range []int{1, 2, 3, 7, 100} {
		strands, n := pages(t, f.client, client.StrandListParams{First: first})
		got := map[client.State]string{}
		for _, s := range strands {
			got[s.State] = s.ID
		}
		if len(strands) != 7 || fmt.Sprint(got) != fmt.Sprint(ids) {
			t.Errorf("first %d: got %d strands, %v; want %v", first, len(strands), got, ids)
		}
		if n > 7/first+2 {
			t.Errorf("first %d: took %d pages", first, n)
		}
	}
}

func TestListShowsLiveStrandsByIDAndThenTheLatestThatFinished(t *testing.T) {
	f := newFixture(t)
	zoo(t, f)
	strands, _ := pages(t, f.client, client.StrandListParams{First: 2})
	live, finished := strands[:4], strands[4:]
	if !slices.IsSortedFunc(live, func(a, b *client.StrandRow) int { return strings.Compare(a.ID, b.ID) }) {
		t.Error("live strands are out of order")
	}
	if !slices.IsSortedFunc(finished, func(a, b *client.StrandRow) int { return b.FinishedAt.Compare(*a.FinishedAt) }) {
		t.Error("finished strands are out of order")
	}
}

func TestListFilters(t *testing.T) {
	f := newFixture(t)
	ids := zoo(t, f)
	for _, test := range []struct {
		params client.StrandListParams
		want   []client.State
	}{
		{client.StrandListParams{Kinds: []string{"urgent"}}, []client.State{client.Leased, client.Paused, client.Dead}},
		{client.StrandListParams{Queues: []string{"stopped"}}, []client.State{client.Paused, client.Dead}},
		{client.StrandListParams{Queues: []string{"stopped", "default"}}, []client.State{client.Ready, client.Deferred, client.Paused, client.Done, client.Cancelled, client.Dead}},
		{client.StrandListParams{Tenants: []string{"acme"}}, []client.State{client.Leased, client.Cancelled}},
		{client.StrandListParams{Tenants: []string{""}, Kinds: []string{"urgent"}}, []client.State{client.Paused, client.Dead}},
		{client.StrandListParams{Kinds: []string{"nobody"}}, nil},
		{client.StrandListParams{States: []client.State{client.Paused}}, []client.State{client.Paused}},
		{client.StrandListParams{States: []client.State{client.Done, client.Leased, client.Done}}, []client.State{client.Leased, client.Done}},
		{client.StrandListParams{Kinds: []string{`"`, `\`, "{"}}, nil},
	} {
		for test.params.First = 1; test.params.First < 4; test.params.First++ {
			strands, _ := pages(t, f.client, test.params)
			var got, want []string
			for _, s := range strands {
				got = append(got, s.ID)
			}
			for _, s := range test.want {
				want = append(want, ids[s])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%+v: got %v, want %v", test.params, got, want)
			}
		}
	}
}

func TestListOfBadParamsIsRefused(t *testing.T) {
	f := newFixture(t)
	cursor := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	for _, params := range []client.StrandListParams{
		{First: -1},
		{First: client.MaxFirst + 1},
		{States: []client.State{"running"}},
		{Kinds: []string{"a\x00"}},
		{After: "!"},
		{After: cursor("null")},
		{After: cursor(`{"phase":"live","id":"'; drop"}`)},
		{After: cursor(`{"phase":"finished","id":"00000000-0000-4000-8000-000000000000","at":"now()"}`)},
		{After: cursor(`{"phase":"else","id":"00000000-0000-4000-8000-000000000000"}`)},
	} {
		if _, err := f.client.StrandList(t.Context(), &params); err == nil {
			t.Errorf("%+v was taken", params)
		}
	}
}

func TestListFindsTheFewAmongTheManyInBoundedSteps(t *testing.T) {
	f := newFixture(t)
	must(f.client.InsertManyFast(t.Context(), many(25_000)))(t)
	f.exec("update respirate.strand set lease = now() + interval '1 hour' where id in (select id from respirate.strand order by id desc limit 3)")
	strands, _ := pages(t, f.client, client.StrandListParams{States: []client.State{client.Leased}})
	if len(strands) != 3 {
		t.Errorf("got %d strands, want 3", len(strands))
	}
	strands, _ = pages(t, f.client, client.StrandListParams{First: 1000})
	if len(strands) != 25_000 {
		t.Errorf("got %d strands, want 25000", len(strands))
	}
}

func TestAListingLeavesTheSettingsOfItsConnectionAlone(t *testing.T) {
	f := newFixture(t)
	check(t, pgx.BeginFunc(t.Context(), f.pool, func(tx pgx.Tx) error {
		must(newClient(t, tx, nil).StrandList(t.Context(), nil))(t)
		var timeout string
		if err := tx.QueryRow(t.Context(), "show statement_timeout").Scan(&timeout); err != nil || timeout != "0" {
			t.Errorf("statement_timeout is %s, %v", timeout, err)
		}
		return nil
	}))
}

// A page of a listing costs as much as it shows, whichever way the strands are spread over lanes.
func TestListingsAreCarriedByIndexes(t *testing.T) {
	f := newFixture(t)
	must(f.client.InsertManyFast(t.Context(), many(50_000)))(t)
	rare := make([]client.InsertManyParams, 5)
	for i := range rare {
		rare[i].Args = urgent{}
	}
	must(f.client.InsertManyFast(t.Context(), rare))(t)
	f.exec(`with over as (delete from respirate.strand where id > '80000000-0000-0000-0000-000000000000' returning *)
		insert into respirate.history (id, finished_at, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind,
			label, state, args)
		select id, now() - random() * interval '3 days', created_at, 5, try, max_tries, crashes, rescues, keep, '', 'default', 'mail',
			label, 'done', args from over`)
	f.exec("analyze respirate.strand, respirate.history")
	lane := scalar[int](f, "select lane from respirate.lanes where kind = 'urgent'")
	common := scalar[int](f, "select lane from respirate.lanes where kind = 'mail'")
	for _, test := range []struct {
		name, file string
		args       []any
		index      string
		pages      int
	}{
		{"all live", "visit_live", []any{nil, nil, "{ready}", 100, 100, nil}, "strand_pkey", 1000},
		{"behind an id", "visit_live", []any{"40000000-0000-4000-8000-000000000000", nil, "{ready}", 100, 100, nil}, "strand_pkey", 1000},
		{"a rare lane", "visit_live", []any{nil, fmt.Sprintf("{%d}", lane), "{ready}", 100, 100, nil}, "strand_ready", 100},
		{"a common lane", "visit_live", []any{nil, fmt.Sprintf("{%d}", common), "{ready}", 100, 100, nil}, "strand_pkey", 1000},
		{"finished", "visit_finished", []any{"infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff", "{done}", nil, nil, nil, 100, 100, nil}, "finished_at_id", 1000},
		{"children", "visit_children", []any{nil, nil, "{ready}", 100, 100, "40000000-0000-4000-8000-000000000000"}, "child_pkey", 100},
		{"a program", "program", []any{"40000000-0000-4000-8000-000000000000", 20}, "child_ended", 100},
		{"live by id", "live", []any{"{40000000-0000-4000-8000-000000000000}"}, "strand_pkey", 100},
		{"finished by id", "finished", []any{"{40000000-0000-4000-8000-000000000000}"}, "_id_idx", 100},
		{"whether it is live", "is_live", []any{"40000000-0000-4000-8000-000000000000"}, "strand_pkey", 100},
		{"attempts", "attempts", []any{"40000000-0000-4000-8000-000000000000", 100}, "_strand_at_idx", 100},
	} {
		plan, pages := f.explain(test.file, test.args)
		if !strings.Contains(plan, test.index) || pages > test.pages {
			t.Errorf("%s: reads %d pages, want at most %d, by %s:\n%s", test.name, pages, test.pages, test.index, plan)
		}
	}
}

// explain runs a statement of sql/, and tells its plan and how many pages it read.
func (f *fixture) explain(file string, args []any) (plan string, pages int) {
	f.t.Helper()
	text, err := os.ReadFile("sql/" + file + ".sql")
	if err != nil {
		f.t.Fatal(err)
	}
	args = append([]any{pgx.QueryExecModeSimpleProtocol}, args...)
	plan = scalar[string](f, "explain (analyze, buffers, format json) "+string(text), args...)
	var plans []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	check(f.t, json.Unmarshal([]byte(plan), &plans))
	lines := must(f.pool.Query(context.Background(), "explain "+string(text), args...))(f.t)
	short := must(pgx.CollectRows(lines, pgx.RowTo[string]))(f.t)
	return strings.Join(short, "\n"), plans[0].Plan.Hit + plans[0].Plan.Read
}
