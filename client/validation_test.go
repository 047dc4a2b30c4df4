package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/client"
)

// input is what somebody tries to insert.
type input struct {
	kind string
	args string
	opts client.InsertOpts
}

// refusals lists inputs and the field that is at fault; "" = none is.
var refusals = []struct {
	field string
	input
}{
	{"", input{"mail", `{}`, client.InsertOpts{}}},
	{"", input{"mail", `null`, client.InsertOpts{}}},
	{"kind", input{"", `{}`, client.InsertOpts{}}},
	{"", input{strings.Repeat("k", 255), `{}`, client.InsertOpts{}}},
	{"kind", input{strings.Repeat("k", 256), `{}`, client.InsertOpts{}}},
	{"", input{strings.Repeat("é", 127), `{}`, client.InsertOpts{}}},
	{"kind", input{strings.Repeat("é", 128), `{}`, client.InsertOpts{}}},
	{"kind", input{"a\nb", `{}`, client.InsertOpts{}}},
	{"kind", input{"a\x00b", `{}`, client.InsertOpts{}}},
	{"kind", input{"a\x7fb", `{}`, client.InsertOpts{}}},
	{"kind", input{"a\u0085b", `{}`, client.InsertOpts{}}},
	{"", input{"a\u00a0b\u2028", `{}`, client.InsertOpts{}}},
	{"kind", input{"a\xffb", `{}`, client.InsertOpts{}}},
	{"", input{"\ufffd", `{}`, client.InsertOpts{}}},

	{"args", input{"mail", ``, client.InsertOpts{}}},
	{"args", input{"mail", `{`, client.InsertOpts{}}},
	{"args", input{"mail", `{"a": 1} 2`, client.InsertOpts{}}},
	{"args", input{"mail", `{"a": "\u0000"}`, client.InsertOpts{}}},
	{"args", input{"mail", `{"\u0000": 1}`, client.InsertOpts{}}},
	{"args", input{"mail", `"\ud800"`, client.InsertOpts{}}},
	{"args", input{"mail", "\"\xff\"", client.InsertOpts{}}},
	{"args", input{"mail", "\"\x00\"", client.InsertOpts{}}},
	{"args", input{"mail", `1e131072`, client.InsertOpts{}}},
	{"", input{"mail", `1e131071`, client.InsertOpts{}}},
	{"", input{"mail", `"` + strings.Repeat("a", 1<<20-2) + `"`, client.InsertOpts{}}},
	{"args", input{"mail", `"` + strings.Repeat("a", 1<<20-1) + `"`, client.InsertOpts{}}},
	{"", input{"mail", strings.Repeat(" ", 1<<20) + `1`, client.InsertOpts{}}},
	{"", input{"mail", `[` + strings.Repeat("1,", 1<<20/3-1) + `1]`, client.InsertOpts{}}},
	{"args", input{"mail", `[` + strings.Repeat("1,", 1<<20/3+1) + `1]`, client.InsertOpts{}}},
	{"args", input{"mail", `[` + strings.Repeat("1e100000,", 11) + `1]`, client.InsertOpts{}}},

	{"", input{"mail", `{}`, client.InsertOpts{ID: "6BA7B810-9dad-11d1-80b4-00c04fd430c8"}}},
	{"opts.id", input{"mail", `{}`, client.InsertOpts{ID: "6ba7b8109dad11d180b400c04fd430c8"}}},
	{"opts.id", input{"mail", `{}`, client.InsertOpts{ID: "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}"}}},
	{"opts.id", input{"mail", `{}`, client.InsertOpts{ID: "6ba7b810-9dad-11d1-80b4-00c04fd430c8\n"}}},
	{"opts.id", input{"mail", `{}`, client.InsertOpts{ID: "seven"}}},
	{"opts.queue", input{"mail", `{}`, client.InsertOpts{Queue: strings.Repeat("q", 256)}}},
	{"opts.queue", input{"mail", `{}`, client.InsertOpts{Queue: "\t"}}},
	{"opts.queue", input{"mail", `{}`, client.InsertOpts{Queue: "\xff"}}},
	{"", input{"mail", `{}`, client.InsertOpts{Queue: strings.Repeat("q", 255), Tenant: strings.Repeat("t", 255)}}},
	{"opts.tenant", input{"mail", `{}`, client.InsertOpts{Tenant: strings.Repeat("t", 256)}}},
	{"opts.tenant", input{"mail", `{}`, client.InsertOpts{Tenant: "\x01"}}},
	{"opts.tenant", input{"mail", `{}`, client.InsertOpts{Tenant: "\x00"}}},
	{"opts.priority", input{"mail", `{}`, client.InsertOpts{Priority: -1}}},
	{"opts.priority", input{"mail", `{}`, client.InsertOpts{Priority: 10}}},
	{"", input{"mail", `{}`, client.InsertOpts{Priority: 9}}},
	{"opts.max_tries", input{"mail", `{}`, client.InsertOpts{MaxTries: -1}}},
	{"opts.max_tries", input{"mail", `{}`, client.InsertOpts{MaxTries: 32768}}},
	{"", input{"mail", `{}`, client.InsertOpts{MaxTries: 32767}}},
	{"opts.label", input{"mail", `{}`, client.InsertOpts{Label: strings.Repeat("l", 256)}}},
	{"opts.label", input{"mail", `{}`, client.InsertOpts{Label: "\r"}}},
	{"", input{"mail", `{}`, client.InsertOpts{Tags: make100("t")}}},
	{"opts.tags", input{"mail", `{}`, client.InsertOpts{Tags: append(make100("t"), "t")}}},
	{"opts.tags", input{"mail", `{}`, client.InsertOpts{Tags: []string{"a", ""}}}},
	{"opts.tags", input{"mail", `{}`, client.InsertOpts{Tags: []string{strings.Repeat("t", 256)}}}},
	{"opts.tags", input{"mail", `{}`, client.InsertOpts{Tags: []string{"a\nb"}}}},
	{"", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`{}`)}}},
	{"", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`null`)}}},
	{"opts.metadata", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`[]`)}}},
	{"opts.metadata", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`7`)}}},
	{"", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`{"a": "` + strings.Repeat("m", 1<<16-9) + `"}`)}}},
	{"opts.metadata", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`{"a": "` + strings.Repeat("m", 1<<16-8) + `"}`)}}},
	{"", input{"mail", `{}`, client.InsertOpts{Metadata: json.RawMessage(`{"a":[` + strings.Repeat("1,", 1<<16/3-10) + `1]}`)}}},
	{"opts.max_tries", input{"mail", `{}`, client.InsertOpts{Tenant: "\n", Priority: -1, MaxTries: -1, Tags: []string{""}}}},
	{"args", input{"mail", `[`, client.InsertOpts{Tenant: "\n"}}},
	{"", input{"mail", `{}`, client.InsertOpts{ScheduledAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}}},
	{"", input{"mail", `{}`, client.InsertOpts{ScheduledAt: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)}}},
}

