package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What becomes of the lines that workers write, besides that they are in their files.
const (
	LogLinesInfo  = "info"  // they are logged; what calls itself DEBUG as that, all else as INFO
	LogLinesDebug = "debug" // they are logged as DEBUG
	LogLinesOff   = "off"   // they are not
)

const (
	tailEvery  = 500 * time.Millisecond
	tailBudget = 4 << 20         // bytes of a log that are read in one turn
	tailBehind = 16 << 20        // bytes that may wait to be read; what is more is passed over
	lineRate   = 500             // lines of a log that are told a second
	lineBurst  = 1000            // and at once after silence
	warnEvery  = 5 * time.Second // as often it is said that lines of a log were dropped
	placesFile = "places.json"
	maxPlaces  = 16 << 20
)

// tails read what workers write and log it, with the pool, the process and what the line says of its strand. They hold up
// nobody: a worker writes to its file, whoever reads it.
//
// Where they are is written down once a second. A daemon that is killed leaves the lines of its last second to be told again.
type tails struct {
	cfg     Config
	log     *slog.Logger
	workers func() []Info
	over    chan struct{} // closed by stop

	// Of run's goroutine, once load has returned.
	all     map[string]*tail // by path
	buf     []byte           // of all readers, which read one after the other
	unsaved bool
	saveErr bool // the last try to write down the places failed
	readErr bool // a log could not be read, and that was said

	noHoles atomic.Bool // a log could not be shortened, and that was said

	mu   sync.Mutex // guards ends
	ends []logEnd
}

// tail is one log.
type tail struct {
	*LogReader
	pool   string
	index  int
	pid    int     // who writes it; 0 = nobody, or several do
	seen   bool    // it belongs to a seat that there is
	rest   bool    // its seat was not there any more when it was last read
	tokens float64 // lines that may be told at once
	fed    time.Time
	unsaid int       // lines over the rate, not yet told of
	warned time.Time // when it was last told
}

func newTails(cfg Config, workers func() []Info) *tails {
	return &tails{cfg: cfg, log: cfg.Log, workers: workers, over: make(chan struct{}), all: map[string]*tail{}}
}

// ended tells that a process, and all that wrote for it, has ended. It may be called from any goroutine.
func (t *tails) ended(pid int, l logs) {
	if t.cfg.LogLines == LogLinesOff {
		return // nobody reads
	}
	for _, path := range []string{l.out, l.err} {
		info, err := os.Lstat(path)
		if err != nil {
			continue
		}
		t.mu.Lock()
		t.ends = append(t.ends, logEnd{path, inodeOf(info), info.Size(), pid})
		t.mu.Unlock()
	}
}

func (t *tails) stop() { close(t.over) }

// run reads until stop, and then to the end. Before it, and before a worker is started, load is to be called.
func (t *tails) run() {
	var shortener sync.WaitGroup
	shortener.Go(t.shorten) // not in this goroutine: a log that nobody takes off us must not have the disk fill up
	defer shortener.Wait()
	ticker := time.NewTicker(tailEvery)
	defer ticker.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ticker.C:
			t.turn(time.Now())
			if t.unsaved && turn%2 == 0 {
				t.save()
			}
		case <-t.over:
			t.turn(time.Now())
			t.save()
			return
		}
	}
}

// shorten keeps the logs of seats from growing for ever.
func (t *tails) shorten() {
	ticker := time.NewTicker(2 * tailEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-t.over:
			return
		}
		for _, w := range t.workers() {
			l := t.cfg.logsOf(w.Pool, w.Index)
			for _, path := range []string{l.out, l.err, setAside(l.out), setAside(l.err)} { // one that was set aside may have a writer yet
				if err := shorten(path, l.keep); err != nil && t.noHoles.CompareAndSwap(false, true) {
					t.log.Warn("log of a worker cannot be shortened while it runs: only the next process gets a fresh one", "file", path, "error", err)
				}
			}
		}
	}
}

// turn reads all logs once.
func (t *tails) turn(now time.Time) {
	if t.cfg.LogLines == LogLinesOff {
		return
	}
	t.meet()
	for _, one := range t.all {
		if one.seen || !one.rest {
			t.read(now, one)
		}
		one.rest = !one.seen // its seat is gone, and it was read to its end
	}
}

// meet finds out whose logs there are.
func (t *tails) meet() {
	workers := t.workers() // looked at before the ends: whose end is told by then, and who is shown still, is not who writes next
	t.mu.Lock()
	ends := t.ends
	t.ends = nil
	t.mu.Unlock()
	for _, one := range t.all {
		one.seen, one.pid = false, 0
	}
	writers := map[string]int{}
	for _, w := range workers {
		l := t.cfg.logsOf(w.Pool, w.Index)
		for path, stream := range map[string]string{l.out: "out", l.err: "err"} {
			one := t.at(path, stream)
			one.pool, one.index, one.seen = w.Pool, w.Index, true
			if w.PID == 0 {
				continue
			}
			writers[path]++
			if one.pid = w.PID; writers[path] > 1 {
				one.pid = 0
			}
		}
	}
	for _, end := range ends {
		one := t.all[end.path]
		if one == nil {
			continue
		}
		if one.pid == end.pid {
			one.pid = 0
		}
		if writers[end.path] < 2 && len(one.ends) < maxEnds {
			one.ends = append(one.ends, end)
		}
	}
}

