package postgres

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/protocol"
)

// Commit implements [broker.Store]. The plain reports, which are nearly all, go in one round trip and one transaction:
// see plain. What these statements do not accept is looked at more closely in a second transaction: see look. Several
// reports of one strand are applied one after the other.
func (s *Store) Commit(ctx context.Context, reports []broker.Report) ([]broker.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := call(ctx)
	defer cancel()
	entries := make([]entry, len(reports))
	for i := range reports {
		entries[i].place, entries[i].report = i, &reports[i]
	}
	later := map[broker.ID]bool{} // whose report waits: so do those that follow it
	for _, round := range rounds(entries) {
		for _, e := range round {
			if later[e.report.ID] {
				e.verdict = broker.Verdict{State: broker.Later}
			}
		}
		err := s.commitRound(ctx, round)
		if err != nil {
			return nil, s.failed(err, "commit %d reports", len(reports))
		}
		for _, e := range round {
			if e.verdict.State == broker.Later {
				later[e.report.ID] = true
			}
		}
	}
	verdicts := make([]broker.Verdict, len(entries))
	for i := range entries {
		verdicts[i] = entries[i].verdict
	}
	return verdicts, nil
}

// entry is a report on its way to a verdict.
type entry struct {
	place   int // in the call
	report  *broker.Report
	bad     string         // why its content cannot be stored; "" = not known to be bad
	mail    bool           // its strand goes on, and something may wait for it
	own     bool           // its worker has taken the step in a transaction of its own
	verdict broker.Verdict // zero = none yet
}

func (e *entry) open() bool { return e.verdict.State == 0 }

// rounds splits reports so that no strand is twice in one round, and orders each by id, as all who lock several do.
func rounds(entries []entry) [][]*entry {
	var all [][]*entry
	seen := make(map[broker.ID]int, len(entries))
	for i := range entries {
		e := &entries[i]
		n := seen[e.report.ID]
		seen[e.report.ID]++
		if n == len(all) {
			all = append(all, nil)
		}
		all[n] = append(all[n], e)
	}
	for _, round := range all {
		slices.SortFunc(round, func(a, b *entry) int { return bytes.Compare(a.report.ID[:], b.report.ID[:]) })
	}
	return all
}

func (s *Store) commitRound(ctx context.Context, round []*entry) error {
	if err := s.findOwn(ctx, round); err != nil {
		return err
	}
	var plain []*entry
	wary := s.blocked.wary(commits, time.Now())
	for _, e := range round {
		e.bad = checkReport(e.report)
		if e.open() && e.bad == "" && !wary && isPlain(e.report) && !s.blocked.has(e.report.ID) {
			plain = append(plain, e)
		}
	}
	// Where a row is locked, the closer look finds out which, without waiting.
	err := s.isolate(ctx, plain, s.commitPlain)
	switch {
	case contention(err):
		s.blocked.waited(commits, time.Now())
	case err != nil:
		return err
	}
	// Those that had to wait the last time come last, and hardly wait again: then they hold up no other.
	for _, waited := range []bool{false, true} {
		some := slices.DeleteFunc(slices.Clone(round), func(e *entry) bool { return !e.open() || s.blocked.has(e.report.ID) != waited })
		commit := s.commitLooked
		if waited {
			commit = s.commitAgain
		}
		if err := s.lookAt(ctx, some, commit); err != nil {
			return err
		}
	}
	for _, e := range round {
		s.blocked.note(e.report.ID, e.verdict.State == broker.Later)
	}
	return s.addInboxes(ctx, round)
}

// lookAt commits entries that need a closer look. That waits for no row of a strand, but what a report inserts may have to wait
// for somebody else: for the end of one who inserts the same id, or makes the same lane. Entries are halved until one that waits
// in vain is alone: it is for later.
func (s *Store) lookAt(ctx context.Context, entries []*entry, commit func(context.Context, []*entry) error) error {
	err := s.isolate(ctx, entries, commit)
	if !contention(err) {
		return err
	}
	entries = slices.DeleteFunc(slices.Clone(entries), func(e *entry) bool { return !e.open() })
	if len(entries) == 1 {
		entries[0].verdict = broker.Verdict{State: broker.Later}
		return nil
	}
	half := len(entries) / 2
	if err := s.lookAt(ctx, entries[:half], commit); err != nil {
		return err
	}
	return s.lookAt(ctx, entries[half:], commit)
}

