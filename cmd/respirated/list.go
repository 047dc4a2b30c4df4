package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/client"
)

// addJSON gives a verb its --json.
func addJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

func workerCommand(s *settings) *cobra.Command {
	cmd := group("worker", "List worker processes, read their logs, recycle and stop them", "A worker is a process that runs strands. It is the daemon of this host that knows them.")
	cmd.AddCommand(
		workerListCommand(s),
		workerLogsCommand(s),
		workerOrderCommand(s, "recycle", "Replace a worker by a fresh one",
			"Replace a worker by a fresh one. It is asked to end after its successor has connected, and finishes what it holds."),
		workerOrderCommand(s, "stop", "End a worker",
			"End a worker: it is asked, finishes what it holds, and is killed when it has not ended in time (stop_timeout). Another one\ntakes its place."),
	)
	return cmd
}

func workerListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the workers of the daemon on this host",
		Long: `List the workers of the daemon on this host: every seat of its pools, and every worker that was started by others
("external"). WANT is how many strands a worker may hold, HELD how many it does. Where the daemon serves several databases,
they follow: UNSETTLED are the results that a database has not answered for, PAGES those that are open in it.`,
		Example: `  respirated worker list
  respirated worker list --socket /run/respirate/respirate.sock --json`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		var workers []workerStatus
		if err := askDaemon(cmd.Context(), cfg.Socket, "/api/v1/workers", &workers); err != nil {
			return err
		}
		var status daemonStatus
		if err := askDaemon(cmd.Context(), cfg.Socket, "/api/v1/status", &status); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), workerList{workers, status.Databases})
		}
		now := time.Now()
		t := newTable(cmd.OutOrStdout(), "POOL", "SEAT", "PID", "STATE", "STARTED", "RESTARTS", "WANT", "HELD", "LAST EXIT", "KINDS")
		for _, w := range workers {
			t.row(w.Pool, seatOf(w), number(w.PID), stateOf(w), ago(w.Started, now), strconv.Itoa(w.Restarts),
				strconv.Itoa(w.Want), strconv.Itoa(w.Held), w.LastExit, strings.Join(w.Kinds, " "))
		}
		return errors.Join(t.flush(), printDatabases(cmd.OutOrStdout(), status.Databases))
	}
	return cmd
}

// workerList is what worker list prints as JSON.
type workerList struct {
	Workers   []workerStatus   `json:"workers"`
	Databases []databaseStatus `json:"databases"`
}

// printDatabases lists whose strands the workers run, if they are of several databases.
func printDatabases(out io.Writer, databases []databaseStatus) error {
	if len(databases) < 2 {
		return nil
	}
	fmt.Fprintln(out)
	t := newTable(out, "DATABASE", "STATE", "PARTITION", "HELD", "UNSETTLED", "PAGES")
	for _, d := range databases {
		state, part := "connected", ""
		if d.Away {
			state = "away"
		}
		if p := d.Partition; p != nil && p.Rank > 0 {
			part = fmt.Sprintf("%d of %d", p.Rank, p.Of)
		}
		t.row(d.Name, state, part, strconv.Itoa(d.Held), strconv.Itoa(d.Unsettled), strconv.Itoa(d.OpenPages))
	}
	return t.flush()
}

// seatOf is a worker's place in its pool; one that others have started has none.
func seatOf(w workerStatus) string {
	if w.Pool == externalPool {
		return ""
	}
	return strconv.Itoa(w.Index)
}

func stateOf(w workerStatus) string {
	switch {
	case w.Connected && w.Draining:
		return "draining"
	case w.Paused && w.State == "connected":
		return "paused"
	}
	return w.State
}

// number leaves a cell empty where there is none.
func number(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func brokerCommand(s *settings) *cobra.Command {
	cmd := group("broker", "List brokers, upgrade one", "A broker is the daemon of one host. It is the database that knows them all.")
	cmd.AddCommand(brokerListCommand(s), brokerUpgradeCommand(s))
	return cmd
}

func brokerListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the brokers of all hosts, those of the last day included",
		Long: `List the brokers of all hosts, those of the last day included. PARTITION is a broker's number and its place among those
that it knows of, RANGE the ids that it looks after, by their first 32 bits. One is busy while so much is inserted that it looks
without being notified; one that is idle may well run strands. Open pages are counted below.

Where a daemon on this host answers, HEARD says when it last heard of each of the others; with --json, "here" has all that
it knows of them.`,
		Example: `  respirated broker list
  respirated broker list --json`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.load()
		if err != nil {
			return err
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			rows, err := db.BrokerList(cmd.Context())
			if err != nil {
				return err
			}
			list := brokerList{Brokers: append([]*client.BrokerRow{}, rows...), Here: seenHere(cmd.Context(), cfg, rows)}
			if pages, err := db.openPages(cmd.Context()); err == nil {
				list.Pages = &pages
			} else if sqlState(err) == "" { // else this role may not read them, or the schema is older than pages are
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), list)
			}
			return list.print(cmd.OutOrStdout(), time.Now())
		})
	}
	return cmd
}

