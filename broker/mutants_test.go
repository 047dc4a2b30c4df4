package broker

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// mutant is a fault that somebody could put into the real code.
type mutant struct{ name, file, old, new string }

// sharedMutants must be found by the exhaustive search of the worlds of two brokers.
var sharedMutants = []mutant{
	{
		"what is overdue elsewhere is not looked for", "scanner.go",
		"return now >= sc.oldAt && d.place.parts.elsewhere",
		"return false",
	},
	{
		"a new part is not scanned from the bottom", "scanner.go",
		"sc.bottomAt = min(sc.bottomAt, now)",
		"",
	},
	{
		"our own number is forgotten", "members.go",
		"numbers = append(numbers, m.number)",
		"",
	},
	{
		"the silent are not forgotten", "members.go",
		"if m.open-o.open > limit {",
		"if m.open < limit-limit {",
	},
	{
		"a kind is divided among those who do not serve it, too", "kinds.go",
		"return has || kinds == nil",
		"return has || hasAny(kinds)",
	},
	{
		"a kind without workers is kept", "place.go",
		"if p.fewerAt != 0 && now >= p.fewerAt {",
		"if false {",
	},
	{
		"where kinds are divided otherwise a scan looks in one part for all", "scanner.go",
		"Otherwise: sc.parts.slices(),",
		"",
	},
}

// programMutants must be found by the exhaustive search of the worlds of programs.
var programMutants = []mutant{
	{
		"a run that stays frees its slot", "chain.go",
		"r.state, r.kind, r.begun = running, kind, false",
		"r.state, r.kind, r.begun = running, kind, false\n s.free(w, r)",
	},
	{
		"a run stays though its worker has been told to drain", "chain.go",
		"return serves && w.session != 0 && !w.draining && w.died == nil",
		"return serves && w.session != 0 && w.died == nil",
	},
	{
		"a copy of a step is gone on after", "commits.go",
		"stays := p.stay && v.State == Applied && v.Stays",
		"stays := p.stay && (v.State == Applied && v.Stays || v.State == Dup)",
	},
	{
		"what nobody goes on with is not given back", "commits.go",
		"held := stays || p.Report.Stay && v.State == Dup",
		"held := stays",
	},
	{
		"what a worker that is gone would have gone on with is not given back", "commits.go",
		"held := stays || p.Report.Stay && v.State == Dup",
		"held := p.Report.Stay && v.State == Dup",
	},
	{
		"a go goes to a session that the step did not come by", "chain.go",
		" || by.session != w.session",
		"",
	},
	{
		"a cancelled program goes on", "commits.go",
		"stays := p.stay && v.State == Applied && v.Stays",
		"stays := p.stay && v.State == Applied",
	},
	{
		"one word swallows a go", "commits.go",
		"if v.State == Applied && !v.Stays {",
		"if v.State == Applied {",
	},
	{
		"a step that is not agreed to is stored as if it were", "commits.go",
		"rep.Stay = p.stay",
		"",
	},
	{
		"a step is answered before it is stored", "commits.go",
		"case v.State == Later:\n",
		"case v.State == Later:\n acks.add(p, carrier{re: 1}, Verdict{State: Applied, Stays: true})\n",
	},
	{
		"woken is not cleared by a step that stays", "chain_search_test.go",
		"r.leased, s.woken, s.news = true, false, false",
		"r.leased, s.news = true, false",
	},
	{
		"the inbox is not read after a step that stays", "chain_search_test.go",
		"verdicts[i].Inbox = w.row(reports[i].ID).state.inbox()",
		"",
	},
	{
		"a wake during a run is forgotten", "chain_search_test.go",
		"s.asleep = !s.woken",
		"s.asleep = true",
	},
	{
		"a chain does not end after a quarter of a lease", "chain.go",
		"had < int64(s.lease)/chainShare && ",
		"had < int64(s.lease) && ",
	},
	{
		"a chain does not end though others wait", "chain.go",
		"(had < patience || !s.awaited(w))",
		"(had < int64(s.lease)/chainShare || !s.awaited(w))",
	},
	{
		"a run goes on as a kind that its worker does not serve", "chain.go",
		"return serves && w.session != 0",
		"return (serves || kind != \"\") && w.session != 0",
	},
	{
		"a step whose transaction is under way counts as failed", "search_test.go",
		"case r.step != nil:",
		"case r.step != nil && rep.Act != Fail:",
	},
	{
		"a step that has committed counts as failed", "search_test.go",
		"if w.owned[rep.Token] && w.home(rep.ID) == no {",
		"if false {",
	},
	{
		"a report is dropped while somebody has its row", "commits.go",
		"d.commits.locked = append(d.commits.locked, p)",
		"d.conclude(now, p, v, d.commits.answered(&p))",
	},
}

