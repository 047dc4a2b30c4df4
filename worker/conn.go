package worker

import (
	"context"
	"errors"
	"net"
	"sync"

	"github.com/respirated/respirated/protocol"
)

// conn is one attempt to talk with the broker, from the dial to the end.
type conn struct {
	ready chan struct{} // closed when nc and out are set
	nc    net.Conn
	out   *protocol.Outbox
}

func newConn() *conn { return &conn{ready: make(chan struct{})} }

// talk dials, and reads until the connection ends, for whatever reason. Everything it learns goes to post.
func (c *conn) talk(ctx context.Context, dial func(context.Context) (net.Conn, error), post func(event)) {
	nc, err := dial(ctx)
	if err != nil {
		post(disconnected{err})
		return
	}
	c.nc, c.out = nc, protocol.NewOutbox(nc, inFlight+2*protocol.HardMaxFrame, nil)
	close(c.ready)

	var writer sync.WaitGroup
	defer writer.Wait()
	defer nc.Close()
	writer.Go(func() {
		_ = c.out.Run(ctx) // the reader says why the connection has ended
		_ = nc.Close()
	})
	post(connected{})
	err = c.read(post)
	c.out.Close()
	post(disconnected{err})
}

// read hands on messages until the stream ends.
func (c *conn) read(post func(event)) error {
	frames := protocol.NewReader(c.nc, protocol.HandshakeMaxFrame)
	for {
		body, err := frames.Next()
		if err != nil {
			return c.answer(err)
		}
		msg, err := protocol.DecodeToWorker(body)
		if err != nil {
			if err := c.answer(err); err != nil {
				return err
			}
			continue
		}
		if w, ok := msg.(*protocol.Welcome); ok {
			frames.SetMax(int(w.MaxFrame))
		}
		post(received{msg})
	}
}

// answer tells the broker of a fault in what it sent, and returns it if the session cannot go on.
func (c *conn) answer(err error) error {
	var fault *protocol.Err
	if !errors.As(err, &fault) {
		return err
	}
	_ = c.out.Send(fault) // if that fails, the connection is at its end anyway
	if fault.Fatal {
		return err
	}
	return nil
}

// send queues a message. An error is about the message; of a connection that is of no more use the reader tells.
func (c *conn) send(m protocol.Message) error {
	err := c.out.Send(m)
	switch {
	case errors.Is(err, protocol.ErrClosed):
		return nil
	case errors.Is(err, protocol.ErrSlow):
		_ = c.nc.Close()
		return nil
	}
	return err
}

// hangUp lets what is queued go out and ends the connection.
func (c *conn) hangUp() {
	select {
	case <-c.ready:
		c.out.Close()
		_ = c.nc.Close()
	default: // not there yet, and its context ends with the worker
	}
}
