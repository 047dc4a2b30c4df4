package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

// benchProcess is a running `respirated bench` that would go on for long.
type benchProcess struct {
	*exec.Cmd
	t      *testing.T
	tmp    string // its temporary folder, which must be empty in the end
	conn   *pgx.Conn
	stderr bytes.Buffer
}

// startBench returns when strands are run.
func startBench(t *testing.T) *benchProcess {
	t.Helper()
	url := privatetest.URL(t)
	tmp, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	p := &benchProcess{t: t, tmp: tmp, Cmd: exec.Command(filepath.Join(programs(t), "respirated"), "bench", "--latency", "1000000", "--procs", "1")}
	p.Env = append(os.Environ(), "TMPDIR="+tmp, "DATABASE_URL="+url)
	p.Stderr = &p.stderr
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if p.conn, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.conn.Close(t.Context())
		if p.ProcessState == nil {
			_ = p.Process.Kill()
			_ = p.Wait() // killed
		}
		_ = os.RemoveAll(tmp)
	})
	p.eventually("strands have run", func() bool {
		schemas := p.schemas()
		return len(schemas) == 1 && p.count("select count(*) from pg_tables where schemaname = $1 and tablename = 'history'", schemas[0]) > 0 &&
			p.count("select count(*) from "+schemas[0]+".history") > 0
	})
	return p
}

func (p *benchProcess) eventually(what string, holds func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within %v: %s; bench said: %s", patience, what, p.stderr.String())
		}
	}
}

func (p *benchProcess) count(sql string, args ...any) (n int) {
	p.t.Helper()
	if err := p.conn.QueryRow(p.t.Context(), sql, args...).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *benchProcess) schemas() []string {
	p.t.Helper()
	rows, _ := p.conn.Query(p.t.Context(), "select nspname from pg_namespace where nspname like 'respirate%'") // its error is CollectRows'
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		p.t.Fatal(err)
	}
	return found
}

// ends waits for a failure that is told on the last line, and checks that nothing is left.
func (p *benchProcess) ends(why string) {
	p.t.Helper()
	_ = p.Wait() // its code is looked at
	lines := strings.Split(strings.TrimSpace(p.stderr.String()), "\n")
	if said := lines[len(lines)-1]; p.ProcessState.ExitCode() != exitFailed || !strings.Contains(said, why) {
		p.t.Errorf("ended with %v and %q, want code %d and %q", p.ProcessState, said, exitFailed, why)
	}
	if left := p.schemas(); len(left) > 0 {
		p.t.Errorf("the schemas %v are left", left)
	}
	p.checkFolder()
	// The workers of a daemon that was killed look for the next one first.
	p.eventually("its processes are gone", func() bool { return len(processesWith(p.tmp)) == 0 })
}

func (p *benchProcess) checkFolder() {
	p.t.Helper()
	left, err := os.ReadDir(p.tmp)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, entry := range left {
		p.t.Errorf("%s is left", entry)
	}
}

func TestBenchThatIsStoppedLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		p := startBench(t)
		// A terminal sends it to the whole group.
		if err := syscall.Kill(-p.Process.Pid, sig); err != nil {
			t.Fatal(err)
		}
		_ = p.Process.Signal(syscall.SIGTERM) // at once, as timeout(1) does it
		p.ends("interrupted before everything was measured")
	}
}

func TestBenchWhoseDaemonDiesSaysSoAndLeavesNothing(t *testing.T) {
	t.Parallel()
	p := startBench(t)
	sockets, err := filepath.Glob(filepath.Join(p.tmp, "*", "respirate.sock"))
	if err != nil || len(sockets) != 1 {
		t.Fatalf("found the sockets %v: %v", sockets, err)
	}
	var status daemonStatus
	if err := askDaemon(t.Context(), sockets[0], "/api/v1/status", &status); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.ends("the daemon of the measurement has ended: signal: killed")
}

func TestKilledBenchLeavesItsSchemaOnly(t *testing.T) {
	t.Parallel()
	p := startBench(t)
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = p.Wait() // killed
	p.eventually("its processes are gone", func() bool { return len(processesWith(p.tmp)) == 0 })
	p.checkFolder()
	left := p.schemas()
	if len(left) != 1 {
		t.Fatalf("the schemas %v are left, want one", left)
	}
	var found []string
	p.eventually("the schema counts as left", func() bool {
		var err error
		if found, err = leftBenchSchemas(t.Context(), p.conn, "none"); err != nil {
			t.Fatal(err)
		}
		return len(found) > 0
	})
	if found[0] != left[0] {
		t.Errorf("found %v, want %v", found, left)
	}
}
