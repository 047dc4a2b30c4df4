package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// Lease implements [broker.Store].
func (s *Store) Lease(ctx context.Context, pairs []broker.Pair, ttl time.Duration) ([]broker.Strand, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	leased, err := s.takeReadable(ctx, s.broken.without(pairs, time.Now()), ttl)
	if err != nil {
		return nil, s.failed(err, "lease %d strands", len(pairs))
	}
	return s.inLanes(ctx, leased)
}

// inLanes adds to leased strands what is to be said of their lanes, and what waits for them.
func (s *Store) inLanes(ctx context.Context, leased leasedRows) ([]broker.Strand, error) {
	known, err := s.lanesOf(ctx, leased.lanes)
	if err != nil {
		return nil, s.failed(err, "look up the lanes of %d leased strands", len(leased.lanes))
	}
	for i := range leased.strands {
		st := &leased.strands[i]
		l, ok := known[leased.lanes[i]]
		if !ok {
			return nil, fmt.Errorf("strand %s is in lane %d, which is not in respirate.lane: delete it or make that lane", st.ID, leased.lanes[i])
		}
		st.Kind, st.Tenant, st.Queue, st.Priority = l.kind, l.tenant, l.queue, int(l.priority)
	}
	return s.withInboxes(ctx, leased)
}

// withInboxes adds what waits for the strands. It is read after the lease: whatever has come by then is in it, or is heard at
// the next nap.
func (s *Store) withInboxes(ctx context.Context, leased leasedRows) ([]broker.Strand, error) {
	if leased.mail == nil {
		return leased.strands, nil
	}
	inboxes, err := s.inboxes(ctx, leased.mail)
	if err != nil {
		return nil, s.failed(err, "read what waits for %d leased strands", len(leased.mail))
	}
	for i := range leased.strands {
		leased.strands[i].Inbox = inboxes[leased.strands[i].ID]
	}
	return leased.strands, nil
}

// leasedRows are the rows of lease.sql. What its lane adds is missing in a strand.
type leasedRows struct {
	strands []broker.Strand
	lanes   []int32 // of each
	mail    uuids   // those for which something may wait; nil = none
}

func (l *leasedRows) add(m leasedRows) {
	l.strands, l.lanes, l.mail = append(l.strands, m.strands...), append(l.lanes, m.lanes...), append(l.mail, m.mail...)
}

// takeReadable takes leases. Where a row cannot be read it halves the pairs until that one is alone, and leaves it out.
func (s *Store) takeReadable(ctx context.Context, pairs []broker.Pair, ttl time.Duration) (none leasedRows, err error) {
	if len(pairs) == 0 {
		return none, nil
	}
	leased, err := s.takeLeases(ctx, pairs, ttl)
	if !unreadable(err) {
		return leased, err
	}
	if len(pairs) == 1 {
		if s.broken.note(pairs[0].ID, time.Now()) {
			s.log.Error("strand cannot be read, it is left out: repair its row, or delete it", "strand", pairs[0].ID, "error", err)
		}
		return none, nil
	}
	half := len(pairs) / 2
	first, err := s.takeReadable(ctx, pairs[:half], ttl)
	if err != nil {
		return none, err
	}
	second, err := s.takeReadable(ctx, pairs[half:], ttl)
	first.add(second)
	return first, err
}

// takeLeases waits for locked rows no longer than the lock timeout, and then for a while not at all.
func (s *Store) takeLeases(ctx context.Context, pairs []broker.Pair, ttl time.Duration) (leasedRows, error) {
	ids, tokens := pairColumns(pairs)
	if !s.blocked.wary(leases, time.Now()) && !s.blocked.any(ids) {
		leased, err := s.queryLeases(ctx, s.pool, "lease", len(ids), ids, tokens, ttl)
		if !contention(err) {
			return leased, err
		}
		s.blocked.waited(leases, time.Now())
	}
	leased, err := s.queryLeases(ctx, s.pool, "lease_free", len(ids), ids, tokens, ttl)
	if err != nil {
		return leased, err
	}
	got := make(map[broker.ID]bool, len(leased.strands))
	for i := range leased.strands {
		got[leased.strands[i].ID] = true
	}
	for _, p := range pairs {
		s.blocked.note(p.ID, !got[p.ID])
	}
	return leased, nil
}