// lateMutants must be found where a worker stops nothing: the kill comes before the lease passes on (I8).
var lateMutants = []mutant{
	{
		"a worker is killed when its leases have passed on", "run.go",
		"return r.leaseEnd + int64(lease/16)",
		"return r.leaseEnd + int64(lease/4)",
	},
	{
		"the kill of a worker does not heed its leases", "run.go",
		"within = left",
		"_ = left",
	},
}

// storeMutants must be found in the store in memory by the suite that holds for every Store.
var storeMutants = []mutant{
	{
		"woken is not cleared by the store", "brokertest/commit.go",
		"row.woken = false",
		"",
	},
	{
		"the inbox is not read by the store", "brokertest/commit.go",
		"verdicts[i].Stays, verdicts[i].Inbox = true, row.inbox()",
		"verdicts[i].Stays, _ = true, row",
	},
}

// mutants must be found by the exhaustive search of the worlds of one broker.
var mutants = []mutant{
	{
		"ack before commit", "commits.go",
		"case v.State == Later:\n",
		"case v.State == Later:\n acks.add(p, carrier{re: 1}, Verdict{State: Applied})\n",
	},
	{
		"slot freed before the ack", "commits.go",
		"case r != nil && r.worker == w.no && rep.Act != Save:",
		"case r != nil && r.worker == w.no && rep.Act != Save:\n s.vacate(r)",
	},
	{
		"reports forgotten when their answer is lost", "commits.go",
		"d.commits.waiting = append(flying, d.commits.waiting...)",
		"_ = flying",
	},
	{
		"second commit while one is in flight", "commits.go",
		"if d.commits.flying != nil || d.renewing != nil {",
		"if d.renewing != nil {",
	},
	{
		"renewal while a commit is in flight", "commits.go",
		"if d.commits.flying != nil || d.renewing != nil {",
		"if d.renewing != nil || d.commits.flying != nil && !d.renewDue {",
	},
	{
		"token not tested", "search_test.go",
		"case r.token == rep.Token && r.leased && (own || r.seq < rep.Seq):",
		"case r.leased && (own || r.seq < rep.Seq):",
	},
	{
		"a disconnect taken for a death", "worker.go",
		"if w.died != nil {\n\t\ts.bury(now, w)\n\t\treturn\n\t}",
		"if w.died == nil {\n w.died = &WorkerExit{}\n }\n s.bury(now, w)\n return",
	},
	{
		"what is lost on the wire is not given back", "worker.go",
		"for _, r := range unsaid {",
		"for _, r := range unsaid[:0] {",
	},
	{
		"the tokens of a take of unknown outcome are forgotten", "take.go",
		"t.lostAt, t.after = now, now+errorRetry\n",
		"d.taking = nil\n",
	},
	{
		"a take leases more than is wanted", "take.go",
		"least = min(least, free)",
		"least = min(least, free+1)",
	},
	{
		"a lease of unknown outcome is forgotten", "schedule.go",
		"s.giveBack(s.runs[p.ID], yieldOf(p))",
		"s.forget(s.runs[p.ID])",
	},
	{
		"strands of a dead worker are not settled", "worker.go",
		"s.giveBack(r, w.verdictOn(r, len(left) == 1))",
		"s.vacate(r)\n r.state = settling",
	},
	{
		"a death overtakes the results sent before it", "worker.go",
		"s.recount(w)\n\t\t\tif w.session == 0 {",
		"if true {",
	},
	{
		"deaths are not remembered for late hellos", "worker.go",
		"s.exits[e.Key] = pastExit{e, now}",
		"",
	},
	{
		"more leases than are wanted", "worker.go",
		"return max(0, w.wantN-w.held)",
		"return max(0, w.wantN-w.held+1)",
	},
	{
		"a held strand is not held after the broker's restart", "worker.go",
		"r.renewAt, s.of(r).renewDue = now, true\n\ts.runs[h.ID] = r\n\tw.held++",
		"r.renewAt, s.of(r).renewDue = now, true\n\ts.runs[h.ID] = r",
	},
	{
		"a refused report stays on its worker's account", "commits.go",
		"func (d *database) refuse(p pending, why string) {\n\ts := d.s\n\td.unwait(p)",
		"func (d *database) refuse(p pending, why string) {\n\ts := d.s",
	},
	{
		"a locked report is taken off its worker's account", "commits.go",
		"p.Report, p.due = &alone, now+lockedRetry",
		"p.Report, p.due = &alone, now+lockedRetry\n d.unwait(p)",
	},
	{
		"a result is lost where the first database does not know its strand", "commits.go",
		"case v.State == Gone && p.left > 0:",
		"case false:",
	},
	{
		"one word acks a frame of which something is not settled", "commits.go",
		"f.applied == f.by.of && !f.mixed",
		"!f.mixed",
	},
	{
		"one word acks a frame of the session before", "commits.go",
		" && f.by.session == w.session",
		"",
	},
	{
		"a report that is put off is counted", "commits.go",
		"case a.bytes > 0 && a.bytes+p.bytes > s.maxBytes:",
		"case a.bytes > 0 && a.bytes+p.bytes > s.maxBytes:\n a.bytes += p.bytes",
	},
}

