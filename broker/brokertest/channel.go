package brokertest

import (
	"context"
	"sync"

	"github.com/respirated/respirated/broker"
)

// Channel is a [broker.Channel] whose hints are given by hand, or by the [Store] it belongs to.
type Channel struct {
	mu        sync.Mutex // guards all fields, and is held while listeners are told: they do not block
	listeners map[*func(broker.Hint)]struct{}
	down      bool
}

// NewChannel returns a channel that is up.
func NewChannel() *Channel {
	return &Channel{listeners: map[*func(broker.Hint)]struct{}{}}
}

// Run listens until ctx ends.
func (c *Channel) Run(ctx context.Context, notify func(broker.Hint)) error {
	listener := &notify
	c.enter(listener)
	defer c.leave(listener)
	<-ctx.Done()
	return ctx.Err()
}

func (c *Channel) enter(listener *func(broker.Hint)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners[listener] = struct{}{}
	if !c.down {
		(*listener)(broker.Hint{Connected: true})
	}
}

func (c *Channel) leave(listener *func(broker.Hint)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.listeners, listener)
}

// Hint tells every listener. While the channel is down the hint is lost.
func (c *Channel) Hint(h broker.Hint) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell(h)
}

// Down cuts the channel: hints are lost until Up.
func (c *Channel) Down() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
}

// Up connects the channel again, and says so to the listeners.
func (c *Channel) Up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
	c.tell(broker.Hint{Connected: true})
}

func (c *Channel) tell(h broker.Hint) {
	if c.down {
		return
	}
	for listener := range c.listeners {
		(*listener)(h)
	}
}
