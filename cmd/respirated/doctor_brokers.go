package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/protocol"
)

// live lists the brokers that are there.
func (d *doctor) live(ctx context.Context) ([]*client.BrokerRow, error) {
	brokers, err := d.db.BrokerList(ctx)
	return slices.DeleteFunc(brokers, func(b *client.BrokerRow) bool { return !b.Alive }), err
}

// checkBrokers looks who is there, and of which builds.
func (d *doctor) checkBrokers(ctx context.Context) ([]finding, error) {
	brokers, err := d.live(ctx)
	if err != nil {
		return nil, err
	}
	if slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.Workers > 0 }) {
		return judgeBrokers(brokers, false), nil
	}
	due, err := d.db.StrandList(ctx, &client.StrandListParams{States: []client.State{client.Ready}, First: 1})
	if err != nil {
		return nil, err
	}
	return judgeBrokers(brokers, len(due.Strands) > 0), nil
}

// judgeBrokers takes it for a failure that nobody is there to run what is due.
func judgeBrokers(brokers []*client.BrokerRow, due bool) []finding {
	idle, what := warned, "nothing is due"
	if due {
		idle, what = failing, "strands that are due wait"
	}
	if len(brokers) == 0 {
		return []finding{bad(idle, "start one on each host: respirated run --worker BINARY", "no broker is alive: %s", what)}
	}
	var found []finding
	builds := make(map[string]int)
	workers := 0
	for _, b := range brokers {
		builds[cmp.Or(b.Build, "unknown")]++
		workers += b.Workers
	}
	if workers == 0 {
		found = append(found, bad(idle, "start workers: respirated run --worker BINARY, or a pool in the configuration", "%d brokers are alive, but none has a worker: %s", len(brokers), what))
	}
	if len(builds) > 1 {
		var each []string
		for build, n := range builds {
			each = append(each, fmt.Sprintf("%d of %s", n, build))
		}
		slices.Sort(each)
		found = append(found, bad(warned, "finish the deployment; old and new work together meanwhile", "brokers are of different builds: %s", strings.Join(each, ", ")))
	}
	return or(found, "%d alive, with %d workers", len(brokers), workers)
}

// checkPartitions looks at the numbers of the brokers.
func (d *doctor) checkPartitions(ctx context.Context) ([]finding, error) {
	brokers, err := d.live(ctx)
	if err != nil || len(brokers) == 0 {
		return nil, err
	}
	return judgePartitions(brokers), nil
}

func judgePartitions(brokers []*client.BrokerRow) []finding {
	var found []finding
	holders := holdersOf(brokers)
	for _, number := range slices.Sorted(maps.Keys(holders)) {
		if names := holders[number]; len(names) > 1 {
			found = append(found, bad(warned, "give each its own number, or --partition auto. Nothing runs twice, but they look for the same strands",
				"%d brokers have the number %d: %s", len(names), number, strings.Join(names, ", ")))
		}
	}
	counts := make(map[int]bool)
	unnumbered := 0
	for _, b := range brokers {
		if b.Partition == 0 {
			unnumbered++
			continue
		}
		counts[b.Members] = true
	}
	if len(counts) > 1 {
		found = append(found, bad(warned, "wait 30 s and look again: one that was killed is listed for so long. If it stays, all need the same --gaps, and a direct connection: LISTEN does not pass a pooler",
			"brokers do not agree how many parts there are: %s", list(slices.Sorted(maps.Keys(counts)))))
	}
	if unnumbered > 0 && len(holders) > 0 {
		found = append(found, bad(warned, "start them without --partition none; those of an older build: upgrade them", "%d brokers have no number, and look for all strands beside %d that divide them", unnumbered, len(brokers)-unnumbered))
	}
	if len(holders) == 0 {
		return or(found, "no broker has a number: each looks for all strands")
	}
	return or(found, "%d numbers, each of one broker", len(holders))
}

// holdersOf tells who has each number: on which host, by which process.
func holdersOf(brokers []*client.BrokerRow) map[int][]string {
	holders := make(map[int][]string)
	for _, b := range brokers {
		if b.Alive && b.Partition > 0 {
			holders[b.Partition] = append(holders[b.Partition], fmt.Sprintf("%s (pid %d)", b.Host, b.PID))
		}
	}
	return holders
}

func list(numbers []int) string {
	texts := make([]string, len(numbers))
	for i, n := range numbers {
		texts[i] = strconv.Itoa(n)
	}
	return strings.Join(texts, ", ")
}

// checkCoverage looks whether each id is in the range of some broker.
func (d *doctor) checkCoverage(ctx context.Context) ([]finding, error) {
	brokers, err := d.live(ctx)
	if err != nil || len(brokers) == 0 {
		return nil, err
	}
	return judgeCoverage(brokers), nil
}

