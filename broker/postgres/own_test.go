package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"pgregory.net/rapid"

	"github.com/respirated/respirated/broker"
)

// tokenNotCurrent is the SQLSTATE by which step() refuses a token.
const tokenNotCurrent = "RS001"

// cast is a leased strand and all whom its report may concern.
type cast struct {
	parent, self, target, ended, alive broker.ID
	pair                               broker.Pair
	semaphores                         []int64 // that self has
	made                               broker.ID
}

// all are its members, always in the same order.
func (c *cast) all() []broker.ID {
	return []broker.ID{c.parent, c.self, c.target, c.ended, c.alive, c.made}
}

// role is what a member is in its cast, in a text that may name any of them.
func (c *cast) roles() *strings.Replacer {
	var pairs []string
	for i, id := range c.all() {
		pairs = append(pairs, id.String(), fmt.Sprintf("<%d>", i))
	}
	return strings.NewReplacer(pairs...)
}

// scene is what is drawn of a cast before its report.
type scene struct{ child, woken, cancelled, dueSet, late bool }

func (s *subject) cast(in scene) *cast {
	s.t.Helper()
	c := &cast{target: s.insert(""), made: newID()}
	if in.child {
		parent := s.lease(s.insert(""))[0]
		c.parent, c.self = parent.ID, newID()
		s.apply(broker.Report{Pair: parent, Seq: 1, Act: broker.Nap, Delay: hour,
			Inserts: []broker.Insert{{ID: c.self, Kind: "k", Args: []byte(`{}`), Child: true, Opts: []byte(`{"keep":true}`)}}})
	} else {
		c.self = s.insert(`{"keep":true}`)
	}
	pair := s.lease(c.self)[0]
	c.ended, c.alive = newID(), newID()
	first := broker.Report{Pair: pair, Seq: 1, Act: broker.Hop, Label: "middle",
		Inserts: []broker.Insert{
			{ID: c.ended, Kind: "k", Args: []byte(`{}`), Child: true}, {ID: c.alive, Kind: "k", Args: []byte(`{}`), Child: true}},
		Signals: []broker.Signal{{Name: "one", Value: []byte(`1`)}, {Name: "two"}}}
	if in.dueSet {
		first.Due = &broker.Due{Target: "end", In: hour, Most: 2 * hour}
	}
	s.apply(first)
	s.apply(broker.Report{Pair: s.lease(c.ended)[0], Seq: 1, Act: broker.Exit, Value: []byte(`"v"`)})
	c.pair = s.lease(c.self)[0]
	for _, m := range s.Waiting(c.self).Semaphores {
		c.semaphores = append(c.semaphores, m.ID)
	}
	if in.late {
		s.run(`update respirate.deadline set at = now() - interval '1 minute' where strand = $1`, [16]byte(c.self))
		s.run(`update respirate.strand set deadline = now() - interval '1 minute' where id = $1 and deadline is not null`, [16]byte(c.self))
	}
	if in.woken {
		s.Wake(c.self)
	}
	if in.cancelled {
		s.Cancel(c.self)
	}
	return c
}

// plot is a report as it is drawn, for whichever cast.
type plot struct {
	act                          broker.Act
	delay                        time.Duration
	label, kind                  string
	value, stack                 []byte
	insert, child, twice         bool
	signalTarget, quiet, self    bool
	signalParent, signalNobody   bool
	used, reaped, reapsTheLiving bool
	due                          *broker.Due
	frame                        int
}

func drawPlot(t *rapid.T) plot {
	yes := rapid.Bool()
	p := plot{
		act:    rapid.SampledFrom([]broker.Act{broker.Exit, broker.Nap, broker.Hop}).Draw(t, "act"),
		insert: yes.Draw(t, "insert"), child: yes.Draw(t, "child"), twice: yes.Draw(t, "twice"),
		signalTarget: yes.Draw(t, "signal target"), quiet: yes.Draw(t, "quiet"), self: yes.Draw(t, "signal itself"),
		signalParent: yes.Draw(t, "signal parent"), signalNobody: yes.Draw(t, "signal nobody"),
		used: yes.Draw(t, "used"), reaped: yes.Draw(t, "reaped"), reapsTheLiving: yes.Draw(t, "reaps the living"),
	}
	if p.act == broker.Exit {
		p.value = rapid.SampledFrom([][]byte{nil, []byte(`null`), []byte(`{"a":[1,"ü"]}`)}).Draw(t, "value")
		return p
	}
	p.delay = rapid.SampledFrom([]time.Duration{0, time.Minute, 3 * hour, 250 * 365 * 24 * hour}).Draw(t, "delay")
	p.stack = rapid.SampledFrom([][]byte{nil, []byte(`[{"a":1}]`)}).Draw(t, "stack")
	p.frame = rapid.IntRange(0, 1).Draw(t, "frame")
	if p.act == broker.Hop {
		p.label = rapid.SampledFrom([]string{"next", "end"}).Draw(t, "label")
		p.kind = rapid.SampledFrom([]string{"", "k", "other"}).Draw(t, "kind")
	}
	if yes.Draw(t, "due") {
		p.due = &broker.Due{
			Target: rapid.SampledFrom([]string{"end", "far"}).Draw(t, "target"),
			In:     rapid.SampledFrom([]time.Duration{0, time.Minute, 4 * hour}).Draw(t, "due in"),
			Most:   rapid.SampledFrom([]time.Duration{0, 3 * hour}).Draw(t, "at most"),
		}
	}
	return p
}

