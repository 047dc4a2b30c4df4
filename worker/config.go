package worker

import (
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/respirated/respirated/protocol"
)

// Defaults of a [Config].
const (
	DefaultSchema       = "respirate"
	DefaultSlots        = 10
	DefaultOrphanAfter  = 10 * time.Minute
	DefaultDrainTimeout = 25 * time.Second // 5 s before the broker kills a process of its own
)

// Config says how [Run] runs. The zero value is what a process wants that a broker has started.
type Config struct {
	// Socket is the path of the broker's socket; "" = RESPIRATE_SOCKET from the environment, or [protocol.DefaultSocket].
	// For one that is too long for a socket the worker looks where the broker puts it: see [protocol.SocketPath].
	Socket string
	// Key proves to the broker that it has started this process; "" = RESPIRATE_WORKER_KEY from the environment, or none.
	Key string
	// Schema is where the tables of the strands are, for [CommitTx]; "" = RESPIRATE_SCHEMA from the environment, or
	// [DefaultSchema].
	Schema string
	// Slots is how many strands run at the same time; 0 = RESPIRATE_SLOTS from the environment, or [DefaultSlots]. At
	// most 1024.
	Slots int
	// MaxHold is how many strands the worker may hold, running or waiting for a slot. It asks for more than Slots only
	// while runs are so short that slots would wait for the broker; strands that wait for a second are given back.
	// 0 = 64 for each slot; the same as Slots = never more than can run.
	MaxHold int
	// Timeout is the limit of a run whose worker names none; 0 = no limit.
	Timeout time.Duration
	// OrphanAfter is how long to try to reach a broker before giving up; 0 = [DefaultOrphanAfter].
	OrphanAfter time.Duration
	// DrainTimeout is how long handlers may take to finish when the worker is asked to stop; 0 = [DefaultDrainTimeout].
	// For the last fifth of it, but no more than five seconds, their contexts are ended. Keep it some seconds shorter than
	// the time that whoever started the process leaves it between TERM and KILL (30 s for a broker's own processes), so
	// that the last results and the orderly exit come first.
	DrainTimeout time.Duration
	// Logger gets what the worker has to say; nil = slog.Default().
	Logger *slog.Logger
	// Build names the build of this program, for people; "" = the commit that Go's build information knows.
	Build string
}

// withDefaults fills in what is not set, and refuses what cannot be.
func (c Config) withDefaults(getenv func(string) string) (Config, error) {
	c.Key = firstOf(c.Key, getenv("RESPIRATE_WORKER_KEY"))
	c.Schema = firstOf(c.Schema, getenv("RESPIRATE_SCHEMA"), DefaultSchema)
	c.Build = protocol.Clip(firstOf(c.Build, buildName()), protocol.MaxName)
	c.OrphanAfter = firstOf(c.OrphanAfter, DefaultOrphanAfter)
	c.DrainTimeout = firstOf(c.DrainTimeout, DefaultDrainTimeout)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	var err error
	if c.Socket, err = protocol.SocketPath(firstOf(c.Socket, getenv("RESPIRATE_SOCKET"), protocol.DefaultSocket)); err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	if c.Slots == 0 {
		if c.Slots, err = slotsFrom(getenv("RESPIRATE_SLOTS")); err != nil {
			return c, err
		}
	}
	c.MaxHold = firstOf(c.MaxHold, min(64*c.Slots, protocol.DefaultMaxN))
	return c, c.validate()
}

func (c Config) validate() error {
	switch {
	case len(c.Key) > protocol.MaxName:
		return fmt.Errorf("%w: the key is %d bytes long, at most %d are allowed", ErrConfig, len(c.Key), protocol.MaxName)
	case !schemaName.MatchString(c.Schema) || strings.HasPrefix(c.Schema, "pg_"):
		return fmt.Errorf("%w: schema %.70q: a name is 1 to 53 small letters, digits and _, and begins with no digit and not with pg_", ErrConfig, c.Schema)
	case c.Slots < 1 || c.Slots > protocol.DefaultMaxN:
		return fmt.Errorf("%w: Slots is %d, want 1 to %d", ErrConfig, c.Slots, protocol.DefaultMaxN)
	case c.MaxHold < c.Slots:
		return fmt.Errorf("%w: MaxHold is %d, want at least Slots, which is %d", ErrConfig, c.MaxHold, c.Slots)
	case c.OrphanAfter < 0, c.DrainTimeout < 0, c.Timeout < 0:
		return fmt.Errorf("%w: a duration is negative: OrphanAfter %v, DrainTimeout %v, Timeout %v", ErrConfig, c.OrphanAfter, c.DrainTimeout, c.Timeout)
	}
	return nil
}

// schemaName is what migrations accept.
var schemaName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,52}$`)

func slotsFrom(env string) (int, error) {
	if env == "" {
		return DefaultSlots, nil
	}
	n, err := strconv.Atoi(env)
	if err != nil {
		return 0, fmt.Errorf("%w: RESPIRATE_SLOTS is %q, want a number such as %d", ErrConfig, env, DefaultSlots)
	}
	return n, nil
}

// firstOf is the first that is not zero.
func firstOf[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

// buildName is the commit this program was built from, or its version.
func buildName() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return info.Main.Version
}

// hello is what the worker says first on each connection.
func (c Config) hello(kinds []protocol.Kind) protocol.Hello {
	return protocol.Hello{
		Versions: []uint64{protocol.Version, protocol.Version},
		Lib:      "respirated-go/1",
		Worker:   protocol.NewID(),
		Build:    c.Build,
		PID:      int64(os.Getpid()),
		Key:      c.Key,
		Kinds:    kinds,
		Caps:     []string{protocol.CapAckAll},
	}
}
