package supervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	rusageUnit = 1 << 10 // bytes in which the kernel counts memory in an account of what was used
	hasSamples = true
	clockTick  = 10 * time.Millisecond
)

// sampleOf reads what a process has used so far, if it still is the one that was started then.
func sampleOf(pid int, start string) (u usage, alive bool) {
	proc := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(proc + "/stat")
	if err != nil {
		return u, false
	}
	if now, alive := parseStat(stat); !alive || now != start {
		return u, false
	}
	const utime, stime, rss = 14, 15, 24
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	field := func(n int) int64 {
		const first = 3
		if len(fields) <= n-first {
			return 0
		}
		return numberOf(string(fields[n-first]))
	}
	u.cpu = time.Duration(field(utime)+field(stime)) * clockTick
	u.rss = field(rss) * int64(os.Getpagesize())
	u.peak = max(u.rss, peakOf(proc))
	return u, true
}

// peakOf is the most memory that a process has had in use; 0 = not known.
func peakOf(proc string) int64 {
	status, _ := os.ReadFile(proc + "/status")
	_, rest, _ := bytes.Cut(status, []byte("VmHWM:"))
	if fields := bytes.Fields(rest); len(fields) > 0 {
		return numberOf(string(fields[0])) << 10
	}
	return 0
}

// filesOf is how many descriptors a process has open.
func filesOf(pid int) int {
	open, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	return len(open)
}

// ownPeak is what our children inherit as their peak.
func ownPeak() int64 { return peakOf("/proc/self") }

// processesBySession counts processes and threads.
func processesBySession() map[int]int {
	counts := make(map[int]int)
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		const session, threads, first = 6, 20, 3
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > threads-first {
			counts[int(numberOf(string(fields[session-first])))] += int(numberOf(string(fields[threads-first])))
		}
	}
	return counts
}
