package broker

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestFailureThatGoesOnDoesNotFillTheLog(t *testing.T) {
	var log bytes.Buffer
	b, err := New(nil, nil, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		b.note(scanned{err: errors.New("permission denied")})
		b.note(leased{err: errors.New("permission denied")})
	}
	if n := strings.Count(log.String(), "statement failed"); n != 2 {
		t.Errorf("%d lines, want one for each statement that fails:\n%s", n, &log)
	}
}

func TestADeathThatNobodyAskedForNamesTheStrandsThatWereHeld(t *testing.T) {
	var log bytes.Buffer
	b, err := New(nil, nil, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s := b.schedule
	s.workers[1] = &worker{no: 1, key: "a"}
	s.runs[ID{7}] = &run{Pair: Pair{ID: ID{7}}, worker: 1, state: running}
	b.note(exited{WorkerExit{Key: "b", How: "exit status 3"}})
	b.note(exited{WorkerExit{Key: "a", How: "signal: terminated", Asked: true}})
	if strings.Contains(log.String(), "WARN") {
		t.Errorf("warns of one that held nothing, or was asked to end:\n%s", &log)
	}
	b.note(exited{WorkerExit{Key: "a", How: "signal: killed"}})
	if want := "level=WARN msg=\"worker died with strands\" pid=0 how=\"signal: killed\" held=1 strands=[" + (ID{7}).String() + "]"; !strings.Contains(log.String(), want) {
		t.Errorf("got\n%s\nwant %s", &log, want)
	}
}
