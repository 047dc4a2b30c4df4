package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestLogOnATerminalIsReadableAndInColoursOnlyWhereTheyAreWanted(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for noColor, coloured := range map[string]bool{"": true, "1": false} {
		t.Setenv("NO_COLOR", noColor)
		var out strings.Builder
		log := slog.New(terminalHandler(&out, slog.LevelInfo))
		log.Debug("not shown")
		log.Warn("worker ended", "pool", "web", "how", "a \x1b[2J trick\nof two lines", "ran", time.Second)
		text := out.String()
		if strings.Contains(text, "\x1b[") != coloured {
			t.Errorf("NO_COLOR=%q: got %q", noColor, text)
		}
		if strings.Contains(text, "not shown") || strings.Contains(text, "\x1b[2J") || strings.Count(text, "\n") != 1 || !strings.Contains(text, "worker ended") {
			t.Errorf("got %q", text)
		}
	}
}

func TestLogThatNobodyLooksAtHasNoColours(t *testing.T) {
	for format, want := range map[logFormat]string{"": "level=INFO msg=hello", "text": "level=INFO msg=hello", "json": `"msg":"hello"`} {
		var out strings.Builder
		log, flush := newLogger(&out, format, "")
		log.InfoContext(context.Background(), "hello")
		flush()
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q: got %q, want %s", format, out.String(), want)
		}
	}
}
