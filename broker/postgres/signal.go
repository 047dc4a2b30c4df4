package postgres

import (
	"context"
	"errors"

	"github.com/respirated/respirated/broker"
)

// Signal implements [broker.Store]. There is no table for semaphores yet.
func (s *Store) Signal(context.Context, []broker.Signal) ([]bool, error) {
	return nil, errors.New("send signals: not in this schema")
}
