package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres/private"
	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/cmd/internal/demo"
	"github.com/respirated/respirated/worker"
)

// devFlags are those of `respirated dev`.
type devFlags struct {
	time     time.Duration
	procs    int
	data     string
	worker   string
	logLevel logLevel
}

func devCommand(s *settings) *cobra.Command {
	f := devFlags{logLevel: "error"}
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine, with a live demo",
		Long: `Run everything on this machine: a PostgreSQL of its own, the broker, and worker processes. Strands of the demo's kinds
are inserted all the time, and what becomes of them is told. With --worker, your own binary runs, and strands are
inserted for those of the demo's kinds that it serves.

Ctrl-C, or the end of --for, stops everything and removes it again.`,
		Example: `  respirated dev
  respirated dev --for 20s
  respirated dev --worker ./worker --procs 4 --keep-data tmp/data`,
		Args: takes(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.DurationVar(&f.time, "for", 0, "insert strands for so long, then stop (default until Ctrl-C)")
	flags.IntVar(&f.procs, "procs", 2, "worker processes")
	flags.StringVar(&f.data, "keep-data", "", "keep the database in this `FOLDER` (default: it is removed)")
	flags.StringVar(&f.worker, "worker", "", "start workers from this `BINARY` (default: the demo's)")
	flags.Var(&f.logLevel, "log-level", "what to show of the daemon's own log: debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if f.time < 0 {
			return usage(fmt.Errorf("--for %v is negative", f.time))
		}
		if len(s.databaseURLs) > 0 {
			return usage(errors.New("dev brings a database of its own: leave out --database-url, or see respirated run"))
		}
		return f.run(cmd.Context(), s, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	return cmd
}

func (f *devFlags) run(ctx context.Context, s *settings, out, errOut io.Writer) (err error) {
	// From the first moment on, a signal means: stop and clean up. A second one ends the process at once.
	ctx, stop := untilSignal(ctx)
	defer stop()

	log, flush := newLogger(errOut, "", f.logLevel)
	defer flush()
	refuseUpgrades(log)

	server, err := private.Start(ctx, private.Config{Dir: f.data})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	folder, err := os.MkdirTemp("", "respirate-dev-")
	if err != nil {
		return fmt.Errorf("make a folder for the socket: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	cfg, err := f.config(s, server.URL(), filepath.Join(folder, "respirate.sock"))
	if err != nil {
		return err
	}
	if err := migrateUp(ctx, cfg, log); err != nil {
		return err
	}
	d, err := newDaemon(ctx, cfg, broker.Partition{}, nil, log)
	if err != nil {
		return err
	}
	db, err := connect(ctx, cfg, client.InsertOpts{})
	if err != nil {
		return errors.Join(err, d.close())
	}
	defer db.close(ctx)
	f.greet(out, cfg, d.web.raw.Addr())
	show := newShow(db, d.broker, out)
	err = d.run(ctx, func(ctx context.Context) error { return show.run(ctx, f.time) })
	return errors.Join(err, show.sum.print(out, f.procs))
}

// config is that of a daemon which shares nothing with others on this machine.
func (f *devFlags) config(s *settings, url, socket string) (fileConfig, error) {
	cfg := fileConfig{
		DatabaseURLs: urls{url},
		Schema:       cmp.Or(s.schema, client.DefaultSchema),
		Socket:       cmp.Or(s.socket, socket),
		// Long enough for the demo's strands, short enough for whoever presses Ctrl-C.
		DrainTimeout: duration(5 * time.Second),
		Pools:        []poolConfig{{Name: "dev", Worker: f.worker, Procs: f.procs}},
		HTTP:         httpConfig{Listen: "127.0.0.1:0", Local: true},
	}
	if f.worker != "" {
		return cfg, nil
	}
	// This program is the demo's worker as well, so that dev needs no Go tool and no second binary.
	self, err := os.Executable()
	if err != nil {
		return cfg, fmt.Errorf("find this program, to start workers from it: %w", err)
	}
	cfg.Pools[0].Worker, cfg.Pools[0].Args = self, []string{demoWorkerVerb}
	return cfg, nil
}

func (f *devFlags) greet(out io.Writer, cfg fileConfig, web net.Addr) {
	fmt.Fprintf(out, `A private PostgreSQL, one broker and %d worker processes. The dashboard is at http://%s/
To join in from another terminal:

  export DATABASE_URL='%s'
  export RESPIRATE_SOCKET='%s'
  %s strand list

`, f.procs, web, cfg.DatabaseURLs.one(), cfg.Socket, invocation(os.Args[0]))
}

// invocation is how a person calls this program, which is at self. One that `go run` has built is gone when it ends.
func invocation(self string) string {
	if strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/respirated"
	}
	return "respirated"
}

const demoWorkerVerb = "demo-worker"

// demoOrphanAfter is short: when `respirated dev` was killed, nobody comes back for its workers.
const demoOrphanAfter = 5 * time.Second

// demoWorkerCommand is cmd/demo-worker inside of this program, for `respirated dev`.
func demoWorkerCommand() *cobra.Command {
	var profile string
	cmd := &cobra.Command{
		Use:    demoWorkerVerb,
		Short:  "Be a worker of the demo's kinds, for respirated dev",
		Hidden: true,
		Args:   takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, _ := untilSignal(cmd.Context())
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			err := profiled(profile, "worker", func() error {
				return worker.Run(ctx, demo.Mux(), worker.Config{OrphanAfter: demoOrphanAfter, Logger: log})
			})
			if err != nil {
				return codedError{err, worker.ExitCode(err)}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&profile, "profile", "", "write a CPU profile into `DIR`; for respirated bench")
	return cmd
}
