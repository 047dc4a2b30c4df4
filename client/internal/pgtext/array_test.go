package pgtext

import (
	"bytes"
	"context"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres/private/privatetest"
)

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	db, err := pgx.Connect(t.Context(), privatetest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close(context.Background()) })
	return db
}

var oddTexts = []string{``, `a`, ` `, `NULL`, `null`, `,`, `{}`, `"`, `\`, `\\`, `\N`, `\.`, "\t", "\n", "\r\n", `"a\"`, "é\u2028", `{"a":"\n"}`}

func TestPostgresReadsTheTextsOfAnArrayBack(t *testing.T) {
	db := connect(t)
	for _, want := range [][]string{{}, oddTexts} {
		var got []string
		if err := db.QueryRow(t.Context(), "select $1::text[]", Array(want)).Scan(&got); err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

func TestPostgresReadsTheRowsOfACopyBack(t *testing.T) {
	db := connect(t)
	if _, err := db.Exec(t.Context(), "create temporary table odd (n int, even bool, a text, b text)"); err != nil {
		t.Fatal(err)
	}
	var rows []byte
	for i, text := range oddTexts {
		rows = AppendBool(AppendInt(rows, i), i%2 == 0)
		rows = EndRow(AppendNull(AppendField(rows, text)))
	}
	if _, err := db.PgConn().CopyFrom(t.Context(), bytes.NewReader(rows), "copy odd from stdin"); err != nil {
		t.Fatal(err)
	}
	var got []string
	var nulls int
	err := db.QueryRow(t.Context(), "select array_agg(a order by n), count(*) - count(b) from odd where even = (n % 2 = 0)").Scan(&got, &nulls)
	if err != nil || !slices.Equal(got, oddTexts) || nulls != len(oddTexts) {
		t.Errorf("got %q with %d nulls, %v; want %q with %d", got, nulls, err, oddTexts, len(oddTexts))
	}
}
