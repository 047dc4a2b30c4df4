package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// The question costs a round trip. Statements that are not repeated at once need it, as the server may have restarted.
func TestRestedConnectionIsAskedWhetherItLivesUnlessAScanWaits(t *testing.T) {
	c, err := Config{URL: "postgres://localhost/x"}.withDefaults().pool()
	if err != nil {
		t.Fatal(err)
	}
	usual, scan := context.Background(), withoutAsking(context.Background())
	for _, tc := range []struct {
		what   string
		ctx    context.Context
		rested time.Duration
		want   bool
	}{
		{"a statement, at once", usual, mayBeDead, false},
		{"a statement, later", usual, mayBeDead + 1, true},
		{"a scan, later", scan, time.Hour, false},
		{"a scan within a call, later", first(call(scan)), time.Hour, false},
	} {
		if got := c.ShouldPing(tc.ctx, pgxpool.ShouldPingParams{IdleDuration: tc.rested}); got != tc.want {
			t.Errorf("%s: asked %v, want %v", tc.what, got, tc.want)
		}
	}
}

func first(ctx context.Context, cancel context.CancelFunc) context.Context {
	cancel()
	return ctx
}
