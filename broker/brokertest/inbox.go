package brokertest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// Signal implements [broker.Store].
func (s *Store) Signal(ctx context.Context, signals []broker.Signal) ([]bool, error) {
	var found []bool
	hint := false
	err := s.call(ctx, Signal, func(now time.Time) error {
		for i, sig := range signals {
			if why := checkSignal(sig); why != "" {
				return &broker.SignalError{Index: i, Why: why}
			}
		}
		b := batch{store: s, now: now}
		for _, sig := range signals {
			found = append(found, b.deliver(sig))
		}
		hint = b.worthAHint()
		return nil
	})
	if hint {
		s.channel.Hint(broker.Hint{})
	}
	if err != nil {
		return nil, err
	}
	return found, nil
}

// deliver stores a semaphore with its strand, if there is one, and wakes it unless the signal is a quiet one.
func (b *batch) deliver(sig broker.Signal) (found bool) {
	row, ok := b.store.live[sig.ID]
	if !ok {
		return false
	}
	b.store.semaphores++
	row.semaphores = append(row.semaphores, broker.Semaphore{ID: b.store.semaphores, Name: sig.Name, Value: sig.Value, Sent: b.now})
	if !sig.Quiet {
		row.wake(b.now)
		b.madeDue = true
	}
	return true
}

// use removes semaphores that a report has used, and the ends that it has taken note of.
func (r *strand) use(used []int64, reaped []broker.ID) {
	r.semaphores = slices.DeleteFunc(r.semaphores, func(s broker.Semaphore) bool { return slices.Contains(used, s.ID) })
	r.ended = slices.DeleteFunc(r.ended, func(e broker.Ended) bool { return slices.Contains(reaped, e.ID) })
}

// inbox is what waits for the strand, as far as it fits.
func (r *strand) inbox() *broker.Inbox {
	if len(r.semaphores)+len(r.ended)+r.childrenLeft == 0 {
		return nil
	}
	in := &broker.Inbox{Left: r.childrenLeft}
	picked := picks(r.semaphores)
	semaphores := fitting(picked, func(s broker.Semaphore) []byte { return s.Value })
	ended := fitting(r.ended, func(e broker.Ended) []byte { return e.Value })
	in.Semaphores = picked[:semaphores]
	slices.SortFunc(in.Semaphores, func(a, b broker.Semaphore) int { return cmp.Compare(a.ID, b.ID) })
	in.Ended = slices.Clone(r.ended[:ended])
	in.More = semaphores < len(r.semaphores) || ended < len(r.ended)
	return in
}

// picks are semaphores in the order in which they come into an inbox: the first 8 of each name before others.
func picks(all []broker.Semaphore) []broker.Semaphore {
	var first, others []broker.Semaphore
	count := map[string]int{}
	for _, s := range all {
		if count[s.Name]++; count[s.Name] <= 8 {
			first = append(first, s)
		} else {
			others = append(others, s)
		}
	}
	return append(first, others...)
}

// fitting is how many items an inbox lists.
func fitting[T any](items []T, value func(T) []byte) int {
	bytes := 0
	for i, item := range items {
		bytes += len(value(item))
		if i == broker.InboxItems || i > 0 && bytes > broker.InboxBytes {
			return i
		}
	}
	return len(items)
}

// checkSignal says why a signal cannot be sent; "" = it can.
func checkSignal(sig broker.Signal) (why string) {
	if why := checkName(sig.Name); why != "" {
		return "name: " + why
	}
	if why := checkSize(sig.Value, broker.SignalBytes); why != "" {
		return "value: " + why
	}
	return checkOptional("value", sig.Value)
}

// checkEffects checks what a report does beside its act.
func checkEffects(r broker.Report) (why string) {
	for _, sig := range r.Signals {
		if why := checkSignal(sig); why != "" {
			return "signal: " + why
		}
	}
	if r.Due != nil {
		if why := checkName(r.Due.Target); why != "" {
			return "due: target: " + why
		}
	}
	if r.Frame < 0 {
		return fmt.Sprintf("frame: %d is below 0", r.Frame)
	}
	return ""
}
