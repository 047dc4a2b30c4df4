package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func benchCommand(s *settings) *cobra.Command {
	c := benchConfig{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure throughput, latency and cost on your database",
		Long: `Measure what your database and this host can do: how fast strands are inserted and run, what each costs, and how long it
takes from the commit of an insert to the begin of its handler while nothing else is to be done.

It works in a schema of its own, with a daemon and worker processes of its own whose handlers do nothing, and removes all
of that again, also when it fails or is stopped by Ctrl-C. Only the load meets your other schemas. Its role has to be
allowed to create a schema.

Compare runs of one machine with each other, and run it when little else goes on: it warns if that is not so. WAL is
counted for the whole server, transactions and statements for the database; the latter need the extension
pg_stat_statements.`,
		Example: `  respirated bench
  respirated bench --jobs 200000 --procs 8 --history
  respirated bench --jobs 0 --latency 2000
  respirated bench --payload 4096 --json > before.json
  respirated bench --jobs 200000 --profile profiles`,
		Args: takes(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.IntVar(&c.jobs, "jobs", 20_000, "strands to insert and run; 0 = measure latency only")
	flags.IntVar(&c.procs, "procs", 4, "worker processes")
	flags.IntVar(&c.slots, "slots", 10, "strands that each of them runs at once")
	flags.BoolVar(&c.history, "history", false, "keep finished strands in history, as queues do by default")
	flags.IntVar(&c.latency, "latency", 500, "strands to insert one by one while the daemon is idle; 0 = none")
	flags.IntVar(&c.payload, "payload", 0, "`BYTES` of text in the args of each strand")
	flags.BoolVar(&c.keep, "keep", false, "leave the schema for a look at it")
	flags.StringVar(&c.profile, "profile", "", "write CPU profiles of the daemon and of each worker process into `DIR`, as pprof reads them")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.check(s); err != nil {
			return usage(err)
		}
		if err := c.makeProfile(); err != nil {
			return err
		}
		cfg, err := s.load()
		if err != nil {
			return err
		}
		c.url = cfg.DatabaseURLs.one()
		if c.program, err = os.Executable(); err != nil {
			return fmt.Errorf("find this program, to start a daemon from it: %w", err)
		}
		return runBench(cmd.Context(), c, *asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

// check refuses what cannot be measured.
func (c *benchConfig) check(s *settings) error {
	switch {
	case s.schema != "" || s.socket != "":
		return errors.New("bench makes a schema and a socket of its own: leave out --schema and --socket")
	case c.jobs == 0 && c.latency == 0:
		return errors.New("--jobs and --latency are both 0: there is nothing to measure")
	}
	for _, f := range []struct {
		name               string
		value, least, most int
	}{
		{"jobs", c.jobs, 0, 100_000_000},
		{"procs", c.procs, 1, 1000},
		{"slots", c.slots, 1, 10_000},
		{"latency", c.latency, 0, 1_000_000},
		{"payload", c.payload, 0, 1_000_000},
	} {
		if f.value < f.least || f.value > f.most {
			return fmt.Errorf("--%s is %d, it must be %d to %d", f.name, f.value, f.least, f.most)
		}
	}
	return nil
}

// makeProfile makes the folder for profiles, which processes with other working directories will write to.
func (c *benchConfig) makeProfile() (err error) {
	if c.profile == "" {
		return nil
	}
	if c.profile, err = filepath.Abs(c.profile); err != nil {
		return fmt.Errorf("find the folder for profiles: %w", err)
	}
	return os.MkdirAll(c.profile, 0o777)
}

// runBench measures, and prints what came out.
func runBench(ctx context.Context, c benchConfig, asJSON bool, out, errOut io.Writer) error {
	// From the first moment on, a signal means: stop and clean up. A second one ends the process at once.
	ctx, stop := untilSignal(ctx)
	defer stop()

	report, err := newBenchRun(c, errOut).run(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(out, report)
	}
	return report.print(out)
}
