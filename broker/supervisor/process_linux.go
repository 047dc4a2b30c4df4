package supervisor

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootID names this boot of the host.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// look returns when the process with this pid was started, in clock ticks since boot, and whether it runs. One that has
// ended but was not reaped does not run.
func look(pid int) (start string, alive bool) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", false
	}
	return parseStat(stat)
}

// parseStat reads fields 3 and 22 of /proc/PID/stat. The name before them may hold anything, even spaces and ")".
func parseStat(stat []byte) (start string, alive bool) {
	const state, startTime = 3, 22
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // begins with field 3
	if len(fields) <= startTime-state {
		return "", false
	}
	s := string(fields[0])
	return string(fields[startTime-state]), s != "Z" && s != "X"
}

// isChild tells whether the process with this pid is our child, ended or not.
func isChild(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // begins with field 3, the parent is field 4
	return len(fields) > 1 && string(fields[1]) == strconv.Itoa(os.Getpid())
}

// sessionOf is the session that a process is in; 0 = there is no such process.
func sessionOf(pid int) int {
	session, err := unix.Getsid(pid)
	if err != nil {
		return 0
	}
	return session
}

// children are the pids of our children, ended or not.
func children() []int {
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && isChild(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// findKey returns the process that was started with this spawn key: 0 if there is none. What it has started inherits
// the key, but leads no group.
func findKey(key string) (pid int, start string) {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		environ, err := os.ReadFile(path)
		if err != nil || !hasKey(string(environ), key) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if group, gerr := unix.Getpgid(pid); err != nil || gerr != nil || group != pid {
			continue
		}
		if start, alive := look(pid); alive {
			return pid, start
		}
	}
	return 0, ""
}

// keepDescriptors has none of our descriptors go to workers: those that we were started with would, such as a socket of
// systemd's or the lock file of a script.
func keepDescriptors() error { return markFrom(firstBeyondStd) }

const firstBeyondStd = 3

// markFrom has all descriptors from one on closed by an execve.
func markFrom(first int) error {
	err := unix.CloseRange(uint(first), math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	if err != unix.ENOSYS && err != unix.EINVAL && err != unix.EPERM {
		return err
	}
	// Linux before 5.11, or a sandbox that does not know the call.
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range open {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err == nil && fd >= first {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// offerToOOM has the kernel end the process before others when the host runs out of memory. What it was given by whoever
// started the daemon, such as systemd, was meant for the daemon.
func offerToOOM(pid int) {
	_ = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/oom_score_adj", strconv.AppendInt(nil, workerOOM, 10), 0) // a wish, not a need
}

// awaitEnd returns after the process has ended, before it is reaped.
func (p *process) awaitEnd() { p.watch.wait() }

// watch holds on to one process, whoever gets its pid later.
type watch struct {
	pid   int
	start string
	pidfd *os.File // nil where the kernel, or its policy, has none for us
}

func openWatch(pid int, start string) watch {
	w := watch{pid: pid, start: start}
	// Non-blocking, so that waiting costs a place in the runtime's poller and no thread.
	if fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK); err == nil {
		w.pidfd = os.NewFile(uintptr(fd), "pidfd")
	}
	return w
}

// wait returns after the process has ended. It need not be reaped.
func (w watch) wait() {
	if w.pidfd != nil {
		if conn, err := w.pidfd.SyscallConn(); err == nil && conn.Read(hasEnded) == nil {
			return
		}
	}
	pollUntilGone(w.pid, w.start)
}

// hasEnded is true once a pidfd can be read from.
func hasEnded(pidfd uintptr) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	return err == nil && n == 1
}

// signal reaches the process, or all of its group, by the pidfd where the kernel can (a group from Linux 6.9 on); the
// group also after the process itself has gone.
func (w watch) signal(sig syscall.Signal, all bool) error {
	if w.pidfd == nil {
		return errNoHandleSignal
	}
	conn, err := w.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	flags := 0
	if all {
		flags = unix.PIDFD_SIGNAL_PROCESS_GROUP
	}
	var sent error
	err = conn.Control(func(fd uintptr) {
		sent = unix.PidfdSendSignal(int(fd), sig, nil, flags)
	})
	if err != nil {
		return err
	}
	if sent == unix.EINVAL || sent == unix.ENOSYS || sent == unix.EPERM { // older kernels, stricter sandboxes
		return errNoHandleSignal
	}
	return sent
}

func (w watch) close() {
	if w.pidfd != nil {
		_ = w.pidfd.Close()
	}
}

// canStartFrom says that a file can be started that has no path any more.
const canStartFrom = true

// pathOfExtra leads a process that is about to be started to one of its extra files.
func pathOfExtra(n int) string { return "/proc/self/fd/" + strconv.Itoa(3+n) }

// program is the file that the process runs, also if it has no path any more; nil = nobody says.
func (p *process) program() *os.File {
	f, err := os.Open("/proc/" + strconv.Itoa(p.pid) + "/exe")
	if err != nil {
		return nil
	}
	if !p.holdsPID() { // looked at last: it was this process that was opened
		f.Close()
		return nil
	}
	return f
}

// beingWritten says whether somebody has the file open for writing. Where the kernel does not tell it says no.
func beingWritten(path string) bool {
	f, err := openBinary(path)
	if err != nil {
		return false
	}
	defer f.Close()
	// A lease for reading is refused while there is a writer. Writers that come now wait until it is given back at once.
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_RDLCK)
	if err != nil {
		return err == unix.EAGAIN
	}
	_, _ = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK) // closing the file does the same
	return false
}
