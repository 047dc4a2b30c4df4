package protocol

import (
	"strings"
	"testing"
)

func TestPayloadIsTheJSONThatPostgresTakes(t *testing.T) {
	for _, c := range []struct{ json, want string }{
		{`null`, ""},
		{` {"a":[1,2.5e3,true,"x"]} `, ""},
		{`"ünïcode 😀"`, ""},
		{`"\u00e9\n\t\"\\"`, ""},
		{`"\\u0000"`, ""},      // a backslash, then u0000
		{`"\\\\u0000"`, ""},    // two of them
		{`"\\\u0041"`, ""},     // a backslash, then A
		{`"\ud83d\ude00"`, ""}, // a pair
		{`"a\uD83D\uDE00b"`, ""},
		{``, "not valid JSON"},
		{`{`, "not valid JSON"},
		{`{"a":1}x`, "not valid JSON"},
		{`NaN`, "not valid JSON"},
		{"\"\x00\"", "not valid JSON"},
		{"\"\xff\"", "not valid UTF-8"},
		{"\"\xed\xa0\x80\"", "not valid UTF-8"},
		{`"\u0000"`, `it holds \u0000`},
		{`{"a\u0000b":1}`, `it holds \u0000`},
		{`"\\\u0000"`, `it holds \u0000`}, // a backslash, then a NUL
		{`"\u0041\u0000"`, `it holds \u0000`},
		{`"\ud800"`, "first half of a surrogate pair without its second"},
		{`"\ud800x"`, "first half of a surrogate pair without its second"},
		{`"\ud800\n"`, "first half of a surrogate pair without its second"},
		{`"\ud800\u0041"`, "first half of a surrogate pair without its second"},
		{`"\ud800\ud800"`, "first half of a surrogate pair without its second"},
		{`"\udc00"`, "second half of a surrogate pair without its first"},
		{`"\ud83d\ude00\ude00"`, "second half of a surrogate pair without its first"},
		{strings.Repeat("[", 20000) + strings.Repeat("]", 20000), "not valid JSON"}, // deeper than Postgres's stack
	} {
		err := checkJSON([]byte(c.json))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("checkJSON(%.40q) = %v, want %q", c.json, err, c.want)
		}
	}
}

func TestClipMakesAnyTextFit(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"short", 5, "short"},
		{"longer", 5, "lo…"},
		{"", 5, ""},
		{"a\x00b", 9, "a\uFFFDb"},
		{"a\xff\xfeb", 9, "a\uFFFDb"},
		{"äöüäöü", 8, "äö…"},
		{"äöüäöü", 7, "äö…"},
		{"äöüäöü", 6, "ä…"},
	} {
		if got := Clip(c.text, c.limit); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.text, c.limit, got, c.want)
		}
	}
}