func (p plot) report(c *cast) broker.Report {
	r := broker.Report{Pair: c.pair, Seq: 1, Act: p.act, Delay: p.delay, Label: p.label, Kind: p.kind,
		Value: p.value, Stack: p.stack, Due: p.due, Frame: p.frame}
	if p.insert {
		in := broker.Insert{ID: c.made, Kind: "k", Args: []byte(`[1]`), Opts: []byte(`{"label":"l","in":7200}`), Child: p.child}
		r.Inserts = append(r.Inserts, in)
		if p.twice {
			in.Child = !in.Child
			r.Inserts = append(r.Inserts, in)
		}
	}
	if p.signalTarget {
		r.Signals = append(r.Signals, broker.Signal{ID: c.target, Name: "a", Value: []byte(`{"x":1}`), Quiet: p.quiet},
			broker.Signal{ID: c.target, Name: "b", Quiet: true})
	}
	if p.self {
		r.Signals = append(r.Signals, broker.Signal{Name: "mine"}, broker.Signal{ID: c.self, Name: "loud", Quiet: p.quiet})
	}
	if p.signalParent && c.parent != (broker.ID{}) {
		r.Signals = append(r.Signals, broker.Signal{ID: c.parent, Name: "up"})
	}
	if p.signalNobody {
		r.Signals = append(r.Signals, broker.Signal{ID: newID(), Name: "nobody"})
	}
	if p.used {
		r.Used = []int64{c.semaphores[0], 1 << 40}
	}
	if p.reaped {
		r.Reaped = []broker.ID{c.ended}
	}
	if p.reapsTheLiving {
		r.Reaped = append(r.Reaped, c.alive)
	}
	return r
}

// look is what has become of a cast, in a form that can be compared: times in minutes, ids by role. It is one query, since a
// test looks often.
func (s *subject) look(c *cast) string {
	s.t.Helper()
	var ids [][16]byte
	for _, id := range c.all() {
		ids = append(ids, id)
	}
	return c.roles().Replace(one[string](s, `
		select jsonb_pretty(jsonb_agg(jsonb_build_object(
			'row', (select to_jsonb(r) from (
				select l.kind, s.label, s.stack, s.lease > '-infinity' as leased, s.try, s.crashes, s.parent, s.children_left, s.cancel_at is not null as asked,
					case when s.lease > '-infinity' then 0 else round(extract(epoch from s.schedule - clock_timestamp()) / 60) end as due,
					coalesce(s.inbox, 0) as inbox, s.woken, s.seq,
					case when s.deadline = 'infinity' then 'all' else round(extract(epoch from s.deadline - clock_timestamp()) / 60)::text end as deadline
				from respirate.strand s join respirate.lane l using (lane) where s.id = u.id) r),
			'finished', (select jsonb_build_array(h.state, h.value) from respirate.history h where h.id = u.id),
			'semaphores', (select jsonb_agg(jsonb_build_array(m.name, m.value) order by m.id) from respirate.semaphore m where m.strand = u.id),
			'ended', (select jsonb_agg(jsonb_build_array(c.child, c.kind, c.state, c.value) order by c.ended_at, c.child)
				from respirate.child c where c.parent = u.id and c.state is not null),
			'left', (select count(*) from respirate.child c where c.parent = u.id and c.state is null),
			'deadlines', (select jsonb_agg(jsonb_build_array(d.frame, d.target, round(extract(epoch from d.at - clock_timestamp()) / 60),
				d.paged_at is not null) order by d.frame) from respirate.deadline d where d.strand = u.id),
			'pages', ( -- those of one moment are in no order
				select jsonb_agg(jsonb_build_array(p.frame, p.target, p.resolved_at is not null) order by p.frame, p.id)
				from respirate.page p where p.strand = u.id)
		) order by u.role)) from unnest($1::uuid[]) with ordinality u (id, role)`, ids))
}