// queryLeases runs lease.sql, lease_free.sql, take.sql or take_lane.sql, which return the same: at most so many rows.
func (s *Store) queryLeases(ctx context.Context, q querier, name string, most int, args ...any) (leasedRows, error) {
	leased := leasedRows{strands: make([]broker.Strand, 0, most), lanes: make([]int32, 0, most)}
	var st broker.Strand
	var lane int32
	var mail bool
	err := each(ctx, q, s.sql.get(name), func() {
		leased.strands, leased.lanes = append(leased.strands, st), append(leased.lanes, lane)
		if mail {
			leased.mail = append(leased.mail, st.ID)
		}
	}, []any{(*[16]byte)(&st.ID), (*[16]byte)(&st.Token), &lane, &st.Label, &st.Args, &st.Stack, &st.Try, &st.MaxTries,
		&st.Crashes, &st.Created, &st.Tags, &st.Metadata, &mail}, args...)
	return leased, err
}

// lanesOf asks for the lanes that no scan has told us of.
func (s *Store) lanesOf(ctx context.Context, numbers []int32) (map[int32]lane, error) {
	known, unknown := s.lanes.get(numbers)
	if unknown == nil {
		return known, nil
	}
	slices.Sort(unknown)
	found, err := query(ctx, s, scanLane, "lane", slices.Compact(unknown))
	s.lanes.learn(found)
	for _, l := range found {
		known[l.number] = l
	}
	return known, err
}

// Renew implements [broker.Store].
func (s *Store) Renew(ctx context.Context, pairs []broker.Pair, ttl time.Duration) ([]broker.Kept, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	ids, tokens := pairColumns(pairs)
	kept, err := query(ctx, s, scanKept, "renew", ids, tokens, ttl)
	if err != nil {
		return nil, s.failed(err, "renew %d leases", len(pairs))
	}
	if len(kept) == len(pairs) {
		return kept, nil
	}
	return s.addLocked(ctx, pairs, kept)
}

func scanKept(row pgx.CollectableRow) (k broker.Kept, err error) {
	err = row.Scan((*[16]byte)(&k.ID), (*[16]byte)(&k.Token), &k.Cancel)
	return k, err
}

// addLocked tells leases that could not be extended now from those that are lost.
func (s *Store) addLocked(ctx context.Context, pairs []broker.Pair, kept []broker.Kept) ([]broker.Kept, error) {
	have := make(map[broker.Pair]bool, len(kept))
	for _, k := range kept {
		have[k.Pair] = true
	}
	rest := slices.DeleteFunc(slices.Clone(pairs), func(p broker.Pair) bool { return have[p] })
	ids, tokens := pairColumns(rest)
	locked, err := query(ctx, s, scanLocked, "locked", ids, tokens)
	if err != nil {
		return nil, s.failed(err, "look for %d leases not renewed", len(rest))
	}
	return append(kept, locked...), nil
}

func scanLocked(row pgx.CollectableRow) (k broker.Kept, err error) {
	k.Locked = true
	err = row.Scan((*[16]byte)(&k.ID), (*[16]byte)(&k.Token))
	return k, err
}

// pairColumns are two columns of a statement, in the order of ids.
func pairColumns(pairs []broker.Pair) (ids, tokens uuids) {
	sorted := slices.Clone(pairs)
	slices.SortFunc(sorted, func(a, b broker.Pair) int { return slices.Compare(a.ID[:], b.ID[:]) })
	ids, tokens = make(uuids, len(pairs)), make(uuids, len(pairs))
	for i, p := range sorted {
		ids[i], tokens[i] = p.ID, p.Token
	}
	return ids, tokens
}
