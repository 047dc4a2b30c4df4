package broker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Listen has channels run until ctx ends or one of them does, and takes in their hints: one for each database, in the same
// order. Where this broker does not hear what it tells the others, though telling works, the channel is ended and run anew.
func (b *Broker) Listen(ctx context.Context, channels ...Channel) error {
	if len(channels) != len(b.databases) {
		return fmt.Errorf("there are %d channels for %d databases", len(channels), len(b.databases))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(channels))
	for i, c := range channels {
		go func() { errs <- b.listen(ctx, b.databases[i], c) }()
	}
	first := <-errs
	cancel() // a channel ends only if it was told to, or has failed
	for range channels[1:] {
		<-errs
	}
	return first
}

func (b *Broker) listen(ctx context.Context, l *link, c Channel) error {
	hint := func(h Hint) { b.post(from{l.no, hinted{h}}) }
	for {
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(running, hint) }()
		select {
		case err := <-ended:
			stop()
			return err
		case <-l.relisten:
			l.log.Warn("what is told to other brokers does not come back; listening anew")
			stop()
			if err := <-ended; ctx.Err() != nil {
				return err
			}
		}
	}
}

// performPlace does what concerns the other brokers.
func (b *Broker) performPlace(ctx context.Context, wg *sync.WaitGroup, l *link, req *requests) {
	if join := req.join; join != nil {
		join.Host, join.PID, join.Build = b.cfg.Host, os.Getpid(), b.cfg.Build
		wg.Go(func() {
			j, err := l.Store.Join(ctx, *join, announceTTL)
			b.post(from{l.no, joined{j, err}})
		})
	}
	if p := req.present; p != nil {
		wg.Go(func() { b.post(from{l.no, told{*p, l.Store.Tell(ctx, *p)}}) })
	}
	if req.relisten {
		signal(l.relisten)
	}
	if req.change != nil {
		l.noteChange(*req.change)
	}
}

// noteChange logs how the ids are divided from now on, of how many kinds otherwise since not all serve them, and who has our
// number, too.
func (l *link) noteChange(c change) {
	if c.why != nil {
		l.counts.changes++
		facts := []any{"number", c.number, "rank", c.rank, "of", c.of, "range", c.slice().String()}
		if n := len(c.otherwise); n > 0 {
			facts = append(facts, "kinds_otherwise", n)
		}
		l.log.Info("partition changed", append(facts, "why", reasons(c.why))...)
	}
	for _, id := range c.twins {
		l.log.Warn("another broker has the same partition number", "number", c.number, "broker", id.String())
	}
}

// reasons says in a line why the division has changed.
func reasons(why []string) string {
	const most = 5
	if more := len(why) - most; more > 0 {
		return fmt.Sprintf("%s, and %d more", strings.Join(why[:most], ", "), more)
	}
	return strings.Join(why, ", ")
}

// noteBad logs a presence that cannot be true. Anybody may send one, so that such lines are rare.
func (b *Broker) noteBad(l *link, h Hint) {
	place := &b.schedule.databases[l.no].place
	payload := h.Bad
	if p := h.Presence; p != nil && !place.valid(*p) {
		payload = fmt.Sprintf("%d %s", p.Number, p.Broker)
	}
	if now := time.Now(); payload != "" && place.on() && now.Sub(l.faults["presence"]) >= faultEvery {
		l.faults["presence"] = now
		l.log.Warn("a notification of partitions is ignored", "payload", fmt.Sprintf("%.100s", payload))
	}
}
