package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// loadEvery is the rhythm in which offered load comes.
const loadEvery = 10 * time.Millisecond

// SmallArgs is the usual size of args, in bytes.
const SmallArgs = 60

// Client is the client of one system, as an inserter needs it. Each call returns after its COMMIT.
type Client interface {
	Insert(ctx context.Context, args Args) error
	InsertMany(ctx context.Context, args []Args) error
}

// Signaller is a client that can wake a strand that sleeps.
type Signaller interface {
	Signal(ctx context.Context, sleeper int) error
}

// Serve does what the harness says, until it hangs up.
func (l *Line) Serve(ctx context.Context, c Client) error {
	for l.lines.Scan() {
		began := time.Now()
		answer := ""
		if err := l.obey(ctx, c, l.lines.Text()); err != nil {
			answer = fmt.Sprintf("fail %q\n", err.Error())
		} else {
			answer = fmt.Sprintf("done %d\n", time.Since(began))
		}
		l.pending = append(l.pending, answer...)
		if _, err := l.conn.Write(l.pending); err != nil {
			return fmt.Errorf("answer the harness: %w", err)
		}
		l.pending = l.pending[:0]
	}
	return nil
}

func (l *Line) obey(ctx context.Context, c Client, command string) error {
	var word string
	var a, b, d, e int
	switch n, _ := fmt.Sscan(command, &word, &a, &b, &d, &e); {
	case word == "bulk" && n == 5:
		return bulk(ctx, c, a, b, d, e)
	case word == "single" && n == 4:
		return l.single(ctx, c, a, b, time.Duration(d)*time.Millisecond)
	case word == "load" && n == 4:
		return l.load(ctx, c, a, b, time.Duration(d)*time.Millisecond)
	case word == "signal" && n == 5:
		if s, ok := c.(Signaller); ok {
			return l.signal(ctx, s, a, b, time.Duration(d)*time.Millisecond, e)
		}
	}
	return errors.New("unknown command " + command)
}

func bulk(ctx context.Context, c Client, from, n, batch, size int) error {
	for done := 0; done < n; done += batch {
		jobs := make([]Args, min(batch, n-done))
		for i := range jobs {
			jobs[i] = NewArgs(from+done+i, size, false)
		}
		if err := c.InsertMany(ctx, jobs); err != nil {
			return err
		}
	}
	return nil
}

func (l *Line) single(ctx context.Context, c Client, from, n int, gap time.Duration) error {
	for i := range n {
		time.Sleep(gap/2 + rand.N(gap)) // so that it meets a timer of theirs at every phase
		if err := c.Insert(ctx, NewArgs(from+i, SmallArgs, true)); err != nil {
			return err
		}
		l.committed(from+i, Now())
	}
	return nil
}

func (l *Line) signal(ctx context.Context, c Signaller, from, n int, gap time.Duration, step int) error {
	for i := range n {
		time.Sleep(gap/2 + rand.N(gap)) // as above
		if err := c.Signal(ctx, from+i*step); err != nil {
			return err
		}
		l.committed(from+i*step, Now())
	}
	return nil
}

func (l *Line) load(ctx context.Context, c Client, from, rate int, d time.Duration) error {
	began, sent := time.Now(), 0
	for tick := time.Duration(0); tick < d; tick += loadEvery {
		time.Sleep(time.Until(began.Add(tick)))
		due := int(float64(rate) * time.Since(began).Seconds())
		if due == sent {
			continue
		}
		jobs := make([]Args, 0, due-sent)
		for n := sent; n < due; n++ {
			jobs = append(jobs, NewArgs(from+n, SmallArgs, true))
		}
		if err := c.InsertMany(ctx, jobs); err != nil {
			return err
		}
		now := Now()
		for _, job := range jobs {
			l.committed(job.N, now)
		}
		sent = due
	}
	return nil
}

func (l *Line) committed(seq int, at Instant) {
	l.pending = fmt.Appendf(l.pending, "c %d %d\n", seq, at)
}