func judgeCoverage(brokers []*client.BrokerRow) []finding {
	const do = "wait 30 s and look again: ranges move when brokers come and go, and one that was killed is listed for so long. If it stays, start the number that is missing, or run all with --gaps rank; until then others find these strands after 5 s and more"
	if !slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.Lo < b.Hi }) {
		return fine("no broker has a worker that wants strands, and so none looks for any")
	}
	var found []finding
	for _, gap := range gapsOf(brokers) {
		found = append(found, bad(warned, do, "no broker looks after the ids %s", gap))
	}
	if len(found) == 0 {
		found = judgeKinds(brokers)
	}
	return or(found, "each id is in the range of a broker")
}

// gapsOf are the ids that are in the range of no broker.
func gapsOf(brokers []*client.BrokerRow) (gaps []string) {
	var covered int64
	for _, b := range slices.SortedFunc(slices.Values(brokers), func(a, b *client.BrokerRow) int { return cmp.Compare(a.Lo, b.Lo) }) {
		if b.Lo > covered {
			gaps = append(gaps, slice(covered, b.Lo))
		}
		covered = max(covered, b.Hi)
	}
	if covered < 1<<32 {
		gaps = append(gaps, slice(covered, 1<<32))
	}
	return gaps
}

// judgeKinds looks for kinds that some brokers serve, and others whose ranges are not divided by kind do not.
func judgeKinds(brokers []*client.BrokerRow) []finding {
	serving := make(map[string][]*client.BrokerRow)
	for _, b := range brokers {
		for _, kind := range b.Kinds {
			serving[kind] = append(serving[kind], b)
		}
	}
	var late []string
	for _, kind := range slices.Sorted(maps.Keys(serving)) {
		if gapsOf(serving[kind]) != nil {
			late = append(late, kind)
		}
	}
	if late == nil {
		return nil
	}
	const most = 5
	names := strings.Join(late[:min(len(late), most)], ", ")
	if len(late) > most {
		names += fmt.Sprintf(" and %d more", len(late)-most)
	}
	return []finding{bad(warned, "wait 30 s and look again: ranges move when workers come and go. If it stays, run all daemons with --gaps rank, or give every host workers for all kinds",
		"some brokers have no worker for: %s. Such strands in their ranges start only once they are overdue, after 5 s and more", names)}
}

// checkSocket looks at the folder of the socket on this host, and whether a daemon answers there.
func (d *doctor) checkSocket(ctx context.Context) ([]finding, error) {
	socket, err := protocol.SocketPath(d.cfg.Socket)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(socket)
	info, err := os.Lstat(dir)
	switch {
	case os.IsNotExist(err):
		return []finding{bad(warned, "name its --socket, or start one: respirated run", "no daemon has run at %s", socket)}, nil
	case err != nil:
		return nil, err
	}
	if found := judgeFolder(dir, info); found != nil {
		return found, nil
	}
	var status daemonStatus
	if err := askDaemon(ctx, d.cfg.Socket, "/api/v1/status", &status); err != nil {
		if _, gone := os.Lstat(socket); gone == nil {
			if embedded := (embeddedError{}); errors.As(err, &embedded) {
				return fine("%s", oneLine(err.Error())), nil
			}
			if errors.Is(err, errHangs) {
				return []finding{bad(failing, "see whether it was stopped (kill -CONT wakes it), and look at its log; else end it and start it again", "%s", oneLine(err.Error()))}, nil
			}
			return []finding{bad(failing, "look at its log, and start it again: respirated run", "no daemon answers, and it has left its socket: %s", oneLine(err.Error()))}, nil
		}
		return []finding{bad(warned, "start one: respirated run", "no daemon runs at %s", socket)}, nil
	}
	return fine("daemon %d (%s) answers at %s", status.PID, status.Version, socket), nil
}

// judgeFolder says what a daemon would not take.
func judgeFolder(dir string, info fs.FileInfo) []finding {
	stat, _ := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return []finding{bad(failing, "choose another --socket", "%s is no folder", dir)}
	case stat != nil && int(stat.Uid) != os.Getuid() && os.Getuid() != 0:
		return []finding{bad(warned, "run doctor as that user", "the folder %s belongs to user %d, not to us (%d)", dir, stat.Uid, os.Getuid())}
	case info.Mode().Perm()&0o077 != 0:
		return []finding{bad(failing, "chmod 700 "+dir, "the folder %s can be entered by others (mode %04o): no daemon starts there", dir, info.Mode().Perm())}
	}
	return nil
}

// checkDaemon looks whether the daemon of this host works for this database.
func (d *doctor) checkDaemon(ctx context.Context) ([]finding, error) {
	var status daemonStatus
	if askDaemon(ctx, d.cfg.Socket, "/api/v1/status", &status) != nil {
		return nil, nil // see socket
	}
	brokers, err := d.live(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.ID == status.Broker }) {
		return []finding{bad(failing, "correct --database-url, --schema or --socket; else see the daemon's log for why it cannot reach the database",
			"the daemon of this host is not among the brokers of this schema: it works for another one, or cannot reach it")}, nil
	}
	return fine("the daemon of this host is among the brokers"), nil
}
