package broker

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// Listen has a channel run until ctx ends, and takes in its hints. Where this broker does not hear from it what it tells the
// others, though telling works, the channel is ended and run anew.
func (b *Broker) Listen(ctx context.Context, c Channel) error {
	for {
		running, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- c.Run(running, b.Hint) }()
		select {
		case err := <-ended:
			stop()
			return err
		case <-b.relisten:
			b.log.Warn("what is told to other brokers does not come back; listening anew")
			stop()
			if err := <-ended; ctx.Err() != nil {
				return err
			}
		}
	}
}

// performPlace does what concerns the other brokers.
func (b *Broker) performPlace(ctx context.Context, wg *sync.WaitGroup, fx effects) {
	if req := fx.join; req != nil {
		req.Host, req.PID, req.Build = b.cfg.Host, os.Getpid(), b.cfg.Build
		wg.Go(func() {
			j, err := b.store.Join(ctx, *req, announceTTL)
			b.post(joined{j, err})
		})
	}
	if p := fx.present; p != nil {
		wg.Go(func() { b.post(told{*p, b.store.Tell(ctx, *p)}) })
	}
	if fx.relisten {
		select {
		case b.relisten <- struct{}{}:
		default:
		}
	}
	if fx.change != nil {
		b.noteChange(*fx.change)
	}
}

// noteChange logs how the ids are divided from now on, and who has our number, too.
func (b *Broker) noteChange(c change) {
	if c.why != nil {
		b.log.Info("partition changed", "number", c.number, "rank", c.rank, "of", c.of, "range", c.slice().String(), "why", reasons(c.why))
	}
	for _, id := range c.twins {
		b.log.Warn("another broker has the same partition number", "number", c.number, "broker", id.String())
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
func (b *Broker) noteBad(h Hint) {
	payload := h.Bad
	if p := h.Presence; p != nil && !b.schedule.place.valid(*p) {
		payload = fmt.Sprintf("%d %s", p.Number, p.Broker)
	}
	if now := time.Now(); payload != "" && b.schedule.place.on() && now.Sub(b.faults["presence"]) >= faultEvery {
		b.faults["presence"] = now
		b.log.Warn("a notification of partitions is ignored", "payload", fmt.Sprintf("%.100s", payload))
	}
}
