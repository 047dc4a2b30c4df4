package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/respirated/respirated/broker/postgres"
)

// shellCommand is a command for /bin/sh; "" = none.
type shellCommand string

// Set takes a command.
func (c *shellCommand) Set(text string) error {
	if strings.TrimSpace(text) == "" || strings.ContainsRune(text, 0) {
		return errors.New("want a command such as /usr/local/bin/page")
	}
	*c = shellCommand(text)
	return nil
}

func (c *shellCommand) String() string { return string(*c) }

// Type names the value in a help text.
func (c *shellCommand) Type() string { return "COMMAND" }

// UnmarshalYAML takes a command as text, also one of several lines.
func (c *shellCommand) UnmarshalYAML(node ast.Node) error {
	switch n := node.(type) {
	case *ast.LiteralNode:
		if c.Set(n.Value.Value) == nil {
			return nil
		}
	case *ast.StringNode:
		if c.Set(n.Value) == nil {
			return nil
		}
	}
	return misplaced(node, "a command such as /usr/local/bin/page")
}

const (
	pageEvery = 15 * time.Second // as often as pages are opened
	pageTime  = 30 * time.Second // for one run of the command
	pageTries = 5
	pagePause = 10 * time.Second // after the first failure; doubles
)

// pageStore is where pages are taken from, and where it is noted what has become of them.
type pageStore interface {
	ClaimPage(ctx context.Context, within time.Duration) (*postgres.Page, error)
	PageTold(ctx context.Context, p *postgres.Page) error
	PageAgain(ctx context.Context, p *postgres.Page, after time.Duration) error
}

// pageSender runs a command for each page of one database that is opened or resolved. The senders of several daemons share
// the work. A command that was cut off, by the end of a daemon or by its time, is run again.
type pageSender struct {
	command  shellCommand
	store    pageStore
	database string
	log      *slog.Logger

	every, limit, pause time.Duration // pageEvery, pageTime, pagePause but in tests
}

func newPageSender(command shellCommand, store pageStore, database string, log *slog.Logger) *pageSender {
	return &pageSender{command, store, database, log, pageEvery, pageTime, pagePause}
}

// sentPage is what the command reads.
type sentPage struct {
	Event    string         `json:"event"` // opened or resolved
	Database string         `json:"database"`
	Page     *postgres.Page `json:"page"`
}

// Run sends pages on until ctx ends.
func (s *pageSender) Run(ctx context.Context) error {
	for {
		if err := s.sendAll(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("pages are not sent on", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(s.every*3/4 + rand.N(s.every/2)):
		}
	}
}

// sendAll sends what there is, one after the other.
func (s *pageSender) sendAll(ctx context.Context) error {
	for {
		p, err := s.store.ClaimPage(ctx, 2*s.limit)
		if p == nil || err != nil {
			return err
		}
		if err := s.send(ctx, p); err != nil {
			return err
		}
	}
}

// send sends one, and notes what has become of it also when ctx has ended meanwhile.
func (s *pageSender) send(ctx context.Context, p *postgres.Page) error {
	failed := s.execute(ctx, p)
	stopped, ctx := ctx.Err() != nil, context.WithoutCancel(ctx)
	log := s.log.With("page", p.ID, "event", p.Event, "strand", p.Strand)
	switch {
	case failed == nil:
		log.Info("page sent on")
		return s.store.PageTold(ctx, p)
	case stopped: // it is not the command's fault
		p.Tries--
		return s.store.PageAgain(ctx, p, 0)
	case p.Tries >= pageTries:
		log.Error("page command failed, and the page is given up", "tries", p.Tries, "error", failed)
		return s.store.PageTold(ctx, p)
	}
	pause := s.pause << (p.Tries - 1)
	log.Warn("page command failed", "tries", p.Tries, "again", pause, "error", failed)
	return s.store.PageAgain(ctx, p, pause)
}

// execute runs the command.
func (s *pageSender) execute(ctx context.Context, p *postgres.Page) error {
	text, err := json.Marshal(sentPage{p.Event, s.database, p})
	if err != nil {
		return fmt.Errorf("write page %d as JSON: %w", p.ID, err)
	}
	_, err = runCommandOn(ctx, []string{"/bin/sh", "-c", string(s.command)}, append(text, '\n'), s.limit)
	return err
}
