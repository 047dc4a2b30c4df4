package supervisor

import (
	"strings"
	"testing"
	"time"
)

func TestLineSaysWhatItIsAbout(t *testing.T) {
	at := time.Date(2026, 11, 28, 1, 2, 3, 0, time.UTC)
	for text, want := range map[string]LogLine{
		"plain words": {},
		"":            {},
		"level=DEBUG strand=s-1 label=start msg=x":                                                       {Level: "DEBUG", Strand: "s-1", Label: "start"},
		`time=2026-11-28T01:02:03Z level=INFO msg="a \"quoted\" strand=no" strand=s-1 label="two words"`: {Time: &at, Level: "INFO", Strand: "s-1", Label: "two words"},
		`{"time":"2026-11-28T01:02:03Z","level":"WARN","msg":"m","strand":"s-2","label":"l"}`:            {Time: &at, Level: "WARN", Strand: "s-2", Label: "l"},
		`{"level":30,"strand":["a"],"label":null}`:                                                       {},
		`{"strand":"torn`:      {},
		`msg="torn strand=s-1`: {},
		"=  == strand=s-1":     {Strand: "s-1"},
		"strand=s-1\r":         {Strand: "s-1"},
	} {
		got := newLogLine("err", []byte(text), false)
		if got.Text != strings.TrimSuffix(text, "\r") || got.Level != want.Level || got.Strand != want.Strand || got.Label != want.Label ||
			(got.Time == nil) != (want.Time == nil) || got.Time != nil && !got.Time.Equal(*want.Time) {
			t.Errorf("%q: got %+v", text, got)
		}
	}
	if got := newLogLine("out", []byte("a\xff\x00b"), true); got.Text != "a\uFFFD\x00b" || !got.Cut || got.Stream != "out" {
		t.Errorf("got %+v", got)
	}
}

func FuzzLogLine(f *testing.F) {
	f.Add([]byte(`time=2026-11-28T01:02:03Z level=INFO msg="a" strand=s-1`))
	f.Add([]byte(`{"time":"x","strand":"s"}`))
	f.Add([]byte(`a="\`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if got := newLogLine("err", text, false); !strings.Contains(got.Text, got.Label) && got.Level == "" && got.Time == nil && !strings.ContainsAny(got.Text, `"\`) {
			t.Errorf("%q: %+v has a label that is not in it", text, got)
		}
	})
}
