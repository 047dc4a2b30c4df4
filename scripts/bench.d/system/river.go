package system

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/respirated/respirated/scripts/bench.d/hub"
)

// River is riverqueue/river, in Go, on pgx.
type River struct{}

const (
	riverModule     = "github.com/riverqueue/river"
	riverMaxWorkers = 1000
	riverCooldown   = time.Millisecond
	riverPool       = 10
)

// Name implements System.
func (River) Name() string { return "river" }

// Version implements System.
func (River) Version() (string, error) {
	info, _ := debug.ReadBuildInfo()
	for _, m := range info.Deps {
		if m.Path == riverModule {
			return m.Version, nil
		}
	}
	return "", fmt.Errorf("module %s is not in the build information", riverModule)
}

// Settings implements System.
func (River) Settings() string {
	return fmt.Sprintf("MaxWorkers %d, FetchCooldown %v, pool of %d connections, keeps finished jobs", riverMaxWorkers, riverCooldown, riverPool)
}

// Batch implements System.
func (River) Batch() int { return 5000 }

// Prepare implements System.
func (River) Prepare(ctx context.Context, url string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// Workers implements System.
func (River) Workers(at Place, processes int) ([]*exec.Cmd, error) {
	cmds := make([]*exec.Cmd, processes)
	for i := range cmds {
		cmds[i] = child("river", "worker", at)
	}
	return cmds, nil
}

// Inserter implements System.
func (River) Inserter(at Place) *exec.Cmd { return child("river", "inserter", at) }

// Unfinished implements System. It names states instead of excluding one, so that an index carries it.
func (River) Unfinished() string {
	return "select exists (select from river_job where state in ('available', 'running', 'retryable', 'scheduled', 'pending'))"
}

// newRiver makes a client, on a pool of its own.
func newRiver(ctx context.Context, url string, config river.Config) (*river.Client[pgx.Tx], error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = riverPool
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	config.FetchCooldown = riverCooldown // an inserter tells of new jobs no more often than that
	config.Logger = slog.New(slog.DiscardHandler)
	return river.NewClient(riverpgxv5.New(pool), &config)
}

type riverHandler struct {
	river.WorkerDefaults[hub.Args]
	line *hub.Line
}

func (h *riverHandler) Work(_ context.Context, job *river.Job[hub.Args]) error {
	h.line.Handle(job.Args)
	return nil
}

func riverWorker(url, socket string) error {
	line, err := hub.Dial(socket, "worker")
	if err != nil {
		return err
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &riverHandler{line: line})
	ctx := context.Background()
	c, err := newRiver(ctx, url, river.Config{
		Workers: workers,
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverMaxWorkers}},
	})
	if err != nil {
		return err
	}
	if err := line.Await(); err != nil {
		return err
	}
	if err := c.Start(ctx); err != nil {
		return err
	}
	select {} // until the harness hangs up
}

func riverInserter(url, socket string) error {
	ctx := context.Background()
	c, err := newRiver(ctx, url, river.Config{})
	if err != nil {
		return err
	}
	line, err := hub.Dial(socket, "inserter")
	if err != nil {
		return err
	}
	return line.Serve(ctx, riverClient{c})
}

type riverClient struct{ *river.Client[pgx.Tx] }

func (c riverClient) Insert(ctx context.Context, args hub.Args) error {
	_, err := c.Client.Insert(ctx, args, nil)
	return err
}

func (c riverClient) InsertMany(ctx context.Context, args []hub.Args) error {
	params := make([]river.InsertManyParams, len(args))
	for i, a := range args {
		params[i].Args = a
	}
	_, err := c.InsertManyFast(ctx, params)
	return err
}
