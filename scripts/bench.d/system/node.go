package system

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Node is a system whose worker and client are programs for Node.
type Node struct {
	Dir        string // where package.json is, with node_modules installed
	Script     string // in node/; prepares, works and inserts
	Package    string // of npm
	Setup      string // for people
	unfinished string
}

// Graphile is graphile/worker. It deletes finished jobs.
func Graphile(dir string) Node {
	return Node{
		Dir: dir, Script: "graphile", Package: "graphile-worker",
		Setup:      "concurrency 24, local queue of 500, completion and failure batched, pool of 10 connections, deletes finished jobs",
		unfinished: "select exists (select from graphile_worker._private_jobs)",
	}
}

// PgBoss is timgit/pg-boss. It keeps finished jobs.
func PgBoss(dir string) Node {
	return Node{
		Dir: dir, Script: "pgboss", Package: "pg-boss",
		Setup:      "batchSize 1000, burstWhenBatchFull, NOTIFY and polling every 0.5 s, pool of 10 connections, keeps finished jobs",
		unfinished: "select exists (select from pgboss.job where name = 'noop' and state < 'completed')",
	}
}

// Name implements System.
func (n Node) Name() string { return n.Script }

// Version implements System.
func (n Node) Version() (string, error) {
	version := func(name string) (string, error) {
		text, err := os.ReadFile(filepath.Join(n.Dir, "node_modules", name, "package.json"))
		if err != nil {
			return "", fmt.Errorf("read the version of %s: %w", name, err)
		}
		var p struct{ Version string }
		err = json.Unmarshal(text, &p)
		return p.Version, err
	}
	own, err := version(n.Package)
	if err != nil {
		return "", err
	}
	node, err := version("node")
	return own + " on node " + node, err
}

// Settings implements System.
func (n Node) Settings() string { return n.Setup }

// Batch implements System.
func (Node) Batch() int { return 1000 }

func (n Node) command(ctx context.Context, role string, at Place) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(n.Dir, "node_modules", "node", "bin", "node"),
		filepath.Join(n.Dir, "node", n.Script+".mjs"), role, at.URL, at.Hub)
	cmd.Env = append(os.Environ(), "NODE_ENV=production")
	return cmd
}

// Prepare implements System.
func (n Node) Prepare(ctx context.Context, url string) error {
	return run(n.command(ctx, "prepare", Place{URL: url}))
}

// Workers implements System.
func (n Node) Workers(at Place, processes int) ([]*exec.Cmd, error) {
	cmds := make([]*exec.Cmd, processes)
	for i := range cmds {
		cmds[i] = n.command(context.Background(), "worker", at) // it ends when the harness hangs up
	}
	return cmds, nil
}

// Inserter implements System.
func (n Node) Inserter(at Place) *exec.Cmd { return n.command(context.Background(), "inserter", at) }

// Unfinished implements System.
func (n Node) Unfinished() string { return n.unfinished }
