package postgres

import (
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const unacknowledged = 10 * time.Second

// giveUpOnSilence has a connection break when what was sent is not acknowledged for a while. A network that was cut would
// else be tried again ever more seldom: for as long after it is back as it was away, a statement under way would hang.
func giveUpOnSilence(network, _ string, raw syscall.RawConn) error {
	if !strings.HasPrefix(network, "tcp") {
		return nil
	}
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unacknowledged.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
