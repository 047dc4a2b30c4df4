package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// inboxes reads what waits for strands. One that is gone, or for which nothing waits, has none.
func (s *Store) inboxes(ctx context.Context, ids uuids) (map[broker.ID]*broker.Inbox, error) {
	rows, err := query(ctx, s, scanWaiting, "inbox", ids, broker.InboxItems+1, broker.InboxBytes)
	if err != nil {
		return nil, err
	}
	all := make(map[broker.ID]*broker.Inbox, len(ids))
	for i := range rows {
		r := &rows[i]
		in := all[r.strand]
		if in == nil {
			in = new(broker.Inbox)
			all[r.strand] = in
		}
		r.addTo(in)
	}
	for id, in := range all {
		if in.Left == 0 && len(in.Semaphores) == 0 && len(in.Ended) == 0 {
			delete(all, id)
		}
	}
	return all, nil
}

// waitingRow is a row of inbox.sql.
type waitingRow struct {
	strand broker.ID
	part   int
	number pgtype.Int8
	child  pgtype.UUID
	name   pgtype.Text
	state  pgtype.Text
	at     pgtype.Timestamptz
	cut    bool
	value  []byte
}

func scanWaiting(row pgx.CollectableRow) (r waitingRow, err error) {
	err = row.Scan((*[16]byte)(&r.strand), &r.part, &r.number, &r.child, &r.name, &r.state, &r.at, &r.cut, &r.value)
	return r, err
}

// addTo adds a row to the inbox of its strand, as far as it fits.
func (r *waitingRow) addTo(in *broker.Inbox) {
	switch {
	case r.part == 0:
		in.Left = int(r.number.Int64)
	case r.cut:
		in.More = true
	case r.part == 1 && len(in.Semaphores) < broker.InboxItems:
		in.Semaphores = append(in.Semaphores, broker.Semaphore{ID: r.number.Int64, Name: r.name.String, Value: r.value, Sent: r.at.Time})
	case r.part == 2 && len(in.Ended) < broker.InboxItems:
		in.Ended = append(in.Ended, broker.Ended{ID: r.child.Bytes, Kind: r.name.String, State: r.state.String, Value: r.value})
	default:
		in.More = true
	}
}
