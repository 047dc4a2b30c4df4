package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

// insertFlags are those of one `respirated insert`.
type insertFlags struct {
	client.InsertOpts
	at       string
	in       time.Duration
	metadata string
	file     string
	wait     bool
	timeout  time.Duration
	json     *bool
}

func insertCommand(s *settings) *cobra.Command {
	var f insertFlags
	cmd := &cobra.Command{
		Use:   "insert (KIND [ARGS-JSON] | --file FILE)",
		Short: "Insert strands",
		Long: `Insert a strand and print its id, or with --wait what it exits with.

With --file, insert many: a line of the file (- = standard input) is a JSON object with the keys kind, args and opts,
which mean what they mean to the SQL function respirate.insert. All are inserted in one transaction, or none: a line
that is no good is named by its number and field. The flags then are the defaults of lines that do not say otherwise.

The keys of opts: id, queue, tenant, priority, at, in, max_tries, label, tags, metadata, keep, require_kind.

Exit codes: 0 inserted (with --wait: done), 1 failed, 2 called in a wrong way, 4 --timeout is over, 5 the strand ended
dead or cancelled.`,
		Example: `  respirated insert echo '{"text": "hello"}' --wait
  respirated insert report '{"month": 11}' --queue slow --in 10m --tag monthly
  respirated insert --file strands.ndjson
  generate | respirated insert --file - --queue import`,
		Args: takes(cobra.MaximumNArgs(2)),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.check(args); err != nil {
			return usage(err)
		}
		if f.MaxTries == 0 && cmd.Flags().Changed("max-tries") {
			return usage(errors.New("--max-tries 0 is not between 1 and 32767"))
		}
		if f.Priority == 0 && cmd.Flags().Changed("priority") {
			return usage(errors.New("--priority 0 is not between 1 and 9"))
		}
		return s.withDatabase(cmd.Context(), f.defaults(), func(db *database) error {
			clock := sync.OnceValues(func() (time.Time, error) { return db.now(cmd.Context()) })
			if err := f.schedule(clock); err != nil {
				return err
			}
			if f.file != "" {
				return f.insertFile(cmd, db, clock)
			}
			return f.insertOne(cmd, s, db, args)
		})
	}
	return cmd
}

func (f *insertFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.ID, "id", "", "`UUID` of the strand; one that exists already is left as it is (default random)")
	flags.StringVar(&f.Queue, "queue", "", "`NAME` of the queue (default default)")
	flags.StringVar(&f.Tenant, "tenant", "", "`NAME` of the tenant")
	flags.IntVar(&f.Priority, "priority", 0, "1 (first) to 9 (last) (default 5)")
	flags.StringVar(&f.at, "at", "", "not before this `TIME`, such as 2026-11-22T15:04:05Z")
	flags.DurationVar(&f.in, "in", 0, "not before this time has passed, such as 90s or 2h")
	flags.IntVar(&f.MaxTries, "max-tries", 0, "failures after which it is dead (default 25)")
	flags.StringVar(&f.Label, "label", "", "`NAME` of the label to start at (default start)")
	flags.StringArrayVar(&f.Tags, "tag", nil, "`TAG` for people, and for SQL that looks for it; may be repeated")
	flags.StringVar(&f.metadata, "metadata", "", "`JSON` object that travels with the strand")
	flags.BoolVar(&f.RequireKind, "require-kind", false, "refuse it unless a worker serves its kind now")
	flags.BoolVar(&f.wait, "wait", false, "wait until it has finished, and print what it exited with")
	flags.DurationVar(&f.timeout, "timeout", 0, "the longest --wait (default no end)")
	flags.StringVar(&f.file, "file", "", "insert the strands of this `FILE`, a JSON object on each line; - = standard input")
	f.json = addJSON(cmd)
}

