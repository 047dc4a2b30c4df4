package broker

import "time"

// Processes are the worker processes of this host, as the loop sees them. broker/supervisor is the real one. A spawn
// key is what a process got as RESPIRATE_WORKER_KEY; it names one process and is never used again. Keys that are not
// known, or no longer, are ignored: a worker may well be gone before the loop has heard of it. No method blocks.
type Processes interface {
	// Admit says which kinds a worker that says hello may serve, with this key and from the process with this pid (0 = the
	// kernel does not say), and whether the key is one of ours. It is called from any goroutine, before Connected.
	Admit(key string, pid int, kinds []string) (may []string, known bool)
	// Terms are those of the process with this key; the zero value if it is not known. Whenever they become others the broker is
	// told, by [Broker.TermsChanged]. It is called by the loop.
	Terms(key string) Terms
	// Connected tells that a worker with this spawn key has said hello. It may be called again after each reconnect.
	Connected(key string)
	// End asks the process to end: TERM, a bounded wait, then KILL of its whole group. within bounds the wait; 0 = as the
	// pool says. It returns at once; the death comes as an [WorkerExit]. Asking again can only make the wait shorter. why is
	// for the log.
	End(key string, within time.Duration, why string)
	// Served tells how many results of a process have been applied, those that failed or gave back a strand aside:
	// first 0, when it has got its first strand, then 1, and from there on whenever it is a sixteenth more.
	Served(key string, results int)
}

// tally is what a process has done so far, and what its supervisor has been told of it.
type tally struct{ results, told int }

// handed notes that a process has got strands. Of one that has ended meanwhile nobody wants to know.
func (b *Broker) handed(key string) *tally {
	if _, ended := b.schedule.exits[key]; ended {
		return &tally{}
	}
	if b.tallies[key] == nil {
		b.tallies[key] = &tally{}
		b.procs.Served(key, 0)
	}
	return b.tallies[key]
}

// served notes an applied result of a process.
func (b *Broker) served(key string) {
	t := b.handed(key) // it may have got the strand from a former broker
	t.results++
	if t.results >= t.told+max(1, t.told/16) {
		t.told = t.results
		b.procs.Served(key, t.results)
	}
}

// WorkerExit tells how a worker process ended. There is exactly one for each process.
type WorkerExit struct {
	Key    string
	PID    int
	How    string // "exit status 3", "signal: killed", or "unknown (adopted)" where nobody could wait for it
	Stderr string // its last lines; valid UTF-8, at most 8 KiB
	Asked  bool   // we had asked it to end

	MaxRSS int64         // bytes of memory that it had in use at most; 0 = not known
	CPU    time.Duration // that it and what it waited for have used; 0 = not known
}
