package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/postgres"
	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/cmd/internal/early"
	"github.com/respirated/respirated/protocol"
)

// An upgrade has the daemon become another build of itself: the same process, so that its workers stay its children, with the
// same arguments. The new binary is tried first, as a process of its own that is to check all that a daemon needs. Then
// supervisor and broker come to a rest, and the process becomes the new binary, which goes on with what it is told in a
// handover. Until exec the old build can go on, and does if anything fails.
//
// An admitted weakness: a TERM that comes within the millisecond or two around the exec ends the process without a drain, and
// its workers go on until the next daemon. See package early for why that time cannot be nothing.

const (
	handoverVersion = 1        // of its format; a build that knows another one is refused
	maxHandover     = 16 << 20 // bytes

	trialTime   = 30 * time.Second // for the new binary to check what it needs
	restTime    = 5 * time.Second  // for what is on its way to the database; less where leases are short
	dismissTime = time.Second      // for the workers to be told
	returnTime  = time.Minute      // for the database to be there again
)

// handover is what a daemon tells the build that it becomes.
type handover struct {
	Version  int                `json:"version"`
	Build    string             `json:"build"` // that was here before
	Upgrades int                `json:"upgrades"`
	Began    time.Time          `json:"began"`
	Asker    int                `json:"asker"` // descriptor of the connection at which somebody waits for the answer; -1 = nobody does
	Socket   *broker.Heirloom   `json:"socket"`
	Broker   *broker.Former     `json:"broker"`
	Workers  *supervisor.Former `json:"workers"`
	HTTP     *keptWeb           `json:"http,omitempty"` // nil = there was no dashboard
}

// takeHandover reads what the former build of this process has left; nil = it was no daemon.
func takeHandover() (*handover, error) {
	value := os.Getenv(early.HandoverVar)
	os.Unsetenv(early.HandoverVar)
	pid, number, _ := strings.Cut(value, ":")
	if pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // another process's, inherited
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%s is %q: %w", early.HandoverVar, value, err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	h := &handover{}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read the handover: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(f, maxHandover)).Decode(h); err != nil {
		return nil, fmt.Errorf("read the handover: %w", err)
	}
	if h.Version != handoverVersion || h.Socket == nil || h.Broker == nil || h.Workers == nil {
		return nil, fmt.Errorf("the handover has version %d, this build knows %d", h.Version, handoverVersion)
	}
	syscall.CloseOnExec(max(h.Asker, 0))
	return h, nil
}

// writeHandover leaves a handover in a file without a name, and returns what to put in the environment.
func writeHandover(dir string, h *handover) (variable string, undo func(), err error) {
	f, err := os.CreateTemp(dir, "handover-")
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return "", nil, err
	}
	if err := json.NewEncoder(f).Encode(h); err != nil {
		return "", nil, err
	}
	fd, err := broker.KeepOpen(f)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("%s=%d:%d", early.HandoverVar, os.Getpid(), fd), func() { _ = syscall.Close(fd) }, nil
}

// answer tells whoever has asked for the upgrade what became of it, if anybody has.
func (h *handover) answer(err error) {
	if h == nil || h.Asker < 0 {
		return
	}
	f := os.NewFile(uintptr(h.Asker), "asker")
	defer f.Close()
	conn, cerr := net.FileConn(f)
	if cerr != nil {
		return // gone
	}
	h.Asker = -1
	answerAsker(conn, upgraded{From: h.Build, To: version(), PID: os.Getpid(), Took: time.Since(h.Began).String()}, err)
}

// upgraded is the answer to POST /api/v1/upgrade.
type upgraded struct {
	From string `json:"from"`
	To   string `json:"to"`
	PID  int    `json:"pid"`
	Took string `json:"took"` // from the request until the new build serves, its check included
}

// answerAsker writes an answer by hand: the server that has read the question may be gone.
func answerAsker(conn net.Conn, done upgraded, err error) {
	defer conn.Close()
	resp := http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Close: true}
	body, _ := json.Marshal(done) // strings and a number
	resp.Header.Set("Content-Type", "application/json")
	if err != nil {
		resp.StatusCode, body = http.StatusConflict, []byte(err.Error()+"\n")
		resp.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	_ = conn.SetDeadline(time.Now().Add(answerTime))
	_ = resp.Write(conn) // who asked may be gone
}

// upgrader does upgrades, one at a time, when it is asked to or gets SIGUSR2.
type upgrader struct {
	d      *daemon
	args   []string // of this process
	rest   time.Duration
	former *handover // nil = this build was started as a process
	asks   chan upgradeAsk
}

// upgradeAsk is a request, and where its answer goes.
type upgradeAsk struct {
	binary string // "" = the one at the path that this daemon was started from
	conn   net.Conn
	began  time.Time
}

func newUpgrader(d *daemon, cfg fileConfig, former *handover) *upgrader {
	u := &upgrader{d: d, args: slices.Clone(os.Args), rest: restTime, former: former, asks: make(chan upgradeAsk)}
	if lease := time.Duration(cfg.Lease); lease != 0 {
		u.rest = min(u.rest, lease/4)
	}
	if path, err := executable(u.args[0]); err == nil {
		u.args[0] = path // a later one has another working directory, if any
	}
	return u
}

