package private

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"
)

func TestAStartedServerAnswersAndAStoppedOneLeavesNothing(t *testing.T) {
	s := start(t, Config{Template: true})
	if got := query(t, s.URL(), "select 'it ' || 'answers'"); got != "it answers" {
		t.Errorf("got %q", got)
	}
	for range 2 {
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if s.process != nil || answers(s.URL()) {
		t.Error("the server runs on")
	}
	if exists(s.folder.path) {
		t.Errorf("%s is left", s.folder.path)
	}
}

func TestAServerWithoutATemplateInitialisesItsOwnCluster(t *testing.T) {
	s := start(t, Config{})
	if got := query(t, s.URL(), "show server_encoding"); got != "UTF8" {
		t.Errorf("got encoding %q, want UTF8", got)
	}
}

func TestDatabasesAreFreshAndApart(t *testing.T) {
	s := start(t, Config{Template: true})
	for _, name := range []string{"first", `an "odd" name`} {
		url, err := s.Database(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := query(t, url, "select current_database()"); got != name {
			t.Errorf("got database %q, want %q", got, name)
		}
		query(t, url, "create table only_here as select 1; select ''")
	}
	if _, err := s.Database(t.Context(), "first"); err == nil || !strings.Contains(err.Error(), `"first"`) {
		t.Errorf("got %v, want an error that names the database", err)
	}
}

func TestDropEndsWhoeverIsConnected(t *testing.T) {
	s := start(t, Config{Template: true})
	url, err := s.Database(t.Context(), "busy")
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, url)
	if err := s.Drop(t.Context(), "busy"); err != nil {
		t.Fatal(err)
	}
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlived its database")
	}
}

func TestSettingsReachTheServer(t *testing.T) {
	s := start(t, Config{Template: true, Settings: map[string]string{"work_mem": "7MB"}})
	if got := query(t, s.URL(), "show work_mem"); got != "7MB" {
		t.Errorf("got work_mem %s, want 7MB", got)
	}
}

func TestASettingThatDoesNotExistIsReportedInTheServersWords(t *testing.T) {
	_, err := Start(t.Context(), Config{Template: true, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), `unrecognized configuration parameter "no_such_setting"`) {
		t.Errorf("got %v, want the server's complaint", err)
	}
	wantOneLine(t, err)
}

func TestTCPTakesAFreePortAndAsksForThePassword(t *testing.T) {
	s := start(t, Config{Template: true, TCP: true})
	before := s.TCPURL("postgres")
	if got := query(t, before, "select 'in'"); got != "in" {
		t.Errorf("got %q", got)
	}
	if answers(strings.Replace(before, s.password, "guess", 1)) {
		t.Error("a wrong password was let in")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := s.TCPURL("postgres"); after != before {
		t.Errorf("the restart moved %s to %s", before, after)
	}
	query(t, before, "select 'in again'")
}

func TestWithoutTCPNobodyListens(t *testing.T) {
	s := start(t, Config{Template: true})
	if got := query(t, s.URL(), "show listen_addresses"); got != "" {
		t.Errorf("the server listens on %q", got)
	}
}

func TestAKeptClusterOutlivesItsServer(t *testing.T) {
	cfg := Config{Dir: filepath.Join(openDir(t), "cluster")}
	first := start(t, cfg)
	query(t, first.URL(), "create table kept as select 7 as n; select ''")
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	second := start(t, cfg)
	if got := query(t, second.URL(), "select n::text from kept"); got != "7" {
		t.Errorf("got %q, want 7", got)
	}
}

func TestTwoServersOnOneClusterAreRefused(t *testing.T) {
	cfg := Config{Dir: filepath.Join(openDir(t), "cluster")}
	start(t, cfg)
	_, err := Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "postmaster.pid") {
		t.Errorf("got %v, want the server's complaint about the other", err)
	}
	wantOneLine(t, err)
}

func TestAFolderThatTheServersUserCannotEnterIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root runs its servers as somebody else")
	}
	closed := openDir(t)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Config{Dir: filepath.Join(closed, "cluster")})
	if err == nil || !strings.Contains(err.Error(), "choose another place") {
		t.Errorf("got %v, want the advice to choose another place", err)
	}
	wantOneLine(t, err)
}

func TestATemporaryDirectoryThatCannotHoldASocketIsNotUsed(t *testing.T) {
	long := filepath.Join(openDir(t), strings.Repeat("long", 30))
	if err := os.Mkdir(long, 0o777); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	s := start(t, Config{Template: true})
	if strings.HasPrefix(s.folder.path, long) {
		t.Errorf("the socket is in %s", s.folder.path)
	}
}

func TestAKilledServerBreaksConnectionsAndRecoversWithARestart(t *testing.T) {
	s := start(t, Config{Template: true})
	conn := connect(t, s.URL())
	query(t, s.URL(), "create table kept as select 7 as n; select ''")
	s.Kill()
	if err := conn.Ping(t.Context()); err == nil {
		t.Error("a connection outlived the server")
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := query(t, s.URL(), "select n::text from kept"); got != "7" {
		t.Errorf("got %q, want 7", got)
	}
}

func TestAStoppedServerCannotBeRestarted(t *testing.T) {
	s := start(t, Config{Template: true})
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("it was restarted")
	}
}

func TestAStartThatIsCalledOffLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	s := &Server{cfg: Config{Template: true}, log: slog.New(slog.DiscardHandler), port: 5432}
	cancel(enough)
	err := s.prepare(ctx)
	if !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was called off", err)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	if exists(s.folder.path) {
		t.Errorf("%s is left", s.folder.path)
	}
}

func TestARunningServerNeedsNoGoroutine(t *testing.T) {
	before := goleak.IgnoreCurrent()
	start(t, Config{Template: true})
	goleak.VerifyNone(t, before)
}

func TestTheLogSaysWhichServerRunsWhere(t *testing.T) {
	var out bytes.Buffer
	s := start(t, Config{Template: true, Logger: slog.New(slog.NewTextHandler(&out, nil))})
	if got := out.String(); !strings.Contains(got, s.folder.path) || !strings.Contains(got, "PostgreSQL") {
		t.Errorf("got %q", got)
	}
}

// start runs a server that is stopped with the test.
func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the server may be gone
	return conn
}

// query runs statements of which the last returns one text.
func query(t *testing.T, url, sql string) string {
	t.Helper()
	results, err := connect(t, url).PgConn().Exec(t.Context(), sql).ReadAll()
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return string(results[len(results)-1].Rows[0][0])
}

func answers(url string) bool {
	conn, err := pgx.Connect(context.Background(), url)
	if err != nil {
		return false
	}
	_ = conn.Close(context.Background())
	return true
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// openDir is a folder that any user can work in, unlike t.TempDir.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "open-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

func wantOneLine(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "\n") {
		t.Errorf("not one line: %v", err)
	}
}
