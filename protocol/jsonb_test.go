package protocol

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

var jsonTexts = []string{
	``, ` `, `{`, `{}`, `[]`, ` [ 1 ,{"a" : null}] `, `true`, `nul`, `{"a":1,}`, `{"a":1}{}`, `'a'`, `"a`, `01`, `1.`, `.5`, `+1`, `1e`,
	"\"a\x00b\"", "\"a\nb\"", "\"\x7f\"", "\"\xff\"", "{\"\xc3\":1}", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", `"é/世"`,
	`"\u0000"`, `"\\u0000"`, `{"\u0000":1}`, `"a\u0000b"`, `"\u0001\u001f\u0020\u007f\u00e9\u4e16"`, `"\"\\\/\b\f\n\r\t"`, `"\x"`, `"\u12"`,
	`"\u0022\u005c\u000a"`, `"\ud800"`, `"\udc00"`, `"\ud83d\ude00"`, `"\ud83d\ud83d"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\uFFFD"`, `"\uD83D\uDE00"`,
	`0`, `-0`, `-0.0`, `1.50`, `1e5`, `1E-5`, `-1.5e+3`, `123.456e2`, `123.456e1`, `0e5`, `0.000e3`, `0.001e10`, `100e-2`,
	`1e131071`, `1e131072`, `10e131070`, `10e131071`, `0.0001e131075`, `0.0001e131076`, `1e-16383`, `1e-16384`, `1.0e-16382`, `1.0e-16383`,
	`0e999999`, `0e-99999`, `0e99999999999`, `1e99999999999999999999`, `1e-99999999999999999999`, `0.0e-16383`, `0.0e-16382`,
	strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
}

func TestJSONIsRefusedExactlyWherePostgresRefusesIt(t *testing.T) {
	judge := newJSONJudge(t)
	for _, text := range jsonTexts {
		judge.compare(text)
	}
}

func TestRandomJSONIsJudgedAsPostgresJudgesIt(t *testing.T) {
	judge := newJSONJudge(t)
	seed := rand.Uint64()
	chance := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, `"`, `"a"`, ` `, `\`, `\u00`, `00`, `\ud83d`, `\ude00`, `-`, `1`, `0`, `.`, `e`, `e13107`, `e-1638`, `2`, `true`, "é", "\xff", "\x01"}
	for range 3000 {
		var text strings.Builder
		for range 1 + chance.IntN(8) {
			text.WriteString(pieces[chance.IntN(len(pieces))])
		}
		judge.compare(text.String())
		judge.compare(`["` + text.String() + `"]`)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// jsonJudge asks Postgres what it thinks of a text.
type jsonJudge struct {
	t  *testing.T
	db *pgx.Conn
}

func newJSONJudge(t *testing.T) jsonJudge {
	t.Helper()
	db, err := pgx.Connect(t.Context(), privatetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	const judge = `create function judge(text text) returns int language plpgsql as $$
		begin return octet_length(text::jsonb::text); exception when others then return -1; end $$`
	if _, err := db.Exec(t.Context(), judge); err != nil {
		t.Fatal(err)
	}
	return jsonJudge{t, db}
}

func (j jsonJudge) compare(text string) {
	j.t.Helper()
	got, err := MeasureJSON([]byte(text))
	if err != nil {
		got = -1
	}
	var want int
	if err := j.db.QueryRow(j.t.Context(), "select judge($1)", text).Scan(&want); err != nil {
		want = -1 // it is not even text
	}
	if got != want {
		j.t.Errorf("MeasureJSON(%.100q) = %d, %v; Postgres says %d", text, got, err, want)
	}
}
