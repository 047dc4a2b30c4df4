package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/supervisor"
)

// runFlags are those of `respirated run`. What is not set is taken from the configuration file.
type runFlags struct {
	worker       string
	pool         string
	procs, slots int
	lease        time.Duration
	drainTimeout time.Duration
	logFormat    logFormat
	logLevel     logLevel
	workerLogs   lineMode
	migrate      bool
	check        bool // see checkRun

	partition     partitionName
	maxPartitions int
	gaps          gapsName

	workersDir string

	pageCommand shellCommand

	http, httpTokenFile string
}

func runCommand(s *settings) *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run [PARTITION]",
		Short: "Run the daemon of this host",
		Long: `Run the daemon of this host: it takes strands from the database and hands them to worker processes, which connect to
its socket. With --worker, or pools in the configuration file, it starts them as well and keeps them running; without,
others do.

The daemons of all hosts divide the strands among each other, each by its PARTITION: a number, or auto (the default, which
finds one that is free), or none, which looks for all strands. What DYNO, PS or K8S_POD_INDEX say is a number, too.

With several --database-url, its workers run the strands of all of these databases, in each of which the daemon has a
PARTITION. One that is away holds up no other.

On SIGTERM or SIGINT it takes no more work, lets workers finish what they hold for up to --drain-timeout, and stops. So it
does on SIGHUP without --config, as when its terminal is closed.
A second signal ends it at once. With --config the file is read again when it changes, and on SIGHUP: pools come, go and change
while the daemon runs; a file with an error changes nothing. If the daemon is killed, its workers go on, and the next daemon on the same socket adopts them.`,
		Example: `  respirated run --worker ./worker --procs 4 --slots 10
  respirated run --config /etc/respirated.yaml --log-format json
  respirated run 3 --worker ./worker
  respirated run --workers-dir /etc/respirate/workers.d
  respirated run --database-url postgres://east/app --database-url postgres://west/app --worker ./worker
  DATABASE_URL=postgres://localhost/app respirated run --migrate --worker ./worker`,
		Args: takes(cobra.MaximumNArgs(1)),
	}
	f.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		outliveLog()
		former, err := takeHandover()
		if err == nil {
			err = f.run(cmd, args, s, former)
		}
		if err != nil {
			former.answer(err)
		}
		return err
	}
	return cmd
}

// run runs the daemon. former is the build that this process was before; nil = none.
func (f *runFlags) run(cmd *cobra.Command, args []string, s *settings, former *handover) error {
	var caught *signals
	if !f.check {
		caught = catchSignals(s.file != "", former != nil)
	}
	var reload *reloader
	if s.file != "" && caught != nil {
		reload = newReloader(s.file, caught.Hangup)
	}
	cfg, err := f.load(s)
	if err != nil {
		return err
	}
	partition, from, err := partitionOf(args, f.partition, cfg, os.Getenv)
	if err != nil {
		return usage(err)
	}
	log, flush := newLogger(cmd.ErrOrStderr(), cfg.LogFormat, cfg.LogLevel)
	defer flush()
	if f.check {
		return checkRun(cmd.Context(), cfg, cmd.OutOrStdout(), log)
	}
	d, err := startDaemon(cmd.Context(), cfg, partition, former, log)
	if err != nil {
		return err
	}
	d.signals, d.flush = caught, flush
	log.Info("partition chosen", "number", describePartition(partition), "from", from, "most", partition.Most, "gaps", cfg.Gaps)
	if d.reload = reload; reload != nil {
		reload.load = func() (fileConfig, error) { return f.load(s) }
		reload.apply, reload.running, reload.log, reload.tell = d.supervisor.Apply, cfg, log, d.notify.reloading
	}
	return d.run(cmd.Context(), nil)
}

// startDaemon makes the daemon of this verb, which can be upgraded.
func startDaemon(ctx context.Context, cfg fileConfig, partition broker.Partition, former *handover, log *slog.Logger) (*daemon, error) {
	if cfg.Migrate {
		if err := migrateAll(ctx, cfg, log); err != nil {
			return nil, err
		}
	}
	d, err := newDaemon(ctx, cfg, partition, former, log)
	if err != nil {
		return nil, err
	}
	d.upgrader = newUpgrader(d, cfg, former)
	return d, nil
}

func (f *runFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.worker, "worker", "", "start workers from this `BINARY`")
	flags.StringVar(&f.pool, "pool", "", "`NAME` of their pool (default \"default\")")
	flags.IntVar(&f.procs, "procs", 0, "worker processes (default 4)")
	flags.IntVar(&f.slots, "slots", 0, "strands that each of them runs at once (default 10)")
	flags.StringVar(&f.workersDir, "workers-dir", "", "start a pool of workers from each executable in this `FOLDER`")
	flags.DurationVar(&f.lease, "lease", 0, "how long a strand stays with a worker that nothing is heard of (default 2m0s)")
	flags.DurationVar(&f.drainTimeout, "drain-timeout", 0, "how long workers may finish what they hold (default 30s)")
	flags.Var(&f.logFormat, "log-format", "text or json (default text, in colours on a terminal unless NO_COLOR is set)")
	flags.Var(&f.logLevel, "log-level", "debug, info, warn or error (default info)")
	flags.Var(&f.workerLogs, "worker-logs", "how what workers write is logged here, too: info, debug or off (default info)")
	flags.Var(&f.partition, "partition", "which part of the strands to look for: none, auto or a number (default auto)")
	flags.IntVar(&f.maxPartitions, "max-partitions", 0, "the highest number of a partition (default 256)")
	flags.Var(&f.gaps, "gaps", "how others close the gap of a missing number: rank or overdue (default rank)")
	flags.Var(&f.pageCommand, "page-command", "run this for each page that is opened or resolved, with JSON on its standard input")
	flags.StringVar(&f.http, "http", "", "serve the dashboard, /metrics and /healthz at this `ADDRESS`, such as 127.0.0.1:8383 (default: nowhere)")
	flags.StringVar(&f.httpTokenFile, "http-token-file", "", "`FILE` of mode 0600 with the login token for them")
	flags.BoolVar(&f.migrate, "migrate", false, "apply missing migrations first")
	flags.BoolVar(&f.check, checkFlag, false, "")
	_ = flags.MarkHidden(checkFlag) // it is there
}

