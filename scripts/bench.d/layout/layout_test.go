package layout

import (
	"slices"
	"testing"
)

func TestEveryDesignIsMeasuredInEveryLoad(t *testing.T) {
	t.Chdir("../../..")
	cfg, err := parse([]string{"--rows", "4000", "--drain", "2000", "--pinned", "4000", "--queues", "20", "--rounds", "1"})
	if err != nil {
		t.Fatal(err)
	}
	r := &report{}
	if err := run(t.Context(), cfg, r); err != nil {
		t.Fatal(err)
	}
	for _, l := range scanLoads {
		for _, d := range []string{"present", "a", "b", "c", "d", "d+", "e"} {
			of := filter(r.Scans, func(f scanFigures) bool { return f.Load == l.name && f.Design == d })
			if len(of) != 1 || of[0].Found < 4000/256/10 || of[0].Scan.Buffers == 0 {
				t.Errorf("scan, %s, %s: got %+v, want some candidates", l.name, d, of)
			}
		}
	}
	wal := make(map[string]float64)
	for _, l := range drainLoads {
		for _, d := range designs {
			of := r.drainsOf(l, d)
			if len(of) != 1 || of[0].Cut || of[0].Drain.PerSecond == 0 {
				t.Fatalf("drain, %s, %s: got %+v, want one that came to its end", l.name, d.name, of)
			}
			wal[d.name] = of[0].Drain.WAL
		}
	}
	if wal["a owned"] > wal["a"]/2 {
		t.Errorf("log of a drain without leases: got %.0f B for each strand, want less than half of %.0f B", wal["a owned"], wal["a"])
	}
	if len(r.Inserts) != 2 {
		t.Errorf("inserts: got %+v, want one with and one without bucket", r.Inserts)
	}
}

func TestOwnersOfAllPartsCoverAllIDs(t *testing.T) {
	var next int
	for lo := 0; lo < 256; lo += 16 {
		o := owner{lo: lo, hi: lo + 16}
		first, last := o.bounds()
		if int(first[0]) != next || slices.Max(first[1:]) != 0 || slices.Min(last[1:]) != 0xff {
			t.Errorf("owner of [%d, %d): got ids %x to %x", o.lo, o.hi, first, last)
		}
		next = int(last[0]) + 1
	}
	if next != 256 {
		t.Errorf("got ids up to %#x, want all", next)
	}
}

func TestUnknownDesignsAndLoadsAreRefused(t *testing.T) {
	for _, args := range [][]string{{"--designs", "z"}, {"--loads", "z"}, {"--rounds", "0"}, {"--queues", "1"}, {"more"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q: got no error", args)
		}
	}
}
