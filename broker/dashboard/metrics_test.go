package dashboard

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

// busyDatabase has something in everything that is told.
func busyDatabase(name string) broker.DatabaseSnapshot {
	d := broker.DatabaseSnapshot{
		Name: name, Away: true, AwayMS: 1500, Candidates: 7, Held: 3, Unsettled: 2,
		Partition: &broker.PartitionSnapshot{Number: 2, Rank: 1, Of: 3, Ready: true, Members: []broker.MemberSnapshot{{}, {}}},
		Counts: broker.Counts{
			Calls: map[string]broker.Calls{"scan": {Done: 5, Failed: 1}}, Leased: 9, Applied: map[string]uint64{"exit": 4},
			Verdicts: map[string]uint64{"stale": 1}, Hints: map[string]uint64{"due": 8}, Repartitions: 2,
		},
	}
	d.Counts.Delays.Counts[0], d.Counts.Delays.Counts[2], d.Counts.Delays.Counts[len(broker.DelayBounds)] = 2, 1, 1
	d.Counts.Delays.Sum = time.Hour
	return d
}

func TestMetricsPassTheLint(t *testing.T) {
	k := &known{snap: oneDatabase(), pages: []*client.PageRow{{Kind: "k"}}}
	k.snap.Databases = []broker.DatabaseSnapshot{busyDatabase("db0")}
	d := New(k.config()).(*dashboard)
	problems, err := testutil.GatherAndLint(d.registry())
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", err, problems)
	}
}

func TestMetricsTellWhatTheBrokerKnows(t *testing.T) {
	k := &known{snap: oneDatabase(), pages: []*client.PageRow{{Kind: "k"}, {Kind: "k"}, {Kind: "l"}}}
	k.snap.Databases = []broker.DatabaseSnapshot{busyDatabase("db0"), busyDatabase("db1")}
	k.snap.Exits = broker.Exits{Asked: 1, Died: 2}
	k.snap.Workers = []broker.WorkerSnapshot{{Connected: true, Want: 20, Held: 5}, {Connected: true, Draining: true, Want: 10}, {Held: 3}}
	s := serve(t, k.config())
	body := s.wants(http.StatusOK, "/metrics")
	for _, want := range []string{
		`respirate_build_info{schema="9",version="v1"} 1`,
		`respirate_broker_up 1`,
		`respirate_broker_draining 0`,
		`respirate_pages_open{database="db0"} 3`,
		`respirate_pages_open_by_kind{database="db0",kind="k"} 2`,
		`respirate_database_away{database="db1"} 1`,
		`respirate_database_away_seconds{database="db1"} 1.5`,
		`respirate_candidates_buffered{database="db0"} 7`,
		`respirate_strands_held{database="db0"} 3`,
		`respirate_reports_unsettled{database="db0"} 2`,
		`respirate_database_calls_total{call="scan",database="db0"} 5`,
		`respirate_database_call_errors_total{call="scan",database="db0"} 1`,
		`respirate_leases_granted_total{database="db0"} 9`,
		`respirate_reports_applied_total{act="exit",database="db0"} 4`,
		`respirate_reports_total{database="db0",verdict="stale"} 1`,
		`respirate_notifications_total{about="due",database="db0"} 8`,
		`respirate_repartitions_total{database="db0"} 2`,
		`respirate_strand_delay_seconds_bucket{database="db0",le="0.001"} 2`,
		`respirate_strand_delay_seconds_bucket{database="db0",le="0.005"} 3`,
		`respirate_strand_delay_seconds_bucket{database="db0",le="1800"} 3`,
		`respirate_strand_delay_seconds_count{database="db0"} 4`,
		`respirate_strand_delay_seconds_sum{database="db0"} 3600`,
		`respirate_partition_number{database="db0"} 2`,
		`respirate_partitions{database="db0"} 3`,
		`respirate_members{database="db0"} 3`,
		`respirate_workers_connected 2`,
		`respirate_workers_draining 1`,
		`respirate_workers_want 30`,
		`respirate_workers_held 5`,
		`respirate_worker_exits_total{asked="no"} 2`,
		`respirate_pool_state{pool="web",state="running"} 1`,
		`respirate_pool_state{pool="web",state="crash-looping"} 0`,
		`respirate_pool_processes{pool="web",state="connected"} 1`,
		`respirate_pool_slots{pool="web"} 10`,
		`respirate_pool_restarts{pool="web"} 3`,
		`go_goroutines `,
		`process_start_time_seconds `,
	} {
		if !strings.Contains(body, "\n"+want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}

func TestAScrapeAsksTheDatabaseNowAndThenOnly(t *testing.T) {
	k := &known{snap: oneDatabase()}
	s, began := serve(t, k.config()), time.Now()
	for range 5 {
		s.wants(http.StatusOK, "/metrics")
	}
	if most := 1 + int(time.Since(began)/byKindKeep); k.asked < 1 || k.asked > most {
		t.Errorf("pages were asked for %d times, want %d at most", k.asked, most)
	}
}

func TestMetricsComeWithoutBrokerOrDatabase(t *testing.T) {
	t.Parallel()
	k := &known{snap: oneDatabase(), noAnswer: true}
	s := serve(t, k.config())
	if body := s.wants(http.StatusOK, "/metrics"); strings.Contains(body, "pages_open_by_kind{") || !strings.Contains(body, "respirate_broker_up 1") {
		t.Errorf("without a database: %s", body)
	}
	k.hangs = true
	if body := s.wants(http.StatusOK, "/metrics"); !strings.Contains(body, "respirate_broker_up 0") || strings.Contains(body, "respirate_strands_held{") {
		t.Errorf("without a broker: %s", body)
	}
}

func TestNamesFromOutsideMakeNoBadMetrics(t *testing.T) {
	k := &known{snap: oneDatabase()}
	for i := range 50 {
		for range i + 1 {
			k.pages = append(k.pages, &client.PageRow{Kind: strings.Repeat("k", i+1)})
		}
	}
	k.pages = append(k.pages, &client.PageRow{Kind: "\xff\"\n"})
	cfg := k.config()
	cfg.Build = "\xff"
	cfg.Pools = func() []supervisor.PoolInfo {
		return []supervisor.PoolInfo{{Name: "a\xff"}, {Name: "a\xfe"}, {Name: "a?"}}
	}
	s := serve(t, cfg)
	body := s.wants(http.StatusOK, "/metrics")
	if n := strings.Count(body, "\nrespirate_pages_open_by_kind{"); n != mostKinds+1 {
		t.Errorf("%d kinds have pages, want %d", n, mostKinds+1)
	}
	if !strings.Contains(body, `kind="other"} 466`) {
		t.Errorf("the rest is not counted together: %s", body)
	}
}