// What becomes of a strand does not depend on who takes its step: the broker, or the worker in its own transaction.
func TestStepsAndReportsComeToTheSame(t *testing.T) {
	s := newSubject(t, migrated(t))
	rapid.Check(t, func(t *rapid.T) {
		yes := rapid.Bool()
		in := scene{yes.Draw(t, "child of another"), yes.Draw(t, "woken"), rapid.IntRange(0, 3).Draw(t, "cancelled") == 0,
			yes.Draw(t, "has a deadline"), yes.Draw(t, "late")}
		p := drawPlot(t)
		reported, taken := s.cast(in), s.cast(in)
		s.apply(p.report(reported))
		end, err := s.Step(p.report(taken))
		if err != nil {
			t.Fatalf("step: %v", err)
		}
		end(true)
		s.apply(broker.Report{Pair: taken.pair, Seq: 1, Act: broker.Own})
		if want, got := s.look(reported), s.look(taken); got != want {
			t.Fatalf("after a step:\n%s\nafter a report:\n%s", got, want)
		}
	})
}

// step calls the function in a transaction of its own that is given up.
func (s *subject) step(p broker.Pair, seq int, report string) error {
	tx := s.begin(pgx.TxOptions{}, `select`)
	defer tx.Rollback(s.t.Context())
	_, err := tx.Exec(s.t.Context(), `select respirate.step($1, $2, $3, $4::jsonb)`, [16]byte(p.ID), [16]byte(p.Token), seq, report)
	return err
}

func TestStepSaysWhatIsWrongWithIt(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	for report, want := range map[string]string{
		`[]`:                                         "report: [] is not a JSON object",
		`{}`:                                         "act: null is not exit, nap or hop",
		`{"act":"fail"}`:                             `act: "fail" is not exit, nap or hop`,
		`{"act":"exit","label":"x"}`:                 "label: does not go with exit",
		`{"act":"nap","chain":true}`:                 "chain: does not go with nap",
		`{"act":"nap","ms":-1}`:                      "ms: -1 is negative",
		`{"act":"hop"}`:                              "label: is empty",
		`{"act":"hop","label":"x","kind":""}`:        "kind: is empty",
		`{"act":"nap","stack":{}}`:                   "stack: {} is not a JSON array",
		`{"act":"nap","frame":-1}`:                   "frame: -1 is not between 0 and 2147483647",
		`{"act":"nap","due":{"target":"x"}}`:         `due: {"target": "x"} needs an ms, and neither may be negative`,
		`{"act":"nap","due":{"ms":1}}`:               "due.target: is empty",
		`{"act":"exit","enq":[{"kind":"k"}]}`:        "args: is missing",
		`{"act":"exit","sig":[{"name":""}]}`:         "name: is empty",
		`{"act":"exit","val":"` + megabyte + `"}`:    "val: is 1048577 bytes long, at most 1048576 are allowed",
		`{"act":"nap","stack":["` + megabyte + `"]}`: "stack: is 1048579 bytes long, at most 1048576 are allowed",
	} {
		err := s.step(p, 1, report)
		pg, ok := err.(*pgconn.PgError)
		if !ok || pg.Code != "22023" || pg.Message != want {
			t.Errorf("%.80s: got %v, want %s", report, err, want)
		}
	}
	if err := s.step(p, 1<<31, `{"act":"exit"}`); err == nil || !strings.Contains(err.Error(), "seq: 2147483648 is above 2147483647") {
		t.Errorf("a large seq: got %v", err)
	}
}

// megabyte is just too long as a JSON string.
var megabyte = strings.Repeat("x", 1<<20-1)

func TestStepNamesATokenThatIsNotCurrent(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	stranger := broker.Pair{ID: p.ID, Token: broker.Token(newID())}
	gone := broker.Pair{ID: newID(), Token: p.Token}
	for want, err := range map[string]error{
		"the token is not current":         s.step(stranger, 1, `{"act":"exit"}`),
		"there is no such strand any more": s.step(gone, 1, `{"act":"exit"}`),
		"step 0 has been taken already":    s.step(p, 0, `{"act":"exit"}`),
	} {
		pg, ok := err.(*pgconn.PgError)
		if !ok || pg.Code != tokenNotCurrent || !strings.HasSuffix(pg.Message, want) {
			t.Errorf("got %v, want %s: %s", err, tokenNotCurrent, want)
		}
	}
}

