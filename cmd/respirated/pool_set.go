package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/supervisor"
)

// poolOrder is what POST /api/v1/pools/{name} can ask for. What is not given stays.
type poolOrder struct {
	Worker  *string   `json:"worker,omitempty"`
	Args    *[]string `json:"args,omitempty"`
	Procs   *int      `json:"procs,omitempty"`
	Slots   *int      `json:"slots,omitempty"`
	Kinds   *[]string `json:"kinds,omitempty"` // none = all
	Queues  *[]string `json:"queues,omitempty"`
	Isolate *[]string `json:"isolate,omitempty"`
	Env     *[]string `json:"env,omitempty"`
	Dir     *string   `json:"dir,omitempty"`  // "" = the daemon's
	User    *string   `json:"user,omitempty"` // "" = the daemon's

	StopTimeout *time.Duration `json:"stop_timeout,omitempty"` // 0 = the default
	BootTimeout *time.Duration `json:"boot_timeout,omitempty"`

	Memory       *int64   `json:"memory,omitempty"` // bytes; 0 = no limit, as for those that follow
	MemorySoft   *int64   `json:"memory_soft,omitempty"`
	CPU          *float64 `json:"cpu,omitempty"`
	PIDs         *int     `json:"pids,omitempty"`
	Files        *int     `json:"nofile,omitempty"`
	AddressSpace *int64   `json:"address_space,omitempty"`
	Processes    *int     `json:"nproc,omitempty"`
	Nice         *int     `json:"nice,omitempty"`
	NoNewPrivs   *bool    `json:"no_new_privs,omitempty"`
	Core         *int64   `json:"core,omitempty"` // 0 = none is written
	Umask        *int     `json:"umask,omitempty"`

	RecycleStrands *int           `json:"recycle_strands,omitempty"` // 0 = never, as for those that follow
	RecycleAge     *time.Duration `json:"recycle_age,omitempty"`
	RecycleRSS     *int64         `json:"recycle_rss,omitempty"`
	RecycleFiles   *int           `json:"recycle_files,omitempty"`
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
	put(&p.Binary, o.Worker)
	putList(&p.Args, o.Args)
	put(&p.Procs, o.Procs)
	put(&p.Slots, o.Slots)
	putList(&p.Kinds, o.Kinds)
	putList(&p.Isolate, o.Isolate)
	putList(&p.Env, o.Env)
	put(&p.Dir, o.Dir)
	put(&p.User, o.User)
	put(&p.StopTimeout, o.StopTimeout)
	put(&p.BootTimeout, o.BootTimeout)
	o.overLimits(&p.Limits)
	put(&p.Recycle.Strands, o.RecycleStrands)
	put(&p.Recycle.Age, o.RecycleAge)
	put(&p.Recycle.RSS, o.RecycleRSS)
	put(&p.Recycle.Files, o.RecycleFiles)
}

func (o poolOrder) overLimits(l *supervisor.Limits) {
	put(&l.Memory, o.Memory)
	put(&l.MemorySoft, o.MemorySoft)
	put(&l.CPU, o.CPU)
	put(&l.PIDs, o.PIDs)
	put(&l.Files, o.Files)
	put(&l.AddressSpace, o.AddressSpace)
	put(&l.Procs, o.Processes)
	put(&l.Nice, o.Nice)
	put(&l.NoNewPrivs, o.NoNewPrivs)
	l.Core, l.Umask = cmp.Or(o.Core, l.Core), cmp.Or(o.Umask, l.Umask)
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
		Long: `Change a pool of the daemon while it runs. What is not given stays as it is; an empty list or name, and 0, is the default.

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
  respirated pool set default --worker ./worker --args serve,--verbose --recycle-age 6h
  respirated pool set default --procs 1 --json`,
		Args: takes(onePool),
	}
	flags := cmd.Flags()
	bytes := func(flag, help string) *size {
		var value size
		flags.Var(&value, flag, help)
		return &value
	}
	mask := new(octal)
	flags.Var(mask, "umask", "umask of each, in octal")
	values := map[string]any{
		"worker":  flags.String("worker", "", "the `BINARY` that they run"),
		"args":    flags.StringSlice("args", nil, "its `ARGUMENTS`"),
		"procs":   flags.Int("procs", 0, "how many processes it has"),
		"slots":   flags.Int("slots", 0, "strands that each of them runs at once"),
		"kinds":   flags.StringSlice("kinds", nil, "the `KINDS` that they may serve"),
		"queues":  flags.StringSlice("queues", nil, "the `QUEUES` that they may take strands of, such as mail or tenant/mail"),
		"isolate": flags.StringSlice("isolate", nil, "`KINDS` whose strands run alone in a process"),
		"env":     flags.StringSlice("env", nil, "`VARIABLES` that they see, too: NAME as the daemon has it, or NAME=VALUE"),
		"dir":     flags.String("dir", "", "their working `DIRECTORY`"),
		"user":    flags.String("user", "", "the `USER`, or user:group, that they run as"),

		"stop-timeout": flags.Duration("stop-timeout", 0, "from asking one to stop to killing it"),
		"boot-timeout": flags.Duration("boot-timeout", 0, "one that has not said hello by then is ended"),

		"memory":        bytes("memory", "hard limit of the memory of each"),
		"memory-soft":   bytes("memory-soft", "memory above which one is replaced"),
		"cpu":           flags.Float64("cpu", 0, "processors that each may use"),
		"pids":          flags.Int("pids", 0, "processes that each may have, threads included"),
		"nofile":        flags.Int("nofile", 0, "descriptors that each may have open"),
		"address-space": bytes("address-space", "address space of each"),
		"nproc":         flags.Int("nproc", 0, "processes that their user may have on this host"),
		"nice":          flags.Int("nice", 0, "their niceness, -20 to 19"),
		"no-new-privs":  flags.Bool("no-new-privs", false, "nothing that they run gains rights"),
		"core":          bytes("core", "how large a core file of each may be; 0 = there is none"),
		"umask":         mask,

		"recycle-strands": flags.Int("recycle-strands", 0, "strands after which one is replaced by a fresh one"),
		"recycle-age":     flags.Duration("recycle-age", 0, "age at which one is replaced"),
		"recycle-rss":     bytes("recycle-rss", "memory with which one is replaced"),
		"recycle-files":   flags.Int("recycle-files", 0, "open descriptors with which one is replaced"),
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
		for _, flag := range []string{"dir", "worker"} {
			path := values[flag].(*string)
			if *path == "" || flag == "worker" && !strings.Contains(*path, "/") { // in PATH
				continue
			}
			absolute, err := filepath.Abs(*path) // of this process, not of the daemon
			if err != nil {
				return fmt.Errorf("--%s %q: %w", flag, *path, err)
			}
			*path = absolute
		}
		return s.order(cmd, poolPath(args[0]), order, *asJSON,
			fmt.Sprintf("pool %s is set, until the daemon reads its configuration again; see respirated pool show %[1]s", args[0]))
	}
	return cmd
}
