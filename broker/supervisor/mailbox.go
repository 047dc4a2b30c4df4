package supervisor

import (
	"math"
	"sync"
)

// mailbox hands values to one goroutine without ever holding up those who put them.
type mailbox[T any] struct {
	wake chan struct{} // holds one when there may be mail; closed by close

	mu     sync.Mutex // guards what follows
	mail   []T
	closed bool
}

func newMailbox[T any]() *mailbox[T] {
	return &mailbox[T]{wake: make(chan struct{}, 1)}
}

// put adds v. A closed mailbox drops it.
func (m *mailbox[T]) put(v T) { m.putUpTo(v, math.MaxInt) }

// putUpTo adds v, unless most wait already: then it is dropped, and false is returned.
func (m *mailbox[T]) putUpTo(v T, most int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return true
	}
	if len(m.mail) >= most {
		return false
	}
	m.mail = append(m.mail, v)
	select {
	case m.wake <- struct{}{}:
	default:
	}
	return true
}

// take returns what came since the last take, in order.
func (m *mailbox[T]) take() []T {
	m.mu.Lock()
	defer m.mu.Unlock()
	mail := m.mail
	m.mail = nil
	return mail
}

// close ends the mail. What is there already can still be taken.
func (m *mailbox[T]) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	close(m.wake)
}
