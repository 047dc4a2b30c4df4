package private

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// parentEnv makes this test binary a program that runs a server, for the tests that end such a program.
const parentEnv = "RESPIRATE_TEST_PARENT"

func TestMain(m *testing.M) {
	if mode := os.Getenv(parentEnv); mode != "" {
		if err := beParent(mode); err != nil {
			_ = json.NewEncoder(os.Stdout).Encode(report{Err: err.Error()})
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// report is what such a program says of its server.
type report struct {
	URL, Folder    string
	Server, Keeper int // process ids
	Err            string
}

// beParent runs a server until a signal, which it handles as the mode says: "stop" or "ignorant".
func beParent(mode string) error {
	ctx, cancel := context.WithCancel(context.Background())
	if mode == "stop" {
		ctx, cancel = signal.NotifyContext(ctx, os.Interrupt)
	}
	defer cancel()
	s, err := Start(ctx, Config{Template: true})
	if err != nil {
		return err
	}
	said := report{URL: s.URL(), Folder: s.folder.path, Server: s.process.pid, Keeper: s.keeper.process.pid}
	if err := json.NewEncoder(os.Stdout).Encode(said); err != nil {
		return err
	}
	go func() {
		defer cancel() // the end of its input bounds the life of a parent whose test has died
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	<-ctx.Done()
	return s.Stop()
}

func TestCtrlCEndsTheServerWithItsParent(t *testing.T) {
	for _, mode := range []string{"stop", "ignorant"} {
		t.Run(mode, func(t *testing.T) {
			parent, said := startParent(t, mode, nil)
			// A terminal sends the signal to the whole group.
			if err := syscall.Kill(-parent.Process.Pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			_ = parent.Wait() // of the signal, when ignorant
			await(t, "the end of the server and its folder", func() bool { return !answers(said.URL) && !exists(said.Folder) })
		})
	}
}

func TestKillOfTheParentLeavesNoServerAndNoFolder(t *testing.T) {
	parent, said := startParent(t, "ignorant", nil)
	kill(t, parent.Process.Pid)
	_ = parent.Wait() // killed
	await(t, "the end of the server and its folder", func() bool { return !answers(said.URL) && !exists(said.Folder) })
	await(t, "the end of the process", func() bool { return gone(said.Server) })
}

func TestTheNextStartSweepsWhatAKilledKeeperLeft(t *testing.T) {
	t.Setenv("TMPDIR", openDir(t)) // a test of another package that starts a server would sweep first
	parent, said := startParent(t, "ignorant", nil)
	kill(t, said.Keeper)
	await(t, "the end of the keeper", func() bool { return gone(said.Keeper) })
	kill(t, parent.Process.Pid)
	_ = parent.Wait() // killed
	if !answers(said.URL) {
		t.Fatal("the server ended by itself, so this shows nothing")
	}
	start(t, Config{Template: true})
	if answers(said.URL) || exists(said.Folder) {
		t.Errorf("server %d or %s is left", said.Server, said.Folder)
	}
}

func TestASweepLeavesTheServersOfTheLiving(t *testing.T) {
	_, said := startParent(t, "ignorant", nil)
	start(t, Config{Template: true})
	if !answers(said.URL) {
		t.Error("another program's server was swept")
	}
}

func TestAnotherUserRunsAServerToo(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user; the other tests ran as one")
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	other, err := accountOf(nobody)
	if err != nil {
		t.Fatal(err)
	}
	parent, said := startParent(t, "stop", other.credential)
	if !answers(said.URL) {
		t.Error("the server does not answer")
	}
	if !other.owns(said.Folder) {
		t.Errorf("%s is not nobody's", said.Folder)
	}
	if err := parent.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := parent.Wait(); err != nil {
		t.Error(err)
	}
	if answers(said.URL) || exists(said.Folder) {
		t.Errorf("server %d or %s is left", said.Server, said.Folder)
	}
}

// startParent runs this test binary as a program of its own group, perhaps as another user, and waits for its report.
func startParent(t *testing.T, mode string, who *syscall.Credential) (*exec.Cmd, report) {
	t.Helper()
	cmd := exec.Command(openBinary(t))
	cmd.Env = append(os.Environ(), parentEnv+"="+mode, "HOME="+openDir(t), "XDG_CACHE_HOME=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: who}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close() // it may have ended long ago
		_ = cmd.Wait()
	})
	var said report
	if err := json.NewDecoder(bufio.NewReader(stdout)).Decode(&said); err != nil || said.Err != "" {
		t.Fatalf("start a parent: %v%s", err, said.Err)
	}
	return cmd, said
}

// openBinary is this test binary where any user can run it: go test builds it in a closed folder.
func openBinary(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(openDir(t), "parent")
	if err := os.WriteFile(path, text, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
}

// gone tells whether a process has ended. On Linux one that process 1 is slow to reap has ended, too.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && strings.Contains(string(stat), ") Z ")
}

// await polls, since the end of a process that is not our child cannot be waited for.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute in vain for %s", what)
		}
	}
}
