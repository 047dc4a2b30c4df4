package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

const (
	pingEvery    = 5 * time.Second // a cut that nobody told us of is noticed after twice that
	reconnectMin = 50 * time.Millisecond
	reconnectMax = 5 * time.Second
)

// Channel listens for notifications on a connection of its own. It implements [broker.Channel].
type Channel struct {
	config    *pgx.ConnConfig
	wake      string        // says what is due
	partition string        // says which brokers are there
	ping      time.Duration // how long silence may last before the server is asked whether it is there, and its answer
	log       *slog.Logger
}

var _ broker.Channel = (*Channel)(nil)

// NewChannel prepares a channel; Run connects. The URL must lead straight to the server: LISTEN does not work through a
// pooler that hands connections out by transaction.
func NewChannel(cfg Config) (*Channel, error) {
	cfg = cfg.withDefaults()
	if err := checkSchema(cfg.Schema); err != nil {
		return nil, err
	}
	pool, err := cfg.pool()
	if err != nil {
		return nil, err
	}
	return &Channel{
		config: pool.ConnConfig, wake: wakeChannel(cfg.Schema), partition: partitionChannel(cfg.Schema),
		ping: pingEvery, log: cfg.Logger,
	}, nil
}

// Run implements [broker.Channel]. It returns only when ctx ends, and then nil.
func (c *Channel) Run(ctx context.Context, notify func(broker.Hint)) error {
	pause, level := time.Duration(0), slog.LevelWarn
	for ctx.Err() == nil {
		heard, err := c.listen(ctx, notify)
		if ctx.Err() != nil {
			break
		}
		pause = nextPause(pause, heard)
		if heard {
			level = slog.LevelWarn
		}
		c.log.Log(ctx, level, "not listening for notifications", "error", oneLine(err), "retry", pause)
		level = slog.LevelDebug // the next attempts say nothing new
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// nextPause doubles the pause before the next try, with jitter, and begins anew once a connection has worked.
func nextPause(last time.Duration, worked bool) time.Duration {
	if worked || last == 0 {
		last = reconnectMin / 2
	}
	next := min(2*last, reconnectMax)
	return next/2 + rand.N(next/2+1)
}

// listen connects and hands on what comes until something fails. It tells whether it got as far as listening.
func (c *Channel) listen(ctx context.Context, notify func(broker.Hint)) (worked bool, err error) {
	conn, err := pgx.ConnectConfig(ctx, c.config)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	if err := c.ask(ctx, conn, "listen "+quoted(c.wake)+"; listen "+quoted(c.partition)); err != nil {
		return false, err
	}
	notify(broker.Hint{Connected: true})
	for {
		if err := c.next(ctx, conn, notify); err != nil {
			return true, err
		}
	}
}

// next waits for one notification, or, when none comes for a while, sees whether the server is still there.
func (c *Channel) next(ctx context.Context, conn *pgx.Conn, notify func(broker.Hint)) error {
	waiting, cancel := context.WithTimeout(ctx, c.ping)
	defer cancel()
	n, err := conn.WaitForNotification(waiting)
	switch {
	case err == nil:
		notify(c.hintOf(n))
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded) && !conn.IsClosed():
		return c.ask(ctx, conn, "-- are you there")
	}
	return err
}

// ask sends a statement that has no parameters and needs an answer soon.
func (c *Channel) ask(ctx context.Context, conn *pgx.Conn, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, c.ping)
	defer cancel()
	_, err := conn.Exec(ctx, sql)
	return err
}

// hintOf reads a notification. Anybody may send one, with any text in it.
func (c *Channel) hintOf(n *pgconn.Notification) broker.Hint {
	if n.Channel == c.partition {
		return presenceHint(n.Payload)
	}
	return wakeHint(n.Payload)
}

// presenceHint reads what a broker tells of itself.
func presenceHint(text string) broker.Hint {
	p, ok := parsePresence(text)
	if !ok {
		return broker.Hint{Bad: fmt.Sprintf("%.60q", text)}
	}
	return broker.Hint{Presence: &p}
}

// wakeHint reads what respirate.tell() says. A text that we do not know says that anything may be due.
func wakeHint(text string) broker.Hint {
	firsts, due := strings.CutPrefix(text, "due ")
	if !due {
		return broker.Hint{Cancel: text == "cancel", Lanes: text == "lane"}
	}
	var h broker.Hint
	for word := range strings.SplitSeq(firsts, " ") {
		first, err := hex.DecodeString(word)
		if err != nil || len(first) != 1 {
			return broker.Hint{}
		}
		h.Due = append(h.Due, first[0])
	}
	return h
}

func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	conn.Close(ctx) // whether the server hears of it does not matter
}
