package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
)

func TestTextFromOutsideCannotSteerATerminal(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                   "plain",
		"é世界":                     "é世界",
		"\x1b[2J":                 "?[2J",
		"a\nb\tc":                 "a b c",
		"\u009b2J":                "?2J",
		"\u202egnp.exe":           "?gnp.exe",
		"\u2066x\u2069":           "?x?",
		"a\u2028b":                "a?b",
		"\x7f\x00":                "??",
		string([]byte{0xff, 'a'}): "?a",
	} {
		if got := plain(in); got != want {
			t.Errorf("plain(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestJSONIsSafeToPrintAndMeansTheSame(t *testing.T) {
	in := "\x1b[2J \u009b2J \x7f <&> \u2028 é"
	var out bytes.Buffer
	if err := printJSON(&out, map[string]string{"text": in}); err != nil {
		t.Fatal(err)
	}
	if i := strings.IndexFunc(out.String(), func(r rune) bool { return unicode.IsControl(r) && r != '\n' }); i >= 0 {
		t.Errorf("control character at %d of %q", i, out.String())
	}
	var back map[string]string
	if err := json.Unmarshal(out.Bytes(), &back); err != nil {
		t.Fatal(err)
	}
	if back["text"] != in {
		t.Errorf("got %q back, want %q", back["text"], in)
	}
}

func TestTableIsAlignedAndShowsEmptyCells(t *testing.T) {
	var out bytes.Buffer
	table := newTable(&out, "ID", "NAME", "N")
	table.row("1", "", "3")
	table.row("22", "long\x1bname", "4")
	if err := table.flush(); err != nil {
		t.Fatal(err)
	}
	want := "ID  NAME       N\n1   -          3\n22  long?name  4\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestErrorsAreOneLine(t *testing.T) {
	if got := oneLine("failed:\n\thost a\n\thost \x1bb\n"); got != "failed: host a host ?b" {
		t.Errorf("got %q", got)
	}
}

func TestAgesAreShort(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0:                                    "0s ago",
		59 * time.Second:                     "59s ago",
		-90 * time.Second:                    "in 1m30s",
		3*time.Hour + 4*time.Minute:          "3h04m ago",
		47*time.Hour + 59*time.Minute:        "47h59m ago",
		73 * time.Hour:                       "3d ago",
		-(365*24*time.Hour + 24*time.Minute): "in 365d",
	} {
		if got := ago(now.Add(-d), now); got != want {
			t.Errorf("%v before: got %q, want %q", d, got, want)
		}
	}
	if got := ago(time.Time{}, now); got != "" {
		t.Errorf("no time at all: got %q, want nothing", got)
	}
}
