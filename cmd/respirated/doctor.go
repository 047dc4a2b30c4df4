package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/client"
)

// health is what a check says.
type health string

const (
	healthy health = "ok"
	warned  health = "warn" // works, but slower than it could, or not for ever
	failing health = "fail" // strands do not run, or soon will not
)

// finding is what one check has seen. A check may see several things.
type finding struct {
	Database string `json:"database,omitempty"` // where, if there are several
	Check    string `json:"check"`
	Result   health `json:"result"`
	Seen     string `json:"seen"`
	Do       string `json:"do,omitempty"` // what to do about it; "" = nothing
}

func fine(format string, args ...any) []finding {
	return []finding{{Result: healthy, Seen: fmt.Sprintf(format, args...)}}
}

// bad is one finding of a check that has several, perhaps.
func bad(result health, do, format string, args ...any) finding {
	return finding{Result: result, Seen: fmt.Sprintf(format, args...), Do: do}
}

// or is what was found, or, if that is nothing, that all is fine.
func or(found []finding, format string, args ...any) []finding {
	if len(found) > 0 {
		return found
	}
	return fine(format, args...)
}

// doctor looks for what keeps strands from running, or will.
type doctor struct {
	cfg    fileConfig
	db     *database
	limits doctorLimits

	version int64 // of the schema; 0 = there is none
	usable  bool  // a daemon of this binary would start with it
}

// doctorLimits are where a finding begins to be one.
type doctorLimits struct {
	pinned time.Duration // age of a transaction
	dead   int64         // rows of the strand table that wait to be vacuumed
	skew   time.Duration // between two clocks
}

var usualLimits = doctorLimits{pinned: 5 * time.Minute, dead: 100_000, skew: time.Second}

// doctorCheck is one of the doctor's checks.
type doctorCheck struct {
	name string
	look func(*doctor, context.Context) ([]finding, error)
}

// The checks in the order of the table. Those of the schema are left out while there is none that this binary can use.
var (
	hostChecks     = []doctorCheck{{"socket", (*doctor).checkSocket}}
	databaseChecks = []doctorCheck{
		{"database", (*doctor).checkDatabase},
		{"clocks", (*doctor).checkClocks},
		{"notifications", (*doctor).checkNotifications},
		{"old transactions", (*doctor).checkHorizon},
		{"schema", (*doctor).checkSchema},
	}
	schemaChecks = []doctorCheck{
		{"writing", (*doctor).checkWriting},
		{"tables", (*doctor).checkTables},
		{"indexes", (*doctor).checkIndexes},
		{"vacuum", (*doctor).checkVacuum},
		{"days of history", (*doctor).checkDays},
		{"brokers", (*doctor).checkBrokers},
		{"partitions", (*doctor).checkPartitions},
		{"coverage", (*doctor).checkCoverage},
		{"pages", (*doctor).checkPages},
		{"daemon", (*doctor).checkDaemon},
	}
)

func doctorCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what keeps strands from running, or will; exit code 1 if something does",
		Long: `Look for what keeps strands from running, or will, in the database, among the brokers of all hosts, and on this host.
Each check is ok, or warns of what costs time or will cost more, or fails. It tells what it has seen and what to do.
Nothing is changed.`,
		Example: `  respirated doctor
  respirated doctor --json
  respirated doctor --database-url postgres://localhost/app --socket /run/respirate/respirate.sock`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		found := examineAll(cmd.Context(), cfg, usualLimits)
		if err := printFindings(cmd.OutOrStdout(), found, *asJSON); err != nil {
			return err
		}
		return verdict(found)
	}
	return cmd
}

// examineAll makes all checks of each database, and those of the host once.
func examineAll(ctx context.Context, cfg fileConfig, limits doctorLimits) (all []finding) {
	if len(cfg.DatabaseURLs) < 2 {
		return examine(ctx, cfg, limits)
	}
	for i, one := range cfg.each() {
		for _, f := range examine(ctx, one, limits) {
			ofHost := slices.ContainsFunc(hostChecks, func(c doctorCheck) bool { return c.name == f.Check })
			switch {
			case !ofHost:
				f.Database = databaseName(one.DatabaseURLs.one())
			case i > 0:
				continue
			}
			all = append(all, f)
		}
	}
	return all
}

// examine makes all checks of one database that can be made, and those of the host.
func examine(ctx context.Context, cfg fileConfig, limits doctorLimits) []finding {
	d := &doctor{cfg: cfg, limits: limits}
	db, err := connect(ctx, cfg, client.InsertOpts{})
	if err != nil {
		return append([]finding{{Check: "database", Result: failing, Seen: oneLine(err.Error()), Do: "see there: nothing else can be said of it"}},
			d.make(ctx, hostChecks)...)
	}
	defer db.close(ctx)
	d.db = db
	found := d.make(ctx, databaseChecks)
	if d.usable {
		found = append(found, d.make(ctx, schemaChecks)...)
	}
	return append(found, d.make(ctx, hostChecks)...)
}

const checkTime = 20 * time.Second // for one check

// make makes some checks. One that cannot be made is a finding, too.
func (d *doctor) make(ctx context.Context, checks []doctorCheck) []finding {
	var all []finding
	for _, check := range checks {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		found, err := check.look(d, ctx)
		cancel()
		if err != nil {
			found = []finding{bad(warned, "see there: run doctor as the role of the daemon, or as one that may see more", "could not be checked: %s", oneLine(err.Error()))}
		}
		for _, f := range found {
			f.Check = check.name
			all = append(all, f)
		}
	}
	return all
}

// verdict is an error if a check has failed.
func verdict(found []finding) error {
	failed := 0
	for _, f := range found {
		if f.Result == failing {
			failed++
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d findings are failures: see what to do about each", failed, len(found))
	}
	return nil
}

func printFindings(out io.Writer, found []finding, asJSON bool) error {
	if asJSON {
		return printJSON(out, map[string][]finding{"checks": found})
	}
	header := []string{"CHECK", "RESULT", "SEEN", "WHAT TO DO"}
	several := slices.ContainsFunc(found, func(f finding) bool { return f.Database != "" })
	if several {
		header = append([]string{"DATABASE"}, header...)
	}
	t := newTable(out, header...)
	for _, f := range found {
		cells := []string{f.Check, string(f.Result), f.Seen, f.Do}
		if several {
			cells = append([]string{f.Database}, cells...)
		}
		t.row(cells...)
	}
	return t.flush()
}

// postgresConfig is the database as broker/postgres takes it.
func (d *doctor) postgresConfig() postgres.Config {
	return postgres.Config{URL: d.cfg.DatabaseURLs.one(), Schema: d.cfg.Schema, Logger: slog.New(slog.DiscardHandler)}
}
