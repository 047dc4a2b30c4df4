package worker

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/protocol"
)

// The transactions of both libraries will do.
var (
	_ = func(ctx context.Context, tx pgx.Tx) (Outcome, error) { return CommitTx(ctx, tx, Exit(nil)) }
	_ = func(ctx context.Context, tx *sql.Tx) (Outcome, error) { return CommitSQLTx(ctx, tx, Exit(nil)) }
)

// fakeTx is a transaction as both libraries have them, of which nothing comes.
type fakeTx struct {
	refuse, fail error // of the statement, of the COMMIT
	sql          string
	args         []any
	commits      int
}

func (tx *fakeTx) ExecContext(_ context.Context, sql string, args ...any) (struct{}, error) {
	tx.sql, tx.args = sql, args
	return struct{}{}, tx.refuse
}

func (tx *fakeTx) Commit() error {
	tx.commits++
	return tx.fail
}

// codedError is an error of a server.
type codedError string

func (e codedError) Error() string    { return "the server says " + string(e) }
func (e codedError) SQLState() string { return string(e) }

// tally is a kind of two labels.
type tally struct{ N int }

func (tally) Kind() string { return "tally" }

// tallyStrand is one that a broker hands out.
func tallyStrand() protocol.Strand {
	return protocol.Strand{ID: someID, Token: otherID, Kind: "tally", Label: StartLabel, Args: []byte(`{}`), Try: 1}
}

// runOwn runs a label of a program.
func runOwn(t *testing.T, strand *protocol.Strand, seq uint64, label Label[tally]) (result protocol.Result) {
	t.Helper()
	mux := NewMux()
	AddProg(mux, Prog[tally]{Labels: map[string]Label[tally]{"start": label, "next": label}})
	h := &handler{programs: mux.programs, schema: "respirate", log: slog.New(slog.DiscardHandler)}
	h.work(t.Context(), start{strand, seq}, func(r *protocol.Result) { result = *r })
	return result
}

func TestCommitTxStoresTheOutcomeWithAllThatTheRunHasDone(t *testing.T) {
	tx := &fakeTx{}
	strand := tallyStrand()
	strand.Inbox = &protocol.Inbox{Semaphores: []protocol.Semaphore{{ID: 7, Name: "go"}}, Ended: []protocol.Ended{{Strand: strand.ID, Kind: "k", State: "done"}}}
	other := protocol.NewID()
	var child string
	result := runOwn(t, &strand, 3, func(ctx context.Context, s *Strand[tally]) (Outcome, error) {
		var err error
		if child, err = BudWatched(ctx, tally{5}, &InsertOpts{Queue: "q"}); err != nil {
			return Outcome{}, err
		}
		s.Take("go")
		s.Reap(ReapOpts{FallThrough: true})
		err = errors.Join(SignalMany(ctx, []SignalParams{{ID: other, Name: "hello", Value: 1, Quiet: true}}), s.Incr("mine", nil), s.RegisterDeadline("next", time.Second))
		if err != nil {
			return Outcome{}, err
		}
		return CommitSQLTx(ctx, tx, Hop("next").With(tally{9}).After(time.Minute))
	})
	if d := cmp.Diff(protocol.Result{Act: protocol.ActOwn}, result); d != "" || tx.commits != 1 {
		t.Errorf("%d commits, result (-want +got):\n%s", tx.commits, d)
	}
	if tx.sql != `select "respirate".step($1::text::uuid, $2::text::uuid, $3::text::bigint, $4::text::jsonb)` {
		t.Errorf("statement %s", tx.sql)
	}
	if d := cmp.Diff([]any{strand.ID, strand.Token, "3"}, tx.args[:3]); d != "" {
		t.Errorf("arguments (-want +got):\n%s", d)
	}
	var got, want any
	if err := json.Unmarshal([]byte(tx.args[3].(string)), &got); err != nil {
		t.Fatal(err)
	}
	text := `{"act":"hop","label":"next","ms":60000,"stack":[{"N":9}],"enq":[{"key":"` + child + `","kind":"tally","args":{"N":5},"opts":{"queue":"q"},"child":true,"watch":true}],
		"sig":[{"s":"` + other + `","name":"hello","val":1,"quiet":true},{"name":"mine"}],"used":[7],"reap":["` + strand.ID + `"],"due":{"target":"next","ms":1000,"most_ms":0}}`
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
}

func TestCommitTxIsTheEndOfItsRun(t *testing.T) {
	strand := tallyStrand()
	result := runOwn(t, &strand, 1, func(ctx context.Context, s *Strand[tally]) (Outcome, error) {
		if _, err := CommitSQLTx(ctx, &fakeTx{}, Exit(nil)); err != nil {
			return Outcome{}, err
		}
		if _, err := Insert(ctx, tally{1}, nil); err == nil || !strings.Contains(err.Error(), "has called CommitTx") {
			t.Errorf("insert afterwards: error %v", err)
		}
		if _, err := CommitSQLTx(ctx, &fakeTx{}, Exit(nil)); err == nil || !strings.Contains(err.Error(), "has committed its outcome already") {
			t.Errorf("a second one: error %v", err)
		}
		return Outcome{}, errors.New("too late")
	})
	if d := cmp.Diff(protocol.Result{Act: protocol.ActOwn}, result); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
}

