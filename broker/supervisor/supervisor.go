package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/respirated/respirated/broker"
)

// Config says which workers to keep running, and where their traces go. Whoever starts a Supervisor makes sure, by a
// lock, that no other one has the same StateFile.
type Config struct {
	Pools     []Pool
	Socket    string // of the broker; told to the workers. It must be listening within AdoptTimeout of Run
	StateFile string // workers.json
	LogDir    string // made if it is missing
	LogKeep   int64  // bytes of each log that are kept at least; see the two files of a worker in doc.go; 0 = 64 MiB
	LogLines  string // how the lines of workers go to Log, too: info, debug or off; "" = info

	// Owned says whether StateFile may still be written: not once another daemon has taken the folder. nil = always.
	Owned func() bool

	// Exited is called once for each death, one at a time, in the order they were seen. It may take its time, as
	// nothing but the next call and the end of Run waits for it. nil = nobody wants to know.
	Exited func(broker.WorkerExit)

	// Hook is told what happens to workers. nil = nobody is.
	Hook Hook

	StopTimeout  time.Duration // from TERM to KILL; 0 = 30 s
	AdoptTimeout time.Duration // a former daemon's worker has so long to say hello; 0 = 5 s

	// Former is what [Supervisor.Pause] gave to the program that this process was before; nil = it was no daemon. Then its
	// workers are our children, as they were, and have ReturnTimeout to say hello.
	Former        *Former
	ReturnTimeout time.Duration // 0 = 2 min, after which a worker has given up all that it held

	Log *slog.Logger // nil = none
}

const (
	defaultStop   = 30 * time.Second
	defaultAdopt  = 5 * time.Second
	defaultReturn = 2 * time.Minute
)

// Supervisor keeps worker processes running. All methods may be called from any goroutine.
type Supervisor struct {
	cfg      Config
	state    stateFile
	mail     *mailbox[letter] // to the loop
	deaths   *mailbox[func()] // each tells Exited of one
	news     *mailbox[Event]  // to Hook; at most mostEvents
	tails    *tails           // of the logs
	lost     atomic.Bool      // events were dropped since the hook last took some, and that was said
	workers  atomic.Pointer[[]Info]
	sampling sampling
	reaping  sync.RWMutex // held by a pause, and otherwise by whoever takes in a death: none is seen in a pause
	over     chan struct{}
	settled  func([]Info) // for tests: called by the loop with each new snapshot
}

var _ broker.Processes = (*Supervisor)(nil)

// Info is what `respirated worker list` shows of one seat of a pool.
type Info struct {
	Pool     string    `json:"pool"`
	Index    int       `json:"index"`
	Key      string    `json:"-"`     // spawn key, a secret; "" = no process
	PID      int       `json:"pid"`   // 0 = no process
	State    string    `json:"state"` // starting, connected, backing-off, ending, adopted, killed, stuck, stopped
	Adopted  bool      `json:"adopted"`
	Started  time.Time `json:"started"` // zero = no process
	Restarts int       `json:"restarts"`
	LastExit string    `json:"last_exit"` // of the process before, if this daemon saw it
}

// New checks the configuration, down to the binaries, and prepares the folder for logs. It starts nothing.
func New(cfg Config) (*Supervisor, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, fmt.Errorf("find out which boot of the host this is: %w", err)
	}
	if _, alive := look(os.Getpid()); !alive {
		return nil, errors.New("cannot look at processes, not even at this one: is /proc mounted?")
	}
	if err := keepDescriptors(); err != nil {
		return nil, fmt.Errorf("keep our descriptors from workers: %w", err)
	}
	if err := os.MkdirAll(cfg.LogDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder for worker logs: %w", err)
	}
	s := &Supervisor{
		cfg:      cfg,
		state:    stateFile{path: cfg.StateFile, boot: boot},
		mail:     newMailbox[letter](),
		deaths:   newMailbox[func()](),
		news:     newMailbox[Event](),
		sampling: sampling{every: sampleEvery, soft: softPeriod},
		over:     make(chan struct{}),
		settled:  func([]Info) {},
	}
	s.workers.Store(new([]Info))
	s.tails = newTails(cfg, s.Workers)
	return s, nil
}

