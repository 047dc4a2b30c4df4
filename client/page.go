package client

import (
	"context"
	"fmt"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
)

// PageRow is a page: a deadline that has passed, for people to look at.
type PageRow struct {
	ID         int64      `json:"id"`
	Strand     string     `json:"strand"`
	Frame      int        `json:"frame"` // how many callers the frame has whose deadline it is
	Kind       string     `json:"kind"`
	Target     string     `json:"target"` // the label that it should have reached
	DueAt      time.Time  `json:"due_at"`
	OpenedAt   time.Time  `json:"opened_at"`
	ResolvedAt *time.Time `json:"resolved_at,omitempty"` // nil = it is open
	Why        string     `json:"why,omitempty"`         // it is over: reached, returned, replaced, by hand, or the state that its strand ended in
}

// PageListParams says which pages to list.
type PageListParams struct {
	All    bool  // those that are resolved, too, as far as they are kept
	First  int   // at most so many; 0 = DefaultFirst, at most MaxFirst
	Before int64 // only those with a smaller id; 0 = from the newest
}

// PageList reads pages, the newest first. Nil params list those that are open.
func (c *Client[TTx]) PageList(ctx context.Context, params *PageListParams) ([]*PageRow, error) {
	return c.pageList(ctx, c.pool(), params)
}

// PageListTx is PageList as the caller's transaction sees it.
func (c *Client[TTx]) PageListTx(ctx context.Context, tx TTx, params *PageListParams) ([]*PageRow, error) {
	return c.pageList(ctx, c.in(tx), params)
}

func (c *Client[TTx]) pageList(ctx context.Context, db driver.Conn, params *PageListParams) ([]*PageRow, error) {
	if params == nil {
		params = &PageListParams{}
	}
	first := params.First
	switch {
	case first == 0:
		first = DefaultFirst
	case first < 0 || first > MaxFirst:
		return nil, fmt.Errorf("list pages: first is %d, not 1 to %d", first, MaxFirst)
	}
	var before any
	if params.Before != 0 {
		before = params.Before
	}
	all := 0
	if params.All {
		all = 1
	}
	var pages []*PageRow
	err := db.Query(ctx, func(scan driver.Scan) error {
		var p PageRow
		err := scan(&p.ID, &p.Strand, &p.Frame, &p.Kind, &p.Target, &p.DueAt, &p.OpenedAt, &p.ResolvedAt, &p.Why)
		pages = append(pages, &p)
		return err
	}, c.sql.pages, before, all, first)
	if err != nil {
		return nil, fmt.Errorf("list pages: %w", err)
	}
	return pages, nil
}

// PageResolve closes a page by hand, and tells why it is over: it may have been so already. The strand goes on as it does, and no
// other page is opened for the same deadline. One that is not there gives [ErrPageNotFound]. It needs the rights of
// respirate.grant_operator(role), and leaves an [Audit].
func (c *Client[TTx]) PageResolve(ctx context.Context, id int64, by string) (why string, err error) {
	err = c.atomically(ctx, true, func(db driver.Conn) error {
		why, err = c.pageResolve(ctx, db, id, by)
		return err
	})
	return why, err
}

// PageResolveTx is PageResolve inside the caller's transaction.
func (c *Client[TTx]) PageResolveTx(ctx context.Context, tx TTx, id int64, by string) (why string, err error) {
	return c.pageResolve(ctx, c.in(tx), id, by)
}

func (c *Client[TTx]) pageResolve(ctx context.Context, db driver.Conn, id int64, by string) (string, error) {
	if err := checkOptionalName(by); err != nil {
		return "", fmt.Errorf("resolve page: by %w", err)
	}
	var why *string
	if err := db.Query(ctx, func(scan driver.Scan) error { return scan(&why) }, c.sql.resolvePage, id, by); err != nil {
		return "", fmt.Errorf("resolve page %d: %w", id, err)
	}
	if why == nil {
		return "", fmt.Errorf("resolve page %d: %w", id, ErrPageNotFound)
	}
	c.cfg.Logger.InfoContext(ctx, "page resolved", "page", id, "why", *why, "by", by)
	return *why, nil
}