// check refuses what does not go together.
func (f *insertFlags) check(args []string) error {
	switch {
	case f.file == "" && len(args) == 0:
		return errors.New("say what to insert: a KIND, or --file")
	case f.file != "" && (len(args) > 0 || f.wait || f.ID != ""):
		return errors.New("--file goes without KIND, ARGS, --wait and --id")
	case f.timeout != 0 && !f.wait:
		return errors.New("--timeout is for --wait")
	case f.timeout < 0:
		return fmt.Errorf("--timeout %v is negative", f.timeout)
	case f.in < 0:
		return fmt.Errorf("--in %v is negative", f.in)
	case f.at != "" && f.in != 0:
		return errors.New("--at goes without --in")
	}
	if f.at != "" {
		var err error
		if f.ScheduledAt, err = time.Parse(time.RFC3339, f.at); err != nil {
			return fmt.Errorf("--at %.40q is not a time such as 2026-11-22T15:04:05Z", f.at)
		}
	}
	if f.metadata != "" {
		f.Metadata = json.RawMessage(f.metadata)
	}
	f.Keep = f.wait
	return nil
}

// defaults are what the lines of a file get. A single strand has its options of its own, an id among them.
func (f *insertFlags) defaults() client.InsertOpts {
	if f.file == "" {
		return client.InsertOpts{}
	}
	return f.InsertOpts
}

// dbClock tells when this verb began, by the database's clock. It asks once, and only if somebody wants to know.
type dbClock = func() (time.Time, error)

// schedule turns --in into a time.
func (f *insertFlags) schedule(clock dbClock) error {
	if f.in == 0 {
		return nil
	}
	now, err := clock()
	f.ScheduledAt = now.Add(f.in)
	return err
}

func (f *insertFlags) insertOne(cmd *cobra.Command, s *settings, db *database, args []string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	raw := client.RawArgs{Name: args[0]}
	if len(args) > 1 {
		raw.JSON = json.RawMessage(args[1])
	}
	inserted, err := db.Insert(ctx, raw, &f.InsertOpts)
	var bad *client.InsertError
	switch {
	case errors.As(err, &bad) && unserved(bad):
		return fmt.Errorf("%s: start a worker that does, or insert it without --require-kind", bad.Why)
	case errors.As(err, &bad):
		return usage(fmt.Errorf("%s %s", flagOf(bad.Field), bad.Why))
	case err != nil:
		return err
	case f.wait:
		return f.await(cmd, s, db, inserted.ID)
	case *f.json:
		return printJSON(out, map[string]string{"id": inserted.ID, "kind": inserted.Kind})
	}
	_, err = fmt.Fprintln(out, inserted.ID)
	return err
}

// unserved tells the refusal of --require-kind, which is about the workers of the moment, from those of what is given.
func unserved(bad *client.InsertError) bool {
	return bad.Field == "kind" && strings.HasPrefix(bad.Why, "no worker serves ")
}

// flagOf is what a field of a refused strand is called on the command line.
func flagOf(field string) string {
	switch field {
	case "kind":
		return "KIND"
	case "args":
		return "ARGS-JSON"
	case "opts.max_tries":
		return "--max-tries"
	case "opts.tags":
		return "--tag"
	}
	name, ok := strings.CutPrefix(field, "opts.")
	if !ok {
		return field
	}
	return "--" + name
}

// silentFor is how long one waits for a strand's end before one is told what it waits for.
const silentFor = 3 * time.Second