// brokerList is what the database says of the brokers, and what the daemon of this host does.
type brokerList struct {
	Brokers []*client.BrokerRow `json:"brokers"`
	Pages   *openPages          `json:"open_pages,omitempty"` // nil = they cannot be read
	Here    *brokerView         `json:"here,omitempty"`       // nil = none answers, or it does not divide the ids
}

// brokerView is how one broker believes the ids to be divided.
type brokerView struct {
	Broker string `json:"broker"`
	*broker.PartitionSnapshot
	Databases []databaseStatus `json:"databases,omitempty"` // all that it serves
}

// seenHere asks the daemon of this host, if it is one of these brokers.
func seenHere(ctx context.Context, cfg fileConfig, brokers []*client.BrokerRow) *brokerView {
	var status daemonStatus
	if askDaemon(ctx, cfg.Socket, "/api/v1/status", &status) != nil {
		return nil
	}
	partition := status.Partition
	for _, d := range status.Databases {
		if d.Name == databaseName(cfg.DatabaseURLs.one()) {
			partition = d.Partition
		}
	}
	if partition == nil {
		return nil
	}
	if !slices.ContainsFunc(brokers, func(b *client.BrokerRow) bool { return b.ID == status.Broker }) {
		return nil
	}
	return &brokerView{status.Broker, partition, status.Databases}
}

func (l brokerList) print(out io.Writer, now time.Time) error {
	header := []string{"HOST", "PID", "STATE", "PARTITION", "RANGE", "HEARD", "STARTED", "WORKERS", "WANT", "KINDS", "BUILD"}
	if l.Here == nil {
		header = slices.DeleteFunc(header, func(name string) bool { return name == "HEARD" })
	}
	t := newTable(out, header...)
	holders := holdersOf(l.Brokers)
	for _, b := range l.Brokers {
		cells := []string{b.Host, strconv.Itoa(b.PID), stateOfBroker(b, now), partitionCell(b, len(holders[b.Partition])), slice(b.Lo, b.Hi)}
		if l.Here != nil {
			cells = append(cells, l.Here.heard(b.ID))
		}
		t.row(append(cells, ago(b.StartedAt, now), strconv.Itoa(b.Workers), strconv.Itoa(b.Slots), strings.Join(b.Kinds, " "), cmp.Or(b.Build, "unknown"))...)
	}
	if err := t.flush(); err != nil || l.Pages == nil || l.Pages.Count == 0 {
		return err
	}
	_, err := fmt.Fprintf(out, "\npages: %s: respirated page list\n", l.Pages)
	return err
}

func stateOfBroker(b *client.BrokerRow, now time.Time) string {
	switch {
	case !b.Alive:
		return "gone, seen " + ago(b.AliveUntil, now)
	case b.Busy:
		return "busy"
	}
	return "idle"
}

// partitionCell is a broker's number, and its place if that is another one. holders is how many live brokers have it.
func partitionCell(b *client.BrokerRow, holders int) string {
	if b.Partition == 0 {
		return ""
	}
	cell := strconv.Itoa(b.Partition)
	switch {
	case b.Rank == b.Partition:
		cell = fmt.Sprintf("%d of %d", b.Rank, b.Members)
	case b.Rank != 0:
		cell = fmt.Sprintf("%d, as %d of %d", b.Partition, b.Rank, b.Members)
	}
	if b.Alive && holders > 1 {
		cell += fmt.Sprintf(" (%d have it)", holders)
	}
	return cell
}

// heard says when a broker was last heard of.
func (v *brokerView) heard(id string) string {
	if id == v.Broker {
		return "self"
	}
	for _, m := range v.Members {
		switch {
		case m.Broker != id:
		case m.SilentMS < 0:
			return "not yet"
		default:
			return span(time.Duration(m.SilentMS)*time.Millisecond) + " ago"
		}
	}
	return ""
}

// slice is the part of the ids that a broker looks after: none before it has announced one, and without workers.
func slice(lo, hi int64) string {
	switch {
	case lo == 0 && hi == 1<<32:
		return "all"
	case lo == hi:
		return "none"
	}
	return fmt.Sprintf("%08x-%08x", lo, hi-1)
}