func make100(tag string) []string {
	return strings.Split(strings.Repeat(tag+",", 99)+tag, ",")
}

// What a COPY lets through is never looked at again, so it must let through what respirate.insert would.
func TestCopyAndFunctionRefuseTheSameInputs(t *testing.T) {
	f := newFixture(t)
	for i, r := range refusals {
		name := fmt.Sprintf("%d: kind %.20q, args %.40q, opts %.80v", i, r.kind, r.args, r.opts)
		for way, refusedField := range map[string]func(input) (string, error){
			"Insert":           f.byInsert,
			"InsertManyFast":   f.byCopy,
			"respirate.insert": f.bySQL,
		} {
			field, err := refusedField(r.input)
			if field != r.field {
				t.Errorf("%s: %s refuses field %q, want %q: %.300v", name, way, field, r.field, err)
			}
			want := 0
			if err == nil {
				want = 1
			}
			if n := f.count(); n != want {
				t.Errorf("%s: %s stored %d strands, want %d", name, way, n, want)
			}
			f.exec("truncate respirate.strand")
		}
	}
}

// written are args whose JSON is what json.Marshal makes of value.
type written struct{ value any }

func (written) Kind() string                   { return "mail" }
func (w written) MarshalJSON() ([]byte, error) { return json.Marshal(w.value) }

