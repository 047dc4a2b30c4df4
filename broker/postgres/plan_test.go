package postgres_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker/postgres"
)

// carriers are the indexes that must carry each statement. Those without any call a function, whose own statements are
// in functionStatements, or touch no table that grows.
var carriers = map[string][]string{
	"announce":    nil,
	"attempt":     nil,
	"child_done":  nil,
	"children":    {"strand_pkey"},
	"deadlines":   nil,
	"exit":        {"strand_pkey"},
	"exit_bare":   {"strand_pkey"},
	"exit_few":    {"strand_pkey"},
	"fail":        {"strand_pkey"},
	"fingerprint": nil,
	"finish":      nil,
	"go_on":       {"strand_pkey"},
	"hop_lane":    nil,
	"inbox":       {"strand_pkey", "semaphore_pkey", "child_ended"},
	"insert":      nil,
	"join":        nil,
	"lane":        nil,
	"lanes":       {"strand_ready"},
	"lease":       {"strand_pkey"},
	"lease_free":  {"strand_pkey"},
	"leave":       nil,
	"lock":        {"strand_pkey"},
	"locked":      {"strand_pkey"},
	"maintain":    nil,
	"mixed":       nil,
	"page_again":  {"page_pkey"},
	"page_claim":  {"page_untold", "page_pkey"},
	"page_due":    {"page_shown"},
	"page_told":   {"page_pkey"},
	"orphans":     nil,
	"outcome":     {"outcome_pkey"},
	"pages":       nil,
	"forget":      nil,
	"held":        {"strand_ready"},
	"left":        {"strand_ready"},
	"presence":    nil,
	"present":     {"strand_pkey"},
	"renew":       {"strand_pkey"},
	"settle":      nil,
	"signal":      nil,
	"scan":        {"strand_ready"},
	"watch":       {"child_pkey"},
	"sweep":       {"strand_pkey"},
	"take":        {"strand_ready", "strand_pkey"},
	"taker":       nil,
	"tell":        nil,
	"xid":         nil,
}

// functionStatements are those inside the functions that statements call.
var functionStatements = map[string]struct {
	sql     string
	indexes []string
}{
	"respirate.finish": {`delete from respirate.strand s using unnest($1::uuid[]) r (id) where s.id = r.id`, []string{"strand_pkey"}},
	"respirate.tell": {`select from unnest($1::uuid[]) i (id)
		cross join lateral (select s.schedule, s.bucket from respirate.strand s where s.id = i.id limit 1) s
		where s.schedule < clock_timestamp() and s.bucket between 0 and 255`,
		[]string{"strand_pkey"}},
	"respirate.insert_strands": {`select n from unnest($1::uuid[]) n where not exists (select from respirate.history h where h.id = n)`,
		[]string{"history_"}},
	"respirate.insert_strands looks for children": {`select n from unnest($1::uuid[]) n, unnest($1::uuid[]) p
		where n is null or not exists (select from respirate.child c where c.parent = p and c.child = n)`, []string{"child_pkey"}},
	"respirate.finish tells": {`update respirate.child c set state = '' from unnest($1::uuid[]) e (id), unnest($1::uuid[]) p (id)
		where c.parent = p.id and c.child = e.id and p.id not in (select i from unnest($1::uuid[]) i)`, []string{"child_pkey"}},
	"respirate.finish forgets": {`delete from respirate.semaphore m using unnest($1::uuid[]) e (id) where m.strand = e.id`,
		[]string{"semaphore_pkey"}},
	"respirate.family": {`with recursive tree (id) as (select $1::uuid union
		select c.child from tree t join respirate.child c on c.parent = t.id where c.state is null) select * from tree`,
		[]string{"child_pkey"}},
	"respirate.settle": {`delete from respirate.semaphore m using unnest($1::uuid[], $2::bigint[]) r (strand, id)
		where m.strand = r.strand and m.id = r.id`, []string{"semaphore_pkey"}},
	"respirate.settle reaps": {`delete from respirate.child c using unnest($1::uuid[], $2::uuid[]) r (parent, child)
		where c.parent = r.parent and c.child = r.child and c.ended_at is not null`, []string{"child_pkey"}},
	"respirate.children_done": {`select c.parent, count(*), bool_or(c.watched and c.state <> 'done') from unnest($1::uuid[], $2::uuid[]) r (parent, child)
		join respirate.child c on c.parent = r.parent and c.child = r.child where c.ended_at is not null group by c.parent`,
		[]string{"child_pkey"}},
	"respirate.note_deadlines": {`update respirate.strand s set deadline = d.first from unnest($1::uuid[]) i (id)
		cross join lateral (select min(d.at) as first from respirate.deadline d where d.strand = i.id) d where s.id = i.id`,
		[]string{"deadline_pkey", "strand_pkey"}},
	"respirate.page_due": {`select d.strand from respirate.deadline d
		where d.paged_at is null and d.at <= clock_timestamp() order by d.at limit 1000`, []string{"deadline_at"}},
	"respirate.move_deadlines": {`update respirate.page p set why = '' from unnest($1::uuid[], $2::int[]) o (strand, frame)
		where p.strand = o.strand and p.frame = o.frame and p.resolved_at is null`, []string{"page_open"}},
	"respirate.drop_orphans": {`select m.ctid from respirate.semaphore m where m.strand = any ($1::uuid[])
		and not exists (select from respirate.strand s where s.id = m.strand) limit 10000`, []string{"semaphore_pkey", "strand_pkey"}},
	"respirate.drop_orphans looks for children": {`select c.ctid from respirate.child c where c.parent = any ($1::uuid[])
		and not exists (select from respirate.strand s where s.id = c.parent)
		and not exists (select from respirate.history h where h.id = c.parent and h.state = 'dead') limit 10000`, []string{"child_", "strand_pkey", "history_"}},
	"respirate.wake": {`update respirate.strand s set woken = true where s.id = $1::uuid`, []string{"strand_pkey"}},
}

