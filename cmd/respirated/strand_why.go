package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

func strandWhyCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why ID",
		Short: "Say in one line why a strand does not run now",
		Example: `  respirated strand why 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand why 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --json`,
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
			program, err := db.StrandProgram(cmd.Context(), row.ID)
			if err != nil {
				return err
			}
			now, err := db.now(cmd.Context())
			if err != nil {
				return err
			}
			why := whyNot(row, program, brokers, now)
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), map[string]string{"id": row.ID, "state": string(row.State), "why": why})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", row.State, plain(why))
			return err
		})
	}
	return cmd
}

// whyNot says why a strand does not run now, or that it does.
func whyNot(r *client.StrandRow, p *client.Program, brokers []*client.BrokerRow, now time.Time) string {
	if r.FinishedAt != nil {
		return whyOver(r, now)
	}
	live := slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.Alive })
	awaited := awaits(p)
	switch note := noteOn(r, brokers, now); {
	case r.State == client.Ready && !live:
		return "no broker is there"
	case r.State == client.Deferred && awaited != "":
		return fmt.Sprintf("it waits for the signal %s until %s", awaited, timeOf(r.ScheduledAt, now))
	case r.State == client.Deferred && r.ChildrenLeft == 0 && napsToDeadline(r, p) != "":
		return fmt.Sprintf("it hibernates or naps, until its deadline for the label %s at the latest, %s", napsToDeadline(r, p), timeOf(r.ScheduledAt, now))
	case note != "":
		return note
	}
	switch r.State {
	case client.Leased:
		return fmt.Sprintf("a worker runs it; if nothing is heard of that, its lease ends %s", ago(*r.LeasedUntil, now))
	case client.Deferred:
		return "its program has said when to go on, or it was inserted so: it is due " + timeOf(r.ScheduledAt, now)
	}
	n := 0
	for _, b := range brokers {
		if serves(b, r.Kind) {
			n++
		}
	}
	return fmt.Sprintf("it is due since %s, and starts when one of %d brokers that serve its kind has a free slot in a worker that has its label %s", timeOf(r.ScheduledAt, now), n, r.Label)
}

func whyOver(r *client.StrandRow, now time.Time) string {
	over := "it has ended " + ago(*r.FinishedAt, now)
	if r.State == client.Dead && len(r.Attempts) > 0 {
		last := r.Attempts[len(r.Attempts)-1]
		over += fmt.Sprintf(", after it had %s: %s: %s", last.Outcome, last.Class, last.Message)
	}
	return over
}

// forEver is longer than anybody waits: a strand that is due only then waits for something else.
const forEver = 50 * 365 * 24 * time.Hour

// noteOn says why a strand does not run, where its state and its time do not say it.
func noteOn(r *client.StrandRow, brokers []*client.BrokerRow, now time.Time) string {
	served := slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return serves(b, r.Kind) })
	hibernates := r.State == client.Deferred && r.ScheduledAt != nil && r.ScheduledAt.Sub(now) > forEver
	switch {
	case r.FinishedAt != nil:
		return ""
	case r.State == client.Leased && r.CancelAt != nil:
		return "its worker was asked to end it " + ago(*r.CancelAt, now)
	case r.State == client.Leased:
		return ""
	case r.CancelAt != nil:
		return "it was cancelled, and its worker has vanished: a broker ends it soon"
	case r.State == client.Paused:
		return "its queue is paused"
	case hibernates && r.ChildrenLeft > 0:
		return fmt.Sprintf("it waits for %d children", r.ChildrenLeft)
	case hibernates:
		return "it hibernates until a signal"
	case r.State == client.Deferred && r.ChildrenLeft > 0:
		return fmt.Sprintf("it naps, and %d children are left", r.ChildrenLeft)
	case r.State == client.Deferred && r.Try > 0:
		return fmt.Sprintf("it has failed %d times, and is retried %s", r.Try, ago(*r.ScheduledAt, now))
	case r.State == client.Ready && !served:
		return "no worker serves this kind"
	}
	return ""
}

func serves(b *client.BrokerRow, kind string) bool { return b.Alive && slices.Contains(b.Kinds, kind) }

// napsToDeadline is the target of the deadline that has cut a nap; "" = none has.
func napsToDeadline(r *client.StrandRow, p *client.Program) string {
	for _, d := range p.Deadlines {
		if r.ScheduledAt != nil && d.At.Sub(*r.ScheduledAt).Abs() < time.Second {
			return d.Target
		}
	}
	return ""
}

// awaitMark begins the name of the semaphore by which a strand of package worker remembers what it waits for.
const awaitMark = "respirate.await "

// awaits is the name of the signal that a strand waits for; "" = none is known.
func awaits(p *client.Program) string {
	for _, m := range p.Semaphores {
		if name, ok := strings.CutPrefix(m.Name, awaitMark); ok {
			return name
		}
	}
	return ""
}
