package postgres_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const insufficientPrivilege = "42501"

// client is a role with the rights of an application, and a connection as that role.
func client(t *testing.T) (s *subject, conn *pgx.Conn) {
	t.Helper()
	return clientOf(t, migrated(t))
}

func clientOf(t *testing.T, url string) (s *subject, conn *pgx.Conn) {
	t.Helper()
	s = newSubject(t, url)
	role := fmt.Sprintf("app_%x", newID())
	s.run(`create role ` + role)
	t.Cleanup(func() {
		if _, err := s.pool.Exec(cleanupContext(t), `drop owned by `+role+`; drop role `+role); err != nil {
			t.Error(err)
		}
	})
	s.run(`select respirate.grant_client($1::text::regrole)`, role)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(cleanupContext(t)) })
	if _, err := conn.Exec(t.Context(), `set role `+role); err != nil {
		t.Fatal(err)
	}
	return s, conn
}

func TestClientRoleCanInsertAndLook(t *testing.T) {
	s, conn := client(t)
	for _, sql := range []string{
		`select respirate.insert('a', '{"x":1}', '{"queue":"q","priority":2}')`,
		`select respirate.insert_many('{a,b}', '{1,2}')`,
		`select respirate.hint()`,
		`select respirate.signal(id, 'go', '1', false) from respirate.strands`,
		`select respirate.signal_many(array[gen_random_uuid()], '{go}')`,
		`select * from respirate.semaphores`, `select * from respirate.children`, `select * from respirate.deadlines`,
		`select * from respirate.pages`,
		`select respirate.wake(id), respirate.cancel(id), respirate.retry(id) from respirate.strands`,
		`select * from respirate.finished`, `select * from respirate.attempts`, `select * from respirate.queues`,
		`select * from respirate.brokers`, `select * from respirate.audits`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	var lane int32
	if err := conn.QueryRow(t.Context(), `select respirate.lane('t', 'q', 1, 'copied')`).Scan(&lane); err != nil {
		t.Fatal(err)
	}
	id := [16]byte(newID())
	n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"respirate", "strand"},
		[]string{"id", "lane", "args", "label", "max_tries", "keep", "tags", "metadata", "schedule"},
		pgx.CopyFromRows([][]any{{id, lane, `{}`, "two", 3, true, []string{"x"}, `{}`, s.now()}}))
	if err != nil || n != 1 {
		t.Fatalf("copy: got %d and error %v, want 1", n, err)
	}
	if got := s.scanned("copied"); len(got.Candidates) != 1 || [16]byte(got.Candidates[0].ID) != id {
		t.Errorf("scan of what was copied: got %+v", got)
	}
}

func TestClientRoleCanDoNothingElse(t *testing.T) {
	_, conn := client(t)
	if _, err := conn.Exec(t.Context(), `select respirate.insert('a')`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`insert into respirate.strand (id, lane, args, token) values (gen_random_uuid(), 1, '{}', gen_random_uuid())`,
		`insert into respirate.strand (id, lane, args, lease) values (gen_random_uuid(), 1, '{}', now())`,
		`insert into respirate.strand (id, lane, args, try) values (gen_random_uuid(), 1, '{}', 1)`,
		`insert into respirate.strand (id, lane, args, seq) values (gen_random_uuid(), 1, '{}', 1)`,
		`insert into respirate.strand (id, lane, args, crashes) values (gen_random_uuid(), 1, '{}', 1)`,
		`insert into respirate.strand (id, lane, args, parent) values (gen_random_uuid(), 1, '{}', gen_random_uuid())`,
		`insert into respirate.strand (id, lane, args, children_left) values (gen_random_uuid(), 1, '{}', 1)`,
		`insert into respirate.strand (id, lane, args, stack) values (gen_random_uuid(), 1, '{}', '[]')`,
		`insert into respirate.strand (id, lane, args) values (gen_random_uuid(), 1, '{}') returning token`,
		`update respirate.strand set token = null`, `update respirate.strand set try = 0`, `delete from respirate.strand`,
		`select token from respirate.strand`, `truncate respirate.strand`,
		`update respirate.queue set paused_at = now()`, `insert into respirate.lane (tenant, queue, priority, kind) values ('', '', 1, 'x')`,
		`delete from respirate.history`, `insert into respirate.attempt (strand) values (null)`, `update respirate.broker set busy = true`,
		`delete from respirate.queues`, `delete from respirate.brokers`,
		`select respirate.insert_strands(null, '{a}', '{1}', null, array[gen_random_uuid()])`,
		`select respirate.finish(null, null, null, null, null, null)`, `select respirate.child_done(null, 1)`,
		`select respirate.join_partition(gen_random_uuid(), '', 1, '', 0, 1, '1 s')`,
		`insert into respirate.semaphore (strand, name) values (gen_random_uuid(), 'x')`, `delete from respirate.child`,
		`update respirate.page set resolved_at = now()`, `delete from respirate.deadlines`, `select * from respirate.semaphore`,
		`insert into respirate.strand (id, lane, args, inbox) values (gen_random_uuid(), 1, '{}', 1)`,
		`insert into respirate.strand (id, lane, args, deadline) values (gen_random_uuid(), 1, '{}', now())`,
		`select respirate.send_signals(null, null, null, null)`, `select respirate.settle(null, null, null, null)`,
		`select respirate.page_due()`, `select respirate.open_pages(null)`, `select respirate.note_deadlines(null)`,
		`select respirate.move_deadlines(null, null, null, null, null, null, null)`, `select respirate.children_done(null, null)`,
		`select respirate.family(gen_random_uuid())`, `select respirate.check_signals(null, null)`, `select respirate.check_parents(null)`,
		`select respirate.maintain()`, `select respirate.drop_partitions('respirate.history', now())`,
		`select respirate.grant_client(current_user::regrole)`, `create table respirate.mine (x int)`,
		`create function respirate.mine() returns int language sql as 'select 1'`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		if pg, ok := err.(*pgconn.PgError); !ok || pg.Code != insufficientPrivilege {
			t.Errorf("%s: got %v, want it denied", sql, err)
		}
	}
}

// Someone who may make objects in a schema of the caller's search_path cannot have the owner's functions run them.
func TestPublicFunctionsDoNotTrustTheSearchPath(t *testing.T) {
	s, conn := client(t)
	s.run(`create schema trap; grant usage on schema trap to public;
		create function trap.clock_timestamp() returns timestamptz language plpgsql as $$begin raise exception 'trapped'; end$$;
		create function trap.same(text, text) returns boolean language plpgsql as $$begin raise exception 'trapped'; end$$;
		create operator trap.= (leftarg = text, rightarg = text, function = trap.same)`)
	if _, err := conn.Exec(t.Context(), `set search_path = trap, pg_catalog`); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`select respirate.insert('a', '{}', '{"queue":"q"}')`, `select respirate.insert_many('{a}', '{1}')`,
		`select respirate.lane('t', 'q', 1, 'k')`, `select respirate.hint()`,
		`select respirate.signal(id, 'go') from respirate.strands`,
		`select respirate.signal_many(array_agg(id), array_agg('go'::text)) from respirate.strands`,
		`select respirate.wake(id), respirate.cancel(id), respirate.retry(id) from respirate.strands`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
}
