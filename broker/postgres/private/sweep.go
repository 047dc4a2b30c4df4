package private

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sweep ends the servers and removes the folders whose process is gone. It looks only at what is the account's own: in
// a temporary directory, anybody can have prepared a folder with our kind of name.
func sweep(a account, scratch string, log *slog.Logger) {
	folders, _ := filepath.Glob(filepath.Join(scratch, folderPrefix+"*")) // the pattern is well-formed
	for _, folder := range folders {
		if !a.owns(folder) || !abandoned(folder) {
			continue
		}
		sockets, _ := filepath.Glob(filepath.Join(folder, ".s.PGSQL.*.lock")) // as above
		for _, lock := range sockets {
			endListener(a, strings.TrimSuffix(lock, ".lock"))
		}
		if err := os.RemoveAll(folder); err != nil {
			log.Warn("an abandoned private postgres cannot be removed", "folder", folder, "err", err)
			continue
		}
		log.Info("removed an abandoned private postgres", "folder", folder)
	}
}

// abandoned tells whether a folder was once locked and is not any more.
func abandoned(folder string) bool {
	lock, err := os.Open(filepath.Join(folder, "lock"))
	if err != nil {
		return false
	}
	defer lock.Close()
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return false
	}
	info, err := lock.Stat()
	return err == nil && info.Size() > 0
}

// endListener ends the server that listens on a socket, if one still does.
func endListener(a account, socket string) {
	for _, signal := range []string{"INT", "QUIT", "KILL"} {
		pid, ok := listener(socket)
		if !ok {
			return
		}
		// By a command rather than a system call: as root we signal with the account's rights, whatever the file says.
		_ = a.run(context.Background(), "kill", "-s", signal, strconv.Itoa(pid)) // it may just have ended by itself
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(pollEvery) {
			if _, ok := listener(socket); !ok {
				return
			}
		}
	}
}

// listener is the process id of the server that listens on a socket. The lock file beside the socket names it, and may
// be left over from a server that is gone; but where somebody answers, it is current.
func listener(socket string) (pid int, ok bool) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, false
	}
	_ = conn.Close()
	text, err := os.ReadFile(socket + ".lock")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err = strconv.Atoi(first)
	return pid, err == nil && pid > 1
}