// A worker that is gone, and whose connection nobody ends, holds the strand for no longer than a minute.
func TestStepDoesNotLetItsTransactionIdle(t *testing.T) {
	s := newSubject(t, migrated(t))
	for _, c := range []struct{ set, want string }{{"0", "1min"}, {"1h", "1min"}, {"30s", "30s"}, {"1min", "1min"}} {
		p := s.lease(s.insert(""))[0]
		tx := s.begin(pgx.TxOptions{}, `set local idle_in_transaction_session_timeout = '`+c.set+`'`)
		if _, err := tx.Exec(t.Context(), `select respirate.step($1, $2, 1, '{"act":"exit"}')`, [16]byte(p.ID), [16]byte(p.Token)); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := tx.QueryRow(t.Context(), `show idle_in_transaction_session_timeout`).Scan(&got); err != nil || got != c.want {
			t.Errorf("with %s: got %s and error %v, want %s", c.set, got, err, c.want)
		}
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A step waits for who has its parent's row, but not for ever, and what its transaction has done so far is undone.
func TestStepWaitsForLocksForAMoment(t *testing.T) {
	s := newSubject(t, migrated(t))
	c := s.cast(scene{child: true})
	unlock := s.Lock(c.parent)
	err := s.step(c.pair, 1, `{"act":"exit"}`)
	unlock()
	if pg, ok := err.(*pgconn.PgError); !ok || pg.Code != "55P03" {
		t.Errorf("got %v, want the lock's timeout", err)
	}
	if err := s.step(c.pair, 1, `{"act":"exit"}`); err != nil {
		t.Errorf("once it is free: %v", err)
	}
}

// Deadlines and naps count from the step, however old the transaction is.
func TestStepCountsFromItsOwnTime(t *testing.T) {
	s := newSubject(t, migrated(t))
	p := s.lease(s.insert(""))[0]
	tx := s.begin(pgx.TxOptions{}, `select pg_sleep(1.5)`)
	before := s.now()
	_, err := tx.Exec(t.Context(), `select respirate.step($1, $2, 1, '{"act":"nap","ms":10000,"due":{"target":"x","ms":60000}}')`,
		[16]byte(p.ID), [16]byte(p.Token))
	if err := errors.Join(err, tx.Commit(t.Context())); err != nil {
		t.Fatal(err)
	}
	due := one[time.Time](s, `select schedule from respirate.strand where id = $1`, [16]byte(p.ID))
	deadline := one[time.Time](s, `select at from respirate.deadline where strand = $1`, [16]byte(p.ID))
	if due.Sub(before) < 10*time.Second || deadline.Sub(before) < time.Minute {
		t.Errorf("due %v and deadline %v after it began; want 10 s and a minute at least", due.Sub(before), deadline.Sub(before))
	}
}

func TestOutcomesAreForgottenAfterADay(t *testing.T) {
	s := newSubject(t, migrated(t))
	var pairs []broker.Pair
	for range 2 {
		p := s.lease(s.insert(""))[0]
		end, err := s.Step(broker.Report{Pair: p, Seq: 1, Act: broker.Nap})
		if err != nil {
			t.Fatal(err)
		}
		end(true)
		pairs = append(pairs, p)
	}
	s.run(`update respirate.outcome set at = now() - interval '25 h' where token = $1`, [16]byte(pairs[0].Token))
	s.run(`select respirate.maintain()`)
	if got := one[[16]byte](s, `select token from respirate.outcome`); got != [16]byte(pairs[1].Token) {
		t.Errorf("kept %x, want that of the younger one", got)
	}
	got, err := s.Commit(t.Context(), []broker.Report{{Pair: pairs[0], Seq: 1, Act: broker.Own}, {Pair: pairs[1], Seq: 1, Act: broker.Own}})
	if err != nil || got[0].State != broker.Dup || got[1].State != broker.Applied {
		t.Errorf("verdicts %+v and error %v, want dup and applied", got, err)
	}
}

func TestClientRoleMayTakeTheStepsItHasTheTokenOf(t *testing.T) {
	s, conn := client(t)
	p := s.lease(s.insert(""))[0]
	if _, err := conn.Exec(t.Context(), `select respirate.step($1, $2, 1, '{"act":"exit"}')`, [16]byte(p.ID), [16]byte(p.Token)); err != nil {
		t.Error(err)
	}
	for _, sql := range []string{`select * from respirate.outcome`, `insert into respirate.outcome (token, strand) values (gen_random_uuid(), gen_random_uuid())`,
		`select respirate.check_step('{}')`} {
		_, err := conn.Exec(t.Context(), sql)
		if pg, ok := err.(*pgconn.PgError); !ok || pg.Code != insufficientPrivilege {
			t.Errorf("%s: got %v, want it denied", sql, err)
		}
	}
}