// addInboxes adds what waits for the strands that go on. It reads that after the commit: whatever has come by then is in it, or
// is heard at the next nap.
func (s *Store) addInboxes(ctx context.Context, round []*entry) error {
	var ids uuids
	for _, e := range round {
		if e.verdict.Stays && e.mail {
			ids = append(ids, e.report.ID)
		}
	}
	if ids == nil {
		return nil
	}
	inboxes, err := s.inboxes(ctx, ids)
	for _, e := range round {
		if e.verdict.Stays {
			e.verdict.Inbox = inboxes[e.report.ID]
		}
	}
	return err
}

// isolate commits entries, and where the data of one is bad halves them until that one is alone. Whether that makes it
// invalid is for the closer look to say: a stale report is stale, whatever it holds.
func (s *Store) isolate(ctx context.Context, entries []*entry, commit func(context.Context, []*entry) error) error {
	if len(entries) == 0 {
		return nil
	}
	err := retried(ctx, func() error { return commit(ctx, entries) })
	switch {
	case !badData(err):
		return err
	case len(entries) == 1 && entries[0].bad == "":
		entries[0].bad = dataError(err)
		return s.isolate(ctx, entries, s.commitLooked)
	case len(entries) == 1:
		return err
	}
	half := len(entries) / 2
	if err := s.isolate(ctx, entries[:half], commit); err != nil {
		return err
	}
	return s.isolate(ctx, entries[half:], commit)
}

