package main

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"text/template"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"

	"github.com/respirated/respirated/protocol"
)

// unitFiles are what systemd-unit prints.
//
//go:embed systemd
var unitFiles embed.FS

func systemdUnitCommand(s *settings) *cobra.Command {
	var profile string
	cmd := &cobra.Command{
		Use:   "systemd-unit",
		Short: "Print a unit file for systemd",
		Long: `Print a unit file for systemd, for this binary and the file of --config (default ` + defaultConfig + `). The profiles:
  plain     the service: it tells when it is ready and that it lives, and its workers survive its restart
  hardened  the same, with what systemd can take away from it and its workers
  socket    the socket, held by systemd, so that workers wait instead of being refused while no daemon runs`,
		Example: `  respirated systemd-unit > /etc/systemd/system/respirated.service
  respirated systemd-unit --profile hardened --config /etc/app.yaml
  respirated systemd-unit --profile socket > /etc/systemd/system/respirated.socket`,
		Args: takes(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&profile, "profile", "plain", "which unit file, by `NAME`: plain, hardened or socket")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		files := map[string]string{"plain": "respirated.service", "hardened": "respirated.service", "socket": "respirated.socket"}
		if files[profile] == "" {
			return usage(fmt.Errorf("there is no profile %q: plain, hardened or socket", profile))
		}
		binary, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find out what this binary is: %w", err)
		}
		config := defaultConfig
		if s.file != "" {
			if config, err = filepath.Abs(s.file); err != nil {
				return err
			}
		}
		unit, err := template.ParseFS(unitFiles, "systemd/"+files[profile])
		if err != nil {
			panic("bug: a unit file that is no template: " + err.Error())
		}
		return unit.Execute(cmd.OutOrStdout(), struct {
			Binary, Config string
			Hardened       bool
		}{binary, config, profile == "hardened"})
	}
	return cmd
}

// defaultConfig is where the unit files look for a configuration.
const defaultConfig = "/etc/respirated.yaml"

// givenSocket is the listening socket that systemd has made for us; nil = none.
func givenSocket() (*net.UnixListener, error) {
	listeners, err := activation.Listeners()
	if err != nil || len(listeners) == 0 {
		return nil, err
	}
	given, ok := listeners[0].(*net.UnixListener)
	if len(listeners) > 1 || !ok {
		for _, l := range listeners {
			if l != nil {
				l.Close()
			}
		}
		return nil, fmt.Errorf("the service manager has given %d sockets, of which none may be another than one Unix stream socket: correct its .socket unit", len(listeners))
	}
	return given, nil
}

// checkGiven makes sure that a given socket is the configured one: workers and other verbs look for that.
func checkGiven(given *net.UnixListener, configured string) error {
	path, err := protocol.SocketPath(configured)
	if at := given.Addr().String(); err == nil && at != path {
		err = fmt.Errorf("the service manager listens at %s, and the configured socket is %s: make them one, by --socket, RESPIRATE_SOCKET or ListenStream", at, path)
	}
	return err
}

// notifier tells the service manager how the daemon is. Without one nothing happens.
type notifier struct {
	log   *slog.Logger
	every time.Duration // to look whether the daemon lives; the manager expects it twice as late at the latest
	watch bool          // the manager wants to be told again and again
}

// firstLooks is how often it is looked whether the daemon has begun to live.
const firstLooks = 50 * time.Millisecond

func newNotifier(log *slog.Logger) notifier {
	n := notifier{log: log, every: firstLooks}
	within, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("watchdog of the service manager is not understood", "error", err)
	}
	if within > 0 {
		n.watch, n.every = true, within/4
	}
	return n
}

// tellTime is how long a service manager that hangs may hold us up for each word. Without a bound it could keep us from ending.
const tellTime = time.Second

func (n notifier) tell(state string) {
	socket := os.Getenv("NOTIFY_SOCKET")
	if socket == "" {
		return
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err == nil {
		defer conn.Close()
		if err = conn.SetWriteDeadline(time.Now().Add(tellTime)); err == nil {
			_, err = conn.Write([]byte(state))
		}
	}
	if err != nil {
		n.log.Warn("service manager cannot be told", "state", state, "error", err)
	}
}

// run tells that the daemon is ready once it is alive, and then that it is, as long as it is.
func (n notifier) run(ctx context.Context, alive func(context.Context) error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	for ready := false; ; {
		err := n.look(ctx, alive)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			n.log.Error("a loop of this daemon does not answer, which its service manager is not told: it may end the daemon", "error", err)
		case !ready:
			ready = true
			n.tell(systemd.SdNotifyReady + "\nSTATUS=serving")
			fallthrough
		case n.watch:
			n.tell(systemd.SdNotifyWatchdog)
		}
		if ready && !n.watch {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.every):
		}
	}
}

// look gives the daemon as much time to answer as there is between two looks.
func (n notifier) look(ctx context.Context, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, max(n.every, time.Second))
	defer cancel()
	return alive(ctx)
}

func (n notifier) stopping() { n.tell(systemd.SdNotifyStopping + "\nSTATUS=draining") }

// reloading tells that the configuration is read anew, and done that it was.
func (n notifier) reloading() (done func()) {
	n.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, monotonic().Microseconds()))
	return func() { n.tell(systemd.SdNotifyReady) }
}
