package main

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/client/explain"
)

// look is what is known of a strand at one moment: what `strand show` prints, and `strand why` goes by.
type look = explain.Strand

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
	if l.Brokers, err = db.BrokerList(ctx); err != nil {
		return l, err
	}
	if l.State == client.Leased || l.State == client.Ready {
		askHere(ctx, socket, &l)
		// It may have gone on meanwhile: what it is now fits to what the daemon said, or is newer.
		if l.StrandRow, err = db.StrandGet(ctx, id); err != nil {
			return l, err
		}
	}
	if l.Program, err = db.StrandProgram(ctx, l.ID); err != nil {
		return l, err
	}
	l.Now, err = db.now(ctx)
	return l, err
}

// askHere asks the daemon of this host, which knows its own leases and the labels of its workers; the database knows of nobody's.
func askHere(ctx context.Context, socket string, l *look) {
	var h strandHolder
	at := url.Values{"kind": {l.Kind}, "label": {l.Label}, "tenant": {l.Tenant}, "queue": {l.Queue}}
	if askDaemon(ctx, socket, "/api/v1/strands/"+l.ID+"?"+at.Encode(), &h) != nil {
		return // there is none
	}
	for _, b := range l.Brokers {
		if b.ID == h.Broker {
			l.Here = b
			l.Holder = explain.Holder{Held: h.Held, Worker: h.Worker, For: time.Duration(h.HeldMS) * time.Millisecond}
			if h.Servers != nil {
				l.Holder.Servers = (*explain.Servers)(h.Servers)
			}
		}
	}
}
