package private

import (
	"context"
	"fmt"
	"io"

	_ "embed"
)

//go:embed keeper.sh
var keeperScript string

// keeper ends the server and removes its folder when this process is gone without having done so. A nil keeper has
// nothing to keep yet.
type keeper struct {
	process *process
	pipe    io.WriteCloser
}

func newKeeper(a account, folder string) (*keeper, error) {
	cmd := a.command(context.Background(), "/", "/bin/sh", "-c", keeperScript, "respirate-pg-keeper", folder)
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start the server's keeper: %w", err)
	}
	p, err := begin(cmd)
	if err != nil {
		_ = pipe.Close()
		return nil, fmt.Errorf("start the server's keeper: %w", err)
	}
	return &keeper{process: p, pipe: pipe}, nil
}

// guard tells the keeper which process is the server now; 0 = none. That somebody killed the keeper is no reason to
// fail: the next start sweeps.
func (k *keeper) guard(pid int) {
	_, _ = fmt.Fprintln(k.pipe, pid)
}

// dismiss ends the keeper without it doing anything.
func (k *keeper) dismiss() {
	if k == nil {
		return
	}
	_, _ = fmt.Fprintln(k.pipe, "done") // as in guard
	_ = k.pipe.Close()
	k.process.endedWithin(patience)
}
