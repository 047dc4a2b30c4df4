package supervisor

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

// LogLine is a line of a worker's output, with what it says about itself: that is read from lines in the two forms of
// log/slog, which other loggers have, too.
type LogLine struct {
	Stream string     `json:"stream"`        // out or err
	Text   string     `json:"line"`          // valid UTF-8 without its end
	Cut    bool       `json:"cut,omitempty"` // it was longer than 64 KiB, or its beginning is not there any more
	Time   *time.Time `json:"time,omitempty"`
	Level  string     `json:"level,omitempty"`
	Strand string     `json:"strand,omitempty"`
	Label  string     `json:"label,omitempty"`
}

// newLogLine reads what a line says.
func newLogLine(stream string, text []byte, cut bool) LogLine {
	text = bytes.TrimSuffix(text, []byte("\r"))
	l := LogLine{Stream: stream, Text: strings.ToValidUTF8(string(text), "\uFFFD"), Cut: cut}
	if bytes.HasPrefix(text, []byte("{")) {
		l.readJSON(text)
	} else {
		l.readPairs(l.Text)
	}
	return l
}

func (l *LogLine) readJSON(text []byte) {
	var says struct {
		Time                 *time.Time
		Level, Strand, Label any
	}
	if json.Unmarshal(text, &says) != nil {
		return
	}
	word := func(v any) string { s, _ := v.(string); return s }
	l.Time, l.Level, l.Strand, l.Label = says.Time, word(says.Level), word(says.Strand), word(says.Label)
}

// readPairs reads key=value, where a value may be quoted. What is no such pair is passed over.
func (l *LogLine) readPairs(text string) {
	for text != "" {
		word, rest, _ := strings.Cut(text, " ")
		key, value, ok := strings.Cut(word, "=")
		if ok && strings.HasPrefix(value, `"`) {
			quoted, err := strconv.QuotedPrefix(text[len(key)+1:])
			if err != nil {
				return
			}
			rest = strings.TrimPrefix(text[len(key)+1+len(quoted):], " ")
			value, _ = strconv.Unquote(quoted)
		}
		text = rest
		switch key {
		case "time":
			if t, err := time.Parse(time.RFC3339Nano, value); err == nil {
				l.Time = &t
			}
		case "level":
			l.Level = value
		case "strand":
			l.Strand = value
		case "label":
			l.Label = value
		}
	}
}

// debug tells whether a line calls itself one for debugging.
func (l LogLine) debug() bool {
	var level slog.Level
	return l.Level != "" && level.UnmarshalText([]byte(l.Level)) == nil && level < slog.LevelInfo
}
