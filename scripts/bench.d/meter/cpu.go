// Package meter reads what a run has cost: processor time and memory from /proc, and what the server counts.
package meter

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of processor time in /proc; USER_HZ is 100 on every Linux that Go runs on.
const tick = 10 * time.Millisecond

// process is a line of /proc/PID/stat.
type process struct {
	parent int
	own    time.Duration // user and system
	reaped time.Duration // of ended children that it has waited for
}

// CPU is the processor time that processes have used until now. One that is gone is an error: it would be missing in
// the sum.
func CPU(pids []int) (sum time.Duration, err error) {
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			return 0, fmt.Errorf("read the processor time of process %d: %w", pid, err)
		}
		sum += p.own
	}
	return sum, nil
}

// ServerCPU is what a PostgreSQL server has used until now, all its processes and also those that have ended.
func ServerCPU(postmaster int) (time.Duration, error) {
	p, err := readProcess(postmaster)
	if err != nil {
		return 0, fmt.Errorf("read the processor time of the server: %w", err)
	}
	sum := p.own + p.reaped
	files, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(file))
		// One that ends meanwhile is either read or reaped, but for an instant in between.
		if child, err := readProcess(pid); err == nil && child.parent == postmaster {
			sum += child.own
		}
	}
	return sum, nil
}

// Parent is the parent of a process.
func Parent(pid int) (int, error) {
	p, err := readProcess(pid)
	return p.parent, err
}

func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	return parseProcess(text)
}

// parseProcess reads "pid (name) state ppid ...". The name may hold blanks and parentheses.
func parseProcess(text []byte) (p process, err error) {
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 15 {
		return process{}, fmt.Errorf("unknown form of /proc/PID/stat: %.80q", text)
	}
	var n [5]int64 // ppid, utime, stime, cutime, cstime
	for i, field := range []int{1, 11, 12, 13, 14} {
		if n[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
			return process{}, fmt.Errorf("read /proc/PID/stat: %w", err)
		}
	}
	ticks := func(n int64) time.Duration { return time.Duration(n) * tick }
	return process{parent: int(n[0]), own: ticks(n[1] + n[2]), reaped: ticks(n[3] + n[4])}, nil
}

// Peak is the most memory that a process has had at once until now, in bytes.
func Peak(pid int) (int64, error) { return memory(pid, "VmHWM:") }

// Resident is the memory that a process has now, in bytes.
func Resident(pid int) (int64, error) { return memory(pid, "VmRSS:") }

func memory(pid int, field string) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(text), field)
	var kib int64
	if _, err := fmt.Sscanf(rest, "%d kB", &kib); err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return kib << 10, nil
}
