package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/supervisor"
)

// poolStatus is what GET /api/v1/pools/{name} tells.
type poolStatus struct {
	supervisor.PoolInfo
	Workers []workerStatus `json:"workers"`
}

// asked is the answer to an order: it is being done.
type asked struct {
	Pool  string `json:"pool"`
	PID   int    `json:"pid,omitempty"` // 0 = all of the pool
	Asked string `json:"asked"`
}

// steeredSupervisor is what orders are for.
type steeredSupervisor interface {
	Workers() []supervisor.Info
	Pools() []supervisor.PoolInfo
	Change(pool string, with func(*supervisor.Pool)) error
	PausePool(pool string) error
	ResumePool(pool string) error
	Recycle(pool string, index int, why string) error
	Roll(pool string) error
	End(key string, within time.Duration, why string)
}

// poolRoutes are the questions about pools and their workers, and the orders to them.
func (c control) poolRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v1/pools", answer(func(context.Context) ([]supervisor.PoolInfo, error) {
		return append([]supervisor.PoolInfo{}, c.supervisor.Pools()...), nil
	}))
	mux.HandleFunc("GET /api/v1/pools/{pool}", obey(c.pool))
	mux.HandleFunc("POST /api/v1/pools/{pool}", obey(c.setPool))
	mux.HandleFunc("POST /api/v1/pools/{pool}/recycle", obey(func(r *http.Request) (asked, error) {
		pool := r.PathValue("pool")
		return asked{Pool: pool, Asked: "recycle"}, c.supervisor.Recycle(pool, -1, "an operator asked for it")
	}))
	for verb, do := range map[string]func(string) error{"pause": c.supervisor.PausePool, "resume": c.supervisor.ResumePool} {
		mux.HandleFunc("POST /api/v1/pools/{pool}/"+verb, obey(func(r *http.Request) (asked, error) {
			pool := r.PathValue("pool")
			return asked{Pool: pool, Asked: verb}, do(pool)
		}))
	}
	mux.HandleFunc("POST /api/v1/pools/{pool}/roll", obey(func(r *http.Request) (asked, error) {
		pool := r.PathValue("pool")
		return asked{Pool: pool, Asked: "roll"}, c.supervisor.Roll(pool)
	}))
	mux.HandleFunc("POST /api/v1/workers/{pid}/recycle", obey(func(r *http.Request) (asked, error) {
		w, err := c.worker(r.PathValue("pid"))
		if err != nil {
			return asked{}, err
		}
		return asked{w.Pool, w.PID, "recycle"}, c.supervisor.Recycle(w.Pool, w.Index, "an operator asked for it")
	}))
	mux.HandleFunc("POST /api/v1/workers/{pid}/stop", obey(func(r *http.Request) (asked, error) {
		w, err := c.worker(r.PathValue("pid"))
		if err == nil {
			c.supervisor.End(w.Key, 0, "an operator asked for it")
		}
		return asked{w.Pool, w.PID, "stop"}, err
	}))
}

// obey answers an order. Whom it is for may not be there.
func obey[T any](do func(*http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := do(r)
		switch {
		case errors.Is(err, supervisor.ErrNoPool), errors.Is(err, errNoWorker):
			http.Error(w, err.Error(), http.StatusNotFound)
		case err != nil:
			http.Error(w, err.Error(), http.StatusBadRequest)
		default:
			answer(func(context.Context) (T, error) { return v, nil })(w, r)
		}
	}
}

func (c control) pool(r *http.Request) (poolStatus, error) {
	name := r.PathValue("pool")
	for _, p := range c.supervisor.Pools() {
		if p.Name != name {
			continue
		}
		status := poolStatus{PoolInfo: p, Workers: []workerStatus{}}
		workers, err := c.workers(r.Context())
		for _, w := range workers {
			if w.Pool == name {
				status.Workers = append(status.Workers, w)
			}
		}
		return status, err
	}
	return poolStatus{}, fmt.Errorf("pool %q: %w", name, supervisor.ErrNoPool)
}

// errNoWorker is that a pid is of none that this daemon could steer.
var errNoWorker = errors.New("no pool of this daemon has a worker with this pid")

func (c control) worker(pid string) (supervisor.Info, error) {
	for _, w := range c.supervisor.Workers() {
		if w.PID != 0 && strconv.Itoa(w.PID) == pid {
			return w, nil
		}
	}
	return supervisor.Info{}, fmt.Errorf("worker %s: %w", pid, errNoWorker)
}

func poolCommand(s *settings) *cobra.Command {
	cmd := group("pool", "List pools of workers, change, pause, recycle and roll them",
		"A pool is a set of worker processes that are started from one binary in one way. It is the daemon of this host that has them.")
	cmd.AddCommand(
		poolListCommand(s),
		poolShowCommand(s),
		poolSetCommand(s),
		poolOrderCommand(s, "pause", "Give the workers of a pool no new strands",
			"Give the workers of a pool no new strands. What they hold they finish, and the processes stay. What waits is for other pools that\nmay take it, on any host. It lasts until respirated pool resume, also when the daemon or the host starts again."),
		poolOrderCommand(s, "resume", "Give the workers of a paused pool strands again",
			"Give the workers of a paused pool strands again, as before respirated pool pause."),
		poolOrderCommand(s, "recycle", "Replace each process of a pool by a fresh one",
			"Replace each process of a pool by a fresh one, one after the other. Each is asked to end after its successor has connected, and\nfinishes what it holds."),
		poolOrderCommand(s, "roll", "Have a pool go over to its binary as it is now",
			"Have a pool go over to its binary as it is now: first one process, and when that has brought a result, or was connected for\n10 s without a strand, the others one by one. When it dies twice before, the old build goes on. A changed binary is rolled\nwithout being asked; this is for one that was held back, or has halted the pool, and shall be tried again."),
	)
	return cmd
}

func poolListCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the pools of the daemon on this host",
		Long: `List the pools of the daemon on this host. STATE is running; starting (no process is connected yet); paused (its workers
get no new strands); rolling (to another build); old build (another one was held back, because it died); crash-looping (one process is tried each 30 s); halted (it
starts nothing until its binary or configuration changes); or refused (a file in the folder of workers that is not started).`,
		Example: `  respirated pool list
  respirated pool list --json`,
		Args: takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		var pools []supervisor.PoolInfo
		if err := askDaemon(cmd.Context(), cfg.Socket, "/api/v1/pools", &pools); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), pools)
		}
		t := newTable(cmd.OutOrStdout(), "POOL", "STATE", "PROCS", "CONNECTED", "SLOTS", "BUILD", "BINARY", "NOTE")
		for _, p := range pools {
			t.row(p.Name, p.State, strconv.Itoa(p.Procs), strconv.Itoa(p.Connected), strconv.Itoa(p.Slots), p.Build, p.Binary, p.Note)
		}
		return t.flush()
	}
	return cmd
}

func poolShowCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a pool and its workers",
		Long:  "Show a pool and its workers. BUILD changes with the binary; DUE says why another process is going to take a worker's place.",
		Example: `  respirated pool show default
  respirated pool show default --json`,
		Args: takes(onePool),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		var p poolStatus
		if err := askDaemon(cmd.Context(), cfg.Socket, poolPath(args[0]), &p); err != nil {
			return err
		}
		if *asJSON {
			return printJSON(cmd.OutOrStdout(), p)
		}
		return p.print(cmd.OutOrStdout(), time.Now())
	}
	return cmd
}

func (p poolStatus) print(out io.Writer, now time.Time) error {
	t := newTable(out)
	t.row("pool", p.Name)
	t.row("state", p.State)
	t.row("note", p.Note)
	t.row("binary", p.Binary)
	if len(p.Args) > 0 {
		t.row("arguments", fmt.Sprintf("%q", p.Args))
	}
	t.row("build", p.Build)
	if p.Paused {
		t.row("paused", "its workers get no new strands: see respirated pool resume")
	}
	t.row("kinds", cmp.Or(strings.Join(p.Kinds, " "), "all that its workers serve"))
	t.row("queues", cmp.Or(strings.Join(p.Queues, " "), "all"))
	for _, set := range [][2]string{
		{"isolate", strings.Join(p.Isolate, " ")}, {"env", strings.Join(p.Env, " ")}, {"dir", p.Dir}, {"user", p.User}, {"limits", p.Limits},
		{"recycle", p.Recycle}, {"stop timeout", p.StopTimeout}, {"boot timeout", p.BootTimeout},
	} {
		if set[1] != "" {
			t.row(set[0], set[1])
		}
	}
	t.row("processes", fmt.Sprintf("%d connected of %d, with %d slots each", p.Connected, p.Procs, p.Slots))
	if err := t.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	t = newTable(out, "SEAT", "PID", "STATE", "STARTED", "RESTARTS", "HELD", "BUILD", "DUE", "LAST EXIT", "KINDS")
	for _, w := range p.Workers {
		t.row(seatOf(w), number(w.PID), stateOf(w), ago(w.Started, now), strconv.Itoa(w.Restarts), strconv.Itoa(w.Held), w.Build, w.Due,
			w.LastExit, strings.Join(w.Kinds, " "))
	}
	return t.flush()
}

// onePool takes the name of a pool. What could be none is not made a path of, where it would lead elsewhere.
func onePool(cmd *cobra.Command, args []string) error {
	if err := cobra.ExactArgs(1)(cmd, args); err != nil {
		return err
	}
	if name := args[0]; name == "" || name[0] == '.' {
		return fmt.Errorf("%q is not the name of a pool", name)
	}
	return nil
}

func poolPath(name string) string { return "/api/v1/pools/" + url.PathEscape(name) }

func poolOrderCommand(s *settings, verb, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  respirated pool %[1]s default
  respirated pool %[1]s default --json`, verb),
		Args: takes(onePool),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.order(cmd, poolPath(args[0])+"/"+verb, nil, *asJSON,
			fmt.Sprintf("pool %s: %s has begun; see respirated pool show %s", args[0], verb, args[0]))
	}
	return cmd
}

func workerOrderCommand(s *settings, verb, short, long string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   verb + " PID",
		Short: short,
		Long:  long,
		Example: fmt.Sprintf(`  respirated worker %[1]s 4711
  respirated worker %[1]s 4711 --json`, verb),
		Args: takes(cobra.ExactArgs(1)),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if pid, err := strconv.Atoi(args[0]); err != nil || pid < 1 {
			return usage(fmt.Errorf("%.40q is no pid: see respirated worker list", args[0]))
		}
		return s.order(cmd, "/api/v1/workers/"+args[0]+"/"+verb, nil, *asJSON,
			fmt.Sprintf("worker %s: %s has begun; see respirated worker list", args[0], verb))
	}
	return cmd
}

// order asks the daemon of this host for something, and says that it is being done.
func (s *settings) order(cmd *cobra.Command, path string, order any, asJSON bool, done string) error {
	cfg, err := s.loadSeveral()
	if err != nil {
		return err
	}
	var answer asked
	if err := tellDaemon(cmd.Context(), cfg.Socket, path, order, answerTime, &answer); err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), answer)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), done)
	return err
}