// executable is the path of a program as it was called. A link stays one: it may lead elsewhere by the time of an upgrade.
func executable(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// run does upgrades until ctx ends.
func (u *upgrader) run(ctx context.Context) error {
	u.arrive(ctx)
	for {
		ask := upgradeAsk{began: time.Now()}
		select {
		case <-ctx.Done():
			return nil
		case <-u.d.signals.Upgrade:
		case ask = <-u.asks:
		}
		err := u.upgrade(ctx, ask)
		u.d.log.Error("upgrade refused, this build goes on", "error", err)
		if ask.conn != nil {
			answerAsker(ask.conn, upgraded{}, err)
		}
	}
}

// arrive tells that this build serves, if it follows another one.
func (u *upgrader) arrive(ctx context.Context) {
	if u.former == nil {
		return
	}
	if _, err := u.d.broker.Snapshot(ctx); err != nil {
		u.former.answer(err)
		return
	}
	u.d.log.Info("upgraded", "from", u.former.Build, "version", version(), "took", time.Since(u.former.Began).Round(time.Millisecond))
	u.former.answer(nil)
}

// upgrade returns only if it has failed; then all goes on as before.
func (u *upgrader) upgrade(ctx context.Context, ask upgradeAsk) error {
	args := slices.Clone(u.args)
	args[0] = cmp.Or(ask.binary, args[0])
	tried, _ := os.Stat(args[0]) // what is wrong with it the check says
	to, err := u.check(ctx, args)
	if err != nil {
		return err
	}
	u.d.log.Info("upgrade begins", "binary", args[0], "from", version(), "to", to)
	ctx, cancel := context.WithTimeout(ctx, u.rest)
	defer cancel()
	workers, goOn, err := u.d.supervisor.Pause(ctx)
	if err != nil {
		return err
	}
	defer goOn()
	if err := u.d.broker.Pause(ctx); err != nil {
		return err
	}
	defer u.d.broker.Resume()
	former, err := u.d.broker.Former(ctx)
	if err != nil {
		return err
	}
	h := &handover{Version: handoverVersion, Build: version(), Upgrades: u.upgrades() + 1, Began: ask.began, Asker: -1, Broker: former, Workers: workers}
	return u.become(ctx, args, tried, h, ask.conn)
}

// become is the point of no return, if it does not return. tried is the file that was checked.
func (u *upgrader) become(ctx context.Context, args []string, tried fs.FileInfo, h *handover, asker net.Conn) (err error) {
	syscall.ForkLock.RLock() // no process may be started that would inherit what is kept open
	defer syscall.ForkLock.RUnlock()
	heirloom, undo, err := u.d.socket.Keep()
	if err != nil {
		return err
	}
	defer undo()
	h.Socket = heirloom
	letGo, err := h.Workers.Keep()
	if err != nil {
		return err
	}
	defer letGo()
	if conn, ok := asker.(syscall.Conn); ok {
		if h.Asker, err = broker.KeepOpen(conn); err != nil {
			return err
		}
		defer func() { _ = syscall.Close(h.Asker) }()
	}
	if h.HTTP, err = u.d.web.keep(); err != nil {
		return err
	}
	if h.HTTP != nil {
		defer func() { _ = syscall.Close(h.HTTP.FD) }()
	}
	variable, forget, err := writeHandover(u.d.socket.Dir, h)
	if err != nil {
		return fmt.Errorf("leave a handover: %w", err)
	}
	defer forget()
	told, cancel := context.WithTimeout(ctx, dismissTime)
	defer cancel()
	u.d.broker.Dismiss(told)
	u.d.flush() // may take a while, for which signals are still taken in
	defer u.d.signals.Catch(u.d.signals.reloads)
	if ending := u.d.signals.leave(); ending || ctx.Err() != nil {
		return errors.New("the daemon is about to stop")
	}
	if now, err := os.Stat(args[0]); err == nil && !alike(now, tried) {
		return fmt.Errorf("%s is another file now than the one that was checked: ask again", args[0])
	}
	err = becomeProgram(args[0], args, append(os.Environ(), variable))
	return fmt.Errorf("become %s: %w", args[0], err)
}

// alike says whether two looks have seen the same version of a file.
func alike(a, b fs.FileInfo) bool {
	return a != nil && b != nil && os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// checked is what a binary says that can take over.
type checked struct {
	Respirated string `json:"respirated"` // its version
	Handover   int    `json:"handover"`
	Socket     string `json:"socket,omitempty"` // that it would serve; "" = it does not say
}

// check has a binary check, with our arguments, all that a daemon needs, and returns its version.
func (u *upgrader) check(ctx context.Context, args []string) (version string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, trialTime, fmt.Errorf("it does not answer within %v", trialTime))
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], append(slices.Clone(args[1:]), "--"+checkFlag)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	said, complaint := &tail{}, &tail{}
	cmd.Stdout, cmd.Stderr = said, complaint
	err = cmd.Run()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	if err != nil {
		return "", fmt.Errorf("%s would not run: %w; it said: %s", args[0], err, cmp.Or(oneLine(string(complaint.text)), "nothing"))
	}
	var c checked
	if json.Unmarshal(said.text, &c) != nil || c.Respirated == "" {
		return "", fmt.Errorf("%s is no respirated that can take over: asked to check, it said %.100q", args[0], said.text)
	}
	if c.Handover != handoverVersion {
		return "", fmt.Errorf("%s (%s) cannot take over from this build: its handover has version %d, ours %d: stop the daemon and start the other", args[0], c.Respirated, c.Handover, handoverVersion)
	}
	if ours := u.d.socket.Path; c.Socket != "" && c.Socket != ours {
		return "", fmt.Errorf("%s would serve the socket %s, where none of the workers looks for it, and this build serves %s: correct the configuration, or stop the daemon and start the other", args[0], c.Socket, ours)
	}
	return c.Respirated, nil
}

