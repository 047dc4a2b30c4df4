package dashboard

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

// text is what a person reads on a page.
func text(html string) string {
	return strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(html, " ")), " ")
}

const strandID = "6ba7b810-9dad-41d1-80b4-00c04fd430c8"

// open is a page that is open.
func open(id int64, kind string) *client.PageRow {
	return &client.PageRow{ID: id, Strand: strandID, Kind: kind, Target: "ready", DueAt: time.Now().Add(-90 * time.Minute), OpenedAt: time.Now().Add(-80 * time.Minute)}
}

func TestOverviewBeginsWithTheOpenPages(t *testing.T) {
	k := &known{snap: oneDatabase(), pages: []*client.PageRow{open(7, "provision")}}
	k.snap.Databases[0] = busyDatabase("db0")
	k.snap.Databases[0].Away = false
	k.snap.Databases[0].Partition.Members[0] = broker.MemberSnapshot{Broker: "2", SilentMS: 1500}
	k.brokers = []*client.BrokerRow{{ID: "2", Host: "other", PID: 9, Alive: true, Kinds: []string{"k"}, Partition: 3, Rank: 2, Members: 3}}
	s := serve(t, k.config())
	body := s.wants(http.StatusOK, "/")
	if !strings.Contains(body, `<a href="strands/`+strandID+`">`) {
		t.Errorf("no link to the strand: %s", body)
	}
	said := text(body)
	for _, want := range []string{
		"Open pages Deadlines of strands have passed. page strand kind target due opened resolved why 7 " + strandID + " provision ready 1h30m ago 1h20m ago",
		"host h ", "build v1 ", "Database db0 candidates 7 at hand strands held 3", "4 exit", "not applied 1 stale", "partition 2, as 1 of 3",
		"other 9 idle 3, as 2 of 3 1s ago", "web running 2 1 10", "pid state started", "web 0 10 connected",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the page lacks %q: %s", want, said)
		}
	}
	if first, second := strings.Index(said, "Open pages"), strings.Index(said, "Broker host"); first < 0 || second < first {
		t.Errorf("pages come at %d, the broker at %d", first, second)
	}
	if !strings.Contains(body, `<meta http-equiv="refresh" content="5">`) || strings.Contains(body, "<script") {
		t.Errorf("the page is %s", body)
	}
}

func TestWorkersThatNoSupervisorHasStartedHaveNoSeat(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	cfg.Workers = func(broker.Snapshot) []Worker {
		return []Worker{{Connected: true, Info: supervisor.Info{Pool: "external", PID: 4711, State: "connected"}}}
	}
	if said := text(serve(t, cfg).wants(http.StatusOK, "/")); !strings.Contains(said, " external 4711 connected ") {
		t.Errorf("the page says %s", said)
	}
}

