package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/client/explain"
)

// shownStrand is what `strand show --json` prints, and `strand list --json` of each strand.
type shownStrand struct {
	*client.StrandRow
	Note   string         `json:"note,omitempty"`   // what an operator should know
	Frames []client.Frame `json:"frames,omitempty"` // these and the rest are shown by `strand show` only
	*client.Program
}

func strandShowCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Show all that is known of a strand: its frames, semaphores, children, deadlines, failures, and what was done to it by hand",
		Example: `  respirated strand show 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand show 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --json`,
		Args: takes(cobra.ExactArgs(1)),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.lookAt(cmd, args[0], func(l look) error {
			shown := shownStrand{l.StrandRow, l.Note(), l.Frames(), l.Program}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), shown)
			}
			return printStrand(cmd.OutOrStdout(), shown, l.Now)
		})
	}
	return cmd
}

func printStrand(out io.Writer, s shownStrand, now time.Time) error {
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
	t.row("created", explain.Time(&s.CreatedAt, now))
	fact(t, "due", explain.Time(s.ScheduledAt, now))
	fact(t, "leased until", explain.Time(s.LeasedUntil, now))
	fact(t, "cancel asked", explain.Time(s.CancelAt, now))
	fact(t, "finished", explain.Time(s.FinishedAt, now))
	fact(t, "parent", s.Parent)
	fact(t, "tags", strings.Join(s.Tags, ", "))
	for _, part := range []struct {
		name string
		json json.RawMessage
	}{{"args", s.Args}, {"value", s.Value}, {"metadata", s.Metadata}} {
		fact(t, part.name, string(part.json))
	}
	if err := t.flush(); err != nil {
		return err
	}
	if err := printProgram(out, s, now); err != nil {
		return err
	}
	return printAttempts(out, s.Attempts, now)
}

// printProgram shows what a strand has as a program, a table for each part that it has.
func printProgram(out io.Writer, s shownStrand, now time.Time) error {
	frames := section{"frames, the one that runs next first:", []string{"KIND", "LABEL", "ARGS", "RETURNED"}, nil}
	if len(s.Stack) > 0 {
		for _, f := range s.Frames {
			frames.add(f.Kind, f.Label, shortJSON(f.Args), shortJSON(f.Ret))
		}
	}
	semaphores := section{fmt.Sprintf("%d semaphores wait:", s.Waiting), []string{"NAME", "SENT", "VALUE"}, nil}
	for _, m := range s.Semaphores {
		semaphores.add(m.Name, ago(m.SentAt, now), shortJSON(m.Value))
	}
	children := section{fmt.Sprintf("%d children are left, %d have ended:", s.ChildrenLeft, s.Ended), []string{"ID", "KIND", "STATE", "ENDED", "VALUE"}, nil}
	for _, c := range s.Children {
		children.add(c.ID, c.Kind, string(c.State), agoIf(c.EndedAt, now), shortJSON(c.Value))
	}
	deadlines := section{"deadlines:", []string{"KIND", "TARGET", "DUE", "PAGED"}, nil}
	for _, d := range s.Deadlines {
		deadlines.add(d.Kind, d.Target, ago(d.At, now), agoIf(d.PagedAt, now))
	}
	pages := section{"open pages:", []string{"ID", "KIND", "TARGET", "DUE", "OPENED"}, nil}
	for _, p := range s.Pages {
		pages.add(fmt.Sprint(p.ID), p.Kind, p.Target, ago(p.DueAt, now), ago(p.OpenedAt, now))
	}
	audits := section{"done by hand:", []string{"WHEN", "WHO", "ROLE", "WHAT", "BEFORE", "AFTER"}, nil}
	for _, a := range s.Audits {
		audits.add(ago(a.At, now), a.Who, a.Role, a.What, shortJSON(a.Before), shortJSON(a.After))
	}
	for _, part := range []section{frames, semaphores, children, deadlines, pages, audits} {
		if err := part.print(out); err != nil {
			return err
		}
	}
	return nil
}

// section is a table with a line above it. Without rows it is left out.
type section struct {
	title  string
	header []string
	rows   [][]string
}

func (s *section) add(cells ...string) { s.rows = append(s.rows, cells) }

func (s *section) print(out io.Writer) error {
	if len(s.rows) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\n%s\n", s.title)
	t := newTable(out, s.header...)
	for _, row := range s.rows {
		t.row(row...)
	}
	return t.flush()
}

// shortJSON keeps a table readable; --json has all of it.
func shortJSON(text json.RawMessage) string {
	const most = 200
	runes := []rune(string(text))
	switch {
	case string(text) == "null":
		return ""
	case len(runes) <= most:
		return string(runes)
	}
	return string(runes[:most]) + " ..."
}

func agoIf(t *time.Time, now time.Time) string {
	if t == nil {
		return ""
	}
	return ago(*t, now)
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

func printAttempts(out io.Writer, attempts []client.Attempt, now time.Time) error {
	for _, a := range attempts {
		var b strings.Builder
		fmt.Fprintf(&b, "\n%s %s, after %d failures, by %s on %s\n", plain(a.Outcome), explain.Time(&a.At, now), a.Try, plain(a.Worker), plain(a.Host))
		fmt.Fprintf(&b, "  %s: %s\n", plain(a.Class), plain(a.Message))
		if a.Exit != "" {
			fmt.Fprintf(&b, "  the worker ended: %s%s\n", plain(a.Exit), usedBy(a))
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

// usedBy tells what a worker had used when it ended, as far as somebody knows.
func usedBy(a client.Attempt) string {
	var used []string
	if a.MaxRSS > 0 {
		used = append(used, fmt.Sprintf("%.1f MiB of memory at most", float64(a.MaxRSS)/(1<<20)))
	}
	if a.CPUMS > 0 {
		used = append(used, fmt.Sprintf("%v of CPU", time.Duration(a.CPUMS)*time.Millisecond))
	}
	if used == nil {
		return ""
	}
	return "; it had used " + strings.Join(used, ", ")
}
