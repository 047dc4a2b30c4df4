package postgres_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

// frames is a stack of two frames, the upper of which is told what the one above it returned.
const frames = `[{"n":1},{"ret":7},{"kind":"caller","label":"l","args":2}]`

func (s *subject) nap(id broker.ID, stack, deadline string) {
	s.t.Helper()
	r := broker.Report{Pair: s.lease(id)[0], Seq: 1, Act: broker.Nap, Delay: time.Hour, Stack: []byte(stack), Frame: 1}
	if deadline != "" {
		r.Due = &broker.Due{Target: deadline, In: time.Minute}
	}
	s.apply(r)
}

// audits are the rows of a strand, each "who what before after".
func (s *subject) audits(id broker.ID) []string {
	s.t.Helper()
	return one[[]string](s, `select array(select concat_ws(' ', who, what, before, after) from respirate.audits
		where strand = $1 and role = session_user and at > now() - interval '1 min' order by id)`, [16]byte(id))
}

func (s *subject) refuses(code, why, sql string, args ...any) {
	s.t.Helper()
	_, err := s.pool.Exec(s.t.Context(), sql, args...)
	if pg, ok := err.(*pgconn.PgError); !ok || pg.Code != code || !strings.Contains(pg.Message, why) {
		s.t.Errorf("%s: got %v, want %s: %s", sql, err, code, why)
	}
}

const (
	invalidParameter = "22023"
	inUse            = "55006"
	isOver           = "55000"
)

func TestEditReplacesTheArgsOfTheFrameThatRunsNext(t *testing.T) {
	s := newSubject(t, migrated(t))
	state := func(id broker.ID, args string) string {
		return one[string](s, `select coalesce(respirate.edit($1, $2, 'eve'), 'unknown')`, [16]byte(id), args)
	}
	fresh := s.insert(`{}`)
	if got := state(fresh, `{"n":2}`); got != "ready" {
		t.Errorf("fresh: got %s", got)
	}
	if got := s.lease(fresh); len(got) != 1 || one[string](s, `select concat(args, stack) from respirate.strands where id = $1`, [16]byte(fresh)) != `{"n": 2}` {
		t.Errorf("fresh: got other args")
	}
	if got := s.audits(fresh); !slices.Equal(got, []string{`eve edit {"args": {}} {"args": {"n": 2}}`}) {
		t.Errorf("fresh: got %q", got)
	}

	napping := s.insert(`{}`)
	s.nap(napping, frames, "")
	if got := state(napping, `3`); got != "deferred" {
		t.Errorf("napping: got %s", got)
	}
	got := one[string](s, `select concat(first_args, stack) from respirate.strands where id = $1`, [16]byte(napping))
	if want := `{}[3, {"ret": 7}, {"args": 2, "kind": "caller", "label": "l"}]`; got != want {
		t.Errorf("napping: got %s, want %s", got, want)
	}

	over := s.insert(`{}`)
	s.apply(broker.Report{Pair: s.lease(over)[0], Seq: 1, Act: broker.Fail, Final: true, Failure: &broker.Failure{}})
	if got := state(over, `4`); got != "dead" {
		t.Errorf("dead: got %s", got)
	}
	s.run(`select respirate.retry($1)`, [16]byte(over))
	if got := one[string](s, `select args::text from respirate.strands where id = $1`, [16]byte(over)); got != "4" {
		t.Errorf("dead, retried: got args %s", got)
	}
	done := s.insert(`{"keep":true}`)
	s.apply(broker.Report{Pair: s.lease(done)[0], Seq: 1, Act: broker.Exit})
	s.refuses(isOver, "is done: nothing would run with other args", `select respirate.edit($1, '4')`, [16]byte(done))
	if got := s.audits(done); len(got) != 0 {
		t.Errorf("done: got audits %q", got)
	}
	if got := state(newID(), `1`); got != "unknown" {
		t.Errorf("one that is not there: got %s", got)
	}
	s.refuses(invalidParameter, "args: is null", `select respirate.edit($1, null)`, [16]byte(fresh))
	s.refuses(invalidParameter, "who: is empty", `select respirate.edit($1, '1', '')`, [16]byte(fresh))
	s.refuses(invalidParameter, "args: is 1048578 bytes long", `select respirate.edit($1, to_jsonb(repeat('x', 1048576)))`, [16]byte(fresh))
}