// viewStatements are what others ask the views. Their plans are made when they are asked.
var viewStatements = map[string]struct {
	sql     string
	indexes []string
}{
	"respirate.strands by id":  {`select * from respirate.strands where id = $1::uuid`, []string{"strand_pkey"}},
	"respirate.finished by id": {`select * from respirate.finished where id = $1::uuid`, []string{"history_"}},
	"respirate.finished page": {`select * from respirate.finished where (finished_at, id) < ($1::timestamptz, $2::uuid) order by finished_at desc, id desc limit 50`,
		[]string{"history_"}},
	"respirate.audits by strand":    {`select * from respirate.audits where strand = $1::uuid order by id`, []string{"audit_strand"}},
	"respirate.pages that are open": {`select * from respirate.pages where resolved_at is null order by id desc limit 50`, []string{"page_shown"}},
	"respirate.attempts by strand":  {`select * from respirate.attempts where strand = $1::uuid order by at`, []string{"attempt_"}},
}

// fillings are the states of the tables that plans are made in. A plan lives on in its connection while a table that
// was empty when it was made fills up.
var fillings = map[string]string{
	"Fresh": `select`,
	"Full": `insert into respirate.semaphore (strand, name) select gen_random_uuid(), 'x' from generate_series(1, 20000);
		insert into respirate.child (parent, child, state, ended_at)
			select gen_random_uuid(), gen_random_uuid(), case when n % 2 = 0 then 'done' end, now() from generate_series(1, 20000) n;
		insert into respirate.deadline (strand, frame, target, at, first_at, kind)
			select gen_random_uuid(), 0, 'x', now() + n * interval '1 s', now(), 'k' from generate_series(1, 20000) n;
		insert into respirate.page (strand, frame, kind, target, due_at) select gen_random_uuid(), 0, 'k', 'x', now() from generate_series(1, 20000) n;
		insert into respirate.strand (id, lane, args, schedule)
		select gen_random_uuid(), respirate.lane('', 'q' || n % 10, 5, 'k' || n % 3), '{}', now() - n * interval '1 s' from generate_series(1, 50000) n;
		insert into respirate.history (id, finished_at, created_at, priority, try, max_tries, crashes, rescues, keep, tenant, queue, kind, label, state, args)
		select gen_random_uuid(), now() + n % 5 * interval '1 day', now(), 5, 0, 1, 0, 0, false, '', 'q', 'k', 'x', 'done', '{}' from generate_series(1, 20000) n;
		insert into respirate.attempt (strand, at, try, outcome, class, message, trace, worker, host, exit, stderr)
		select gen_random_uuid(), now() + n % 5 * interval '1 day', 0, 'failed', '', '', '', '', '', '', '' from generate_series(1, 20000) n`,
	"Left with one": `insert into respirate.strand (id, lane, args) select gen_random_uuid(), respirate.lane('', 'q', 5, 'k'), '{}' from generate_series(1, 1000) n;
		delete from respirate.strand where id <> (select id from respirate.strand limit 1)`,
	"Emptied": `insert into respirate.strand (id, lane, args) select gen_random_uuid(), respirate.lane('', 'q', 5, 'k'), '{}' from generate_series(1, 1000) n;
		delete from respirate.strand`,
}

