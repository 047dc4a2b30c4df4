package private

import (
	"fmt"
	"io"
	"time"

	_ "embed"
)

//go:embed keeper.sh
var keeperScript string

// keeper ends the server and removes its folder when this process is gone without having done so. A nil keeper does nothing.
type keeper struct {
	process *process
	pipe    io.WriteCloser
}

func newKeeper(a account, folder string) (*keeper, error) {
	cmd := a.command("/", "/bin/sh", "-c", keeperScript, "respirate-pg-keeper", folder)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the server's keeper: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server's keeper: %w", err)
	}
	pid := cmd.Process.Pid
	return &keeper{process: &process{pid: pid}, pipe: pipe}, cmd.Process.Release()
}

// guard tells the keeper which process is the server now; 0 = none. A keeper that was killed is no reason to fail: the
// next start sweeps.
func (k *keeper) guard(pid int) {
	if k != nil {
		_, _ = fmt.Fprintln(k.pipe, pid)
	}
}

// dismiss ends the keeper without it doing anything.
func (k *keeper) dismiss() {
	if k == nil {
		return
	}
	_, _ = fmt.Fprintln(k.pipe, "done")
	_ = k.pipe.Close()
	k.process.endedWithin(10 * time.Second)
}