func TestNothingIsDoneByHandToALeasedStrand(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.insert(`{}`)
	pair := s.lease(id)[0]
	s.refuses(inUse, "is leased", `select respirate.edit($1, '2')`, [16]byte(id))
	s.refuses(inUse, "is leased", `select respirate.retry($1, 'two')`, [16]byte(id))
	s.run(`update respirate.strand set cancel_at = now(), lease = now() - interval '1 s'`)
	s.refuses(inUse, "is about to end", `select respirate.edit($1, '2')`, [16]byte(id))
	if got := s.audits(id); len(got) != 0 {
		t.Errorf("audits: got %q", got)
	}

	// Once its lease has run out the operator's word counts, and that of a late worker does not.
	s.run(`update respirate.strand set cancel_at = null`)
	s.run(`select respirate.edit($1, '2')`, [16]byte(id))
	verdicts, err := s.Commit(t.Context(), []broker.Report{{Pair: pair, Seq: 1, Act: broker.Exit}})
	if err != nil || verdicts[0].State != broker.Stale {
		t.Errorf("late report: got %+v and error %v", verdicts, err)
	}
	if row, _ := s.Row(id); row.Leased || row.Rescues != 1 {
		t.Errorf("got %+v", row)
	}
}

func TestRetryAtALabelGoesOnThere(t *testing.T) {
	s := newSubject(t, migrated(t))
	retry := func(id broker.ID) string {
		return one[string](s, `select coalesce(respirate.retry($1, 'two', 'eve'), 'unknown')`, [16]byte(id))
	}
	place := func(id broker.ID) string {
		return one[string](s, `select concat_ws(' ', label, state, try, crashes, stack->0) from respirate.strands where id = $1`, [16]byte(id))
	}
	napping := s.insert(`{}`)
	s.nap(napping, frames, "two")
	s.Age(napping, 2*time.Minute)
	s.OpenPages()
	s.run(`update respirate.strand set try = 3, crashes = 1, schedule = now() + interval '1 hour'`)
	if got := retry(napping); got != "ready" || place(napping) != `two ready 0 0 {"n": 1}` {
		t.Errorf("napping: got %s, %s", got, place(napping))
	}
	if got := s.Deadlines(napping); len(got) != 0 {
		t.Errorf("the target is reached, but there are %+v", got)
	}
	if got := s.Pages(napping); len(got) != 1 || !got[0].Resolved {
		t.Errorf("pages: got %+v", got)
	}
	if got := s.audits(napping); !slices.Equal(got, []string{`eve retry {"label": "start", "state": "deferred"} {"label": "two"}`}) {
		t.Errorf("audits: got %q", got)
	}

	over := s.insert(`{}`)
	s.apply(broker.Report{Pair: s.lease(over)[0], Seq: 1, Act: broker.Exit, Value: []byte(`1`)})
	if got := retry(over); got != "ready" || place(over) != `two ready 0 0` {
		t.Errorf("done: got %s, %s", got, place(over))
	}
	if got := s.audits(over); !slices.Equal(got, []string{`eve retry {"label": "start", "state": "done"} {"label": "two"}`}) {
		t.Errorf("audits: got %q", got)
	}
	if got := retry(newID()); got != "unknown" {
		t.Errorf("one that is not there: got %s", got)
	}
	s.refuses(invalidParameter, "label: is empty", `select respirate.retry($1, '')`, [16]byte(over))
}

func TestPageIsResolvedByHand(t *testing.T) {
	s := newSubject(t, migrated(t))
	id := s.page()
	why := func(page int64) string {
		return one[string](s, `select coalesce(respirate.resolve_page($1, 'eve'), 'unknown')`, page)
	}
	if got := why(1); got != "by hand" {
		t.Errorf("got %s", got)
	}
	if got := why(1); got != "by hand" {
		t.Errorf("again: got %s", got)
	}
	if got := why(2); got != "unknown" {
		t.Errorf("one that is not there: got %s", got)
	}
	if got := s.audits(id); len(got) != 1 || !strings.HasPrefix(got[0], `eve resolve {"page": 1, `) {
		t.Errorf("audits: got %q", got)
	}
	s.OpenPages()
	if got := s.Pages(id); len(got) != 1 || !got[0].Resolved {
		t.Errorf("it is open again: %+v", got)
	}
}