func (t *tails) at(path, stream string) *tail {
	if t.all[path] == nil {
		if t.buf == nil {
			t.buf = make([]byte, readChunk)
		}
		t.all[path] = &tail{LogReader: NewLogReader(path, stream)}
		t.all[path].buf = t.buf
	}
	return t.all[path]
}

// read tells the lines that are new.
func (t *tails) read(now time.Time, one *tail) {
	one.tokens = min(lineBurst, one.tokens+lineRate*now.Sub(one.fed).Seconds())
	one.fed = now
	before := one.place
	one.SkipAllBut(tailBehind)
	for left := tailBudget; left > 0; {
		from := one.place
		more, err := one.read(left, false, func(l LogLine, pid int) { t.tell(one, pid, l) })
		if err != nil && !t.readErr {
			t.readErr = true
			t.log.Error("log of a worker cannot be read", "file", one.path, "error", err)
		}
		if err != nil || !more {
			break
		}
		left -= int(max(1, one.place.Offset-from.Offset))
	}
	if one.unsaid+int(one.lost) > 0 && now.Sub(one.warned) >= warnEvery {
		one.warned = now
		t.log.Warn("lines of a worker are not all here: it writes too many, see its log", "pool", one.pool, "index", one.index,
			"stream", one.stream, "dropped", one.unsaid, "bytes", one.Lost())
		one.unsaid = 0
	}
	t.unsaved = t.unsaved || one.place != before
}

// tell logs a line, unless there are too many.
func (t *tails) tell(one *tail, pid int, l LogLine) {
	level := slog.LevelInfo
	if t.cfg.LogLines == LogLinesDebug || l.debug() {
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !t.log.Enabled(ctx, level) || l.Text == "" {
		return
	}
	if one.tokens < 1 {
		one.unsaid++
		return
	}
	one.tokens--
	attrs := []slog.Attr{slog.String("pool", one.pool), slog.Int("index", one.index)}
	if pid = orElse(pid, one.pid); pid != 0 {
		attrs = append(attrs, slog.Int("worker", pid))
	}
	attrs = append(attrs, slog.String("stream", l.Stream))
	if l.Strand != "" {
		attrs = append(attrs, slog.String("strand", l.Strand))
	}
	if l.Label != "" {
		attrs = append(attrs, slog.String("label", l.Label))
	}
	if l.Cut {
		attrs = append(attrs, slog.Bool("cut", true))
	}
	t.log.LogAttrs(ctx, level, "worker says", append(attrs, slog.String("line", l.Text))...)
}

// load takes up the places of a former daemon. What was written before anybody looked is not told.
func (t *tails) load() {
	places, err := t.readPlaces()
	if err != nil {
		t.log.Warn("where the logs of workers were read to is not known: what is there already is not told", "error", err)
	}
	for _, suffix := range []string{"out", "err"} {
		paths, _ := filepath.Glob(filepath.Join(t.cfg.LogDir, "*."+suffix))
		for _, path := range paths {
			one := t.at(path, suffix)
			if p, ok := places[filepath.Base(path)]; ok && p.Offset >= 0 {
				one.place = p
			} else if err := one.ToLast(0); err != nil {
				t.log.Warn("log of a worker cannot be read", "file", path, "error", err)
			}
		}
	}
}

func (t *tails) readPlaces() (map[string]place, error) {
	f, err := os.OpenFile(filepath.Join(t.cfg.LogDir, placesFile), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var places map[string]place
	return places, json.NewDecoder(io.LimitReader(f, maxPlaces)).Decode(&places)
}

// save writes the places down, as long as the folder is ours. Without them the next daemon tells some lines again, or
// not at all, which is no reason to stop.
func (t *tails) save() {
	if !t.cfg.Owned() {
		return
	}
	places := map[string]place{}
	for path, one := range t.all {
		places[filepath.Base(path)] = one.place
	}
	data, err := json.Marshal(places)
	if err == nil {
		err = replaceFile(filepath.Join(t.cfg.LogDir, placesFile), data)
	}
	if err != nil && !t.saveErr {
		t.log.Error("where the logs of workers were read to cannot be written down", "error", err)
	}
	t.saveErr, t.unsaved = err != nil, err != nil
}

// replaceFile writes a file anew. One that is torn by a crash of the host is noticed when it is read.
func replaceFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o600); err != nil {
		_ = os.Remove(temp) // it may not even be there
		return err
	}
	return os.Rename(temp, path)
}
