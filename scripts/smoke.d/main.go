// Smoke.d runs 1000 strands of the demo's kind `smoke` through the real programs. Each strand prints the digits 3, 2 and
// 1, one in each of its labels, to the output of the worker that runs the label. It passes only if every strand ends as
// done, the workers' outputs hold exactly 1000 of each digit and nothing else, and no process is left.
//
//	smoke.d FOLDER
//
// The folder holds the built respirated and demo-worker. It is removed at the end, however that comes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/respirated/respirated/broker/postgres/private"
)

const (
	strands   = 1000
	labels    = "321"
	processes = 4
	patience  = time.Minute // for all strands to be done
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: scripts/smoke")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	took, err := smoke(ctx, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke: FAILED:", err)
		os.Exit(1)
	}
	fmt.Printf("passed: %d strands, %d labels, %.0f s\n", strands, strands*len(labels), math.Ceil(took.Seconds()))
}

// smoke returns how long the strands took.
func smoke(ctx context.Context, work string) (took time.Duration, err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	server, err := private.Start(ctx, private.Config{})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	url, err := server.Database(ctx, "smoke")
	if err != nil {
		return 0, err
	}
	h := newHost(work, url)
	if _, err := h.respirated(ctx, "migrate", "up"); err != nil {
		return 0, err
	}
	took, err = h.run(ctx)
	if err != nil {
		h.tell(os.Stderr)
		return took, err
	}
	return took, h.judgeOutputs()
}

// run starts the daemon, has the strands done, and stops it.
func (h *host) run(ctx context.Context) (took time.Duration, err error) {
	if err := h.start(); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, h.stop()) }()
	if err := h.awaitWorkers(ctx); err != nil {
		return 0, err
	}
	ids, err := h.insert(ctx)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := h.awaitEnd(ctx); err != nil {
		return 0, err
	}
	return time.Since(began), h.judgeStrands(ctx, ids)
}

// tell shows the logs, since the folder that they are in is about to go.
func (h *host) tell(to io.Writer) {
	files, _ := filepath.Glob(filepath.Join(h.logs(), "*.err")) // the pattern is well-formed
	for _, file := range append(files, h.daemonLog()) {
		text, err := os.ReadFile(file)
		if err != nil || len(text) == 0 {
			continue
		}
		fmt.Fprintf(to, "-- the end of %s\n%s\n", filepath.Base(file), text[max(0, len(text)-4096):])
	}
}