// check fills in the defaults and makes paths absolute, since a worker may have another working directory.
func (c Config) check() (Config, error) {
	c.StopTimeout = orElse(c.StopTimeout, defaultStop)
	c.AdoptTimeout = orElse(c.AdoptTimeout, defaultAdopt)
	c.ReturnTimeout = orElse(c.ReturnTimeout, defaultReturn)
	if c.StopTimeout < 0 || c.AdoptTimeout < 0 {
		return c, fmt.Errorf("stop timeout is %v and adopt timeout %v, neither may be negative", c.StopTimeout, c.AdoptTimeout)
	}
	c.LogKeep = orElse(c.LogKeep, defaultLogKeep)
	if c.LogKeep < leastLogKeep {
		return c, fmt.Errorf("%d bytes are to be kept of each log, it must be %d at least", c.LogKeep, leastLogKeep)
	}
	c.LogLines = orElse(c.LogLines, LogLinesInfo)
	if !slices.Contains([]string{LogLinesInfo, LogLinesDebug, LogLinesOff}, c.LogLines) {
		return c, fmt.Errorf("lines of workers are to be logged as %q, it must be info, debug or off", c.LogLines)
	}
	if c.Exited == nil {
		c.Exited = func(broker.WorkerExit) {}
	}
	if c.Owned == nil {
		c.Owned = func() bool { return true }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, path := range []*string{&c.Socket, &c.StateFile, &c.LogDir} {
		if *path == "" {
			return c, errors.New("socket, state file and log folder must be given")
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return c, err
		}
	}
	return c.checkPools()
}

func (c Config) checkPools() (Config, error) {
	pools := make([]Pool, len(c.Pools))
	names := make(map[string]bool)
	for i, p := range c.Pools {
		var err error
		if pools[i], err = p.check(c.StopTimeout); err != nil {
			return c, err
		}
		if names[p.Name] {
			return c, fmt.Errorf("two pools are named %q: give one another name", p.Name)
		}
		names[p.Name] = true
	}
	c.Pools = pools
	return c, nil
}

// Run takes over the workers of a former daemon, starts those that are missing, and keeps the pools full until ctx
// ends. Then it ends all workers, TERM first, KILL after their StopTimeout, and returns when all are reaped and told.
// It may be called once.
func (s *Supervisor) Run(ctx context.Context) error {
	var teller sync.WaitGroup
	teller.Go(s.tellDeaths)
	if s.cfg.Hook != nil {
		teller.Go(s.tellHook)
	}
	defer teller.Wait()
	teller.Go(s.tails.run)
	defer s.tails.stop()
	defer s.news.close()
	defer s.deaths.close()
	defer s.mail.close()
	defer close(s.over)
	return newLoop(s).run(ctx)
}

// tellDeaths calls Exited from a goroutine of its own, so that it may be slow.
func (s *Supervisor) tellDeaths() {
	for open := true; open; {
		_, open = <-s.deaths.wake
		for _, tell := range s.deaths.take() {
			tell()
		}
	}
}

// Connected tells that a worker with this spawn key has said hello; see [broker.Processes].
func (s *Supervisor) Connected(key string) {
	s.mail.put(letter{key: key, event: hello{}})
}

// End asks a process to end; see [broker.Processes]. Another one takes its seat.
func (s *Supervisor) End(key, why string) {
	s.mail.put(letter{key: key, event: end{}, why: why})
}

// CheckState says what keeps workers.json from being read, if it is there.
func (s *Supervisor) CheckState() error {
	_, err := s.state.load()
	return err
}

// WriteDown writes StateFile anew, which somebody may have removed.
func (s *Supervisor) WriteDown() { s.mail.put(letter{rewrite: true}) }

// Workers returns what is known of each seat, pool by pool. The caller must not change it.
func (s *Supervisor) Workers() []Info { return *s.workers.Load() }

// jitter draws from [0, most].
func jitter(most time.Duration) time.Duration { return rand.N(most + 1) }
