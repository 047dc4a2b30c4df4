package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// Announce implements [broker.Store].
func (s *Store) Announce(ctx context.Context, a broker.Announcement, ttl time.Duration) error {
	hi := a.Slice.Hi
	if hi == 0 {
		hi = 1 << 32
	}
	kinds := a.Kinds
	if kinds == nil {
		kinds = []string{}
	}
	changed := s.unsettle(a)
	err := s.exec(ctx, "announce", [16]byte(a.Broker), clean(a.Host), a.PID, clean(a.Build), int64(a.Slice.Lo), int64(hi),
		kinds, a.Workers, a.Slots, a.Busy, a.Number, a.Rank, a.Members, ttl)
	if err != nil {
		return s.failed(err, "announce broker %s", a.Broker)
	}
	if changed {
		if err := s.settle(ctx); err != nil {
			return s.failed(err, "draw a transaction id after announcing broker %s", a.Broker)
		}
	}
	s.mu.Lock()
	s.announced = a
	due := time.Since(s.paged) >= pageEvery
	if due {
		s.paged = time.Now()
	}
	s.mu.Unlock()
	if due {
		s.openPages(ctx)
	}
	return nil
}

// openPages opens the pages of deadlines that have passed.
func (s *Store) openPages(ctx context.Context) {
	open, err := query(ctx, s, pgx.RowTo[int], "page_due")
	if err != nil {
		if ctx.Err() == nil {
			s.log.Warn("pages of deadlines not opened", "error", err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pages = open[0]
}

// PagesOpen is how many pages were open when deadlines were last looked at, which a broker does each 15 s or so. They are
// counted up to 10,000.
func (s *Store) PagesOpen() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pages
}

// pageEvery is how often a broker looks for deadlines that have passed, at most: with an announcement, which it makes every
// 15 s or so. So that costs no statement of its own each second, and none of the busy.
const pageEvery = 10 * time.Second

// unsettle says whether an announcement changes what inserters go by. If so, no scan is settled until settle is done.
func (s *Store) unsettle(a broker.Announcement) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a.Broker == s.announced.Broker && a.Busy == s.announced.Busy && a.Slice == s.announced.Slice && s.barrier != 0 {
		return false
	}
	s.barrier = 0
	return true
}

// settle draws the barrier that tells when all are over who may have seen an older announcement.
//
// An inserter first writes its row, which draws its transaction an id, and then looks whether some broker is idle. If it
// saw us busy, it looked before our newer announcement was committed; so an id that is drawn after that, as here, is
// newer. All older transactions are over, and their rows visible, to a snapshot whose xmin is not below it.
//
// The id of the announcement's own transaction would not do: an inserter may draw a later one and still look before
// the announcement commits. Nor would the xmax of a snapshot, which is below the ids of transactions under way.
func (s *Store) settle(ctx context.Context) error {
	drawn, err := query(ctx, s, pgx.RowTo[int64], "xid")
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.barrier = drawn[0]
	return nil
}

// Leave implements [broker.Store].
func (s *Store) Leave(ctx context.Context, id broker.ID) error {
	if err := s.exec(ctx, "leave", [16]byte(id)); err != nil {
		return s.failed(err, "withdraw broker %s", id)
	}
	return nil
}

// settled says whether a scan, whose snapshot had this xmin, has seen the rows of all who may have seen an older
// announcement.
func (s *Store) settled(xmin int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.barrier != 0 && xmin >= s.barrier
}

// host is where our broker runs, for the record of failures.
func (s *Store) host() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clean(s.announced.Host)
}
