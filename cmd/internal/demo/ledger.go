package demo

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/respirated/respirated/worker"
)

// Ledger takes its time and then adds a line "id try pid" to a file, the last thing that it does before its result. Whoever
// counts the lines knows which strands ran to their end, and how often.
type Ledger struct {
	Path  string   `json:"path"`
	For   Duration `json:"for"`
	After Duration `json:"after,omitempty"` // it waits so long between the line and the result
}

// Kind is "ledger".
func (Ledger) Kind() string { return "ledger" }

func ledger(ctx context.Context, s *worker.Strand[Ledger]) error {
	if err := pause(ctx, time.Duration(s.Args.For)); err != nil {
		return err
	}
	f, err := os.OpenFile(s.Args.Path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open the ledger: %w", err)
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%s %d %d\n", s.ID, s.Try, os.Getpid()); err != nil { // one write, so that lines do not mix
		return err
	}
	return pause(ctx, time.Duration(s.Args.After))
}
