package layout

import (
	"fmt"
	"testing"
)

func TestExplain(t *testing.T) {
	ctx := t.Context()
	w, err := newWorld(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	tb, err := w.newTable(ctx, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := tb.insert(ctx, "strand", 20000); err != nil {
		t.Fatal(err)
	}
	tb.exec(ctx, "vacuum analyze respirate.strand")
	for _, x := range []struct {
		sql  string
		args string
	}{{leaseTID, "null,null,null"}, {exitTID, "null,null,null,null,null"}, {exitOwned, "null,null,null,null"}, {exitID, "null,null,null,null"}} {
		tb.exec(ctx, "prepare x as "+x.sql)
		r, err := tb.db.PgConn().Exec(ctx, "explain execute x("+x.args+")").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range r[0].Rows {
			fmt.Printf("%s\n", row[0])
		}
		tb.exec(ctx, "deallocate x")
		fmt.Println()
	}
}
