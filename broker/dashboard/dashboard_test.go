package dashboard

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// known is a broker and a database that know what a test says.
type known struct {
	snap     broker.Snapshot
	err      error
	hangs    bool
	holder   broker.Holder
	servers  broker.Servers
	pages    []*client.PageRow
	brokers  []*client.BrokerRow
	strand   *client.StrandRow
	program  *client.Program
	noAnswer bool // of the database
	asked    int  // calls of PageList
}

func (k *known) Snapshot(ctx context.Context) (broker.Snapshot, error) {
	if k.hangs {
		<-ctx.Done()
		return broker.Snapshot{}, ctx.Err()
	}
	return k.snap, k.err
}

func (k *known) Holder(context.Context, broker.ID) (broker.Holder, error) { return k.holder, k.err }

func (k *known) Servers(context.Context, string, string, broker.Queue) (broker.Servers, error) {
	return k.servers, k.err
}

func (k *known) answer(ctx context.Context) error {
	if k.noAnswer {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (k *known) PageList(ctx context.Context, _ *client.PageListParams) ([]*client.PageRow, error) {
	k.asked++
	return k.pages, k.answer(ctx)
}

func (k *known) BrokerList(ctx context.Context) ([]*client.BrokerRow, error) {
	return k.brokers, k.answer(ctx)
}

func (k *known) StrandGet(ctx context.Context, _ string) (*client.StrandRow, error) {
	if err := k.answer(ctx); err != nil {
		return nil, err
	}
	if k.strand == nil {
		return nil, client.ErrNotFound
	}
	return k.strand, nil
}

func (k *known) StrandProgram(ctx context.Context, _ string) (*client.Program, error) {
	return k.program, k.answer(ctx)
}

// config is that of a dashboard of k.
func (k *known) config() Config {
	return Config{
		Broker: k, Build: "v1", Schema: 9,
		Databases: []Database{{Name: "db0", Reader: k, PagesOpen: func() int { return len(k.pages) }}},
		Pools: func() []supervisor.PoolInfo {
			return []supervisor.PoolInfo{{Name: "web", State: "running", Procs: 2, Connected: 1, Slots: 10}}
		},
		Workers: func(broker.Snapshot) []Worker {
			return []Worker{{Name: "pid 10", Connected: true, Info: supervisor.Info{Pool: "web", PID: 10, State: "connected", Restarts: 3}}}
		},
		API: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "api of "+r.URL.Path) }),
	}
}

// oneDatabase is a snapshot of a broker that is well.
func oneDatabase() broker.Snapshot {
	return broker.Snapshot{Broker: "b", Host: "h", Databases: []broker.DatabaseSnapshot{{Name: "db0", Held: 3}}}
}

// site serves a dashboard, and asks it.
type site struct {
	t *testing.T
	*httptest.Server
	token  string // sent as a bearer; "" = none
	cookie *http.Cookie
	host   string // "" = the right one
	last   *http.Response
}

func serve(t *testing.T, cfg Config) *site {
	t.Helper()
	server := httptest.NewServer(New(cfg))
	t.Cleanup(server.Close)
	server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &site{t: t, Server: server}
}

