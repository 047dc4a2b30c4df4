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

// StrandSignalMany sends a semaphore to all live strands that match, in batches, and tells to how many. signal.ID stays empty.
// After an error that is how many it had reached by then; a repeated call sends to these once more.
func (c *Client[TTx]) StrandSignalMany(ctx context.Context, params *StrandManyParams, signal SignalParams) (int, error) {
	verb, err := c.signalMany(signal)
	if err != nil {
		return 0, err
	}
	return c.many(ctx, c.own(ctx), verb, params)
}

// StrandSignalManyTx is StrandSignalMany inside the caller's transaction, whole or not at all.
func (c *Client[TTx]) StrandSignalManyTx(ctx context.Context, tx TTx, params *StrandManyParams, signal SignalParams) (int, error) {
	verb, err := c.signalMany(signal)
	if err != nil {
		return 0, err
	}
	return c.many(ctx, c.within(tx), verb, params)
}

// manyVerb is what may be done to all strands that match.
type manyVerb struct {
	name    string
	states  []State // where the caller names none
	allowed []State
	steer   func(ctx context.Context, db driver.Conn, ids []string) (steered int, err error)
}

func (c *Client[TTx]) cancelMany() manyVerb {
	return manyVerb{name: "cancel", states: liveStates, allowed: liveStates, steer: steerBy(c.sql.cancel)}
}

func (c *Client[TTx]) retryMany() manyVerb {
	return manyVerb{name: "retry", states: []State{Dead}, allowed: allStates, steer: steerBy(c.sql.retry)}
}

func (c *Client[TTx]) signalMany(signal SignalParams) (manyVerb, error) {
	if signal.ID != "" {
		return manyVerb{}, errors.New("signal many strands: the signal names one of them; leave its ID empty")
	}
	signal.ID = "00000000-0000-0000-0000-000000000000" // in place of those that are found
	columns, err := signalColumns([]SignalParams{signal})
	if err != nil {
		return manyVerb{}, err
	}
	steer := func(ctx context.Context, db driver.Conn, ids []string) (int, error) {
		to := signalTexts{ids: ids}
		for range ids {
			to.names, to.values, to.wakes = append(to.names, columns.names[0]), append(to.values, columns.values[0]), append(to.wakes, columns.wakes[0])
		}
		there, err := c.signal(ctx, db, to)
		return len(slices.DeleteFunc(there, func(there bool) bool { return !there })), err
	}
	return manyVerb{name: "signal", states: liveStates, allowed: liveStates, steer: steer}, nil
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
	n := 0
	err = in.write(func(db driver.Conn) error {
		n, err = verb.steer(ctx, db, ids)
		return err
	})
	return n, err
}

// steerBy runs cancel.sql or retry.sql, and counts the strands that were there.
func steerBy(statement string) func(context.Context, driver.Conn, []string) (int, error) {
	return func(ctx context.Context, db driver.Conn, ids []string) (int, error) {
		states, err := steerAll(ctx, db, statement, ids)
		return len(slices.DeleteFunc(states, func(s State) bool { return s == "" })), err
	}
}