func TestCommitTxTellsWhetherItHasCommitted(t *testing.T) {
	lost := errors.New("reset by peer")
	for name, c := range map[string]struct {
		tx      fakeTx
		act     string
		wait    bool   // before it is due again
		is      error  // the error wraps
		message string // of the error or of the failure that the broker gets
	}{
		"committed":                  {act: protocol.ActOwn},
		"no answer":                  {tx: fakeTx{fail: lost}, act: protocol.ActOwn, message: "commit: reset by peer"},
		"the server stops":           {tx: fakeTx{fail: codedError("57P01")}, act: protocol.ActOwn, message: "commit: the server says 57P01"},
		"nobody knows":               {tx: fakeTx{fail: codedError("40003")}, act: protocol.ActOwn, message: "commit: the server says 40003"},
		"refused at the commit":      {tx: fakeTx{fail: codedError("23505")}, act: protocol.ActFail, message: "23505"},
		"undone at the commit":       {tx: fakeTx{fail: codedError("40001")}, act: protocol.ActRelease, wait: true, message: "in the way"},
		"the token is not current":   {tx: fakeTx{refuse: codedError("RS001")}, act: protocol.ActRelease, is: ErrLeaseLost, message: "RS001"},
		"a lock":                     {tx: fakeTx{refuse: codedError("55P03")}, act: protocol.ActRelease, wait: true, message: "in the way"},
		"another database":           {tx: fakeTx{refuse: codedError("42883")}, act: protocol.ActFail, message: "set RESPIRATE_SCHEMA"},
		"another schema":             {tx: fakeTx{refuse: codedError("3F000")}, act: protocol.ActFail, message: "set RESPIRATE_SCHEMA"},
		"a role without rights":      {tx: fakeTx{refuse: codedError("42501")}, act: protocol.ActFail, message: "grant_client"},
		"a transaction that is over": {tx: fakeTx{refuse: codedError("25P02")}, act: protocol.ActFail, message: "has failed before"},
		"the connection is gone":     {tx: fakeTx{refuse: lost}, act: protocol.ActFail, message: "reset by peer"},
	} {
		strand := tallyStrand()
		var failure error
		result := runOwn(t, &strand, 1, func(ctx context.Context, s *Strand[tally]) (o Outcome, err error) {
			o, err = CommitSQLTx(ctx, &c.tx, Exit(nil))
			if failure = err; err != nil {
				if _, err := Insert(ctx, tally{1}, nil); err != nil {
					t.Errorf("%s: insert, as the run is not over: %v", name, err)
				}
			}
			return o, err
		})
		message := ""
		if failure != nil {
			message = failure.Error()
		} else if result.Failure != nil {
			message = result.Failure.Message
		}
		if result.Act != c.act || (result.DelayMS != nil) != c.wait || !strings.Contains(message, c.message) || (message == "") != (c.message == "") {
			t.Errorf("%s: %s %+v, message %q; want %s and %q", name, result.Act, result, message, c.act, c.message)
		}
		if c.is != nil && !errors.Is(failure, c.is) {
			t.Errorf("%s: error %v is not %v", name, failure, c.is)
		}
		if wantCommit := c.tx.refuse == nil; (c.tx.commits == 1) != wantCommit {
			t.Errorf("%s: %d commits", name, c.tx.commits)
		}
	}
}

func TestCommitTxStoresNothingThatIsWrong(t *testing.T) {
	ended, cancel := context.WithCancelCause(t.Context())
	cancel(ErrTimeout)
	if _, err := CommitSQLTx(t.Context(), &fakeTx{}, Exit(nil)); err == nil || !strings.Contains(err.Error(), "not that of a running handler") {
		t.Errorf("outside of a handler: error %v", err)
	}
	for want, do := range map[string]func(ctx context.Context, s *Strand[tally], tx *fakeTx) (Outcome, error){
		"neither an outcome nor an error": func(ctx context.Context, s *Strand[tally], tx *fakeTx) (Outcome, error) {
			return CommitSQLTx(ctx, tx, Outcome{})
		},
		`no label "nowhere"`: func(ctx context.Context, s *Strand[tally], tx *fakeTx) (Outcome, error) {
			return CommitSQLTx(ctx, tx, Hop("nowhere"))
		},
		"encode the exit value": func(ctx context.Context, s *Strand[tally], tx *fakeTx) (Outcome, error) {
			return CommitSQLTx(ctx, tx, Exit(func() {}))
		},
		ErrTimeout.Error(): func(ctx context.Context, s *Strand[tally], tx *fakeTx) (Outcome, error) {
			e, err := envOf(ctx)
			if err != nil {
				return Outcome{}, err
			}
			e.Context = ended
			return CommitSQLTx(e, tx, Exit(nil))
		},
	} {
		tx, strand := &fakeTx{}, tallyStrand()
		result := runOwn(t, &strand, 1, func(ctx context.Context, s *Strand[tally]) (Outcome, error) { return do(ctx, s, tx) })
		if result.Act != protocol.ActFail || !strings.Contains(result.Failure.Message, want) || tx.sql != "" || tx.commits != 0 {
			t.Errorf("result %+v after %q and %d commits; want none, and a failure that says %q", result, tx.sql, tx.commits, want)
		}
	}
}