func (s *site) send(method, path string, form url.Values) (code int, body string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if s.token != "" {
		r.Header.Set("Authorization", "Bearer "+s.token)
	}
	if s.cookie != nil {
		r.AddCookie(s.cookie)
	}
	if s.host != "" {
		r.Host = s.host
	}
	if s.last, err = s.Client().Do(r); err != nil {
		s.t.Fatal(err)
	}
	defer s.last.Body.Close()
	text, err := io.ReadAll(s.last.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.last.StatusCode, string(text)
}

func (s *site) get(path string) (code int, body string) {
	s.t.Helper()
	return s.send(http.MethodGet, path, nil)
}

func (s *site) wants(code int, path string) (body string) {
	s.t.Helper()
	got, body := s.get(path)
	if got != code {
		s.t.Errorf("GET %s: %d, want %d: %s", path, got, code, body)
	}
	return body
}

const token = "0123456789abcdef0123456789abcdef"

func TestNothingIsShownWithoutTheToken(t *testing.T) {
	k := &known{snap: oneDatabase()}
	cfg := k.config()
	cfg.Token = token
	s := serve(t, cfg)
	for _, path := range []string{"/metrics", "/api/v1/status"} {
		s.wants(http.StatusUnauthorized, path)
		s.token = token[1:]
		s.wants(http.StatusUnauthorized, path)
		s.token = token
		s.wants(http.StatusOK, path)
		s.token = ""
	}
	for _, path := range []string{"/", "/pages", "/strands/x", "/no-such-thing"} {
		if body := s.wants(http.StatusUnauthorized, path); !strings.Contains(body, `<form`) || strings.Contains(body, "db0") {
			t.Errorf("%s shows %s", path, body)
		}
	}
	s.wants(http.StatusOK, "/healthz")
	s.wants(http.StatusOK, "/style.css")
}

func TestTheFormGivesASessionThatIsNotTheToken(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Token = token
	s := serve(t, cfg)
	if code, body := s.send(http.MethodPost, "/login", url.Values{"token": {"wrong"}}); code != http.StatusUnauthorized || !strings.Contains(body, "not the token") {
		t.Errorf("a wrong token: %d %s", code, body)
	}
	code, _ := s.send(http.MethodPost, "/login", url.Values{"token": {token + "\n"}})
	if code != http.StatusSeeOther || s.last.Header.Get("Location") != "./" || len(s.last.Cookies()) != 1 {
		t.Fatalf("the token: %d, to %q, with the cookies %v", code, s.last.Header.Get("Location"), s.last.Cookies())
	}
	c := s.last.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || strings.Contains(c.Value, token) {
		t.Errorf("the cookie is %v", c)
	}
	s.cookie = &http.Cookie{Name: c.Name, Value: c.Value}
	s.wants(http.StatusOK, "/metrics")

	end, signature, _ := strings.Cut(c.Value, ".")
	for _, forged := range []string{"", token, "9" + end + "." + signature, end + ".", end, "1." + newLogin(token, nil).sign("1")} {
		s.cookie.Value = forged
		s.wants(http.StatusUnauthorized, "/metrics")
	}
	s.cookie.Value = newLogin(token+"x", nil).session(time.Now().Add(time.Hour))
	s.wants(http.StatusUnauthorized, "/metrics")
}

func TestAFormOfAnotherSiteLogsNobodyIn(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Token = token
	r := httptest.NewRequest(http.MethodPost, "/login", strings.NewReader("token="+token))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	New(cfg).ServeHTTP(w, r)
	if w.Code != http.StatusForbidden || len(w.Result().Cookies()) > 0 {
		t.Errorf("got %d and the cookies %v", w.Code, w.Result().Cookies())
	}
}

func TestTokensAreNotGuessedWithoutEnd(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Token = token
	s := serve(t, cfg)
	session := &http.Cookie{Name: newLogin(token, nil).cookie, Value: newLogin(token, nil).session(time.Now().Add(time.Hour))}
	s.token = "wrong"
	tries, began := 0, time.Now()
	for code, _ := s.get("/metrics"); code == http.StatusUnauthorized; code, _ = s.get("/metrics") {
		tries++
	}
	if most := mostTries + int(time.Since(began)/tryAgain); tries < mostTries || tries > most {
		t.Errorf("%d tries, want %d to %d", tries, mostTries, most)
	}
	s.token = token
	s.wants(http.StatusTooManyRequests, "/metrics")
	if s.last.Header.Get("Retry-After") == "" {
		t.Error("nobody is told when to try again")
	}
	if code, _ := s.send(http.MethodPost, "/login", url.Values{"token": {token}}); code != http.StatusTooManyRequests {
		t.Errorf("the form is taken in: %d", code)
	}
	s.token, s.cookie = "", session
	s.wants(http.StatusOK, "/metrics") // who is in stays in
}

func TestTriesComeBackByAndByAndAreOfOneAddress(t *testing.T) {
	tries, now := tries{left: map[string]allowance{}}, time.Now()
	for i := range mostTries {
		if !tries.may("a", now) {
			t.Fatalf("no try %d", i)
		}
		if last := tries.failed("a", now); last != (i == mostTries-1) {
			t.Errorf("try %d is the last: %v", i, last)
		}
	}
	if tries.may("a", now) || !tries.may("b", now) {
		t.Error("want none more from a, and some from b")
	}
	now = now.Add(tryAgain)
	if !tries.may("a", now) || !tries.failed("a", now) || tries.may("a", now) {
		t.Error("want one more from a")
	}
	for i := range 2 * mostAddresses {
		tries.failed(string(rune('A'+i))+"x", now)
	}
	if len(tries.left) > mostAddresses+1 {
		t.Errorf("%d addresses are kept", len(tries.left))
	}
	now = now.Add(time.Hour)
	if tries.failed("c", now); len(tries.left) > 2 {
		t.Errorf("%d addresses are kept after an hour", len(tries.left))
	}
}

func TestALocalDashboardIsAskedForByItsOwnNameOnly(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Local = true
	s := serve(t, cfg)
	for _, host := range []string{"localhost", "localhost:9000", "LOCALHOST:1", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8080", ""} {
		s.host = host
		s.wants(http.StatusOK, "/metrics")
	}
	for _, host := range []string{"evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "10.0.0.1:80", "evil.example:127"} {
		s.host = host
		for _, path := range []string{"/metrics", "/healthz", "/"} {
			s.wants(http.StatusMisdirectedRequest, path)
		}
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	s := serve(t, (&known{snap: oneDatabase()}).config())
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		for _, path := range []string{"/", "/api/v1/upgrade", "/api/v1/pools/a", "/metrics", "/healthz", "/login"} {
			if code, body := s.send(method, path, nil); code != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d %s", method, path, code, body)
			}
		}
	}
	if body := s.wants(http.StatusOK, "/api/v1/pools"); body != "api of /api/v1/pools" {
		t.Errorf("got %q", body)
	}
	s.wants(http.StatusNotFound, "/api/v1/../metrics")
	s.wants(http.StatusNotFound, "/api/v2/x")
}

