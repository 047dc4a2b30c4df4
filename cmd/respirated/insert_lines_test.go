package main

import (
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/respirated/respirated/client"
)

// dbNow is what the database's clock shows in these tests.
var dbNow = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func readLines(text string) ([]line, error) {
	r := newLineReader(strings.NewReader(text), func() (time.Time, error) { return dbNow, nil })
	var lines []line
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return nil, err
		}
		lines = append(lines, l)
	}
}

func TestLinesAreRead(t *testing.T) {
	got, err := readLines(`{"kind":"a"}

  {"kind":"b","args":{"x":[1]},"opts":{"id":"6ba7b810-9dad-41d1-80b4-00c04fd430c8","queue":"q","tenant":"t","priority":2,"max_tries":3,"label":"l","tags":["x"],"metadata":{"m":1},"keep":true,"require_kind":true}}` + "\r\n" + `
{"kind":"c","opts":{"at":"2027-01-02T03:04:05+01:00"}}
{"kind":"d","opts":{"in":1.5}}
{"kind":"e","args":null,"opts":null}`)
	if err != nil {
		t.Fatal(err)
	}
	want := []line{
		{number: 1, args: client.RawArgs{Name: "a"}},
		{number: 3, args: client.RawArgs{Name: "b", JSON: json.RawMessage(`{"x":[1]}`)}, opts: client.InsertOpts{
			ID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8", Queue: "q", Tenant: "t", Priority: 2, MaxTries: 3, Label: "l",
			Tags: []string{"x"}, Metadata: json.RawMessage(`{"m":1}`), Keep: true, RequireKind: true,
		}},
		{number: 5, args: client.RawArgs{Name: "c"}, opts: client.InsertOpts{ScheduledAt: time.Date(2027, 1, 2, 2, 4, 5, 0, time.UTC)}},
		{number: 6, args: client.RawArgs{Name: "d"}, opts: client.InsertOpts{ScheduledAt: dbNow.Add(1500 * time.Millisecond)}},
		{number: 7, args: client.RawArgs{Name: "e", JSON: json.RawMessage("null")}},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(line{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestBadLineIsNamedByNumberAndField(t *testing.T) {
	const good = `{"kind":"a"}` + "\n\n"
	for bad, want := range map[string]string{
		`{"kind":"a"`:                    `line 3: the JSON object has no end`,
		`[1]`:                            `line 3: is array, not a JSON object`,
		`{"kind":3}`:                     `line 3: kind is number, not a text`,
		`{"kind":"a","arg":{}}`:          `line 3: unknown field "arg"`,
		`{"kind":"a","opts":{"prio":1}}`: `line 3: unknown field "prio"`,
		`{"kind":"a","opts":{"priority":"high"}}`:             `line 3: opts.priority is string, not a whole number`,
		`{"kind":"a","opts":{"priority":1.5}}`:                `line 3: opts.priority is number 1.5, not a whole number`,
		`{"kind":"a","opts":{"at":"tomorrow"}}`:               `line 3: opts.at "tomorrow" is not a time`,
		`{"kind":"a","opts":{"in":1e300}}`:                    `line 3: opts.in 1e+300 is not between`,
		`{"kind":"a","opts":{"in":1,"at":"2027-01-01"}}`:      `line 3: opts.in goes without opts.at`,
		`{"kind":"a","opts":{"tags":"x"}}`:                    `line 3: opts.tags is string, not an array of texts`,
		`{"kind":"a"} {"kind":"b"}`:                           `line 3: there is something behind the JSON object`,
		`{"kind":"` + strings.Repeat("a", longestLine) + `"}`: `line 3: is longer than 8388608 bytes`,
		"\x00": `line 3: invalid character`,
	} {
		_, err := readLines(good + bad + "\n" + good)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: got error %v, want %q", bad, err, want)
		}
	}
}