// page opens the page of a strand that napped past its deadline.
func (s *subject) page() broker.ID {
	s.t.Helper()
	id := s.insert(`{}`)
	s.nap(id, frames, "ready")
	s.Age(id, 2*time.Minute)
	s.OpenPages()
	return id
}

func TestPagesAreSentOnOnceAndInOrder(t *testing.T) {
	s := newSubject(t, migrated(t))
	claim := func() string {
		t.Helper()
		p, err := s.ClaimPage(t.Context(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if p == nil {
			return ""
		}
		var done error
		if p.ID == 1 && p.Tries == 2 {
			done = s.PageTold(t.Context(), p)
		}
		if p.ID == 2 {
			p.Tries += 5
			done = s.PageAgain(t.Context(), p, time.Hour)
		}
		if done != nil {
			t.Fatal(done)
		}
		return p.Event + " " + p.Kind + " " + p.Target
	}
	expect := func(want string) {
		t.Helper()
		if got := claim(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	expect("")
	s.page()
	expect("opened one ready") // and nobody says what has become of it
	expect("")
	s.run(`update respirate.page set told_after = told_after - interval '2 min'`)
	expect("opened one ready") // the second try is told of
	expect("")
	s.page()
	expect("opened one ready") // of the second, which is given back for an hour
	expect("")
	s.run(`select respirate.resolve_page(1)`)
	expect("resolved one ready")
	expect("")
	if n := one[int](s, `select told_tries from respirate.page where id = 2`); n != 6 {
		t.Errorf("tries of the second: got %d, want 6", n)
	}

	// What was over before anybody sent pages on is passed over, unless that was a moment ago.
	s.run(`update respirate.page set told = null, told_after = null, resolved_at = now() - case id when 1 then interval '2 h' else '1 min' end`)
	expect("opened one ready")
	if got := one[string](s, `select string_agg(id || coalesce(told, '-'), ' ' order by id) from respirate.page`); got != "1resolved 2-" {
		t.Errorf("got %s", got)
	}
}

func TestPagesGoToOneOfThoseWhoAsk(t *testing.T) {
	s := newSubject(t, migrated(t))
	s.page()
	s.page()
	tx := s.begin(pgx.TxOptions{}, `select`)
	if _, err := tx.Exec(t.Context(), `update respirate.page set told_tries = told_tries where id = 1`); err != nil {
		t.Fatal(err)
	}
	// Somebody is about to take the first one: nobody waits for that.
	if p, err := s.ClaimPage(t.Context(), time.Minute); err != nil || p == nil || p.ID != 2 {
		t.Errorf("got %+v and error %v, want page 2", p, err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestOperatorRoleMayDoByHandWhatAClientMayNot(t *testing.T) {
	s, conn := client(t)
	calls := []string{`select respirate.edit(gen_random_uuid(), '1')`, `select respirate.retry(gen_random_uuid(), 'two')`, `select respirate.resolve_page(1)`}
	try := func() (denied int) {
		for _, sql := range calls {
			_, err := conn.Exec(t.Context(), sql)
			if pg, ok := err.(*pgconn.PgError); ok && pg.Code == insufficientPrivilege {
				denied++
			} else if err != nil {
				t.Errorf("%s: %v", sql, err)
			}
		}
		return denied
	}
	if n := try(); n != len(calls) {
		t.Errorf("client: %d of %d are denied", n, len(calls))
	}
	s.run(`select respirate.grant_operator($1::text::regrole)`, one[string](s, `select rolname from pg_roles where rolname like 'app_%'`))
	if n := try(); n != 0 {
		t.Errorf("operator: %d are denied", n)
	}
	for _, sql := range []string{`select * from respirate.audits`, `select respirate.insert('a')`} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	for _, sql := range []string{`delete from respirate.audits`, `update respirate.page set why = ''`, `select respirate.hold(gen_random_uuid())`,
		`select respirate.note_audit(gen_random_uuid(), 'eve', 'x', '1', '1')`, `select respirate.grant_operator(current_user::regrole)`} {
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s: is allowed", sql)
		}
	}
}