func TestEveryAnswerForbidsWhatIsNotNeeded(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Token = token
	s := serve(t, cfg)
	for _, path := range []string{"/", "/metrics", "/healthz", "/style.css", "/nothing"} {
		_, _ = s.get(path)
		h := s.last.Header
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'self'; ") || h.Get("X-Frame-Options") != "DENY" ||
			h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") == "" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestHealthSaysWhyNot(t *testing.T) {
	t.Parallel()
	away := func(ms int64) broker.DatabaseSnapshot {
		return broker.DatabaseSnapshot{Name: "secret", Away: true, AwayMS: ms}
	}
	well := broker.DatabaseSnapshot{}
	misfit := func(context.Context) (string, error) { return "schema secret is at version 1", nil }
	for name, c := range map[string]struct {
		k    known
		fits func(context.Context) (string, error)
		code int
		want string
	}{
		"well":               {known{snap: oneDatabase()}, nil, 200, `{"status":"ok"}`},
		"draining":           {known{snap: broker.Snapshot{Draining: true}}, nil, 503, "about to stop"},
		"stopped":            {known{err: broker.ErrStopped}, nil, 503, broker.ErrStopped.Error()},
		"hanging":            {known{hangs: true}, nil, 503, "the broker does not answer"},
		"away for a moment":  {known{snap: broker.Snapshot{Databases: []broker.DatabaseSnapshot{away(5000)}}}, nil, 200, `{"status":"ok"}`},
		"away":               {known{snap: broker.Snapshot{Databases: []broker.DatabaseSnapshot{away(31000)}}}, nil, 503, "the database has been away for 31s"},
		"one of two is away": {known{snap: broker.Snapshot{Databases: []broker.DatabaseSnapshot{well, away(31000)}}}, nil, 200, `{"status":"ok","why":"1 of 2 databases cannot be used; of one of them: the`},
		"both are away":      {known{snap: broker.Snapshot{Databases: []broker.DatabaseSnapshot{away(31000), away(31000)}}}, nil, 503, "2 of 2"},
		"other schema":       {known{snap: oneDatabase()}, misfit, 503, "the schema does not fit this program"},
		"schema not known":   {known{snap: oneDatabase()}, func(context.Context) (string, error) { return "", errors.New("away") }, 200, `"ok"`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := c.k.config()
			cfg.Databases[0].Misfit = c.fits
			cfg.Token = token
			s := serve(t, cfg)
			if body := s.wants(c.code, "/healthz"); !strings.Contains(body, c.want) || strings.Contains(body, "secret") {
				t.Errorf("got %s, want %s", body, c.want)
			}
		})
	}
}