// json.Marshal writes JSON, but not only such as Postgres takes, and sometimes longer than jsonb spells it.
func TestWhatAGoTypeIsWrittenAsIsHeldToTheSameRules(t *testing.T) {
	f := newFixture(t)
	for _, w := range []struct {
		field string
		value any
	}{
		{"", "\xff"}, // is written as U+FFFD
		{"args", "a\x00b"},
		{"args", map[string]int{"\x00": 1}},
		{"args", json.RawMessage(`"\ud800"`)},
		{"args", json.RawMessage("\"\xff\"")},
		{"args", json.RawMessage(`{`)},
		{"args", json.Number("1e131072")},
		{"", json.Number("1e131071")},
		{"args", []float64{1e20, math.NaN()}},
		{"", strings.Repeat("<", 1<<20-2)}, // is written as \u003c
		{"args", strings.Repeat("<", 1<<20-1)},
	} {
		for way, insert := range map[string]func(written) error{
			"Insert": func(w written) error {
				_, err := f.client.Insert(t.Context(), w, nil)
				return err
			},
			"InsertManyFast": func(w written) error {
				_, err := f.client.InsertManyFast(t.Context(), []client.InsertManyParams{{Args: w}})
				return err
			},
		} {
			if err := insert(written{w.value}); refusedField(err) != w.field {
				t.Errorf("%.40q: %s refuses field %q, want %q: %.300v", w.value, way, refusedField(err), w.field, err)
			}
		}
	}
}

func (f *fixture) byInsert(in input) (string, error) {
	_, err := f.client.Insert(f.t.Context(), raw(in.kind, in.args), &in.opts)
	return refusedField(err), err
}

func (f *fixture) byCopy(in input) (string, error) {
	params := append(many(1), client.InsertManyParams{Args: raw(in.kind, in.args), InsertOpts: &in.opts})
	_, err := f.client.InsertManyFast(f.t.Context(), params)
	if err == nil {
		f.exec("delete from respirate.strand where args = '{\"to\": \"0\"}'")
	}
	return refusedField(err), err
}

func refusedField(err error) string {
	var refused *client.InsertError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &refused):
		return refused.Field
	}
	return "no InsertError"
}

// bySQL calls the function as a stranger to this package would.
func (f *fixture) bySQL(in input) (string, error) {
	_, err := f.pool.Exec(f.t.Context(), "select respirate.insert($1::text, $2::text::jsonb, $3::text::jsonb)", in.kind, in.args, looseOpts(in.opts))
	var pg *pgconn.PgError
	switch {
	case err == nil:
		return "", nil
	case !errors.As(err, &pg):
		return "", err
	case pg.ColumnName != "":
		return pg.ColumnName, err
	}
	return f.notEvenText(in), err // the text is no JSON, so the function was never called
}

// notEvenText finds the field that cannot be handed to the function at all.
func (f *fixture) notEvenText(in input) string {
	for _, field := range []struct{ name, statement, text string }{
		{"kind", "select $1::text", in.kind},
		{"args", "select $1::text::jsonb", in.args},
		{"opts.id", "select $1::text::jsonb", looseString(in.opts.ID)},
		{"opts.queue", "select $1::text::jsonb", looseString(in.opts.Queue)},
		{"opts.tenant", "select $1::text::jsonb", looseString(in.opts.Tenant)},
	} {
		if _, err := f.pool.Exec(f.t.Context(), field.statement, field.text); err != nil {
			return field.name
		}
	}
	return "?"
}

// looseOpts writes options as JSON without looking at them.
func looseOpts(o client.InsertOpts) string {
	var pairs []string
	add := func(name, value string, given bool) {
		if given {
			pairs = append(pairs, fmt.Sprintf("%q: %s", name, value))
		}
	}
	add("id", looseString(o.ID), o.ID != "")
	add("queue", looseString(o.Queue), o.Queue != "")
	add("tenant", looseString(o.Tenant), o.Tenant != "")
	add("priority", fmt.Sprint(o.Priority), o.Priority != 0)
	add("at", looseString(o.ScheduledAt.Format(time.RFC3339)), !o.ScheduledAt.IsZero())
	add("max_tries", fmt.Sprint(o.MaxTries), o.MaxTries != 0)
	add("label", looseString(o.Label), o.Label != "")
	tags := make([]string, len(o.Tags))
	for i, tag := range o.Tags {
		tags[i] = looseString(tag)
	}
	add("tags", "["+strings.Join(tags, ",")+"]", o.Tags != nil)
	add("metadata", string(o.Metadata), o.Metadata != nil)
	return "{" + strings.Join(pairs, ",") + "}"
}

// looseString escapes what JSON itself forbids in a string, and leaves broken UTF-8 broken.
func looseString(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' {
			fmt.Fprintf(&b, `\u%04x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return `"` + b.String() + `"`
}
