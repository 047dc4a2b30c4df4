package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/client/internal/pgtext"
)

// A listing is bounded in every way, however many strands there are: each statement looks at no more than visitRows of
// them and ends after listTimeout, and a page that is not full after listBudget is handed out as it is.
const (
	DefaultFirst = 100
	MaxFirst     = 1000

	visitRows   = 10_000
	listTimeout = 5 * time.Second
	listBudget  = 2 * time.Second
)

// StrandListParams says which strands to list. An empty filter lets all through.
type StrandListParams struct {
	Kinds   []string
	Queues  []string
	Tenants []string
	States  []State
	Parent  string // only children of this strand
	First   int    // at most so many; 0 = DefaultFirst, at most MaxFirst
	After   string // StrandListResult.After of the page before, of the same filters; "" = from the beginning
}

// StrandListResult is a page of a listing.
type StrandListResult struct {
	Strands []*StrandRow // may be fewer than asked for, even none, though there are more
	After   string       // where to go on; "" = this was the last page
}

// StrandList reads strands page by page: first the live ones in the order of their ids, then the finished ones, newest
// first. A strand that is there all the time is listed once; one that changes meanwhile is shown as it was found. Nil
// params list all.
func (c *Client[TTx]) StrandList(ctx context.Context, params *StrandListParams) (*StrandListResult, error) {
	walk, err := newWalk(params)
	if err != nil {
		return nil, fmt.Errorf("list strands: %w", err)
	}
	var page *StrandListResult
	err = c.boundedly(ctx, func(db driver.Conn) error {
		page, err = c.page(ctx, db, walk)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list strands: %w", err)
	}
	return page, nil
}

// StrandListTx is StrandList as the caller's transaction sees it, under that transaction's own statement timeout.
func (c *Client[TTx]) StrandListTx(ctx context.Context, tx TTx, params *StrandListParams) (*StrandListResult, error) {
	walk, err := newWalk(params)
	if err != nil {
		return nil, fmt.Errorf("list strands: %w", err)
	}
	page, err := c.page(ctx, c.in(tx), walk)
	if err != nil {
		return nil, fmt.Errorf("list strands: %w", err)
	}
	return page, nil
}

// boundedly reads in a transaction whose statements end in time. It is rolled back, and the bound with it.
func (c *Client[TTx]) boundedly(ctx context.Context, read func(driver.Conn) error) error {
	return driver.Undone(ctx, c.db, c.cfg.Timeout, func(db driver.Conn) error {
		err := db.Query(ctx, func(driver.Scan) error { return nil }, c.sql.bounds, listTimeout.String())
		if err != nil {
			return err
		}
		return read(db)
	})
}

// page reads the strands that a walk finds.
func (c *Client[TTx]) page(ctx context.Context, db driver.Conn, w *walk) (*StrandListResult, error) {
	live, finished, err := c.find(ctx, db, w)
	if err != nil {
		return nil, err
	}
	page := &StrandListResult{After: w.at.String()}
	for _, part := range []struct {
		statement string
		ids       []string
	}{{c.sql.live, live}, {c.sql.finished, finished}} {
		if len(part.ids) == 0 {
			continue
		}
		rows, err := readStrands(ctx, db, part.statement, part.ids)
		if err != nil {
			return nil, err
		}
		page.Strands = append(page.Strands, rows...)
	}
	return page, nil
}

// find goes on with a walk until it has found enough, or the time for one page is over.
func (c *Client[TTx]) find(ctx context.Context, db driver.Conn, w *walk) (live, finished []string, err error) {
	lanes, err := c.pickLanes(ctx, db, w)
	if err != nil {
		return nil, nil, err
	}
	children, err := c.childrenKnown(ctx, db, w)
	if err != nil {
		return nil, nil, err
	}
	for end := time.Now().Add(listBudget); w.at.Phase != phaseEnd && w.left() > 0; {
		var ids []string
		if w.at.Phase == phaseLive {
			ids, err = c.visitLive(ctx, db, w, lanes, children)
			live = append(live, ids...)
		} else {
			ids, err = c.visitFinished(ctx, db, w)
			finished = append(finished, ids...)
		}
		if err != nil || time.Now().After(end) {
			break
		}
	}
	return live, finished, err
}

// pickLanes is nil where the filters ask for all lanes.
func (c *Client[TTx]) pickLanes(ctx context.Context, db driver.Conn, w *walk) (lanes any, err error) {
	if w.at.Phase != phaseLive || !w.filtersLanes() {
		return nil, nil
	}
	numbers := []string{}
	err = db.Query(ctx, func(scan driver.Scan) error {
		var n string
		err := scan(&n)
		numbers = append(numbers, n)
		return err
	}, c.sql.pickLanes, w.kinds, w.queues, w.tenants)
	return pgtext.Array(numbers), err
}

// childrenKnown tells whether the live children of a walk's parent can be looked up: so it is while that is live itself. Else
// all live strands have to be looked at.
func (c *Client[TTx]) childrenKnown(ctx context.Context, db driver.Conn, w *walk) (known bool, err error) {
	if w.parent == "" || w.at.Phase != phaseLive {
		return false, nil
	}
	err = db.Query(ctx, func(scan driver.Scan) error { return scan(&known) }, c.sql.isLive, w.parent)
	return known, err
}

func (c *Client[TTx]) visitLive(ctx context.Context, db driver.Conn, w *walk, lanes any, children bool) ([]string, error) {
	look := w.left()
	if len(w.live) < len(liveStates) || w.parent != "" {
		look = visitRows
	}
	statement := c.sql.visitLive
	if children {
		statement = c.sql.visitChildren
	}
	return c.visit(ctx, db, w, look, statement, orNull(w.at.ID), lanes, pgtext.Array(w.live), w.left(), look, orNull(w.parent))
}

func (c *Client[TTx]) visitFinished(ctx context.Context, db driver.Conn, w *walk) ([]string, error) {
	look := w.left()
	if len(w.finished) < len(finishedStates) || w.filtersLanes() || w.parent != "" {
		look = visitRows
	}
	return c.visit(ctx, db, w, look, c.sql.visitFinished, w.at.At, w.at.ID, pgtext.Array(w.finished), w.kinds, w.queues, w.tenants,
		w.left(), look, orNull(w.parent))
}

// visit looks at no more than look strands, and moves the walk behind them.
func (c *Client[TTx]) visit(ctx context.Context, db driver.Conn, w *walk, look int, statement string, args ...any) ([]string, error) {
	var foundText, lastText string
	var seen int
	err := db.Query(ctx, func(scan driver.Scan) error { return scan(&foundText, &seen, &lastText) }, statement, args...)
	if err != nil {
		return nil, err
	}
	var found []position
	var last position
	if err := errors.Join(json.Unmarshal([]byte(foundText), &found), json.Unmarshal([]byte(lastText), &last)); err != nil {
		return nil, err
	}
	w.advance(found, last, seen < look)
	ids := make([]string, len(found))
	for i, p := range found {
		ids[i] = p.ID
	}
	return ids, nil
}

func orNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}
