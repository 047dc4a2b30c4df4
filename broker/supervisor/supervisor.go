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
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/respirated/respirated/broker"
)

// Config says which workers to keep running, and where their traces go. Whoever starts a Supervisor makes sure, by a
// lock, that no other one has the same StateFile.
type Config struct {
	Pools []Pool
	// SocketFor has workers of another user reach the broker, and returns the path of their socket. nil = they cannot.
	SocketFor func(uid, gid int) (path string, err error)

	Socket     string // of the broker; told to the workers. It must be listening within AdoptTimeout of Run
	StateFile  string // workers.json
	WorkersDir string // each executable there is a pool of its own; "" = there is no such folder
	LogDir     string // made if it is missing
	LogKeep    int64  // bytes of each log that are kept at least; see the two files of a worker in doc.go; 0 = 64 MiB
	LogLines   string // how the lines of workers go to Log, too: info, debug or off; "" = info

	// Owned says whether StateFile may still be written: not once another daemon has taken the folder. nil = always.
	Owned func() bool

	// Exited is called once for each death, one at a time, in the order they were seen. It may take its time, as
	// nothing but the next call and the end of Run waits for it. nil = nobody wants to know.
	Exited func(broker.WorkerExit)

	// Returned is called once when every worker of a former daemon has said hello, or is dead and told; so at once if there
	// is none. It is not if nobody knows which workers there were. nil = nobody wants to know.
	Returned func()

	// Stranger is called each time that a worker says hello whose key is not known. nil = nobody wants to know.
	Stranger func()

	// TermsChanged is called with the spawn key of each process for which [Supervisor.Terms] may say something else than before. It
	// takes turns with Exited. nil = nobody wants to know.
	TermsChanged func(key string)

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
	cfg       Config
	state     stateFile
	mail      *mailbox[letter] // to the loop
	deaths    *mailbox[func()] // each tells Exited of one
	news      *mailbox[Event]  // to Hook; at most mostEvents
	tails     *tails           // of the logs
	lost      atomic.Bool      // events were dropped since the hook last took some, and that was said
	workers   atomic.Pointer[[]Info]
	pools     atomic.Pointer[[]PoolInfo]
	adopted   chan struct{} // closed when those of a former daemon are among kinds
	kinds     sync.Map      // []string by spawn key: what the process may serve; nil = all kinds
	terms     sync.Map      // broker.Terms by spawn key
	lookEvery time.Duration // see binariesEvery
	sampling  sampling
	reaping   sync.RWMutex // held by a pause, and otherwise by whoever takes in a death: none is seen in a pause
	over      chan struct{}
	children  []int        // that this process had as another program, ended or not
	settled   func([]Info) // for tests: called by the loop with each new snapshot
}

var _ broker.Processes = (*Supervisor)(nil)

// Info is what `respirated worker list` shows of one seat of a pool.
type Info struct {
	Pool     string    `json:"pool"`
	Index    int       `json:"index"`
	Key      string    `json:"-"`     // spawn key, a secret; "" = no process
	PID      int       `json:"pid"`   // 0 = no process
	State    string    `json:"state"` // starting, connected, backing-off, ending, adopted, killed, stuck, stopped, crash-looping
	Adopted  bool      `json:"adopted"`
	Started  time.Time `json:"started"` // zero = no process
	Restarts int       `json:"restarts"`
	LastExit string    `json:"last_exit"` // of the process before, if this daemon saw it
	Build    string    `json:"build"`     // that it was started from; "" = not known
	Due      string    `json:"due"`       // why another process is going to take over; "" = none is
}

// New checks the configuration, down to the binaries, and prepares the folder for logs. It starts nothing. A pool whose binary
// cannot be started now is taken beside others that can: it waits for one, and the log says so.
func New(cfg Config) (*Supervisor, error) {
	cfg, err := cfg.check(forgiving)
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
		cfg:       cfg,
		state:     stateFile{path: cfg.StateFile, boot: boot},
		mail:      newMailbox[letter](),
		deaths:    newMailbox[func()](),
		news:      newMailbox[Event](),
		sampling:  sampling{every: sampleEvery, soft: softPeriod, young: youngest},
		adopted:   make(chan struct{}),
		lookEvery: binariesEvery,
		over:      make(chan struct{}),
		settled:   func([]Info) {},
	}
	if cfg.Former != nil {
		s.children = children() // what is started from now on has somebody who waits for it
	}
	s.workers.Store(new([]Info))
	s.pools.Store(new([]PoolInfo))
	s.tails = newTails(cfg, s.Workers)
	return s, nil
}

