package client

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/respirated/respirated/client/internal/driver"
)

// BrokerRow is a broker as it last made itself known.
type BrokerRow struct {
	ID         string    `json:"id"` // drawn at its start
	Host       string    `json:"host"`
	PID        int       `json:"pid"`
	Build      string    `json:"build"`
	Lo         int64     `json:"lo"`        // it looks after ids whose first 32 bits are at least Lo, of some kinds perhaps after some of them
	Hi         int64     `json:"hi"`        // and less than Hi; none, if that is Lo
	Partition  int       `json:"partition"` // its number; 0 = it has none
	Rank       int       `json:"rank"`      // its place among the live numbers that have workers, from 1 on; 0 = it has no number, or no workers
	Members    int       `json:"members"`   // how many parts it believes there are, but for kinds that not all of them serve
	Kinds      []string  `json:"kinds"`
	Workers    int       `json:"workers"`
	Slots      int       `json:"slots"`
	Busy       bool      `json:"busy"`
	Alive      bool      `json:"alive"`
	AliveUntil time.Time `json:"alive_until"`
	StartedAt  time.Time `json:"started_at"`
}

// BrokerList reads the brokers that are there, and those that were within the last day, by host.
func (c *Client[TTx]) BrokerList(ctx context.Context) ([]*BrokerRow, error) {
	return c.brokerList(ctx, c.pool())
}

// BrokerListTx is BrokerList as the caller's transaction sees it.
func (c *Client[TTx]) BrokerListTx(ctx context.Context, tx TTx) ([]*BrokerRow, error) {
	return c.brokerList(ctx, c.in(tx))
}

func (c *Client[TTx]) brokerList(ctx context.Context, db driver.Conn) ([]*BrokerRow, error) {
	var brokers []*BrokerRow
	err := db.Query(ctx, func(scan driver.Scan) error {
		var b BrokerRow
		var kinds string
		err := scan(&b.ID, &b.Host, &b.PID, &b.Build, &b.Lo, &b.Hi, &b.Partition, &b.Rank, &b.Members, &kinds, &b.Workers, &b.Slots, &b.Busy,
			&b.Alive, &b.AliveUntil, &b.StartedAt)
		if err != nil {
			return err
		}
		brokers = append(brokers, &b)
		return json.Unmarshal([]byte(kinds), &b.Kinds)
	}, c.sql.brokers)
	if err != nil {
		return nil, fmt.Errorf("list brokers: %w", err)
	}
	return brokers, nil
}
