package main

import (
	"cmp"
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
		return s.lookAt(cmd, args[0], func(l look) error {
			why := l.why()
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), reason{l.ID, l.State, why, l.worker(), l.host()})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", l.State, plain(why))
			return err
		})
	}
	return cmd
}

// reason is what `strand why --json` prints.
type reason struct {
	ID     string       `json:"id"`
	State  client.State `json:"state"`
	Why    string       `json:"why"`
	Worker string       `json:"worker,omitempty"` // who runs it on this host
	Host   string       `json:"host,omitempty"`
}

// why says why a strand does not run now, or that it does.
func (l look) why() string {
	if l.FinishedAt != nil {
		return l.over()
	}
	switch note := l.note(); {
	case l.State == client.Ready && !slices.ContainsFunc(l.brokers, func(b *client.BrokerRow) bool { return b.Alive }):
		return "no broker is there"
	case l.State == client.Deferred && l.awaits() != "":
		return fmt.Sprintf("it waits for the signal %s until %s", l.awaits(), timeOf(l.ScheduledAt, l.now))
	case l.State == client.Deferred && l.ChildrenLeft == 0 && l.napsToDeadline() != "":
		return fmt.Sprintf("it hibernates or naps, until its deadline for the label %s at the latest, %s", l.napsToDeadline(), timeOf(l.ScheduledAt, l.now))
	case l.State == client.Ready && note == kindUnserved:
		return l.nobody()
	case l.State == client.Leased:
		return fmt.Sprintf("%s; if nothing is heard of that, its lease ends %s", note, ago(*l.LeasedUntil, l.now))
	case note != "":
		return note
	case l.State == client.Deferred:
		return "its program has said when to go on, or it was inserted so: it is due " + timeOf(l.ScheduledAt, l.now)
	}
	n := 0
	for _, b := range l.brokers {
		if serves(b, l.Kind) {
			n++
		}
	}
	return fmt.Sprintf("it is due since %s, and starts when one of %d brokers that serve its kind has a free slot in a worker that has its label %s", timeOf(l.ScheduledAt, l.now), n, l.Label)
}

func (l look) over() string {
	over := "it has ended " + ago(*l.FinishedAt, l.now)
	if l.State == client.Dead && len(l.Attempts) > 0 {
		last := l.Attempts[len(l.Attempts)-1]
		over += fmt.Sprintf(", after it had %s: %s: %s", last.Outcome, last.Class, last.Message)
	}
	return over
}

// note says who holds a strand, or why it does not run where its state and its time do not say it.
func (l look) note() string {
	if l.FinishedAt == nil && l.State == client.Leased {
		if l.CancelAt != nil {
			return l.held() + ", and was asked to end it " + ago(*l.CancelAt, l.now)
		}
		return l.held()
	}
	return cmp.Or(noteOn(l.StrandRow, l.brokers, l.now), l.parked())
}

// forEver is longer than anybody waits: a strand that is due only then waits for something else.
const forEver = 50 * 365 * 24 * time.Hour

// noteOn says why a strand does not run, where its state and its time do not say it, as far as one knows who looks at many.
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
		return kindUnserved
	}
	return ""
}

// kindUnserved is the note on a strand that no live broker has a worker for.
const kindUnserved = "no worker serves this kind"

// nobody says of whom that is known.
func (l look) nobody() string {
	var hosts []string
	for _, b := range l.brokers {
		if b.Alive {
			hosts = append(hosts, fmt.Sprintf("%s (pid %d, %d workers)", b.Host, b.PID, b.Workers))
		}
	}
	return fmt.Sprintf("%s, %s: none of %s; it is due since %s", kindUnserved, l.Kind, strings.Join(hosts, ", "), timeOf(l.ScheduledAt, l.now))
}

func serves(b *client.BrokerRow, kind string) bool { return b.Alive && slices.Contains(b.Kinds, kind) }

// napsToDeadline is the target of the deadline that has cut a nap; "" = none has.
func (l look) napsToDeadline() string {
	for _, d := range l.program.Deadlines {
		if l.ScheduledAt != nil && d.At.Sub(*l.ScheduledAt).Abs() < time.Second {
			return d.Target
		}
	}
	return ""
}

// awaitMark begins the name of the semaphore by which a strand of package worker remembers what it waits for.
const awaitMark = "respirate.await "

// awaits is the name of the signal that a strand waits for; "" = none is known.
func (l look) awaits() string {
	for _, m := range l.program.Semaphores {
		if name, ok := strings.CutPrefix(m.Name, awaitMark); ok {
			return name
		}
	}
	return ""
}
