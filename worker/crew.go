package worker

import "sync"

// crew runs jobs side by side, each on a goroutine that runs nothing else meanwhile. A goroutine that has finished one
// takes the next: a new one would have to grow its stack again, which costs more than a short handler. All methods are
// called by one goroutine.
type crew struct {
	jobs    chan func() // for those that are idle; has room for all of them
	idle    int         // goroutines that wait for a job or are about to
	members sync.WaitGroup
}

// newCrew makes a crew for at most most jobs at a time.
func newCrew(most int) *crew { return &crew{jobs: make(chan func(), most)} }

// start runs a job. It never waits.
func (c *crew) start(job func()) {
	if c.idle > 0 {
		c.idle--
		c.jobs <- job
		return
	}
	c.members.Go(func() { c.work(job) })
}

// returned notes that a job is done: its goroutine takes the next, as soon as it has returned from this one.
func (c *crew) returned() { c.idle++ }

// work runs a first job, then those that come, until the crew is dismissed.
func (c *crew) work(job func()) {
	dismissed := false
	defer func() {
		if !dismissed { // a job has ended this goroutine, by runtime.Goexit: another takes its place
			c.members.Go(c.wait)
		}
	}()
	for more := true; more; job, more = <-c.jobs {
		job()
	}
	dismissed = true
}

// wait works from the next job on.
func (c *crew) wait() {
	if job, more := <-c.jobs; more {
		c.work(job)
	}
}

// dismiss ends the goroutines that are idle, and the others when they are. It waits for them if asked to.
func (c *crew) dismiss(wait bool) {
	close(c.jobs)
	if wait {
		c.members.Wait()
	}
}
