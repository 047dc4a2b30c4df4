package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// Steps that workers take in transactions of their own are taken by respirate.step(). What is left to do here is to say whether
// they were: there is a row in respirate.outcome from the commit on. Nearly always it is there when the worker reports.

// findOwn settles the reports of such steps that were taken.
func (s *Store) findOwn(ctx context.Context, entries []*entry) error {
	own, tokens := ownSteps(entries)
	if own == nil {
		return nil
	}
	taken, err := takenSteps(ctx, s.pool, s.sql, tokens)
	if err != nil {
		return err
	}
	for _, e := range own {
		if taken[e.report.Token] {
			e.verdict = broker.Verdict{State: broker.Applied}
		}
	}
	return nil
}

// findOwn makes failures of the reports whose step was not taken, and will not be: their rows are ours now, so that nobody is about
// to. It looks for the outcomes last: a step that was under way when lock looked may be taken by then.
func (l *look) findOwn(ctx context.Context) error {
	own, tokens := ownSteps(l.entries)
	if own == nil {
		return nil
	}
	taken, err := takenSteps(ctx, l.tx, l.sql, tokens)
	if err != nil {
		return err
	}
	for _, e := range own {
		if e.own = taken[e.report.Token]; e.own {
			continue
		}
		failure := e.report.NotCommitted()
		e.report = &failure
	}
	return nil
}

// ownSteps are the open reports of such steps, and their tokens.
func ownSteps(entries []*entry) (own []*entry, tokens uuids) {
	for _, e := range entries {
		if e.open() && e.report.Act == broker.Own {
			own, tokens = append(own, e), append(tokens, e.report.Token)
		}
	}
	return own, tokens
}

func takenSteps(ctx context.Context, q querier, sql statements, tokens uuids) (map[broker.Token]bool, error) {
	rows, err := q.Query(ctx, sql.get("outcome"), tokens)
	if err != nil {
		return nil, err
	}
	taken := make(map[broker.Token]bool, len(tokens))
	var token [16]byte
	_, err = pgx.ForEachRow(rows, []any{&token}, func() error {
		taken[token] = true
		return nil
	})
	return taken, err
}
