package postgres_test

import (
	"fmt"
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
)

// body is the one statement of an SQL function, with parameters in place of its own.
func body(t *testing.T, conn *pgx.Conn, function string) string {
	t.Helper()
	var text string
	var names, types []string
	err := conn.QueryRow(t.Context(), `select p.prosrc, p.proargnames, array(select format_type(a, null) from unnest(p.proargtypes) a)
		from pg_proc p where p.pronamespace = 'respirate'::regnamespace and p.proname = $1 and p.prolang = (select oid from pg_language where lanname = 'sql')`,
		function).Scan(&text, &names, &types)
	if err != nil {
		t.Fatalf("%s: %v", function, err)
	}
	for i, kind := range types {
		argument := regexp.MustCompile(`\b` + function + `\."?` + names[i] + `\b"?`)
		text = argument.ReplaceAllString(text, fmt.Sprintf("$$%d::%s", i+1, kind))
	}
	return text
}

// A session that calls them may have jit on, as servers do. A table that has to be read whole though that is forbidden counts as
// so dear that its statement would be compiled at each call.
func TestFunctionsThatReadNoTableWholeAreNotCompiled(t *testing.T) {
	s := newPoolSubject(t, migrated(t))
	names := func(where string) string {
		return one[string](s, `select coalesce(string_agg(proname, ' ' order by proname), '') from pg_proc
			where pronamespace = 'respirate'::regnamespace and proconfig @> '{enable_seqscan=off}'`+where)
	}
	if got := names(` and not proconfig @> '{jit=off}'`); got != "" {
		t.Errorf("these would be compiled: %s", got)
	}
	if names(``) == "" {
		t.Error("no function forbids to read tables whole")
	}
}

// One parent of 100,000 children is what statistics know of the table of children, and a planner may well think that it is best
// to read all of it.
func TestFunctionsReadNoWholeFamily(t *testing.T) {
	url := migrated(t)
	s := newPoolSubject(t, url)
	const parent = `'10000000-0000-4000-8000-000000000000'`
	s.run(`insert into respirate.strand (id, lane, args, children_left) select ` + parent + `, respirate.lane('', 'q', 5, 'k'), '{}', 100000`)
	s.run(`insert into respirate.strand (id, lane, args, parent)
		select gen_random_uuid(), l.lane, '{}', ` + parent + ` from respirate.lane l, generate_series(1, 100000)`)
	s.run(`insert into respirate.child (parent, child, state, ended_at)
		select s.parent, s.id, case when s.bucket < 128 then 'done' end, case when s.bucket < 128 then now() end from respirate.strand s where s.parent is not null`)
	s.run(`insert into respirate.semaphore (strand, name) select ` + parent + `, 'x' from generate_series(1, 20000)`)
	s.run(`vacuum analyze`)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for name, value := range postgres.Essentials {
		if _, err := conn.Exec(t.Context(), `set `+name+` = '`+value+`'`); err != nil {
			t.Fatal(err)
		}
	}
	for function, indexes := range map[string][]string{
		"children_done":  {"child_pkey"},
		"family":         {"child_", "strand_pkey"},
		"finish":         {"strand_pkey", "child_pkey", "semaphore_pkey", "deadline_pkey", "page_open"},
		"next_owner":     {"semaphore_pkey", "child_", "deadline_pkey", "page_open"},
		"note_deadlines": {"strand_pkey", "deadline_pkey"},
		"settle":         {"semaphore_pkey", "child_pkey", "strand_pkey"},
	} {
		checkPlan(t, conn, "respirate."+function, body(t, conn, function), indexes)
	}

	// And none of it is read beside what is asked for.
	kid := one[string](s, `select min(child::text) from respirate.child where ended_at is not null`)
	pages := 1 << 30
	for range 3 { // the first plans
		pages = min(pages, s.pagesOf(`select respirate.children_done(array[`+parent+`]::uuid[], '{`+kid+`}')`))
	}
	if t.Logf("pages of the end of one child among 100,000: %d", pages); pages > 60 {
		t.Errorf("pages of the end of one child among 100,000: got %d, want 60 at most", pages)
	}
}