func TestEveryStatementIsCarriedByItsIndex(t *testing.T) {
	if got := postgres.StatementNames(); len(got) != len(carriers) {
		t.Errorf("statements: got %d files, want the %d that this test knows", len(got), len(carriers))
	}
	for state, fill := range fillings {
		t.Run(state, func(t *testing.T) {
			url := migrated(t)
			newPoolSubject(t, url).run(`alter table respirate.strand set (autovacuum_enabled = off);` + fill) // or it may look at any moment
			conn, err := pgx.Connect(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			var setUp []string
			for name, value := range postgres.Essentials {
				setUp = append(setUp, `set `+name+` = '`+value+`'`)
			}
			if state != "Fresh" {
				setUp = append(setUp, `vacuum analyze`)
			}
			for _, sql := range setUp {
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			for name, indexes := range carriers {
				if !strings.HasPrefix(postgres.Statement(name), "-- ") {
					t.Errorf("%s: does not open with what it promises", name)
				}
				checkPlan(t, conn, name, postgres.Statement(name), indexes)
			}
			for name, f := range functionStatements {
				checkPlan(t, conn, name, f.sql, f.indexes)
			}
			for name, v := range viewStatements {
				if state == "Full" {
					checkPlan(t, conn, name, v.sql, v.indexes)
				}
			}
		})
	}
}

// scans are the lines of a plan that read a table.
// A line that joins by hashing reads one side whole.
var scans = regexp.MustCompile(`Seq Scan on (\w+)|Index (?:Only )?Scan(?: Backward)? using (\w+)|Bitmap Index Scan on (\w+)`)

func checkPlan(t *testing.T, conn *pgx.Conn, name, sql string, indexes []string) {
	t.Helper()
	text := genericPlan(t, conn, sql)
	if strings.Contains(text, "Hash Join") {
		t.Errorf("%s: reads all of a table to hash it:\n%s", name, text)
	}
	var used []string
	for _, m := range scans.FindAllStringSubmatch(text, -1) {
		if slices.Contains([]string{"strand", "semaphore", "child", "deadline", "page"}, m[1]) || strings.HasPrefix(m[1], "history_2") || strings.HasPrefix(m[1], "attempt_2") {
			t.Errorf("%s: reads all of %s:\n%s", name, m[1], text)
		}
		used = append(used, m[2]+m[3])
	}
	for _, index := range indexes {
		if !slices.ContainsFunc(used, func(u string) bool { return strings.HasPrefix(u, index) }) {
			t.Errorf("%s: got no use of %s:\n%s", name, index, text)
		}
	}
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// genericPlan is the plan that serves any parameters.
func genericPlan(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	count := 0
	for _, m := range parameter.FindAllStringSubmatch(sql, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		count = max(count, n)
	}
	args := ""
	if count > 0 {
		args = "(" + strings.TrimSuffix(strings.Repeat("null,", count), ",") + ")"
	}
	run := func(sql string) []*pgconn.Result {
		results, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		if err != nil {
			t.Fatalf("%.80s: %v", sql, err)
		}
		return results
	}
	run("prepare looked_at as " + sql)
	var plan strings.Builder
	for _, row := range run("explain execute looked_at" + args)[0].Rows {
		fmt.Fprintf(&plan, "%s\n", row[0])
	}
	run("deallocate looked_at")
	return plan.String()
}
