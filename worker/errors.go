package worker

import (
	"errors"
	"fmt"
	"time"
)

// Causes of a handler's context, see context.Cause.
var (
	// ErrCancelled: somebody cancelled the strand.
	ErrCancelled = errors.New("the strand was cancelled")
	// ErrTimeout: the run's own limit has passed.
	ErrTimeout = errors.New("the run's time limit has passed")
	// ErrLeaseLost: the right to run the strand has ended, or is about to without word from the broker, so that somebody
	// else may be running it. What the handler returns is used only if that turns out not to be so; an error then gives
	// the strand back without having used up a try.
	ErrLeaseLost = errors.New("the lease of the strand is lost")
	// ErrStopping: the worker stops and the time to finish is over. If the handler returns an error, the strand is given
	// back without having used up a try.
	ErrStopping = errors.New("the worker is stopping")
)

// Errors of [Run], for errors.Is.
var (
	// ErrConfig: the configuration is wrong; trying again will not help.
	ErrConfig = errors.New("worker configuration")
	// ErrNoBroker: no broker could be reached for [Config.OrphanAfter].
	ErrNoBroker = errors.New("no broker")
	// ErrUnfinished: the worker stopped while it still held strands; they run again when their leases end.
	ErrUnfinished = errors.New("strands left unfinished")
)

// CancelError is the error that [Cancel] makes.
type CancelError struct{ Err error }

// Cancel is returned by a handler to give the strand up: it ends as cancelled and is not tried again. err, which may
// be nil, says why.
func Cancel(err error) error { return &CancelError{err} }

// Error says why.
func (e *CancelError) Error() string { return because("cancelled by its handler", e.Err) }

// Unwrap is the reason.
func (e *CancelError) Unwrap() error { return e.Err }

// DeadError is the error that [Dead] makes.
type DeadError struct{ Err error }

// Dead is returned by a handler whose strand cannot succeed: it fails, is not retried, and is kept among the dead for
// somebody to look at. err says why.
func Dead(err error) error { return &DeadError{err} }

// Error says why.
func (e *DeadError) Error() string { return because("declared dead by its handler", e.Err) }

// Unwrap is the reason.
func (e *DeadError) Unwrap() error { return e.Err }

// RetryError is the error that [RetryIn] makes.
type RetryError struct {
	After time.Duration
	Err   error
}

// RetryIn is returned by a handler that failed with err and knows when trying again makes sense: after d, instead of
// the default back-off. It uses up a try; [Snooze] does not.
func RetryIn(d time.Duration, err error) error { return &RetryError{max(d, 0), err} }

// Error says what failed.
func (e *RetryError) Error() string {
	return because(fmt.Sprintf("to be retried in %v", e.After), e.Err)
}

// Unwrap is the failure.
func (e *RetryError) Unwrap() error { return e.Err }

// SnoozeError is the error that [Snooze] makes.
type SnoozeError struct{ After time.Duration }

// Snooze is returned by a handler that has nothing to do yet: the strand runs again after d. It is no failure. In a
// label, return [Nap] instead.
func Snooze(d time.Duration) error { return &SnoozeError{max(d, 0)} }

// Error says for how long.
func (e *SnoozeError) Error() string { return fmt.Sprintf("snoozed for %v", e.After) }

// because joins what happens and why.
func because(what string, why error) string {
	if why == nil {
		return what
	}
	return what + ": " + why.Error()
}
