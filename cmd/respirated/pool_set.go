package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/supervisor"
)

// poolOrder is what POST /api/v1/pools/{name} can ask for. What is not given stays.
type poolOrder struct {
	Procs   *int      `json:"procs,omitempty"`
	Slots   *int      `json:"slots,omitempty"`
	Kinds   *[]string `json:"kinds,omitempty"` // none = all
	Queues  *[]string `json:"queues,omitempty"`
	Isolate *[]string `json:"isolate,omitempty"`
	Env     *[]string `json:"env,omitempty"`
	Dir     *string   `json:"dir,omitempty"`  // "" = the daemon's
	User    *string   `json:"user,omitempty"` // "" = the daemon's

	Memory     *int64   `json:"memory,omitempty"` // bytes; 0 = no limit, as for those that follow
	MemorySoft *int64   `json:"memory_soft,omitempty"`
	CPU        *float64 `json:"cpu,omitempty"`
	PIDs       *int     `json:"pids,omitempty"`
}

// check refuses what would be taken for a default.
func (o poolOrder) check() error {
	switch {
	case o.Procs != nil && *o.Procs < 1:
		return fmt.Errorf("procs is %d, must be 1 at least", *o.Procs)
	case o.Slots != nil && *o.Slots < 1:
		return fmt.Errorf("slots is %d, must be 1 at least", *o.Slots)
	}
	return nil
}

// over changes what is asked for in a pool, but for the queues.
func (o poolOrder) over(p *supervisor.Pool) {
	put(&p.Procs, o.Procs)
	put(&p.Slots, o.Slots)
	putList(&p.Kinds, o.Kinds)
	putList(&p.Isolate, o.Isolate)
	putList(&p.Env, o.Env)
	put(&p.Dir, o.Dir)
	put(&p.User, o.User)
	put(&p.Limits.Memory, o.Memory)
	put(&p.Limits.MemorySoft, o.MemorySoft)
	put(&p.Limits.CPU, o.CPU)
	put(&p.Limits.PIDs, o.PIDs)
}

func put[T any](to *T, given *T) {
	if given != nil {
		*to = *given
	}
}

// putList takes an empty list for none.
func putList(to, given *[]string) {
	if given != nil {
		*to = append([]string(nil), *given...)
	}
}

func (c control) setPool(r *http.Request) (asked, error) {
	var order poolOrder
	decoder := json.NewDecoder(io.LimitReader(r.Body, 1<<16))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&order); err != nil {
		return asked{}, fmt.Errorf("read the order: %w", err)
	}
	if err := order.check(); err != nil {
		return asked{}, err
	}
	var of queues
	if order.Queues != nil {
		if err := of.parse(*order.Queues); err != nil {
			return asked{}, err
		}
	}
	pool := r.PathValue("pool")
	return asked{Pool: pool, Asked: "set"}, c.supervisor.Change(pool, func(p *supervisor.Pool) {
		order.over(p)
		if order.Queues != nil {
			p.Queues = of
		}
	})
}

func poolSetCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "set NAME [--procs N] [--queues A,B] ...",
		Short: "Change a pool of the daemon while it runs",
		Long: `Change a pool of the daemon while it runs. What is not given stays as it is; an empty list, name or size is the default.

More processes are started; those that are too many finish what they hold and end, the highest seats first. Which queues its
workers may take, and what runs alone, holds at once. Everything else replaces its processes: one first, and when that is proven
the others one by one.

It lasts until the daemon reads its configuration again, or stops in order: to keep it, change the file. An upgrade in place
keeps it, and so does the next daemon after one that was killed, unless the pool is configured in another way by then.`,
		Example: `  respirated pool set default --procs 8
  respirated pool set default --queues mail,acme/mail
  respirated pool set default --queues ""
  respirated pool set default --isolate convert,render
  respirated pool set default --memory 512MiB --cpu 1.5
  respirated pool set default --procs 1 --json`,
		Args: takes(onePool),
	}
	flags := cmd.Flags()
	var memory, soft size
	flags.Var(&memory, "memory", "hard limit of the memory of each")
	flags.Var(&soft, "memory-soft", "memory above which one is replaced")
	values := map[string]any{
		"procs":       flags.Int("procs", 0, "how many processes it has"),
		"slots":       flags.Int("slots", 0, "strands that each of them runs at once"),
		"kinds":       flags.StringSlice("kinds", nil, "the `KINDS` that they may serve"),
		"queues":      flags.StringSlice("queues", nil, "the `QUEUES` that they may take strands of, such as mail or tenant/mail"),
		"isolate":     flags.StringSlice("isolate", nil, "`KINDS` whose strands run alone in a process"),
		"env":         flags.StringSlice("env", nil, "`VARIABLES` that they see, too: NAME as the daemon has it, or NAME=VALUE"),
		"dir":         flags.String("dir", "", "their working `DIRECTORY`"),
		"user":        flags.String("user", "", "the `USER`, or user:group, that they run as"),
		"cpu":         flags.Float64("cpu", 0, "processors that each may use"),
		"pids":        flags.Int("pids", 0, "processes that each may have, threads included"),
		"memory":      &memory,
		"memory-soft": &soft,
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		order := map[string]any{}
		for flag, value := range values {
			if flags.Changed(flag) {
				order[strings.ReplaceAll(flag, "-", "_")] = value
			}
		}
		if len(order) == 0 {
			return usage(errors.New("say what to set, such as --procs N"))
		}
		if dir := values["dir"].(*string); *dir != "" {
			var err error
			if *dir, err = filepath.Abs(*dir); err != nil { // of this process, not of the daemon
				return fmt.Errorf("working directory %q: %w", *dir, err)
			}
		}
		return s.order(cmd, poolPath(args[0]), order, *asJSON,
			fmt.Sprintf("pool %s is set, until the daemon reads its configuration again; see respirated pool show %[1]s", args[0]))
	}
	return cmd
}
