package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// What becomes of a page, in the order in which it is sent on.
const (
	PageOpened   = "opened"
	PageResolved = "resolved"
)

// pagesRemembered is how long ago a page may have been resolved that is sent on though nobody was there to send it on when
// it was open.
const pagesRemembered = time.Hour

// Page is one that is to be sent on: that it was opened, or that it is resolved.
type Page struct {
	ID         int64      `json:"id"`
	Strand     string     `json:"strand"`
	Frame      int        `json:"frame"` // how many callers the frame has whose deadline it is
	Kind       string     `json:"kind"`
	Target     string     `json:"target"` // the label that it should have reached
	DueAt      time.Time  `json:"due_at"`
	OpenedAt   time.Time  `json:"opened_at"`
	ResolvedAt *time.Time `json:"resolved_at,omitempty"` // nil = it is open
	Why        string     `json:"why,omitempty"`         // it is resolved

	Event string `json:"-"` // PageOpened or PageResolved
	Tries int    `json:"-"` // this one included
}

// ClaimPage takes the next page that is to be sent on, and nil where there is none. Nobody else gets it before the given
// time is over, within which [Store.PageTold] or [Store.PageAgain] is to say what has become of it.
func (s *Store) ClaimPage(ctx context.Context, within time.Duration) (*Page, error) {
	pages, err := query(ctx, s, func(row pgx.CollectableRow) (*Page, error) {
		var p Page
		return &p, row.Scan(&p.ID, &p.Event, &p.Tries, &p.Strand, &p.Frame, &p.Kind, &p.Target, &p.DueAt, &p.OpenedAt, &p.ResolvedAt, &p.Why)
	}, "page_claim", within, pagesRemembered)
	if err != nil {
		return nil, s.failed(err, "look for pages to send on")
	}
	if len(pages) == 0 {
		return nil, nil
	}
	return pages[0], nil
}

// PageTold notes that a page was sent on, or given up.
func (s *Store) PageTold(ctx context.Context, p *Page) error {
	if err := s.exec(ctx, "page_told", p.ID, p.Event); err != nil {
		return s.failed(err, "note that page %d was sent on", p.ID)
	}
	return nil
}

// PageAgain gives a page back, for somebody to try again after a while; p.Tries are those so far.
func (s *Store) PageAgain(ctx context.Context, p *Page, after time.Duration) error {
	if err := s.exec(ctx, "page_again", p.ID, after, p.Tries); err != nil {
		return s.failed(err, "give back page %d", p.ID)
	}
	return nil
}
