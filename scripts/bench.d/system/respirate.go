package system

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/scripts/bench.d/hub"
	"github.com/respirated/respirated/worker"
)

// Respirate is ours: daemons of `respirated run`, each with its share of the worker processes.
type Respirate struct {
	Binary  string // respirated, as built from this repository
	Root    string // the repository
	History bool   // finished strands are kept
	Slots   int    // of each worker process
	Daemons int
	Worker  string // the program of its worker processes; "" = this one
}

// Name implements System.
func (r Respirate) Name() string {
	if r.History {
		return "respirate, history"
	}
	return "respirate"
}

// Version implements System.
func (r Respirate) Version() (string, error) {
	out, err := exec.Command("git", "-C", r.Root, "describe", "--always", "--dirty").Output()
	if err != nil {
		return "", fmt.Errorf("ask git for the version: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Settings implements System.
func (r Respirate) Settings() string {
	kept := "retention 0"
	if r.History {
		kept = "retention 7 days"
	}
	return fmt.Sprintf("%d daemon, --slots %d, GOMAXPROCS=1 in as many workers as processors or more, %s", r.Daemons, r.Slots, kept)
}

// Batch implements System.
func (Respirate) Batch() int { return 5000 }

// Prepare implements System.
func (r Respirate) Prepare(ctx context.Context, url string) error {
	if err := run(exec.CommandContext(ctx, r.Binary, "migrate", "up", "--database-url", url)); err != nil {
		return err
	}
	if r.History {
		return nil // as is the default
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, `insert into respirate.queue (tenant, queue, retention) values ('', 'default', '0')`)
	return err
}

// Brokers implements Brokered.
func (r Respirate) Brokers() int { return r.Daemons }

// Workers implements System.
func (r Respirate) Workers(at Place, processes int) ([]*exec.Cmd, error) {
	var cmds []*exec.Cmd
	for i := range r.Daemons {
		share := (processes + i) / r.Daemons
		config, err := r.configure(at, filepath.Join(at.Dir, fmt.Sprint(i)), share)
		if err != nil {
			return nil, fmt.Errorf("configure a daemon: %w", err)
		}
		cmd := exec.Command(r.Binary, "run", "--config", config)
		cmd.Env = append(os.Environ(), fmt.Sprintf("DYNO=respirate.%d", i+1)) // its partition
		cmds = append(cmds, cmd)
	}
	return cmds, nil
}

// configure writes a daemon's configuration file.
func (r Respirate) configure(at Place, dir string, processes int) (file string, err error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	self := child("respirate", "worker", at)
	if r.Worker != "" {
		self.Path = r.Worker
	}
	config := map[string]any{"database_url": at.URL, "socket": filepath.Join(dir, "respirate.sock")}
	if processes > 0 {
		config["pools"] = []any{map[string]any{
			"name": Pool, "worker": self.Path, "args": self.Args[1:], "procs": processes, "slots": r.Slots, "env": r.env(processes),
		}}
	}
	text, err := yaml.Marshal(config)
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "respirated.yaml")
	return file, os.WriteFile(file, text, 0o600)
}

// env is what the processes of a pool see, too. Where all of them together use every processor, and handlers do nothing, a process
// that has threads for several only wakes them to look for work.
func (r Respirate) env(processes int) []string {
	if r.Daemons*processes < runtime.NumCPU() {
		return nil
	}
	return []string{"GOMAXPROCS=1"}
}

// Inserter implements System.
func (Respirate) Inserter(at Place) *exec.Cmd { return child("respirate", "inserter", at) }

// Unfinished implements System.
func (Respirate) Unfinished() string { return "select exists (select from respirate.strand)" }

func respirateWorker(_, socket string) error {
	line, err := hub.Dial(socket, "worker")
	if err != nil {
		return err
	}
	if err := line.Await(); err != nil {
		return err
	}
	worker.Main(kinds(line))
	return nil
}

// kinds are those that our workers serve.
func kinds(line *hub.Line) *worker.Mux {
	mux := worker.NewMux()
	worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[hub.Args]) error {
		line.Handle(s.Args)
		return nil
	})
	worker.AddFunc(mux, lasting(line))
	addPrograms(mux, line)
	return mux
}

func respirateInserter(url, socket string) error {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	c, err := client.New(pool, nil)
	if err != nil {
		return err
	}
	line, err := hub.Dial(socket, "inserter")
	if err != nil {
		return err
	}
	return line.Serve(ctx, respirateClient{c})
}

type respirateClient struct{ *client.Client[pgx.Tx] }

func (c respirateClient) Insert(ctx context.Context, args hub.Args) error {
	_, err := c.Client.Insert(ctx, args, nil)
	return err
}

func (c respirateClient) InsertMany(ctx context.Context, args []hub.Args) error {
	params := make([]client.InsertManyParams, len(args))
	for i, a := range args {
		params[i].Args = a
	}
	_, err := c.InsertManyFast(ctx, params)
	return err
}
