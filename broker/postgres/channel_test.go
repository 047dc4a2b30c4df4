package postgres_test

import (
	"context"
	"net"
	"net/url"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// listening runs a channel for the length of a test and gives its hints.
func listening(t *testing.T, url string) <-chan broker.Hint {
	t.Helper()
	channel, err := postgres.NewChannel(postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	return running(t, channel)
}

func running(t *testing.T, channel *postgres.Channel) <-chan broker.Hint {
	t.Helper()
	hints := make(chan broker.Hint, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- channel.Run(ctx, func(h broker.Hint) { hints <- h }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: got %v after its context ended, want nil", err)
		}
	})
	return hints
}

func nextHint(t *testing.T, hints <-chan broker.Hint, want broker.Hint) {
	t.Helper()
	select {
	case got := <-hints:
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("no hint came, want %+v", want)
	}
}

func TestChannelBringsHints(t *testing.T) {
	url := migrated(t)
	s := newSubject(t, url)
	hints := listening(t, url)
	nextHint(t, hints, broker.Hint{Connected: true})

	s.announce(broker.Announcement{Broker: newID()}, hour)
	id := s.insert("")
	nextHint(t, hints, broker.Hint{Lanes: true})
	nextHint(t, hints, broker.Hint{Due: id[:1]})
	s.lease(id)
	s.Cancel(id)
	nextHint(t, hints, broker.Hint{Cancel: true})
	s.run(`select pg_notify('respirate_wake', repeat('nonsense', 100))`)
	nextHint(t, hints, broker.Hint{})
}

func TestChannelReconnectsAndSaysSo(t *testing.T) {
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "channel")
	if err != nil {
		t.Fatal(err)
	}
	hints := listening(t, url)
	nextHint(t, hints, broker.Hint{Connected: true})
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	nextHint(t, hints, broker.Hint{Connected: true})
	newPoolSubject(t, url).run(`notify respirate_wake`)
	nextHint(t, hints, broker.Hint{})
}

// A cut that nobody is told of looks like silence.
func TestChannelNoticesACutThatSaysNothing(t *testing.T) {
	server := privatetest.Server(t)
	if _, err := server.Database(t.Context(), "cut"); err != nil {
		t.Fatal(err)
	}
	proxy, url := newProxy(t, server.TCPURL("cut"))
	channel, err := postgres.NewChannel(postgres.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	channel.SetPing(100 * time.Millisecond)
	hints := running(t, channel)
	nextHint(t, hints, broker.Hint{Connected: true})
	proxy.swallow()
	nextHint(t, hints, broker.Hint{Connected: true})
}

// proxy stands between a client and a server, and can swallow what they say.
type proxy struct {
	listener net.Listener
	target   string
	refuse   atomic.Bool
	refused  chan struct{} // closed when one has been
	mu       sync.Mutex    // guards conns
	conns    []*swallower
}

// newProxy stands before the server of a URL and gives the URL that leads through it.
func newProxy(t *testing.T, to string) (*proxy, string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: u.Host}
	var serving sync.WaitGroup
	serving.Go(p.serve)
	t.Cleanup(func() {
		listener.Close()
		p.close()
		serving.Wait()
	})
	u.Host = listener.Addr().String()
	return p, u.String()
}

func (p *proxy) serve() {
	var copying sync.WaitGroup
	defer copying.Wait()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.refuse.CompareAndSwap(true, false) {
			client.Close()
			close(p.refused)
			continue
		}
		server, err := net.Dial("tcp", p.target)
		if err != nil {
			client.Close()
			continue
		}
		c := &swallower{client: client, server: server}
		p.mu.Lock()
		p.conns = append(p.conns, c)
		p.mu.Unlock()
		copying.Go(func() { c.copy(client, server) })
		copying.Go(func() { c.copy(server, client) })
	}
}

// swallow has the connections of now, and only those, lose whatever is sent.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.silent.Store(true)
	}
}

// hangUp cuts clients off, of which the server does not learn, and refuses the next one.
func (p *proxy) hangUp() {
	p.refused = make(chan struct{})
	p.refuse.Store(true)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.client.Close()
	}
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.client.Close()
		c.server.Close()
	}
}

// swallower is one connection through a proxy.
type swallower struct {
	client, server net.Conn
	silent         atomic.Bool
}

func (c *swallower) copy(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if !c.silent.Load() {
			to.Write(buf[:n])
		}
	}
}

func TestChannelBeginsBeforeTheServerIsThere(t *testing.T) {
	server := privatetest.Server(t)
	url, err := server.Database(t.Context(), "late")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	hints := listening(t, url)
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	nextHint(t, hints, broker.Hint{Connected: true})
}