// retried repeats what failed only because two transactions were in each other's way.
func retried(ctx context.Context, do func() error) error {
	const tries = 3
	for try := 1; ; try++ {
		err := do()
		if state := sqlState(err); try == tries || state != serializationFailure && state != deadlockDetected {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
}

// isPlain says that a report touches no row but its strand's own, if that has no parent and nobody wants its end.
func isPlain(r *broker.Report) bool {
	if hasEffects(r) {
		return false
	}
	switch r.Act {
	case broker.Exit, broker.Nap, broker.Release, broker.Save, broker.Yield, broker.Crash:
		return true
	case broker.Hop:
		return r.Kind == ""
	case broker.Fail:
		return !r.Final
	}
	return false
}

// hasEffects says that a report brings more along than what becomes of its strand.
func hasEffects(r *broker.Report) bool {
	return len(r.Inserts) > 0 || len(r.Signals) > 0 || len(r.Used) > 0 || len(r.Reaped) > 0 || r.Due != nil
}

// maxJSON is how many bytes a stack or a value may have as Postgres prints it, like the args of an insert. Numbers such as
// 1e131071 are short in JSON and on disk, but too many of them make a row that nobody can read.
const maxJSON = 1 << 20

// checkReport says what the database would not notice; "" = nothing.
func checkReport(r *broker.Report) (why string) {
	if r.Seq > math.MaxInt32 {
		return fmt.Sprintf("seq: %d is above %d", r.Seq, math.MaxInt32)
	}
	if r.Act == broker.Hop {
		if why := checkName(r.Label); why != "" {
			return "label: " + why
		}
		if why := checkName(r.Kind); r.Kind != "" && why != "" {
			return "kind: " + why
		}
	}
	if stack := bytes.TrimLeft(r.Stack, " \t\r\n"); r.Stack != nil && (len(stack) == 0 || stack[0] != '[') {
		return fmt.Sprintf("stack: %.40q is not a JSON array", r.Stack)
	}
	if err := protocol.LongJSON(stackOf(r), maxJSON); err != nil {
		return "stack: " + err.Error()
	}
	if err := protocol.LongJSON(valueOf(r), maxJSON); err != nil {
		return "value: " + err.Error()
	}
	for i, in := range r.Inserts {
		if why := checkName(in.Kind); why != "" {
			return fmt.Sprintf("insert %d: kind: %s", i, why)
		}
	}
	for i := range r.Signals {
		if why := checkSignal(&r.Signals[i]); why != "" {
			return fmt.Sprintf("signal %d: %s", i, why)
		}
	}
	if r.Due != nil {
		if why := checkName(r.Due.Target); why != "" {
			return "due: target: " + why
		}
	}
	if r.Frame < 0 || r.Frame > math.MaxInt32 {
		return fmt.Sprintf("frame: %d is not between 0 and %d", r.Frame, math.MaxInt32)
	}
	return ""
}

// checkName refuses what the names of kinds and labels may not be.
func checkName(name string) (why string) {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 255:
		return fmt.Sprintf("is %d bytes long, at most 255 are allowed", len(name))
	case !utf8.ValidString(name):
		return fmt.Sprintf("%.40q is not valid UTF-8", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("%.40q has a control character", name)
	}
	return ""
}

// commitPlain applies plain reports in one transaction and one round trip. What the statements do not return stays open.
func (s *Store) commitPlain(ctx context.Context, entries []*entry) error {
	batch := newPlainBatch(s, entries)
	applied := make(map[broker.ID]bool, len(entries))
	results := s.pool.SendBatch(ctx, &batch.Batch)
	err := batch.readIDs(results, 0, batch.Len(), applied)
	if closing := results.Close(); err == nil {
		err = closing
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if mail, ok := applied[e.report.ID]; ok {
			e.verdict = broker.Verdict{State: broker.Applied, Stays: stays(e.report)}
			e.mail = mail
		}
	}
	return nil
}

// readIDs collects the ids that the first statements return, apart from the very first, which are silent. With each is what
// go_on.sql tells beside: whether something waits for it.
func (b *plainBatch) readIDs(results pgx.BatchResults, silent, first int, into map[broker.ID]bool) error {
	for range silent {
		if _, err := results.Exec(); err != nil {
			return err
		}
	}
	var id [16]byte
	for i := silent; i < first; i++ {
		var mail bool
		columns := []any{&id}
		if i == b.living {
			columns = append(columns, &mail)
		}
		rows, _ := results.Query() // its error is the rows', too
		_, err := pgx.ForEachRow(rows, columns, func() error {
			into[id] = mail
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// plainBatch is the statements of a commit. Sent at once they are one transaction.
type plainBatch struct {
	pgx.Batch
	sql    statements
	host   string
	living int // the place of go_on.sql, if it is there
}

func newBatch(sql statements, host string) *plainBatch {
	return &plainBatch{sql: sql, host: host, living: -1}
}

func newPlainBatch(s *Store, entries []*entry) *plainBatch {
	b := newBatch(s.sql, s.host())
	exits, fails, others := sortActs(entries)
	b.exits(exits, s.lanes)
	b.goOn(others, nil, false)
	b.fails(fails)
	return b
}

// sortActs tells the statements apart that reports go to.
func sortActs(entries []*entry) (exits, fails, others []*entry) {
	for _, e := range entries {
		switch e.report.Act {
		case broker.Exit:
			exits = append(exits, e)
		case broker.Fail, broker.Crash:
			fails = append(fails, e)
		default:
			others = append(others, e)
		}
	}
	return exits, fails, others
}

func (b *plainBatch) queue(name string, args ...any) { b.Queue(b.sql.get(name), args...) }

// exits queues the ends of strands.
func (b *plainBatch) exits(entries []*entry, known *lanes) {
	if len(entries) == 0 {
		return
	}
	ids, tokens, seqs := fenceColumns(entries)
	if bare := known.withoutHistory(); bare != nil {
		b.queue("exit_bare", ids, tokens, seqs, bare)
		return
	}
	name := "exit"
	if known.few() {
		name = "exit_few"
	}
	b.queue(name, ids, tokens, seqs, column(entries, func(r *broker.Report) []byte { return r.Value }))
}

// goOn queues the reports after which strands live on. lanes are where hops to another kind lead; nil = there are none. looked
// says that deadlines have been seen to.
func (b *plainBatch) goOn(entries []*entry, lanes map[broker.ID]int32, looked bool) {
	if len(entries) == 0 {
		return
	}
	ids, tokens, seqs := fenceColumns(entries)
	b.living = b.Len()
	b.queue("go_on", ids, tokens, seqs,
		column(entries, rests),
		column(entries, func(r *broker.Report) bool { return r.Act == broker.Yield }),
		column(entries, func(r *broker.Report) bool { return r.Act == broker.Save || stays(r) }),
		column(entries, func(r *broker.Report) int64 { return max(r.Delay, 0).Microseconds() }),
		column(entries, func(r *broker.Report) *string { return textIf(r.Act == broker.Hop, r.Label) }),
		column(entries, func(r *broker.Report) *int32 {
			if lane, ok := lanes[r.ID]; ok {
				return &lane
			}
			return nil
		}),
		column(entries, stackOf),
		looked)
}

// rests says that a report is progress: the strand comes to another label, or waits at its own.
func rests(r *broker.Report) bool { return r.Act == broker.Nap || r.Act == broker.Hop }

// stays says that a strand asks to run on after such a report.
func stays(r *broker.Report) bool { return r.Stay && rests(r) }

// fails queues the failures that strands survive.
func (b *plainBatch) fails(entries []*entry) {
	if len(entries) == 0 {
		return
	}
	ids, tokens, seqs := fenceColumns(entries)
	args := []any{ids, tokens, seqs,
		column(entries, func(r *broker.Report) bool { return r.Act == broker.Crash }),
		column(entries, func(r *broker.Report) bool { return r.Act == broker.Fail || r.Guilty }),
		column(entries, func(r *broker.Report) *int64 {
			if r.Delay < 0 {
				return nil
			}
			us := r.Delay.Microseconds()
			return &us
		}),
		column(entries, stackOf)}
	b.queue("fail", append(append(args, failureColumns(entries)...), b.host)...)
}

// stackOf is the stack that a report stores; nil = none.
func stackOf(r *broker.Report) []byte {
	switch r.Act {
	case broker.Nap, broker.Hop, broker.Fail, broker.Save:
		return r.Stack
	}
	return nil
}

// failureColumns are class, message, trace, worker, exit, stderr, memory and CPU; null where there is no failure, or nobody
// knows.
func failureColumns(entries []*entry) []any {
	text := func(get func(*broker.Failure) string, most int) []*string {
		return column(entries, func(r *broker.Report) *string {
			if r.Failure == nil {
				return nil
			}
			return textIf(true, clip(clean(get(r.Failure)), most))
		})
	}
	used := func(get func(*broker.Failure) int64) []*int64 {
		return column(entries, func(r *broker.Report) *int64 {
			if r.Failure == nil || get(r.Failure) == 0 {
				return nil
			}
			n := get(r.Failure)
			return &n
		})
	}
	return []any{
		text(func(f *broker.Failure) string { return f.Class }, 255),
		text(func(f *broker.Failure) string { return f.Message }, 4<<10),
		text(func(f *broker.Failure) string { return f.Trace }, 64<<10),
		text(func(f *broker.Failure) string { return f.Worker }, 255),
		text(func(f *broker.Failure) string { return f.Exit }, 255),
		text(func(f *broker.Failure) string { return f.Stderr }, 64<<10),
		used(func(f *broker.Failure) int64 { return f.MaxRSS }),
		used(func(f *broker.Failure) int64 { return f.CPU.Milliseconds() }),
	}
}

// clip cuts a text to a number of bytes, at the border of a character.
func clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

func textIf(given bool, text string) *string {
	if !given {
		return nil
	}
	return &text
}

// fenceColumns are the columns that every statement on reports begins with.
func fenceColumns(entries []*entry) (ids, tokens uuids, seqs []int32) {
	ids, tokens, seqs = make(uuids, len(entries)), make(uuids, len(entries)), make([]int32, len(entries))
	for i, e := range entries {
		ids[i], tokens[i], seqs[i] = e.report.ID, e.report.Token, int32(e.report.Seq)
	}
	return ids, tokens, seqs
}

func column[T any](entries []*entry, get func(*broker.Report) T) []T {
	values := make([]T, len(entries))
	for i, e := range entries {
		values[i] = get(e.report)
	}
	return values
}
