package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// devProcess is a running `respirated dev`.
type devProcess struct {
	*exec.Cmd
	tmp    string // its temporary folder, which must be empty in the end
	stdout *bufio.Scanner
	said   strings.Builder
	stderr bytes.Buffer
}

func startDev(t *testing.T, flags ...string) *devProcess {
	t.Helper()
	tmp, err := os.MkdirTemp("", "dev")
	if err != nil {
		t.Fatal(err)
	}
	// The server's account, which is not root, has to come through.
	if err := os.Chmod(tmp, 0o1777); err != nil {
		t.Fatal(err)
	}
	p := &devProcess{Cmd: exec.Command(filepath.Join(programs(t), "respirated"), append([]string{"dev"}, flags...)...), tmp: tmp}
	p.Env = append(os.Environ(), "TMPDIR="+tmp)
	p.Stderr = &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewScanner(out)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(3*patience, func() { _ = p.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait() // killed
		}
		_ = os.RemoveAll(tmp)
	})
	return p
}

// await reads the output until a line matches.
func (p *devProcess) await(t *testing.T, pattern string) {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for p.stdout.Scan() {
		p.said.WriteString(p.stdout.Text() + "\n")
		if re.MatchString(p.stdout.Text()) {
			return
		}
	}
	t.Fatalf("dev never said %s, but\n%s\n%s", pattern, p.said.String(), p.stderr.String())
}

// finish reads the rest, and checks that it ends well and leaves nothing.
func (p *devProcess) finish(t *testing.T) string {
	t.Helper()
	for p.stdout.Scan() {
		p.said.WriteString(p.stdout.Text() + "\n")
	}
	if err := p.Wait(); err != nil {
		t.Errorf("dev ended with %v\n%s\n%s", err, p.said.String(), p.stderr.String())
	}
	if p.stderr.Len() > 0 {
		t.Errorf("dev complained: %s", p.stderr.String())
	}
	left, err := os.ReadDir(p.tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		t.Errorf("dev left %s", entry)
	}
	if pids := processesWith(p.tmp); len(pids) > 0 {
		t.Errorf("dev left the processes %v", pids)
	}
	return p.said.String()
}

// processesWith are processes whose environment or command line mentions a text.
func processesWith(text string) []string {
	var found []string
	for _, pattern := range []string{"/proc/[0-9]*/environ", "/proc/[0-9]*/cmdline"} {
		names, _ := filepath.Glob(pattern) // elsewhere than on Linux nothing is found
		for _, name := range names {
			if content, err := os.ReadFile(name); err == nil && strings.Contains(string(content), text) {
				found = append(found, name)
			}
		}
	}
	return found
}

func TestDevShowsTheDemoAndLeavesNothing(t *testing.T) {
	t.Parallel()
	p := startDev(t, "--for", "6s") // 12 strands are one of each, and 30 the most
	p.await(t, `^summary`)
	said := p.finish(t)
	for _, want := range []string{
		`ping +done`, `echo +done`, `sleep +done`, `smoke +done`, `provision +done`, `fail +done .*failures: 1, the last: the first try always fails`,
		`panic +dead .*on purpose`, `strands inserted +[1-3][0-9]\n`, `not finished +0\n`, `commit to handler +p50 .* p99 .*`,
		`database connections +[1-5], for 2 worker processes`, `export DATABASE_URL='postgres://`,
	} {
		if !regexp.MustCompile(want).MatchString(said) {
			t.Errorf("dev did not say %q, but\n%s", want, said)
		}
	}
}

func TestDevStopsOnCtrlC(t *testing.T) {
	t.Parallel()
	p := startDev(t, "--procs", "1")
	p.await(t, `ping +done`)
	// A terminal sends it to the whole group.
	if err := syscall.Kill(-p.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	p.await(t, `^summary`)
	p.finish(t)
}

func TestDevIgnoresARequestToBecomeAnotherBuild(t *testing.T) {
	t.Parallel()
	p := startDev(t, "--procs", "1")
	p.await(t, `ping +done`)
	if err := p.Process.Signal(syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	p.await(t, `ping +done`)
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.await(t, `^summary`)
	for p.stdout.Scan() { // to its end
	}
	if err := p.Wait(); err != nil || !strings.Contains(p.stderr.String(), "SIGUSR2 is ignored") {
		t.Errorf("dev ended with %v and said %q", err, p.stderr.String())
	}
}

func TestCtrlCWhileDevStartsLeavesNothing(t *testing.T) {
	t.Parallel()
	for after := range 8 {
		p := startDev(t)
		time.Sleep(time.Duration(after*50) * time.Millisecond) // wherever it is by then
		if err := p.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		for p.stdout.Scan() { // to its end
		}
		_ = p.Wait() // with whatever code
		if left, _ := os.ReadDir(p.tmp); len(left) > 0 {
			t.Errorf("stopped after %d ms, dev left %v", after*50, left)
		}
		if pids := processesWith(p.tmp); len(pids) > 0 {
			t.Errorf("stopped after %d ms, dev left the processes %v", after*50, pids)
		}
	}
}

func TestDevKeepsItsDataWhenAsked(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	if os.Geteuid() == 0 {
		dir, err := os.MkdirTemp("", "keep")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o1777); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		data = filepath.Join(dir, "data")
	}
	for range 2 {
		p := startDev(t, "--for", "100ms", "--keep-data", data)
		p.finish(t)
	}
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err != nil {
		t.Errorf("no cluster was kept: %v", err)
	}
}

func TestDevWithAWorkerOfOnesOwnInsertsWhatItServes(t *testing.T) {
	t.Parallel()
	p := startDev(t, "--for", "2s", "--worker", filepath.Join(programs(t), "demo-worker"))
	p.await(t, `^summary`)
	if said := p.finish(t); !regexp.MustCompile(`echo +done`).MatchString(said) {
		t.Errorf("dev said\n%s", said)
	}
}

func TestKilledDevLeavesNoProcess(t *testing.T) {
	t.Parallel()
	p := startDev(t)
	p.await(t, `ping +done`)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // killed
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		pids := processesWith(p.tmp)
		if len(pids) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("dev left %v", pids)
		}
	}
}
