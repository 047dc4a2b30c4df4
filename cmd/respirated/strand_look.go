package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

// look is what is known of a strand at one moment: what `strand show` prints, and `strand why` goes by.
type look struct {
	*client.StrandRow
	program *client.Program
	brokers []*client.BrokerRow
	now     time.Time // by the database's clock

	here   *client.BrokerRow // the daemon of this host, if it is one of the brokers and has been asked
	holder strandHolder      // what it says
}

// lookAt gives a verb that names one strand what is known of that.
func (s *settings) lookAt(cmd *cobra.Command, id string, show func(look) error) error {
	if err := checkIDs(id); err != nil {
		return err
	}
	cfg, err := s.load()
	if err != nil {
		return err
	}
	return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
		l, err := db.look(cmd.Context(), cfg.Socket, id)
		if err != nil {
			return err
		}
		return show(l)
	})
}

func (db *database) look(ctx context.Context, socket, id string) (l look, err error) {
	if l.StrandRow, err = db.StrandGet(ctx, id); err != nil {
		return l, err
	}
	if l.brokers, err = db.BrokerList(ctx); err != nil {
		return l, err
	}
	if l.State == client.Leased || l.State == client.Ready {
		l.askHere(ctx, socket)
		// It may have gone on meanwhile: what it is now fits to what the daemon said, or is newer.
		if l.StrandRow, err = db.StrandGet(ctx, id); err != nil {
			return l, err
		}
	}
	if l.program, err = db.StrandProgram(ctx, l.ID); err != nil {
		return l, err
	}
	l.now, err = db.now(ctx)
	return l, err
}

// askHere asks the daemon of this host, which knows its own leases and the labels of its workers; the database knows of nobody's.
func (l *look) askHere(ctx context.Context, socket string) {
	var h strandHolder
	at := url.Values{"kind": {l.Kind}, "label": {l.Label}}
	if askDaemon(ctx, socket, "/api/v1/strands/"+l.ID+"?"+at.Encode(), &h) != nil {
		return // there is none
	}
	for _, b := range l.brokers {
		if b.ID == h.Broker {
			l.here, l.holder = b, h
		}
	}
}

// parked says that a strand is due at a label that nobody has, as far as that is known; "" = somebody may have it.
func (l look) parked() string {
	if l.State != client.Ready || l.here == nil || l.holder.Servers == nil || l.holder.Servers.Label > 0 {
		return ""
	}
	since := timeOf(l.ScheduledAt, l.now)
	var others []string
	for _, b := range l.brokers {
		if b != l.here && serves(b, l.Kind) {
			others = append(others, fmt.Sprintf("%s (pid %d)", b.Host, b.PID))
		}
	}
	why := fmt.Sprintf("parked since %s: no worker on %s has the label %s of the kind %s", since, l.here.Host, l.Label, l.Kind)
	if n := l.holder.Servers.Kind; n > 0 {
		why = fmt.Sprintf("parked since %s: none of the %d workers on %s that serve its kind %s has its label %s", since, n, l.here.Host, l.Kind, l.Label)
	}
	if others == nil {
		return why + ", and no other host serves the kind; it goes on as soon as one comes that has it"
	}
	return why + "; ask there whether one on " + strings.Join(others, ", ") + " does"
}

// held says who runs a strand that is leased.
func (l look) held() string {
	switch h := l.holder; {
	case h.Held && h.Worker != "":
		return fmt.Sprintf("the worker %s on %s has had it for %s", h.Worker, l.here.Host, span(time.Duration(h.HeldMS)*time.Millisecond))
	case h.Held:
		return "the daemon of this host, " + l.here.Host + ", is writing down how it went on"
	}
	others := slices.DeleteFunc(slices.Clone(l.brokers), func(b *client.BrokerRow) bool { return b == l.here || !serves(b, l.Kind) })
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

// worker is who runs it on this host; "" = nobody is known to.
func (l look) worker() string {
	if l.State != client.Leased {
		return ""
	}
	return l.holder.Worker
}

// host is where that is.
func (l look) host() string {
	if l.worker() == "" {
		return ""
	}
	return l.here.Host
}