// What comes from outside is shown as it is, and is no part of the page.
func TestHostileNamesAreEscaped(t *testing.T) {
	const evil = `"><script>alert(1)</script><a href='javascript:x'>&amp;` + "\u202e\x1b[2J"
	k := &known{snap: oneDatabase(), pages: []*client.PageRow{open(1, evil)}}
	k.pages[0].Target, k.pages[0].Why, k.pages[0].Strand = evil, evil, evil
	k.brokers = []*client.BrokerRow{{Host: evil, Build: evil, Kinds: []string{evil}, Alive: true}}
	k.snap.Host, k.snap.Databases[0].Name = evil, evil
	k.strand = &client.StrandRow{
		ID: strandID, Kind: evil, Label: evil, State: client.Dead, Queue: evil, Tenant: evil, Tags: []string{evil}, Args: []byte(evil), Value: []byte(evil),
		Metadata: []byte(evil), Parent: evil, FinishedAt: new(time.Time), Stack: []byte(`[{"a":"<script>"},{"kind":"<script>"}]`),
		Attempts: []client.Attempt{{Outcome: evil, Class: evil, Message: evil, Trace: evil, Worker: evil, Host: evil, Exit: evil, Stderr: evil}},
	}
	k.program = &client.Program{
		Semaphores: []client.Semaphore{{Name: evil, Value: []byte(evil)}}, Waiting: 1, Children: []client.Child{{ID: evil, Kind: evil, Value: []byte(evil)}},
		Deadlines: []client.Deadline{{Kind: evil, Target: evil}}, Pages: []client.PageRow{*k.pages[0]}, Audits: []client.Audit{{Who: evil, What: evil, Before: []byte(evil)}},
	}
	cfg := k.config()
	cfg.Build = evil
	cfg.Databases[0].Name = evil
	cfg.Pools = func() []supervisor.PoolInfo {
		return []supervisor.PoolInfo{{Name: evil, State: evil, Note: evil, Build: evil}}
	}
	cfg.Workers = func(broker.Snapshot) []Worker {
		return []Worker{{Kinds: []string{evil}, Info: supervisor.Info{Pool: evil, State: evil, LastExit: evil}}}
	}
	s := serve(t, cfg)
	for _, path := range []string{"/", "/pages", "/pages?all=1", "/strands/" + strandID} {
		body := s.wants(http.StatusOK, path)
		for _, bad := range []string{"<script", "<a href='", `href="javascript`, "\u202e", "\x1b"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s has %q: %s", path, bad, body)
			}
		}
		if !strings.Contains(body, "&lt;script&gt;alert(1)") {
			t.Errorf("%s does not show it: %s", path, body)
		}
	}
	if body := s.wants(http.StatusNotFound, "/strands/%3Cscript%3Ealert(1)"); strings.Contains(body, "<script") {
		t.Errorf("an id that is none: %s", body)
	}
	s.wants(http.StatusOK, "/pages?database=%3Cscript%3E&before=x%22&all=%3Cscript%3E")
}

func TestWhatIsLongIsCut(t *testing.T) {
	k := &known{snap: oneDatabase()}
	long := strings.Repeat("x", 1<<20)
	for i := range 3 * mostRows {
		k.pages = append(k.pages, open(int64(i), long))
		k.brokers = append(k.brokers, &client.BrokerRow{Host: long})
	}
	k.strand = &client.StrandRow{ID: strandID, State: client.Ready, Args: []byte(long), Metadata: []byte(long), Attempts: make([]client.Attempt, 100)}
	for i := range k.strand.Attempts {
		k.strand.Attempts[i] = client.Attempt{Message: long, Trace: long, Stderr: long}
	}
	k.program = &client.Program{}
	s := serve(t, k.config())
	for _, path := range []string{"/", "/pages", "/strands/" + strandID} {
		if body := s.wants(http.StatusOK, path); len(body) > 512<<10 {
			t.Errorf("%s has %d bytes", path, len(body))
		}
	}
	if body := s.wants(http.StatusOK, "/"); !strings.Contains(body, "Only the first 200 are shown.") {
		t.Error("nobody is told that there is more")
	}
}

func TestStrandPageSaysWhy(t *testing.T) {
	due := time.Now().Add(-time.Minute)
	k := &known{snap: oneDatabase(), holder: broker.Holder{Held: true, Worker: "pid 4711", HeldMS: 61_000}}
	k.snap.Broker = "b"
	k.brokers = []*client.BrokerRow{{ID: "b", Host: "here", Alive: true, Kinds: []string{"k"}}}
	k.program = &client.Program{Pages: []client.PageRow{*open(3, "k")}}
	k.strand = &client.StrandRow{ID: strandID, Kind: "k", State: client.Leased, LeasedUntil: new(time.Now().Add(90 * time.Second)), MaxTries: 5, Args: []byte(`{"a":1}`), Parent: strandID}
	s := serve(t, k.config())
	body := s.wants(http.StatusOK, "/strands/"+strandID)
	said := text(body)
	for _, want := range []string{
		"the worker pid 4711 on here has had it for 1m01s; if nothing is heard of that, its lease ends in 1m", "failures 0 of 5", `args {&#34;a&#34;:1}`,
		"It has missed a deadline.", "Open pages page strand kind",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("the page lacks %q: %s", want, said)
		}
	}
	if !strings.Contains(body, `href="../strands/`+strandID) || !strings.Contains(body, `href="../style.css"`) {
		t.Errorf("links do not lead to the root: %s", body)
	}

	k.strand = &client.StrandRow{ID: strandID, Kind: "other", State: client.Ready, ScheduledAt: &due}
	if said := text(s.wants(http.StatusOK, "/strands/"+strandID)); !strings.Contains(said, "no worker serves this kind") {
		t.Errorf("the page is %s", said)
	}
	k.strand = &client.StrandRow{ID: strandID, Kind: "k", Label: "later", State: client.Ready, ScheduledAt: &due}
	k.servers = broker.Servers{Kind: 2}
	if said := text(s.wants(http.StatusOK, "/strands/"+strandID)); !strings.Contains(said, "none of the 2 workers on here that serve its kind k has its label later") {
		t.Errorf("the page is %s", said)
	}
	k.strand = nil
	s.wants(http.StatusNotFound, "/strands/"+strandID)
	s.wants(http.StatusNotFound, "/strands/x")
	s.wants(http.StatusNotFound, "/strands/"+strandID+"/x")
}

