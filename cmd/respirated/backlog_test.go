package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestALogThatNobodyTakesHoldsUpNobodyAndTellsWhatItHasDropped(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	log, flush := newLogger(w, "text", "info")
	const n = 20_000
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range n / 4 {
				log.Info("a line", "text", strings.Repeat("x", 200))
			}
		})
	}
	all.Wait() // nobody has read anything
	read := make(chan struct{})
	lines, dropped := 0, 0
	go func() {
		defer close(read)
		for in := bufio.NewScanner(r); in.Scan(); {
			var d int
			if _, text, told := strings.Cut(in.Text(), "dropped="); told {
				_, _ = fmt.Sscan(text, &d)
				dropped += d
			} else {
				lines++
			}
		}
	}()
	flush()
	w.Close()
	<-read
	if dropped == 0 || lines+dropped != n {
		t.Errorf("%d lines came and %d were told to be dropped, of %d", lines, dropped, n)
	}
}

func TestADaemonWhoseLogNobodyTakesServesAndDrains(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	conn, err := w.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var full error
	err = conn.Control(func(fd uintptr) {
		for full == nil {
			_, full = syscall.Write(int(fd), []byte("not for anybody\n"))
		}
	})
	if err != nil || full != syscall.EAGAIN {
		t.Fatal(err, full)
	}
	h := newHost(t, migrated(t), demoWorkers(t, 2)...)
	h.stderr = w
	h.start()
	w.Close()
	h.workers(2)
	n := 200
	ids := h.insertLedger(n, time.Millisecond)
	h.awaitDone(n)
	h.exactlyOnce(ids)
	h.upgrade("")
	h.workers(2)
	h.stop(h.daemon)
	if text, err := io.ReadAll(r); err != nil || strings.Contains(string(text), "level=") {
		t.Errorf("somebody could write to the log: %s %v", text, err)
	}
}