// check fills in the defaults and makes paths absolute, since a worker may have another working directory.
func (c Config) check(of strictness) (Config, error) {
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
	if c.TermsChanged == nil {
		c.TermsChanged = func(string) {}
	}
	for _, told := range []*func(){&c.Returned, &c.Stranger} {
		if *told == nil {
			*told = func() {}
		}
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
	var err error
	if c.WorkersDir != "" {
		if c.WorkersDir, err = findDir(c.WorkersDir); err != nil {
			return c, fmt.Errorf("folder of workers: %w", err)
		}
	}
	var waiting []error
	if c.Pools, waiting, err = checkPools(c.Pools, c.StopTimeout); err != nil {
		return c, err
	}
	if of == strict || len(waiting) == len(c.Pools) && c.WorkersDir == "" {
		return c, errors.Join(waiting...)
	}
	for _, err := range waiting {
		c.Log.Error("a pool has to wait for its binary, the others do not", "error", err)
	}
	return c, nil
}

// strictness is about pools whose binary cannot be started now.
type strictness bool

const (
	strict    strictness = true  // they are an error
	forgiving strictness = false // they are if there is no other
)

// checkPools also returns what is wrong with the binaries of pools that have to wait for one.
func checkPools(pools []Pool, stop time.Duration) (checked []Pool, waiting []error, err error) {
	checked = make([]Pool, len(pools))
	names := make(map[string]bool)
	for i, p := range pools {
		if checked[i], err = p.check(stop); errors.As(err, new(unfit)) {
			waiting, err = append(waiting, err), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if names[p.Name] {
			return nil, nil, fmt.Errorf("two pools are named %q: give one another name", p.Name)
		}
		names[p.Name] = true
	}
	return checked, waiting, nil
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
	s.tails.load() // before anybody writes: a line that is there already is not told
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

// Admit says which kinds a worker may serve, and whether its key is known; see [broker.Processes]. A process of ours that does
// not say who it is, or announces what its pool may not take, is noted.
func (s *Supervisor) Admit(key string, pid int, kinds []string) (may []string, known bool) {
	late := false
	select {
	case <-s.adopted:
	case <-time.After(s.cfg.AdoptTimeout): // Run is late: it may be of a former daemon
		late = true
	}
	its, known := s.kinds.Load(key)
	if !known {
		s.order(func(l *loop) { l.doubt(pid, "a process says hello without the key that it was given") })
		return kinds, late
	}
	allowed, _ := its.([]string)
	if allowed == nil {
		return kinds, true
	}
	refused := slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return slices.Contains(allowed, kind) })
	if len(refused) > 0 {
		s.order(func(l *loop) {
			l.doubt(pid, fmt.Sprintf("a process announces kinds that the pool may not take: %.200s", strings.Join(refused, " ")))
		})
	}
	return slices.DeleteFunc(slices.Clone(kinds), func(kind string) bool { return slices.Contains(refused, kind) }), true
}

// Connected tells that a worker with this spawn key has said hello; see [broker.Processes].
func (s *Supervisor) Connected(key string) {
	s.mail.put(letter{key: key, event: hello{}})
}

// End asks a process to end; see [broker.Processes]. Another one takes its seat.
func (s *Supervisor) End(key string, within time.Duration, why string) {
	s.mail.put(letter{key: key, event: end{within}, why: why})
}

// CheckState says what keeps workers.json from being read, if it is there.
func (s *Supervisor) CheckState() error {
	_, _, err := s.state.load()
	return err
}

// Served tells how many good results a process has brought; see [broker.Processes].
func (s *Supervisor) Served(key string, results int) {
	s.mail.put(letter{key: key, event: served{results}})
}

// Apply makes these the pools from now on: new ones are started, those that are not among them end their work, and the
// processes of changed ones are replaced, as by [Supervisor.Roll]. Pools that cannot be change nothing, and the error
// says why.
func (s *Supervisor) Apply(pools []Pool) error {
	checked, waiting, err := checkPools(pools, s.cfg.StopTimeout)
	if err = errors.Join(append(waiting, err)...); err != nil {
		return err
	}
	s.order(func(l *loop) {
		if !l.quitting {
			l.apply(checked)
		}
	})
	return nil
}

// ErrNoPool says that there is no such pool, or seat in it.
var ErrNoPool = errors.New("there is no such pool")

// Recycle replaces the process on a seat, or with index -1 all processes of the pool one after the other. Each is asked
// to end after its successor is connected. It waits for [Supervisor.Run].
func (s *Supervisor) Recycle(pool string, index int, why string) error {
	return s.orderCrew(pool, func(l *loop, c *crew) error {
		err := fmt.Errorf("pool %q, seat %d: %w with a process", pool, index, ErrNoPool)
		for _, s := range l.seats {
			if s.crew == c && s.proc != nil && (index < 0 || s.index == index) {
				l.replace(s, why)
				err = nil
			}
		}
		return err
	})
}

// Roll has a pool go over to what is at its binary's path now, also if that was held back before, or is the same: one
// process first, and once that is proven the others one by one. It waits for [Supervisor.Run].
func (s *Supervisor) Roll(pool string) error {
	return s.orderCrew(pool, func(l *loop, c *crew) error { l.rollOut(c, "it was asked to"); return nil })
}

// Pools returns what is known of each pool. The caller must not change it.
func (s *Supervisor) Pools() []PoolInfo { return *s.pools.Load() }

// order has something be done by the loop.
func (s *Supervisor) order(do func(*loop)) { s.mail.put(letter{order: do}) }

// orderCrew has something be done about a pool, if there is such a one. It is for the loop to say: what is shown may be nothing
// yet.
func (s *Supervisor) orderCrew(pool string, do func(*loop, *crew) error) error {
	answer := make(chan error, 1)
	s.order(func(l *loop) {
		switch c := l.crewOf(pool); {
		case l.quitting:
			answer <- errOver
		case c == nil:
			answer <- fmt.Errorf("pool %q: %w", pool, ErrNoPool)
		default:
			answer <- do(l, c)
		}
	})
	select {
	case err := <-answer:
		return err
	case <-s.over:
		return errOver
	}
}

// WriteDown writes StateFile anew, which somebody may have removed.
func (s *Supervisor) WriteDown() { s.order(func(l *loop) { l.unsaved = true }) }

// Alive waits for an answer of the loop, which [Supervisor.Run] must have begun, or for the end of ctx.
func (s *Supervisor) Alive(ctx context.Context) error {
	answered := make(chan struct{})
	s.mail.put(letter{order: func(*loop) { close(answered) }})
	select {
	case <-answered:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("ask the supervisor: %w", ctx.Err())
	}
}

// Workers returns what is known of each seat, pool by pool. The caller must not change it.
func (s *Supervisor) Workers() []Info { return *s.workers.Load() }

// jitter draws from [0, most].
func jitter(most time.Duration) time.Duration { return rand.N(most + 1) }
