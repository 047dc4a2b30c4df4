package dashboard

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/client"
)

// newMetrics is what Prometheus scrapes: a registry of our own, so that several dashboards may be in one program.
func (d *dashboard) newMetrics() http.Handler {
	return promhttp.HandlerFor(d.registry(), promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}

func (d *dashboard) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collector{d},
	)
	return r
}

// collector makes metrics of a snapshot when it is asked.
type collector struct{ d *dashboard }

// metric is what is told under one name.
type metric struct {
	*prometheus.Desc
	kind prometheus.ValueType
}

func gauge(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("respirate_"+name, help, labels, nil), prometheus.GaugeValue}
}

func counter(name, help string, labels ...string) metric {
	return metric{prometheus.NewDesc("respirate_"+name, help, labels, nil), prometheus.CounterValue}
}

// metrics are all that there are. Counters begin with the process, and anew when it is upgraded in place.
var metrics = struct {
	build, up, draining                                          metric
	pages, pagesByKind                                           metric
	away, awaySeconds, busy, buffered, held, unsettled           metric
	calls, callErrors, found, leases, applied, verdicts          metric
	notifications, connects, repartitions, delay                 metric
	number, rank, partitions, members, scans                     metric
	workers, workersDraining, want, workersHeld, exits           metric
	poolState, poolProcesses, poolProcs, poolSlots, poolRestarts metric
}{
	build:    gauge("build_info", "1. The version of the program, and the schema version that it brings.", "version", "schema"),
	up:       gauge("broker_up", "1 if the broker answers. Without it there are no metrics of strands, databases and workers."),
	draining: gauge("broker_draining", "1 if the broker takes no more strands, since it is about to stop."),

	pages:       gauge("pages_open", "Pages that are open in the whole database, up to 10,000, when this broker last looked, each 15 s or so. All brokers tell of the same: take the greatest.", "database"),
	pagesByKind: gauge("pages_open_by_kind", "Pages that are open in the whole database, among the newest 1000, by the kind of the frame whose deadline has passed; kinds beyond 20 are \"other\". At most 10 s old. Absent while the database does not answer.", "database", "kind"),

	away:        gauge("database_away", "1 if the last statement failed because the database could not be reached.", "database"),
	awaySeconds: gauge("database_away_seconds", "For how long it has been so; 0 if it is not away.", "database"),
	busy:        gauge("broker_busy", "1 if inserters need not notify this broker, since it has work.", "database"),
	buffered:    gauge("candidates_buffered", "Due strands at hand that nobody has leased.", "database"),
	held:        gauge("strands_held", "Strands leased for workers of this broker, on their way there, or with their results on the way to the database.", "database"),
	unsettled:   gauge("reports_unsettled", "Reports of runs that the database has not answered for.", "database"),

	calls:         counter("database_calls_total", "Statements, or transactions of several, that have come back, by what they were for.", "database", "call"),
	callErrors:    counter("database_call_errors_total", "Those of them that failed.", "database", "call"),
	found:         counter("candidates_found_total", "Candidates that scans have found. A strand may be found more than once.", "database"),
	leases:        counter("leases_granted_total", "Leases that the database has granted: runs that may begin.", "database"),
	applied:       counter("reports_applied_total", "Reports that are stored, by what the run has ended in: exit, nap, hop, fail, cancel, release, own; save does not end it; yield gives a lease back, and crash is the death of its worker.", "database", "act"),
	verdicts:      counter("reports_total", "What the database has said about reports: applied; dup if it had been before; stale if the lease was another's by then; gone if there is no such strand; invalid; later if its row was locked.", "database", "verdict"),
	notifications: counter("notifications_total", "Notifications that came, by what they are about: strands that are due, new lanes, cancels, and the presence of brokers, this one included.", "database", "about"),
	connects:      counter("notification_connects_total", "Times that the connection for notifications was made.", "database"),
	repartitions:  counter("repartitions_total", "Times that the ids were divided otherwise than before, as this broker sees it.", "database"),
	delay:         metric{prometheus.NewDesc("respirate_strand_delay_seconds", "How long strands had waited that were leased, from when they could have started.", []string{"database"}, nil), prometheus.UntypedValue},

	number:     gauge("partition_number", "The partition number of this broker; 0 = none yet. Absent where ids are not divided.", "database"),
	rank:       gauge("partition_rank", "The place of that number among those whose brokers have workers, from 1 on; 0 = it has none.", "database"),
	partitions: gauge("partitions", "Into how many parts this broker believes the ids to be divided.", "database"),
	members:    gauge("members", "Brokers that divide the ids, as far as this one has heard of them, itself included.", "database"),
	scans:      gauge("partition_ready", "1 if this broker looks for strands in its part.", "database"),

	workers:         gauge("workers_connected", "Workers that are connected to the broker, whoever has started them."),
	workersDraining: gauge("workers_draining", "Those of them that take no more strands."),
	want:            gauge("workers_want", "How many strands the connected workers may hold, together."),
	workersHeld:     gauge("workers_held", "How many they do."),
	exits:           counter("worker_exits_total", "Worker processes of the daemon that have ended, by whether they had been asked to.", "asked"),

	poolState:     gauge("pool_state", "1 for the state that the pool is in, 0 for the others.", "pool", "state"),
	poolProcesses: gauge("pool_processes", "Seats of the pool by the state of their process.", "pool", "state"),
	poolProcs:     gauge("pool_processes_wanted", "How many processes the pool is to have.", "pool"),
	poolSlots:     gauge("pool_slots", "How many strands its connected processes run at once.", "pool"),
	poolRestarts:  gauge("pool_restarts", "How often the processes that are now in its seats were started anew, together. It falls when the pool shrinks.", "pool"),
}

