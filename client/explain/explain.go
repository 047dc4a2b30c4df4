// Package explain says in words why a strand does not run now, of what package client has read of it. `respirated strand why` and the
// dashboard say the same.
package explain

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/client"
)

// Strand is what is known of a strand at one moment.
type Strand struct {
	*client.StrandRow
	Program *client.Program
	Brokers []*client.BrokerRow
	Now     time.Time // by the database's clock

	Here   *client.BrokerRow // the daemon of this host, if it is one of the brokers and has been asked
	Holder Holder            // what it says
}

// Holder is what a daemon says of a strand that is leased.
type Holder struct {
	Held   bool          // by it
	Worker string        // such as "pid 4711"; "" = none has it any more: its result is being stored
	For    time.Duration // since its lease was asked for

	Servers *Servers // who might run it there; nil = it has not been asked, or is too old to tell
}

// Servers counts workers that might run a strand.
type Servers struct {
	Kind  int // those that serve its kind
	Label int // those of them that may get it now: they have its label, or have not told their labels

	OtherQueues int // those that serve its kind in a pool for other queues
	Paused      int // those that could have it, were their pool not paused
}

// Why says why a strand does not run now, or that it does.
func (l Strand) Why() string {
	if l.FinishedAt != nil {
		return l.over()
	}
	switch note := l.Note(); {
	case l.State == client.Ready && !slices.ContainsFunc(l.Brokers, func(b *client.BrokerRow) bool { return b.Alive }):
		return "no broker is there"
	case l.State == client.Ready && note == kindUnserved:
		return l.nobody()
	case l.State == client.Deferred && l.awaits() != "":
		return fmt.Sprintf("it waits for the signal %s until %s", l.awaits(), Time(l.ScheduledAt, l.Now))
	case l.State == client.Deferred && l.ChildrenLeft == 0 && l.napsToDeadline() != "":
		return fmt.Sprintf("it hibernates or naps, until its deadline for the label %s at the latest, %s", l.napsToDeadline(), Time(l.ScheduledAt, l.Now))
	case l.State == client.Leased:
		return fmt.Sprintf("%s; if nothing is heard of that, its lease ends %s", note, Ago(*l.LeasedUntil, l.Now))
	case note != "":
		return note
	case l.State == client.Deferred:
		return "its program has said when to go on, or it was inserted so: it is due " + Time(l.ScheduledAt, l.Now)
	}
	n := 0
	for _, b := range l.Brokers {
		if Serves(b, l.Kind) {
			n++
		}
	}
	return fmt.Sprintf("it is due since %s, and starts when one of %d brokers that serve its kind has a free slot in a worker that has its label %s", Time(l.ScheduledAt, l.Now), n, l.Label)
}

func (l Strand) over() string {
	over := "it has ended " + Ago(*l.FinishedAt, l.Now)
	if l.State == client.Dead && len(l.Attempts) > 0 {
		last := l.Attempts[len(l.Attempts)-1]
		over += fmt.Sprintf(", after it had %s: %s: %s", last.Outcome, last.Class, last.Message)
	}
	return over
}

// Note says who holds a strand, or why it does not run where its state and its time do not say it.
func (l Strand) Note() string {
	if l.FinishedAt == nil && l.State == client.Leased {
		if l.CancelAt != nil {
			return l.held() + ", and was asked to end it " + Ago(*l.CancelAt, l.Now)
		}
		return l.held()
	}
	return cmp.Or(Note(l.StrandRow, l.Brokers, l.Now), l.parked())
}

// forEver is longer than anybody waits: a strand that is due only then waits for something else.
const forEver = 50 * 365 * 24 * time.Hour

// Note says why a strand does not run, where its state and its time do not say it, as far as one knows who looks at many.
func Note(r *client.StrandRow, brokers []*client.BrokerRow, now time.Time) string {
	served := slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return Serves(b, r.Kind) })
	hibernates := r.State == client.Deferred && r.ScheduledAt != nil && r.ScheduledAt.Sub(now) > forEver
	switch {
	case r.FinishedAt != nil:
		return ""
	case r.State == client.Leased && r.CancelAt != nil:
		return "its worker was asked to end it " + Ago(*r.CancelAt, now)
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
		return fmt.Sprintf("it has failed %d times, and is retried %s", r.Try, Ago(*r.ScheduledAt, now))
	case r.State == client.Ready && !served:
		return kindUnserved
	}
	return ""
}

// Serves says whether a broker has workers for a kind.
func Serves(b *client.BrokerRow, kind string) bool { return b.Alive && slices.Contains(b.Kinds, kind) }

