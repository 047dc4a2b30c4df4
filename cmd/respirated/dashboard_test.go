package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
)

const loginToken = "0123456789abcdefghijklmnopqrstuv"

// writeToken makes a file with the login token.
func writeToken(t *testing.T) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(name, []byte(loginToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// withDashboard are the flags of a daemon that has one.
func withDashboard(t *testing.T, flags ...string) []string {
	return append(flags, "--http", "127.0.0.1:0", "--http-token-file", writeToken(t))
}

// dashboard is where the daemon says that its dashboard is.
func (h *host) dashboard() string {
	h.t.Helper()
	var found [][]string
	h.eventually("there is a dashboard", func() bool { // what a daemon says is written down a little later
		found = regexp.MustCompile(`msg="dashboard listens" address=(\S+)\n`).FindAllStringSubmatch(h.said(), -1)
		return found != nil
	})
	return "http://" + found[len(found)-1][1]
}

// askWeb gets a page of a dashboard, with the token if there is one.
func askWeb(t testing.TB, url, token string) (code int, body string, err error) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// shows gets a page of the daemon's dashboard.
func (h *host) shows(path string) string {
	h.t.Helper()
	code, body, err := askWeb(h.t, h.dashboard()+path, loginToken)
	if err != nil || code != http.StatusOK {
		h.t.Fatalf("GET %s: %d, %v\n%s", path, code, err, body)
	}
	return body
}

func TestDashboardOfADaemonShowsAPageUntilItIsOver(t *testing.T) {
	t.Parallel()
	h := newHost(t, privatetest.URL(t), withDashboard(t, demoWorkers(t, 1)...)...)
	h.start()
	h.workers(1)
	h.eventually("the metrics tell of the worker", func() bool { return strings.Contains(h.shows("/metrics"), "\nrespirate_workers_connected 1\n") })
	inserted, err := h.db.Insert(t.Context(), demo.Provision{Parts: []string{"disk"}, Within: demo.Duration(time.Millisecond), Boot: demo.Duration(time.Hour)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h.eventually("it waits to boot", func() bool {
		row, err := h.db.StrandGet(t.Context(), inserted.ID)
		return err == nil && row.Label == "boot" && row.State == client.Deferred
	})
	h.count("select respirate.page_due()") // not in up to 15 s
	h.eventually("its page is in the metrics", func() bool {
		return regexp.MustCompile(`\nrespirate_pages_open_by_kind\{database="[^"]*",kind="provision"\} 1\n`).MatchString(h.shows("/metrics"))
	})
	link := `<a href="strands/` + inserted.ID + `">`
	h.eventually("it is on the overview", func() bool { return strings.Contains(h.shows("/"), link) })
	for _, want := range []string{"It has missed a deadline.", "it waits for the signal booted until "} {
		h.eventually("the strand's page has "+want, func() bool { return strings.Contains(h.shows("/strands/"+inserted.ID), want) })
	}

	if _, err := h.db.StrandRetryAt(t.Context(), inserted.ID, "ready", "test"); err != nil {
		t.Fatal(err)
	}
	h.awaitState(inserted.ID, client.Done)
	h.eventually("it is there no more", func() bool {
		return !strings.Contains(h.shows("/metrics"), `kind="provision"`) && !strings.Contains(h.shows("/"), link)
	})
	h.eventually("it is among those that are resolved", func() bool {
		pages := h.shows("/pages?all=1")
		return strings.Contains(pages, link) && strings.Contains(pages, "reached")
	})
	exited := regexp.MustCompile(`\nrespirate_reports_applied_total\{act="exit",database="[^"]*"\} [1-9]`)
	h.eventually("the metrics tell of a strand that has exited", func() bool { return exited.MatchString(h.shows("/metrics")) })
}

func TestDashboardShowsThatTheDatabaseIsAwayAndBack(t *testing.T) {
	t.Parallel()
	server := privatetest.Server(t)
	h := newHost(t, server.URL(), withDashboard(t)...)
	h.start()
	h.eventually("it is shown as there", func() bool { return strings.Contains(h.shows("/"), "None is open.") })
	server.Kill()
	h.eventually("it is shown as away", func() bool {
		page := h.shows("/")
		return strings.Contains(page, "The database does not answer.") && strings.Contains(page, "It has been away for ")
	})
	if page := h.shows("/pages"); !strings.Contains(page, "The database does not answer") {
		t.Errorf("pages: %s", page)
	}
	if metrics := h.shows("/metrics"); !regexp.MustCompile(`\nrespirate_database_away\{database="[^"]*"\} 1\n`).MatchString(metrics) {
		t.Errorf("the metrics are %s", metrics)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.eventually("it is back", func() bool {
		page := h.shows("/")
		return !strings.Contains(page, "The database does not answer.") && !strings.Contains(page, "It has been away for ")
	})
}

func TestDashboardOfADaemonWantsTheToken(t *testing.T) {
	t.Parallel()
	h := newHost(t, privatetest.URL(t), withDashboard(t)...)
	h.start()
	for path, code := range map[string]int{"/": 401, "/metrics": 401, "/api/v1/status": 401, "/healthz": 200} {
		if got, body, err := askWeb(t, h.dashboard()+path, ""); got != code || err != nil {
			t.Errorf("GET %s without a token: %d, %v, want %d: %s", path, got, err, code, body)
		}
	}
	if got, _, err := askWeb(t, h.dashboard()+"/metrics", strings.ToUpper(loginToken)); got != 401 || err != nil {
		t.Errorf("GET /metrics with a wrong token: %d, %v", got, err)
	}
	var status daemonStatus
	if err := json.Unmarshal([]byte(h.shows("/api/v1/status")), &status); err != nil || status.PID != h.daemon.Process.Pid {
		t.Errorf("the status is %+v, %v", status, err)
	}
}

func TestDashboardStaysWhereItIsOverAnUpgrade(t *testing.T) {
	t.Parallel()
	h := newHost(t, privatetest.URL(t), withDashboard(t)...)
	h.start()
	before := h.dashboard()
	for n := 1; n <= 2; n++ {
		h.upgrade("")
		var status daemonStatus
		if err := json.Unmarshal([]byte(h.shows("/api/v1/status")), &status); err != nil || status.Upgrades != n {
			t.Fatalf("after upgrade %d: %+v, %v", n, status, err)
		}
	}
	if after := h.dashboard(); after != before {
		t.Errorf("it was at %s, and is at %s", before, after)
	}
}

func TestDashboardThatCannotListenIsAnErrorWithTheAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	code, _, stderr := call("run", "--http", address, "--http-token-file", writeToken(t), "--socket", filepath.Join(shortDir(t), "r.sock"))
	if code != exitFailed || !strings.Contains(stderr, "listen for the dashboard at "+address+": ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("code %d, %s", code, stderr)
	}
}

// shortDir is a folder for a socket, whose path has to be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "respirate-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestDevServesADashboardForThisHost(t *testing.T) {
	t.Parallel()
	p := startDev(t)
	p.await(t, `^A private PostgreSQL`)
	url := regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+/`).FindString(p.said.String())
	if url == "" {
		t.Fatalf("dev said %s", p.said.String())
	}
	p.await(t, `ping +done`)
	if code, body, err := askWeb(t, url+"metrics", ""); code != 200 || err != nil || !strings.Contains(body, "respirate_broker_up 1") {
		t.Errorf("%d, %v, %s", code, err, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "rebound.example"
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("asked for by another name: %s", resp.Status)
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.finish(t)
}

func TestLoginTokenHasToBeOneThatNobodyKnows(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		mode os.FileMode
		want string // "" = it is taken
	}{
		"good":       {loginToken + "\n", 0o600, ""},
		"read-only":  {loginToken, 0o400, ""},
		"open":       {loginToken, 0o640, "can be read or changed by others (mode 0640)"},
		"short":      {loginToken[:31], 0o600, "too easy to guess"},
		"monotonous": {strings.Repeat("ab", 40), 0o600, "too easy to guess"},
		"empty":      {"", 0o600, "too easy to guess"},
		"two lines":  {loginToken + "\nx\n", 0o600, "one line"},
		"spaces":     {loginToken + " x", 0o600, "one line"},
		"endless":    {strings.Repeat(loginToken, 200), 0o600, "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			err := httpConfig{Listen: ":0", TokenFile: file}.check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), loginToken[:10]) {
				t.Errorf("the token is told: %v", err)
			}
		})
	}
}

func TestNoMoreThanSoManyLookAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &bounded{Listener: l, free: make(chan struct{}, 1)}
	accepted := make(chan net.Conn)
	ended := make(chan error)
	go func() {
		for {
			conn, err := b.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- conn
		}
	}()
	var conns []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	first := <-accepted
	select {
	case <-accepted:
		t.Fatal("a second one was let in beside the first")
	case <-time.After(50 * time.Millisecond): // it may only pass for a wrong reason
	}
	first.Close()
	first.Close() // makes no more room than once
	second := <-accepted
	if got, want := second.RemoteAddr().String(), conns[1].LocalAddr().String(); got != want {
		t.Errorf("let in %s, want %s", got, want)
	}
	l.Close()
	second.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept ended with %v", err)
	}
}