func TestPagesAreListedPartByPart(t *testing.T) {
	k := &known{snap: oneDatabase()}
	for i := range mostRows {
		k.pages = append(k.pages, open(int64(1000-i), "k"))
	}
	s := serve(t, k.config())
	body := s.wants(http.StatusOK, "/pages?all=1")
	if want := fmt.Sprintf(`href="pages?database=0&amp;before=%d&amp;all=1"`, 1000-mostRows+1); !strings.Contains(body, want) {
		t.Errorf("the page lacks %s", want)
	}
	if body := s.wants(http.StatusOK, "/pages?database=1"); strings.Contains(body, "provision") {
		t.Error("pages of another database are shown")
	}
}

func TestADatabaseThatIsAwayIsShownAsSuch(t *testing.T) {
	t.Parallel()
	k := &known{snap: oneDatabase(), pages: []*client.PageRow{open(7, "provision")}}
	s := serve(t, k.config())
	s.wants(http.StatusOK, "/")

	k.snap.Databases[0].Away, k.snap.Databases[0].AwayMS = true, 61_000
	k.noAnswer = true
	asked := k.asked
	said := text(s.wants(http.StatusOK, "/"))
	for _, want := range []string{"The database does not answer.", "This is what it was", " provision ready ", "It has been away for 1m01s"} {
		if !strings.Contains(said, want) {
			t.Errorf("the page lacks %q: %s", want, said)
		}
	}
	if k.asked != asked {
		t.Error("it was asked, though it is known to be away")
	}
	if code, body := s.get("/strands/" + strandID); code != http.StatusServiceUnavailable || !strings.Contains(body, "does not answer") {
		t.Errorf("a strand: %d %s", code, body)
	}
}

// One that hangs is not known to be away.
func TestADatabaseThatHangsHoldsUpNobodyForLong(t *testing.T) {
	t.Parallel()
	k := &known{snap: oneDatabase(), noAnswer: true}
	s := serve(t, k.config())
	for _, path := range []string{"/", "/pages"} {
		if said := text(s.wants(http.StatusOK, path)); !strings.Contains(said, "The database does not answer") {
			t.Errorf("%s: %s", path, said)
		}
	}
	asked, began := k.asked, time.Now()
	for range 5 {
		s.wants(http.StatusOK, "/")
	}
	if most := 1 + int(time.Since(began)/seenKeep); k.asked > asked+most {
		t.Errorf("it was asked %d times, want %d at most", k.asked-asked, most)
	}
}

func TestOverviewStandsABrokerThatHangs(t *testing.T) {
	t.Parallel()
	s := serve(t, (&known{hangs: true}).config())
	if said := text(s.wants(http.StatusOK, "/")); !strings.Contains(said, "It does not answer: the broker does not answer.") {
		t.Errorf("the page is %s", said)
	}
}

func TestADashboardMayBeBelowAPrefix(t *testing.T) {
	cfg := (&known{snap: oneDatabase()}).config()
	mux := http.NewServeMux()
	mux.Handle("/ops/", http.StripPrefix("/ops", New(cfg)))
	s := serve(t, cfg)
	s.Config.Handler = mux
	if body := s.wants(http.StatusOK, "/ops/"); !strings.Contains(body, `href="style.css"`) {
		t.Errorf("the page is %s", body)
	}
	s.wants(http.StatusOK, "/ops/style.css")
	s.wants(http.StatusOK, "/ops/metrics")
	s.wants(http.StatusNotFound, "/style.css")
}