// napsToDeadline is the target of the deadline that has cut a nap; "" = none has.
func (l Strand) napsToDeadline() string {
	for _, d := range l.Program.Deadlines {
		if l.ScheduledAt != nil && d.At.Sub(*l.ScheduledAt).Abs() < time.Second {
			return d.Target
		}
	}
	return ""
}

// awaitMark begins the name of the semaphore by which a strand of package worker remembers what it waits for.
const awaitMark = "respirate.await "

// awaits is the name of the signal that a strand waits for; "" = none is known.
func (l Strand) awaits() string {
	for _, m := range l.Program.Semaphores {
		if name, ok := strings.CutPrefix(m.Name, awaitMark); ok {
			return name
		}
	}
	return ""
}

// held says who runs a strand that is leased.
func (l Strand) held() string {
	switch h := l.Holder; {
	case h.Held && h.Worker != "":
		return fmt.Sprintf("the worker %s on %s has had it for %s", h.Worker, l.Here.Host, Span(h.For))
	case h.Held:
		return "the daemon of this host, " + l.Here.Host + ", is writing down how it went on"
	}
	others := slices.DeleteFunc(slices.Clone(l.Brokers), func(b *client.BrokerRow) bool { return b == l.Here || !Serves(b, l.Kind) })
	hosts := make([]string, len(others))
	for i, b := range others {
		hosts[i] = fmt.Sprintf("%s (pid %d)", b.Host, b.PID)
	}
	switch {
	case len(hosts) == 0:
		return "who had it is gone, or just ending"
	case len(hosts) == 1:
		return "a worker on " + hosts[0] + " runs it"
	}
	return "a worker runs it, on one of " + strings.Join(hosts, ", ")
}

// Worker is who runs it on this host; "" = nobody is known to.
func (l Strand) Worker() string {
	if l.State != client.Leased {
		return ""
	}
	return l.Holder.Worker
}

// Host is where that is.
func (l Strand) Host() string {
	if l.Worker() == "" {
		return ""
	}
	return l.Here.Host
}

// kindUnserved is the note on a strand that no live broker has a worker for.
const kindUnserved = "no worker serves this kind"

// nobody says of whom that is known.
func (l Strand) nobody() string {
	var hosts []string
	for _, b := range l.Brokers {
		if b.Alive {
			hosts = append(hosts, fmt.Sprintf("%s (pid %d, %d workers)", b.Host, b.PID, b.Workers))
		}
	}
	return fmt.Sprintf("%s, %s: none of %s; it is due since %s", kindUnserved, l.Kind, strings.Join(hosts, ", "), Time(l.ScheduledAt, l.Now))
}

// parked says that a strand is due and nobody may have it, as far as that is known; "" = somebody may.
func (l Strand) parked() string {
	if l.State != client.Ready || l.Here == nil || l.Holder.Servers == nil || l.Holder.Servers.Label > 0 {
		return ""
	}
	var others []string
	for _, b := range l.Brokers {
		if b != l.Here && Serves(b, l.Kind) {
			others = append(others, fmt.Sprintf("%s (pid %d)", b.Host, b.PID))
		}
	}
	why := fmt.Sprintf("parked since %s: %s", Time(l.ScheduledAt, l.Now), l.nobodyHere(*l.Holder.Servers))
	if others == nil {
		return why + ", and no other host serves the kind; it goes on as soon as a worker may have it"
	}
	return why + "; ask there whether one on " + strings.Join(others, ", ") + " may have it"
}

// nobodyHere says why no worker of this host may have it.
func (l Strand) nobodyHere(n Servers) string {
	switch {
	case n.Kind == 0:
		return fmt.Sprintf("no worker on %s has the label %s of the kind %s", l.Here.Host, l.Label, l.Kind)
	case n.Paused > 0:
		return fmt.Sprintf("the pool of the %d workers on %s that could have it is paused (respirated pool resume)", n.Paused, l.Here.Host)
	case n.OtherQueues == n.Kind:
		return fmt.Sprintf("the pools of the %d workers on %s that serve its kind %s are for other queues than %s", n.Kind, l.Here.Host, l.Kind, l.queue())
	}
	return fmt.Sprintf("none of the %d workers on %s that serve its kind %s has its label %s", n.Kind-n.OtherQueues, l.Here.Host, l.Kind, l.Label)
}

// queue is the strand's as pools name it.
func (l Strand) queue() string {
	if l.Tenant == "" {
		return l.Queue
	}
	return l.Tenant + "/" + l.Queue
}
