// Smoke.d runs 1000 strands of the demo's kind `smoke` through the real programs. Each strand prints the digits 3, 2 and
// 1, one in each of its labels, to the output of the worker that runs the label. It passes only if every strand ends as
// done, the workers' outputs hold exactly 1000 of each digit and nothing else, and no process is left.
//
//	smoke.d FOLDER [PARTITIONS [DAEMONS]] [--gaps rank|overdue]
//
// The folder holds the built respirated and demo-worker. It is removed at the end, however that comes.
//
// The daemons get the partition numbers PARTITIONS, PARTITIONS-1 and so on, so that the lowest are missing where there are
// fewer daemons; with 0 partitions they get none. Strands are inserted once all daemons look after the parts that they
// should. With `--gaps overdue`, strands in the parts of missing numbers must not be found before they are overdue.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker/postgres/private"
)

const (
	strands  = 1000
	labels   = "321"
	patience = 3 * time.Minute // for what must happen, on a busy machine too; with a gap that stays, strands may take twice as long
	overdue  = 5 * time.Second // at least; before that a strand in a gap is left to whoever should be there
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	work := os.Args[1]
	p, err := parsePlan(os.Args[2:])
	if err != nil {
		_ = os.RemoveAll(work) // it is a temporary folder
		fmt.Fprintf(os.Stderr, "smoke: %v\n%s\n", err, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	took, err := smoke(ctx, work, p)
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke: FAILED:", err)
		os.Exit(1)
	}
	fmt.Printf("passed: %d strands, %d labels, %v, %.0f s\n", strands, strands*len(labels), p, math.Ceil(took.Seconds()))
}

// smoke returns how long the strands took.
func smoke(ctx context.Context, work string, p plan) (took time.Duration, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	server, err := private.Start(ctx, private.Config{Settings: map[string]string{"max_connections": fmt.Sprint(20 + 6*p.daemons)}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	url, err := server.Database(ctx, "smoke")
	if err != nil {
		return 0, err
	}
	f := newFleet(work, url, p)
	if _, err := f.respirated(ctx, "migrate", "up"); err != nil {
		return 0, err
	}
	took, err = f.run(ctx)
	if err != nil {
		f.tell(os.Stderr)
		return took, err
	}
	return took, f.judgeOutputs()
}