var (
	poolStates = []string{"running", "starting", "paused", "rolling", "old build", "crash-looping", "halted", "refused"}
	seatStates = []string{"starting", "connected", "backing-off", "ending", "adopted", "killed", "stuck", "stopped", "crash-looping"}
)

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	m := &metrics
	for _, one := range []metric{
		m.build, m.up, m.draining, m.pages, m.pagesByKind, m.away, m.awaySeconds, m.busy, m.buffered, m.held, m.unsettled, m.calls,
		m.callErrors, m.found, m.leases, m.applied, m.verdicts, m.notifications, m.connects, m.repartitions, m.delay, m.number, m.rank,
		m.partitions, m.members, m.scans, m.workers, m.workersDraining, m.want, m.workersHeld, m.exits, m.poolState, m.poolProcesses,
		m.poolProcs, m.poolSlots, m.poolRestarts,
	} {
		ch <- one.Desc
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	out := samples(ch)
	schema := ""
	if c.d.Schema > 0 {
		schema = strconv.FormatInt(c.d.Schema, 10)
	}
	out.tell(metrics.build, 1, c.d.Build, schema)
	snap, err := c.d.snapshot(context.Background())
	out.tell(metrics.up, flag(err == nil))
	if err != nil {
		return
	}
	out.tell(metrics.draining, flag(snap.Draining))
	for i, db := range snap.Databases {
		c.database(out, i, db)
	}
	out.tell(metrics.exits, float64(snap.Exits.Asked), "yes")
	out.tell(metrics.exits, float64(snap.Exits.Died), "no")
	out.workers(snap.Workers)
	if c.d.Pools != nil && c.d.Workers != nil {
		out.pools(c.d.Pools(), c.d.Workers(snap))
	}
}

// samples is where metrics go.
type samples chan<- prometheus.Metric

func (s samples) tell(m metric, value float64, labels ...string) {
	for i, label := range labels {
		labels[i] = strings.ToValidUTF8(label, "?") // or it is no metric
	}
	s <- prometheus.MustNewConstMetric(m.Desc, m.kind, value, labels...)
}

// each tells a count for each name.
func (s samples) each(m metric, database string, counts map[string]uint64) {
	for name, n := range counts {
		s.tell(m, float64(n), database, name)
	}
}

func (c collector) database(out samples, i int, db broker.DatabaseSnapshot) {
	out.tell(metrics.away, flag(db.Away), db.Name)
	out.tell(metrics.awaySeconds, float64(db.AwayMS)/1000, db.Name)
	out.tell(metrics.busy, flag(db.Busy), db.Name)
	out.tell(metrics.buffered, float64(db.Candidates), db.Name)
	out.tell(metrics.held, float64(db.Held), db.Name)
	out.tell(metrics.unsettled, float64(db.Unsettled), db.Name)
	for call, n := range db.Counts.Calls {
		out.tell(metrics.calls, float64(n.Done), db.Name, call)
		out.tell(metrics.callErrors, float64(n.Failed), db.Name, call)
	}
	out.tell(metrics.found, float64(db.Counts.Found), db.Name)
	out.tell(metrics.leases, float64(db.Counts.Leased), db.Name)
	out.each(metrics.applied, db.Name, db.Counts.Applied)
	out.each(metrics.verdicts, db.Name, db.Counts.Verdicts)
	out.each(metrics.notifications, db.Name, db.Counts.Hints)
	out.tell(metrics.connects, float64(db.Counts.Connects), db.Name)
	out.tell(metrics.repartitions, float64(db.Counts.Repartitions), db.Name)
	out.delays(db.Name, db.Counts.Delays)
	out.partition(db.Name, db.Partition)
	c.pages(out, i, db.Name)
}