// await waits for a strand's end and prints its value, or the whole strand as JSON.
func (f *insertFlags) await(cmd *cobra.Command, s *settings, db *database, id string) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	waiting := ctx
	if f.timeout > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, f.timeout)
		defer cancel()
	}
	told := make(chan struct{})
	tell := time.AfterFunc(silentFor, func() {
		defer close(told)
		fmt.Fprintf(cmd.ErrOrStderr(), "strand %s has not finished yet%s\n", id, s.stillWhy(waiting, id))
	})
	strand, err := db.StrandWait(waiting, id)
	if !tell.Stop() {
		<-told
	}
	if errors.Is(err, context.DeadlineExceeded) && waiting.Err() != nil {
		return codedError{fmt.Errorf("strand %s has not finished within %v%s; see `respirated strand show %[1]s`", id, f.timeout, s.stillWhy(ctx, id)), exitTimeout}
	}
	if err != nil {
		return err
	}
	if *f.json {
		err = printJSON(out, strand)
	} else if strand.State == client.Done {
		err = printJSON(out, orNull(strand.Value))
	}
	if err != nil || strand.State == client.Done {
		return err
	}
	why := ""
	if n := len(strand.Attempts); n > 0 {
		why = ": " + strand.Attempts[n-1].Message
	}
	return codedError{fmt.Errorf("strand %s ended %s%s", id, strand.State, why), exitUnsuccessful}
}

// stillWhy says what keeps a strand that is waited for in vain; nothing, if that cannot be told. It has a connection of its
// own: that which waits is in use, or was broken off.
func (s *settings) stillWhy(ctx context.Context, id string) string {
	cfg, err := s.load()
	if err != nil {
		return ""
	}
	db, err := connect(ctx, cfg, client.InsertOpts{})
	if err != nil {
		return ""
	}
	defer db.close(ctx)
	l, err := db.look(ctx, cfg.Socket, id)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("; it is %s: %s", l.State, l.Why())
}

// orNull is the JSON of a value that may be missing.
func orNull(value json.RawMessage) json.RawMessage {
	if value == nil {
		return json.RawMessage("null")
	}
	return value
}

// insertFile inserts all lines in one transaction.
func (f *insertFlags) insertFile(cmd *cobra.Command, db *database, clock dbClock) error {
	ctx := cmd.Context()
	in, size, err := f.open(cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer in.Close()
	bar := newProgress(cmd.ErrOrStderr(), size)
	defer bar.finish()
	tx, err := db.conn.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	n, err := copyLines(newLineReader(bar.reader(in), clock), bar, func(batch []line) error {
		return insertLines(ctx, db, tx, batch)
	})
	if err != nil {
		return fmt.Errorf("%w; nothing was inserted", err)
	}
	if err := tx.Commit(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("commit %d strands: %w", n, err)
	}
	bar.finish()
	if *f.json {
		return printJSON(cmd.OutOrStdout(), map[string]int{"inserted": n})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d strands inserted\n", n)
	return err
}

// open returns the input and its size, as far as that is known: -1 = not known.
func (f *insertFlags) open(stdin io.Reader) (io.ReadCloser, int64, error) {
	if f.file == "-" {
		return io.NopCloser(stdin), -1, nil
	}
	file, err := os.Open(f.file)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return file, -1, nil
	}
	return file, info.Size(), nil
}

// chunk is how many lines are held in memory at once.
const chunk = 5000

// copyLines inserts what it reads, chunk by chunk, and tells how many.
func copyLines(lines *lineReader, bar *progress, insert func([]line) error) (n int, err error) {
	batch := make([]line, 0, chunk)
	for {
		next, err := lines.next()
		if err != nil && !errors.Is(err, io.EOF) {
			return n, err
		}
		over := err != nil
		if !over {
			batch = append(batch, next)
		}
		if len(batch) < chunk && !over {
			continue
		}
		if err := insert(batch); err != nil {
			return n, err
		}
		n += len(batch)
		bar.inserted(n)
		batch = batch[:0]
		if over {
			return n, nil
		}
	}
}

func insertLines(ctx context.Context, db *database, tx pgx.Tx, batch []line) error {
	params := make([]client.InsertManyParams, len(batch))
	for i := range batch {
		params[i] = client.InsertManyParams{Args: batch[i].args, InsertOpts: &batch[i].opts}
	}
	_, err := db.InsertManyFastTx(ctx, tx, params)
	var bad *client.InsertError
	if errors.As(err, &bad) && bad.Index < len(batch) {
		return fmt.Errorf("line %d: %s %s", batch[bad.Index].number, bad.Field, bad.Why)
	}
	return err
}