// queueMutants must be found by the search of the world of two queues.
var queueMutants = []mutant{
	{
		"a worker gets strands of queues that its pool may not take", "areas.go",
		"for _, q := range c.queues {\n\t\t\tall",
		"for q := range s.named {\n\t\t\tall",
	},
	{
		"what was leased before a pool got other queues is handed out after that", "schedule.go",
		"if !w.class.takes(Queue{granted.Tenant, granted.Queue}) {",
		"if false {",
	},
}

func TestExhaustiveSearchCatchesMutants(t *testing.T) {
	if os.Getenv("RESPIRATE_MUTANTS") == "" {
		t.Skip("scripts/search runs it: it builds and searches the package once for each mutant, which takes a minute")
	}
	var caught atomic.Int64
	t.Run("All", func(t *testing.T) { // which ends when all of them have
		catchMutants(t, "TestExhaustive", mutants, &caught)
		catchMutants(t, "TestExhaustivePartitions", sharedMutants, &caught)
		catchMutants(t, "TestExhaustivePrograms", programMutants, &caught)
		catchMutants(t, "TestExhaustiveQueues", queueMutants, &caught)
		catchMutants(t, "TestStoreInMemoryKeepsThePromises", storeMutants, &caught)
		catchMutants(t, "TestProcessWhoseLeaseEndsIsKilledBeforeItDoes", lateMutants, &caught)
	})
	t.Logf("%d of %d mutants caught", caught.Load(), len(mutants)+len(sharedMutants)+len(programMutants)+len(queueMutants)+len(storeMutants)+len(lateMutants))
}

func catchMutants(t *testing.T, search string, all []mutant, caught *atomic.Int64) {
	for _, m := range all {
		t.Run(strings.ReplaceAll(m.name, " ", "-"), func(t *testing.T) {
			t.Parallel() // most of a search is on one processor
			out, err := searchMutant(t, search, m)
			switch {
			case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
				t.Fatalf("the mutant does not compile:\n%s", out)
			case err == nil:
				t.Fatalf("the search does not find %q", m.name)
			}
			caught.Add(1)
		})
	}
}

// searchMutant runs a search over the package of a mutant with one passage replaced.
func searchMutant(t *testing.T, search string, m mutant) (string, error) {
	t.Helper()
	path, err := filepath.Abs(m.file)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.old); n != 1 {
		t.Fatalf("%s has the passage %d times, want once: bring the mutant up to date\n%s", m.file, n, m.old)
	}
	dir := t.TempDir()
	mutated := filepath.Join(dir, filepath.Base(m.file))
	overlay := filepath.Join(dir, "overlay.json")
	spec, err := json.Marshal(map[string]map[string]string{"Replace": {path: mutated}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{mutated: []byte(strings.Replace(string(source), m.old, m.new, 1)), overlay: spec} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("go", "test", "-vet=off", "-count=1", "-overlay="+overlay, "-run=^"+search+"$", "./"+filepath.Dir(m.file))
	out, err := cmd.CombinedOutput()
	return string(out), err
}
