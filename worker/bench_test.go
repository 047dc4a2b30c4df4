package worker

import (
	"context"
	"log/slog"
	"testing"

	"github.com/respirated/respirated/protocol"
)

// BenchmarkRun runs strands whose handler does nothing: all that is measured is ours.
func BenchmarkRun(b *testing.B) {
	mux := NewMux()
	AddFunc(mux, func(context.Context, *Strand[benchArgs]) error { return nil })
	h := &handler{programs: mux.programs, log: slog.New(slog.DiscardHandler)}
	strand := testStrand("a")
	strand.Kind, strand.Args = "bench", []byte(`{"n":1}`)
	b.ReportAllocs()
	for b.Loop() {
		h.work(b.Context(), start{&strand, 1}, func(r *protocol.Result) {
			if r.Act != protocol.ActExit {
				b.Fatalf("ended in %q, want exit", r.Act)
			}
		})
	}
}

type benchArgs struct{ N int }

func (benchArgs) Kind() string { return "bench" }
