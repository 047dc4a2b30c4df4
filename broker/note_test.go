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
