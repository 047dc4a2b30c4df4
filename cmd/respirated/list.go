package main

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

// addJSON gives a verb its --json.
func addJSON(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print JSON")
}

func workerCommand(s *settings) *cobra.Command {
	cmd := group("worker", "List worker processes", "A worker is a process that runs strands. It is the daemon of this host that knows them.")
	cmd.AddCommand(workerListCommand(s))
	return cmd
}

func workerListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the workers of the daemon on this host",
		Long: `List the workers of the daemon on this host: every seat of its pools, and every worker that was started by others
("external"). WANT is how many strands a worker may hold, HELD how many it does.`,
		Example: `  respirated worker list
  respirated worker list --socket /run/respirate/respirate.sock --json`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.load()
		if err != nil {
			return err
		}
		var workers []workerStatus
		if err := askDaemon(cmd.Context(), cfg.Socket, "/api/v1/workers", &workers); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), map[string][]workerStatus{"workers": workers})
		}
		now := time.Now()
		t := newTable(cmd.OutOrStdout(), "POOL", "SEAT", "PID", "STATE", "STARTED", "RESTARTS", "WANT", "HELD", "LAST EXIT", "KINDS")
		for _, w := range workers {
			t.row(w.Pool, seatOf(w), number(w.PID), stateOf(w), ago(w.Started, now), strconv.Itoa(w.Restarts),
				strconv.Itoa(w.Want), strconv.Itoa(w.Held), w.LastExit, strings.Join(w.Kinds, " "))
		}
		return t.flush()
	}
	return cmd
}

// seatOf is a worker's place in its pool; one that others have started has none.
func seatOf(w workerStatus) string {
	if w.Pool == externalPool {
		return ""
	}
	return strconv.Itoa(w.Index)
}

func stateOf(w workerStatus) string {
	if w.Connected && w.Draining {
		return "draining"
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
	cmd := group("broker", "List brokers", "A broker is the daemon of one host. It is the database that knows them all.")
	cmd.AddCommand(brokerListCommand(s))
	return cmd
}

func brokerListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the brokers of all hosts, those of the last day included",
		Example: `  respirated broker list
  respirated broker list --json`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			brokers, err := db.BrokerList(cmd.Context())
			if err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), map[string][]*client.BrokerRow{"brokers": append([]*client.BrokerRow{}, brokers...)})
			}
			return printBrokers(newTable(cmd.OutOrStdout(), "HOST", "PID", "STATE", "STARTED", "WORKERS", "WANT", "KINDS", "IDS", "BUILD"), brokers)
		})
	}
	return cmd
}

func printBrokers(t *table, brokers []*client.BrokerRow) error {
	now := time.Now()
	for _, b := range brokers {
		state := "idle"
		switch {
		case !b.Alive:
			state = "gone, seen " + ago(b.AliveUntil, now)
		case b.Busy:
			state = "busy"
		}
		t.row(b.Host, strconv.Itoa(b.PID), state, ago(b.StartedAt, now), strconv.Itoa(b.Workers), strconv.Itoa(b.Slots),
			strings.Join(b.Kinds, " "), slice(b.Lo, b.Hi), cmp.Or(b.Build, "unknown"))
	}
	return t.flush()
}

// slice is the part of the ids that a broker looks after.
func slice(lo, hi int64) string {
	if lo == 0 && hi == 1<<32 {
		return "all"
	}
	return fmt.Sprintf("%08x-%08x", lo, hi-1)
}