// checkFlag has `respirated run` check what it would need, instead of running.
const checkFlag = "check-upgrade"

// checkRun is the other end of check. Missing migrations that --migrate asks for are applied, since the running daemon can
// work with a schema that is newer than it is.
func checkRun(ctx context.Context, cfg fileConfig, out io.Writer, log *slog.Logger) error {
	if cfg.Migrate {
		if err := migrateAll(ctx, cfg, log); err != nil {
			return err
		}
	}
	d := &daemon{log: log}
	_, err := d.open(ctx, cfg)
	if err = errors.Join(err, d.close()); err != nil {
		return err
	}
	socket, err := protocol.SocketPath(cfg.Socket)
	if err != nil {
		return err
	}
	s, err := supervisor.New(cfg.supervisor(socket, log))
	if err != nil {
		return err
	}
	if err := s.CheckState(); err != nil {
		return err
	}
	if _, err := newHooks(cfg.Hooks, log); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(checked{version(), handoverVersion, socket})
}

// openAgain is open for a daemon whose databases were there a moment ago: it waits for one that is away.
func (d *daemon) openAgain(ctx context.Context, cfg fileConfig) (databases []broker.Database, err error) {
	ctx, cancel := context.WithTimeout(ctx, returnTime)
	defer cancel()
	for {
		databases, err = d.open(ctx, cfg)
		if err == nil || !errors.Is(err, broker.ErrAway) {
			return databases, err
		}
		for _, store := range d.stores {
			store.Close()
		}
		d.stores, d.channels, d.pages = []*postgres.Store(nil), nil, nil
		d.log.Warn("database is away, trying on", "error", err)
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(time.Second / 5):
		}
	}
}

// upgrades is how often this process has become another build.
func (u *upgrader) upgrades() int {
	if u == nil || u.former == nil {
		return 0
	}
	return u.former.Upgrades
}

// handle takes POST /api/v1/upgrade.
func (u *upgrader) handle(w http.ResponseWriter, r *http.Request) {
	ask := upgradeAsk{began: time.Now()}
	var body struct {
		Binary string `json:"binary"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 16<<10)).Decode(&body); err != nil {
		http.Error(w, "the request is no JSON: "+err.Error(), http.StatusBadRequest)
		return
	}
	switch ask.binary = body.Binary; {
	case u == nil:
		http.Error(w, "this daemon was not started by `respirated run`", http.StatusConflict)
		return
	case ask.binary != "" && !filepath.IsAbs(ask.binary):
		http.Error(w, "the path of the binary is not absolute", http.StatusBadRequest)
		return
	}
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = conn.SetDeadline(time.Time{}) // the check may take its time
	ask.conn = conn
	select {
	case u.asks <- ask:
	case <-time.After(time.Second):
		answerAsker(conn, upgraded{}, errors.New("an upgrade is under way, or the daemon is about to stop"))
	}
}

func brokerUpgradeCommand(s *settings) *cobra.Command {
	var binary string
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Have the daemon on this host become another build",
		Long: `Have the daemon on this host become another build, in place: it keeps its process id, its arguments, its sockets, its
partition and its workers, which hold what they have and go on. Install the new binary at the path of the old one first, or
name another one. SIGUSR2 does the same.

The new binary is checked first: it has to read the arguments and the configuration, to reach the database, and to fit the
schema. Then all results are written, and the process becomes the new binary. If anything fails the old build goes on as if
nothing had been, and the error says why.`,
		Example: `  respirated broker upgrade
  respirated broker upgrade --binary ./respirated-next`,
		Args: takes(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&binary, "binary", "", "become the build at this `PATH` (default: the one that the daemon was started from)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		if binary != "" {
			if binary, err = filepath.Abs(binary); err != nil {
				return err
			}
		}
		var done upgraded
		if err := tellDaemon(cmd.Context(), cfg.Socket, "/api/v1/upgrade", map[string]string{"binary": binary}, trialTime+restTime+returnTime, &done); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "upgraded from %s to %s in %s, pid %d\n", done.From, done.To, done.Took, done.PID)
		return err
	}
	return cmd
}
