package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

// shownStrand is what `strand show --json` prints, and `strand list --json` of each strand.
type shownStrand struct {
	*client.StrandRow
	Note string `json:"note,omitempty"` // what an operator should know
}

func strandShowCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a strand, its failures included",
		Example: `  respirated strand show 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand show 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --json`,
		Args: takes(cobra.ExactArgs(1)),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			row, err := db.StrandGet(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			brokers, err := db.BrokerList(cmd.Context())
			if err != nil {
				return err
			}
			shown := shownStrand{row, noteOn(row, brokers)}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), shown)
			}
			return printStrand(cmd.OutOrStdout(), shown)
		})
	}
	return cmd
}

// noteOn says why a strand does not run though it is due.
func noteOn(r *client.StrandRow, brokers []*client.BrokerRow) string {
	served := slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.Alive && slices.Contains(b.Kinds, r.Kind) })
	switch {
	case r.State == client.Paused:
		return "its queue is paused"
	case r.State == client.Ready && !served:
		return "no worker serves this kind"
	}
	return ""
}

func printStrand(out io.Writer, s shownStrand) error {
	now := time.Now()
	t := newTable(out, "strand", s.ID)
	t.row("kind", s.Kind)
	t.row("label", s.Label)
	t.row("state", withNote(string(s.State), s.Note))
	t.row("queue", s.Queue)
	fact(t, "tenant", s.Tenant)
	t.row("priority", fmt.Sprint(s.Priority))
	t.row("failures", fmt.Sprintf("%d of %d", s.Try, s.MaxTries))
	if s.Crashes > 0 {
		t.row("crashes", fmt.Sprintf("%d workers ended while they ran it", s.Crashes))
	}
	if s.Rescues > 0 {
		t.row("rescues", fmt.Sprintf("%d leases of it ran out", s.Rescues))
	}
	t.row("created", timeOf(&s.CreatedAt, now))
	fact(t, "due", timeOf(s.ScheduledAt, now))
	fact(t, "leased until", timeOf(s.LeasedUntil, now))
	fact(t, "cancel asked", timeOf(s.CancelAt, now))
	fact(t, "finished", timeOf(s.FinishedAt, now))
	fact(t, "parent", s.Parent)
	fact(t, "tags", strings.Join(s.Tags, ", "))
	for _, part := range []struct {
		name string
		json json.RawMessage
	}{{"args", s.Args}, {"stack", s.Stack}, {"value", s.Value}, {"metadata", s.Metadata}} {
		fact(t, part.name, string(part.json))
	}
	if err := t.flush(); err != nil {
		return err
	}
	return printAttempts(out, s.Attempts, now)
}

// fact is a row that is left out where there is nothing to tell.
func fact(t *table, name, value string) {
	if value != "" {
		t.row(name, value)
	}
}

func withNote(state, note string) string {
	if note == "" {
		return state
	}
	return state + ": " + note
}

func timeOf(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + ago(*t, now) + ")"
}

func printAttempts(out io.Writer, attempts []client.Attempt, now time.Time) error {
	for _, a := range attempts {
		var b strings.Builder
		fmt.Fprintf(&b, "\n%s %s, after %d failures, by %s on %s\n", plain(a.Outcome), timeOf(&a.At, now), a.Try, plain(a.Worker), plain(a.Host))
		fmt.Fprintf(&b, "  %s: %s\n", plain(a.Class), plain(a.Message))
		if a.Exit != "" {
			fmt.Fprintf(&b, "  the worker ended: %s\n", plain(a.Exit))
		}
		if a.Stderr != "" {
			b.WriteString("  its last words:\n" + paragraph(a.Stderr, "    "))
		}
		b.WriteString(paragraph(a.Trace, "    "))
		if _, err := io.WriteString(out, b.String()); err != nil {
			return err
		}
	}
	return nil
}
