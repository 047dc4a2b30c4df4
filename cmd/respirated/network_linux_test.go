package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/respirated/respirated/broker/postgres/private"
)

// innerNetwork is set for a test that runs again as a process in a network namespace of its own.
const innerNetwork = "RESPIRATE_TEST_INNER_NETWORK"

// inOwnNetwork runs the calling test again, as a process in a network namespace of its own, so that what it does to the
// network is seen by nobody else and ends with it. It says whether this is that process; in the other one the test is
// over with it.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Getenv(innerNetwork) != "" {
		return true
	}
	for _, tool := range []string{"ip", "bridge", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("needs network namespaces, and there is no %s: install iproute2 and util-linux", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("needs network namespaces: run it as root")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), innerNetwork+"=1", programsVar+"="+programs(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	switch exited := new(exec.ExitError); {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("not permitted to make a network namespace: %v", err)
	case errors.As(err, &exited):
		t.Errorf("in a network namespace of its own: %v\n%s", err, out)
	case err != nil:
		t.Fatal(err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in a network namespace of its own:\n%s", out)
	default:
		t.Logf("in a network namespace of its own:\n%s", out)
	}
	return false
}

// lan is a network of hosts, each a namespace with a cable to a bridge that is in the namespace of this process.
type lan struct {
	t     testing.TB
	hosts int
}

func newLAN(t testing.TB) *lan {
	t.Helper()
	l := &lan{t: t}
	l.do("ip link set lo up")
	if out, err := exec.Command("ip", "link", "add", "name", "br0", "address", hardware(1), "type", "bridge").CombinedOutput(); err != nil {
		t.Skipf("not permitted to make a bridge, or the kernel has none: %v: %s", err, out)
	}
	l.do("ip address add %s/24 dev br0", address(1))
	l.do("ip link set br0 up")
	return l
}

// address is that of a host, 1 for the bridge.
func address(host int) string { return fmt.Sprintf("10.77.0.%d", host) }

func hardware(host int) string { return fmt.Sprintf("02:00:0a:4d:00:%02x", host) }

// do runs a command.
func (l *lan) do(format string, args ...any) {
	l.t.Helper()
	words := strings.Fields(fmt.Sprintf(format, args...))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
}

// namespace is the network of one host.
type namespace struct {
	lan     *lan
	link    string // the end of the cable that is plugged into the bridge
	address string
	path    string // of the namespace
}

// plug makes a host's namespace and plugs it in. Who has which hardware address is told to both sides, so that a cut is
// nothing but silence: else the kernel would say after a while that there is no such host.
func (l *lan) plug() *namespace {
	l.t.Helper()
	l.hosts++
	host := l.hosts + 1
	n := &namespace{lan: l, link: fmt.Sprintf("host%d", host), address: address(host)}
	keeper := exec.Command("sleep", "infinity") // the namespace lasts as long as it
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		_ = keeper.Process.Kill()
		_ = keeper.Wait() // killed
	})
	n.path = fmt.Sprintf("/proc/%d/ns/net", keeper.Process.Pid)
	l.do("ip link add %s type veth peer name eth0 address %s netns %d", n.link, hardware(host), keeper.Process.Pid)
	l.do("ip link set %s master br0 up", n.link)
	l.do("%s ip link set lo up", n.enter())
	l.do("%s ip address add %s/24 dev eth0", n.enter(), address(host))
	l.do("%s ip link set eth0 up", n.enter())
	l.do("%s ip neighbour replace %s lladdr %s dev eth0 nud permanent", n.enter(), address(1), hardware(1))
	l.do("ip neighbour replace %s lladdr %s dev br0 nud permanent", address(host), hardware(host))
	return n
}

// enter is what to put before a command to run it in the namespace.
func (n *namespace) enter() string { return "nsenter --net=" + n.path }

// cut has the bridge drop all that comes from the host or goes there. Nobody is told.
func (n *namespace) cut() { n.lan.do("bridge link set dev %s state 0", n.link) }

// heal undoes a cut.
func (n *namespace) heal() { n.lan.do("bridge link set dev %s state 3", n.link) }

// server starts a Postgres that listens on the bridge. It gives the URLs of a fresh database: for this process, and for
// hosts.
func (l *lan) server() (here, there string) {
	l.t.Helper()
	dir, err := os.MkdirTemp("", "respirate-lan-")
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { // the server runs as somebody else
		l.t.Fatal(err)
	}
	rules := filepath.Join(dir, "pg_hba.conf")
	if err := os.WriteFile(rules, []byte("local all all trust\nhost all all "+address(0)+"/24 scram-sha-256\n"), 0o644); err != nil {
		l.t.Fatal(err)
	}
	server, err := private.Start(l.t.Context(), private.Config{Template: true, TCP: true, Settings: map[string]string{
		"fsync": "off", "full_page_writes": "off", "listen_addresses": address(1), "hba_file": rules,
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			l.t.Error(err)
		}
	})
	if here, err = server.Database(l.t.Context(), "lan"); err != nil {
		l.t.Fatal(err)
	}
	remote, err := url.Parse(server.TCPURL("lan"))
	if err != nil {
		l.t.Fatal(err)
	}
	remote.Host = net.JoinHostPort(address(1), remote.Port())
	return here, remote.String()
}