// load is the settings of the daemon.
func (f *runFlags) load(s *settings) (fileConfig, error) {
	cfg, err := s.loadSeveral()
	if err != nil {
		return cfg, err
	}
	if cfg, err = f.over(cfg); err == nil {
		err = cfg.HTTP.check()
	}
	if err != nil {
		return cfg, usage(err)
	}
	return cfg, nil
}

// over puts the flags over the configuration file.
func (f *runFlags) over(cfg fileConfig) (fileConfig, error) {
	switch {
	case f.worker == "" && (f.pool != "" || f.procs != 0 || f.slots != 0):
		return cfg, errors.New("--pool, --procs and --slots go with --worker")
	case f.worker != "" && len(cfg.Pools) > 0:
		return cfg, errors.New("the configuration file has pools: add one there instead of --worker")
	case f.worker != "":
		cfg.Pools = []poolConfig{{Name: cmp.Or(f.pool, "default"), Worker: f.worker, Procs: f.procs, Slots: f.slots}}
	}
	cfg.Lease = cmp.Or(duration(f.lease), cfg.Lease)
	cfg.DrainTimeout = cmp.Or(duration(f.drainTimeout), cfg.DrainTimeout, duration(defaultDrain))
	cfg.LogFormat = cmp.Or(f.logFormat, cfg.LogFormat)
	cfg.LogLevel = cmp.Or(f.logLevel, cfg.LogLevel)
	cfg.WorkerLogs = cmp.Or(f.workerLogs, cfg.WorkerLogs)
	cfg.Migrate = cfg.Migrate || f.migrate
	cfg.WorkersDir = cmp.Or(f.workersDir, cfg.WorkersDir)
	cfg.MaxPartitions = cmp.Or(f.maxPartitions, cfg.MaxPartitions, defaultMaxPartitions)
	cfg.Gaps = cmp.Or(f.gaps, cfg.Gaps, "rank")
	cfg.PageCommand = cmp.Or(f.pageCommand, cfg.PageCommand)
	cfg.HTTP.Listen = cmp.Or(f.http, cfg.HTTP.Listen)
	cfg.HTTP.TokenFile = cmp.Or(f.httpTokenFile, cfg.HTTP.TokenFile)
	return cfg, cfg.checkTimes()
}

// checkTimes refuses times that would have a strand run in two places.
func (cfg fileConfig) checkTimes() error {
	const shortest = time.Second
	switch lease, drain := time.Duration(cfg.Lease), time.Duration(cfg.DrainTimeout); {
	case lease != 0 && lease < shortest:
		return fmt.Errorf("lease is %v, it must be %v at least", lease, shortest)
	case drain < shortest:
		return fmt.Errorf("drain_timeout is %v, it must be %v at least", drain, shortest)
	}
	for _, p := range cfg.Pools {
		if stop := time.Duration(p.StopTimeout); stop > cfg.stopTimeout() {
			return fmt.Errorf("pool %q: stop_timeout is %v, it must be %v at most: after drain_timeout its strands may start elsewhere", p.Name, stop, cfg.stopTimeout())
		}
	}
	return nil
}

const defaultDrain = 30 * time.Second

// pools are the configured pools as the supervisor takes them.
func (cfg fileConfig) pools() []supervisor.Pool {
	pools := make([]supervisor.Pool, len(cfg.Pools))
	for i, p := range cfg.Pools {
		pools[i] = supervisor.Pool{
			Name: cmp.Or(p.Name, "default"), Binary: p.Worker, Args: p.Args, Procs: p.Procs, Slots: p.Slots, Env: p.Env, Dir: p.Dir,
			StopTimeout: time.Duration(p.StopTimeout), User: p.User, Limits: p.Limits.limits(), BootTimeout: time.Duration(p.BootTimeout),
			Kinds: p.Kinds, Queues: p.Queues, Isolate: p.Isolate,
			Recycle: supervisor.Recycle{Strands: p.Recycle.Strands, Age: time.Duration(p.Recycle.Age), RSS: int64(p.Recycle.RSS), Files: p.Recycle.Files},
		}
	}
	return pools
}

// stopTimeout is when the supervisor kills a worker that does not stop: shortly before the broker gives back what that
// worker holds, so that nobody runs a strand that somebody else may get.
func (cfg fileConfig) stopTimeout() time.Duration {
	drain := time.Duration(cfg.DrainTimeout)
	return drain - min(drain/10, 2*time.Second)
}
