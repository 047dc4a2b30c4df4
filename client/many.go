package client

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/respirated/respirated/client/internal/driver"
)

// manyBatch is how many strands one statement of a verb on many steers; outside of a caller's transaction each is one of
// its own.
const manyBatch = 500

// StrandManyParams says which strands a verb is for. An empty filter lets all through.
type StrandManyParams struct {
	Kinds   []string
	Queues  []string
	Tenants []string
	States  []State // empty: as the verb says
	All     bool    // to be set where neither kinds nor queues nor tenants are
}

// StrandCancelMany cancels all live strands that match, in batches, and tells how many it cancelled or asked to stop.
// After an error that is how many it had reached by then, and the call may be repeated.
func (c *Client[TTx]) StrandCancelMany(ctx context.Context, params *StrandManyParams) (int, error) {
	return c.many(ctx, c.own(ctx), c.cancelMany(), params)
}

// StrandCancelManyTx is StrandCancelMany inside the caller's transaction, whole or not at all.
func (c *Client[TTx]) StrandCancelManyTx(ctx context.Context, tx TTx, params *StrandManyParams) (int, error) {
	return c.many(ctx, c.within(tx), c.cancelMany(), params)
}

// StrandRetryMany makes all strands that match due now, in batches, and tells how many: the dead ones, unless params
// name other states. After an error that is how many it had reached by then, and the call may be repeated.
func (c *Client[TTx]) StrandRetryMany(ctx context.Context, params *StrandManyParams) (int, error) {
	return c.many(ctx, c.own(ctx), c.retryMany(), params)
}

// StrandRetryManyTx is StrandRetryMany inside the caller's transaction, whole or not at all.
func (c *Client[TTx]) StrandRetryManyTx(ctx context.Context, tx TTx, params *StrandManyParams) (int, error) {
	return c.many(ctx, c.within(tx), c.retryMany(), params)
}

// manyVerb is what may be done to all strands that match.
type manyVerb struct {
	name, statement string
	states          []State // where the caller names none
	allowed         []State
}

func (c *Client[TTx]) cancelMany() manyVerb {
	return manyVerb{name: "cancel", statement: c.sql.cancel, states: liveStates, allowed: liveStates}
}

func (c *Client[TTx]) retryMany() manyVerb {
	return manyVerb{name: "retry", statement: c.sql.retry, states: []State{Dead}, allowed: allStates}
}

// steps are where a verb looks for strands, and where it steers them.
type steps struct {
	read, write func(work func(driver.Conn) error) error
}

// own gives each step a transaction of its own, so that no lock is held for longer than a batch.
func (c *Client[TTx]) own(ctx context.Context) steps {
	return steps{
		read:  func(work func(driver.Conn) error) error { return c.boundedly(ctx, work) },
		write: func(work func(driver.Conn) error) error { return c.atomically(ctx, true, work) },
	}
}

func (c *Client[TTx]) within(tx TTx) steps {
	run := func(work func(driver.Conn) error) error { return work(c.in(tx)) }
	return steps{read: run, write: run}
}

func (c *Client[TTx]) many(ctx context.Context, in steps, verb manyVerb, params *StrandManyParams) (int, error) {
	w, err := verb.walk(params)
	if err != nil {
		return 0, fmt.Errorf("%s many strands: %w", verb.name, err)
	}
	steered := 0
	for w.at.Phase != phaseEnd {
		n, err := c.steerSome(ctx, in, verb, w)
		steered += n
		if err != nil {
			return steered, fmt.Errorf("%s many strands, after %d: %w", verb.name, steered, err)
		}
	}
	c.cfg.Logger.InfoContext(ctx, "strands steered", "verb", verb.name, "count", steered)
	return steered, nil
}

func (v manyVerb) walk(params *StrandManyParams) (*walk, error) {
	if params == nil {
		params = &StrandManyParams{}
	}
	list := StrandListParams{Kinds: params.Kinds, Queues: params.Queues, Tenants: params.Tenants, States: params.States, First: manyBatch}
	if len(list.States) == 0 {
		list.States = v.states
	}
	for _, s := range list.States {
		if !slices.Contains(v.allowed, s) {
			return nil, fmt.Errorf("state %.40q is none of %v", s, v.allowed)
		}
	}
	w, err := newWalk(&list)
	if err == nil && !w.filtersLanes() && !params.All {
		return nil, errors.New("no kind, queue or tenant is given; set All to mean every strand")
	}
	return w, err
}

// steerSome does the next batch of a walk.
func (c *Client[TTx]) steerSome(ctx context.Context, in steps, verb manyVerb, w *walk) (int, error) {
	var ids []string
	w.found = 0
	err := in.read(func(db driver.Conn) error {
		live, finished, err := c.find(ctx, db, w)
		ids = slices.Concat(live, finished)
		return err
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	slices.Sort(ids) // so that two who steer the same strands do not wait for each other crosswise
	var states []State
	err = in.write(func(db driver.Conn) error {
		states, err = steerAll(ctx, db, verb.statement, ids)
		return err
	})
	return len(slices.DeleteFunc(states, func(s State) bool { return s == "" })), err
}
