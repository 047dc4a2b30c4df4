package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

const (
	tailEvery = 500 * time.Millisecond // as often the database is asked about a strand that is followed
	tailBack  = 16 << 20               // bytes of each log that are searched
)

func strandTailCommand(s *settings) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail ID",
		Short: "Show what happens to a strand, and what workers of this host write about it",
		Long: `Show what has happened to a strand, and the lines with its id that workers of this host have written: in the last 16 MiB of
each of their logs. With --follow it goes on until the strand is finished, and tells each state and label that it finds when
it looks, twice a second. With --json each event is an object on a line of its own.`,
		Example: `  respirated strand tail 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand tail --follow 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand tail --json 6ba7b810-9dad-41d1-80b4-00c04fd430c8`,
		Args: takes(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the strand is finished")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkIDs(args[0]); err != nil {
			return err
		}
		cfg, err := s.load()
		if err != nil {
			return err
		}
		dir, err := logDir(cfg.Socket)
		if err != nil {
			return err
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			t := &strandTail{get: db.StrandGet, id: args[0], logs: &logFolder{dir: dir, all: map[string]*folderLog{}}, out: cmd.OutOrStdout(), json: *asJSON}
			return t.run(cmd.Context(), follow)
		})
	}
	return cmd
}

// strandTail tells what is new of a strand.
type strandTail struct {
	get  func(ctx context.Context, id string) (*client.StrandRow, error)
	id   string
	logs *logFolder
	out  io.Writer
	json bool

	last     *client.StrandRow // nil = nothing is told yet
	attempts time.Time         // of the last attempt that was told
}

// strandEvent is something that happened to a strand, or that was written about it.
type strandEvent struct {
	At    time.Time `json:"at"`    // zero = a line that tells no time
	Event string    `json:"event"` // created, failed, crashed, cancelled, line, or the state that was found
	Label string    `json:"label,omitempty"`
	Text  string    `json:"text,omitempty"`
	Pool  string    `json:"pool,omitempty"` // of who wrote a line
	Index *int      `json:"index,omitempty"`
}

func (t *strandTail) run(ctx context.Context, follow bool) error {
	for {
		row, err := t.get(ctx, t.id)
		if err != nil {
			return err
		}
		t.id = row.ID // in its canonical form, as it is in logs
		events, err := t.logs.about(t.id)
		if err != nil {
			return err
		}
		events = append(events, t.news(row, time.Now())...)
		slices.SortStableFunc(events, func(a, b strandEvent) int { return a.At.Compare(b.At) })
		for _, ev := range events {
			if err := t.print(ev); err != nil {
				return err
			}
		}
		if !follow || row.FinishedAt != nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(tailEvery):
		}
	}
}

// news are what a row tells that was not told before.
func (t *strandTail) news(row *client.StrandRow, now time.Time) (events []strandEvent) {
	if t.last == nil {
		events = append(events, strandEvent{At: row.CreatedAt, Event: "created", Text: row.Kind})
	}
	for _, a := range row.Attempts {
		if a.At.After(t.attempts) {
			t.attempts = a.At
			text := fmt.Sprintf("%s: %s, by %s on %s", a.Class, a.Message, a.Worker, a.Host)
			if a.Exit != "" {
				text += ", which ended: " + a.Exit
			}
			events = append(events, strandEvent{At: a.At, Event: a.Outcome, Text: text})
		}
	}
	if old := t.last; old == nil || old.State != row.State || old.Label != row.Label || old.Try != row.Try {
		ev := strandEvent{At: now, Event: string(row.State), Label: row.Label}
		switch {
		case row.FinishedAt != nil:
			ev.At, ev.Text = *row.FinishedAt, shortJSON(row.Value)
		case row.ScheduledAt != nil && row.State == client.Deferred:
			ev.Text = "due " + row.ScheduledAt.UTC().Format(time.RFC3339)
		}
		events = append(events, ev)
	}
	t.last = row
	return events
}

func (t *strandTail) print(ev strandEvent) error {
	if t.json {
		return printJSONLine(t.out, ev)
	}
	at := strings.Repeat(" ", len(time.RFC3339)-5)
	if !ev.At.IsZero() {
		at = ev.At.UTC().Format(time.RFC3339)
	}
	what := ev.Event
	if ev.Index != nil {
		what = fmt.Sprintf("%s/%d", ev.Pool, *ev.Index)
	}
	_, err := fmt.Fprintln(t.out, strings.TrimRight(fmt.Sprintf("%s  %-10s  %s", at, plain(what), plain(strings.TrimSpace(ev.words()))), " "))
	return err
}

// words are what people read of it: a line has its label in it.
func (ev strandEvent) words() string {
	if ev.Event == "line" {
		return ev.Text
	}
	return ev.Label + "  " + ev.Text
}

// logFolder are all logs of workers of a host.
type logFolder struct {
	dir string
	all map[string]*folderLog
}

type folderLog struct {
	*supervisor.LogReader
	pool  string
	index int
	at    time.Time // of the line before
}

var logName = regexp.MustCompile(`^(.+)-(\d+)\.(out|err)$`)

// about are the lines with a strand's id that it was not asked for before.
func (f *logFolder) about(id string) (events []strandEvent, err error) {
	paths, _ := filepath.Glob(filepath.Join(f.dir, "*")) // a folder that is not there has none
	for _, path := range paths {
		parts := logName.FindStringSubmatch(filepath.Base(path))
		if parts == nil {
			continue
		}
		log := f.all[path]
		if log == nil {
			index, _ := strconv.Atoi(parts[2])
			log = &folderLog{LogReader: supervisor.NewLogReader(path, parts[3]), pool: parts[1], index: index}
			log.SkipAllBut(tailBack)
			f.all[path] = log
		}
		err := readLog(log.LogReader, func(l supervisor.LogLine) {
			if l.Time != nil {
				log.at = *l.Time
			}
			if strings.Contains(l.Text, id) {
				events = append(events, strandEvent{At: log.at, Event: "line", Label: l.Label, Text: l.Text, Pool: log.pool, Index: &log.index})
			}
		})
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	return events, nil
}
