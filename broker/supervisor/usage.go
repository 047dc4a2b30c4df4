package supervisor

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// usage is what a process has used so far.
type usage struct {
	rss  int64         // bytes of memory, now
	peak int64         // bytes, at most so far; 0 = not known
	cpu  time.Duration // 0 = not known
}

// and takes the larger of two accounts of one process: each knows of some things only.
func (u usage) and(v usage) usage {
	return usage{rss: v.rss, peak: max(u.peak, v.peak), cpu: max(u.cpu, v.cpu)}
}

const (
	sampleEvery = 5 * time.Second
	softPeriod  = 30 * time.Second // so long above a soft limit
)

// sampling says how often, for how long above a soft limit, and from which age on a process is replaced for what it uses.
type sampling struct{ every, soft, young time.Duration }

// sampler looks at all processes every few seconds, from a goroutine of its own: /proc may be slow, and supervision waits
// for nobody. What is over its limit it reports to the loop.
type sampler struct {
	watched atomic.Pointer[[]sampled] // by the loop
	report  func(letter)
	sampling
	over map[string]time.Time // by key: since when it has been above its soft limit
}

// sampled is a process to be looked at, and what it may use.
type sampled struct {
	key     string
	proc    *process
	limits  Limits
	recycle Recycle
	kernel  bool // the kernel enforces Limits.Memory
	counts  bool // Limits.PIDs is to be looked after here
}

// overLimit is the letter about a process that is above a hard limit: it is killed, and its strands are suspects.
type overLimit struct{ blame string }

// overSoft is the letter about a process that has been above its soft limit for long: another one takes its place.
type overSoft struct{}

func (overLimit) event() {}
func (overSoft) event()  {}

func newSampler(often sampling, report func(letter)) *sampler {
	s := &sampler{report: report, sampling: often, over: make(map[string]time.Time)}
	s.watched.Store(new([]sampled))
	return s
}

// start begins to sample, and returns what ends it.
func (s *sampler) start() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.run(done) })
	return func() { close(done); wg.Wait() }
}

// run samples until done is closed.
func (s *sampler) run(done <-chan struct{}) {
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case now := <-ticker.C:
			s.look(now, *s.watched.Load())
		}
	}
}

// look looks at each process once.
func (s *sampler) look(now time.Time, watched []sampled) {
	over := make(map[string]time.Time)
	var census map[int]int
	for _, w := range watched {
		u, alive := w.proc.sample()
		if !alive {
			continue
		}
		switch l := w.limits; {
		case l.Memory > 0 && u.rss > l.Memory && !w.kernel:
			s.report(letter{key: w.key, event: overLimit{fmt.Sprintf("oom: it used %s of memory, its limit is %s", inMiB(u.rss), inMiB(l.Memory))}})
		case l.MemorySoft > 0 && u.rss > l.MemorySoft:
			since, known := s.over[w.key]
			if !known {
				since = now
			}
			if now.Sub(since) >= s.soft {
				since = now // and not again before as long
				s.report(letter{key: w.key, event: overSoft{}, why: fmt.Sprintf("it uses %s of memory, more than the %s that it may for long", inMiB(u.rss), inMiB(l.MemorySoft))})
			}
			over[w.key] = since
		case w.recycle.RSS > 0 && u.rss > w.recycle.RSS:
			s.report(letter{key: w.key, event: recycle{}, why: "memory: it uses " + inMiB(u.rss)})
		case w.recycle.Files > 0:
			if n := w.proc.files(); n > w.recycle.Files {
				s.report(letter{key: w.key, event: recycle{}, why: fmt.Sprintf("files: it has %d descriptors open", n)})
			}
		}
		if w.counts {
			n := w.proc.group.tasks()
			if n == 0 {
				if census == nil {
					census = processesBySession()
				}
				n = census[w.proc.pid]
			}
			if n > w.limits.PIDs {
				s.report(letter{key: w.key, event: overLimit{fmt.Sprintf("pids: it had %d processes and threads, its limit is %d", n, w.limits.PIDs)}})
			}
		}
	}
	s.over = over
}

func inMiB(bytes int64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }

// blur is by how much two looks at the peak of one process may differ: the kernel counts by processor, and adds up now and then.
const blur = 4 << 20

// usageOf is what an account of the kernel's says of a process that has ended.
func usageOf(r *syscall.Rusage, floor int64) usage {
	u := usage{cpu: time.Duration(r.Utime.Nano() + r.Stime.Nano())}
	// A process inherits the peak of whoever forked it, that is ours, and only what is above is its own.
	if peak := int64(r.Maxrss) * rusageUnit; peak > floor+blur {
		u.peak = peak
	}
	return u
}
