package broker

import "time"

// Processes are the worker processes of this host, as the loop sees them. broker/supervisor is the real one. A spawn
// key is what a process got as RESPIRATE_WORKER_KEY; it names one process and is never used again. Keys that are not
// known, or no longer, are ignored: a worker may well be gone before the loop has heard of it. No method blocks.
type Processes interface {
	// Connected tells that a worker with this spawn key has said hello. It may be called again after each reconnect.
	Connected(key string)
	// End asks the process to end: TERM, a bounded wait, then KILL of its whole group. It returns at once; the
	// death comes as an [WorkerExit]. Asking twice changes nothing. why is for the log.
	End(key string, why string)
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