// delays tells how long strands have waited, as a histogram.
func (s samples) delays(database string, d broker.Delays) {
	buckets, n := map[float64]uint64{}, uint64(0)
	for i, bound := range broker.DelayBounds {
		n += d.Counts[i]
		buckets[bound.Seconds()] = n
	}
	n += d.Counts[len(broker.DelayBounds)]
	s <- prometheus.MustNewConstHistogram(metrics.delay.Desc, n, d.Sum.Seconds(), buckets, strings.ToValidUTF8(database, "?"))
}

func (s samples) partition(database string, p *broker.PartitionSnapshot) {
	if p == nil {
		return
	}
	s.tell(metrics.number, float64(p.Number), database)
	s.tell(metrics.rank, float64(p.Rank), database)
	s.tell(metrics.partitions, float64(p.Of), database)
	s.tell(metrics.members, float64(len(p.Members)+1), database)
	s.tell(metrics.scans, flag(p.Ready), database)
}

func (c collector) pages(out samples, i int, database string) {
	if i >= len(c.d.Databases) {
		return
	}
	if open := c.d.Databases[i].PagesOpen; open != nil {
		out.tell(metrics.pages, float64(open()), database)
	}
	if c.d.byKind[i] == nil {
		return
	}
	kinds, err := c.d.byKind[i].get(context.Background())
	if err != nil {
		return
	}
	for kind, n := range kinds {
		out.tell(metrics.pagesByKind, float64(n), database, kind)
	}
}

// pageKinds is how many pages are open of each kind; at most mostKinds and one.
type pageKinds map[string]int

const (
	mostKinds  = 20
	otherKinds = "other"
	byKindKeep = 10 * time.Second
)

func pageKindsOf(db Database) *cached[pageKinds] {
	if db.Reader == nil {
		return nil
	}
	return newCached(byKindKeep, func(ctx context.Context) (pageKinds, error) {
		pages, err := db.Reader.PageList(ctx, &client.PageListParams{First: client.MaxFirst})
		return countKinds(pages), err
	})
}

// countKinds keeps the kinds that have most pages.
func countKinds(pages []*client.PageRow) pageKinds {
	all := pageKinds{}
	var names []string
	for _, p := range pages {
		if all[p.Kind] == 0 {
			names = append(names, p.Kind)
		}
		all[p.Kind]++
	}
	slices.SortFunc(names, func(a, b string) int {
		if all[a] != all[b] {
			return all[b] - all[a]
		}
		if a < b {
			return -1
		}
		return 1
	})
	if len(names) <= mostKinds {
		return all
	}
	kept := pageKinds{}
	for i, name := range names {
		if i >= mostKinds {
			kept[otherKinds] += all[name]
		} else {
			kept[name] += all[name]
		}
	}
	return kept
}

func (s samples) workers(workers []broker.WorkerSnapshot) {
	var connected, draining, want, held int
	for _, w := range workers {
		if !w.Connected {
			continue
		}
		connected++
		want += w.Want
		held += w.Held
		if w.Draining {
			draining++
		}
	}
	s.tell(metrics.workers, float64(connected))
	s.tell(metrics.workersDraining, float64(draining))
	s.tell(metrics.want, float64(want))
	s.tell(metrics.workersHeld, float64(held))
}

func (s samples) pools(pools []supervisor.PoolInfo, workers []Worker) {
	told := map[string]bool{}
	for _, p := range pools {
		if name := strings.ToValidUTF8(p.Name, "?"); told[name] {
			continue // a file that was refused may be called like a pool
		} else {
			told[name] = true
		}
		for _, state := range poolStates {
			s.tell(metrics.poolState, flag(p.State == state), p.Name, state)
		}
		states, restarts := map[string]int{}, 0
		for _, w := range workers {
			if w.Pool == p.Name {
				states[w.State]++
				restarts += w.Restarts
			}
		}
		for _, state := range seatStates {
			s.tell(metrics.poolProcesses, float64(states[state]), p.Name, state)
		}
		s.tell(metrics.poolProcs, float64(p.Procs), p.Name)
		s.tell(metrics.poolSlots, float64(p.Connected*p.Slots), p.Name)
		s.tell(metrics.poolRestarts, float64(restarts), p.Name)
	}
}

func flag(on bool) float64 {
	if on {
		return 1
	}
	return 0
}
