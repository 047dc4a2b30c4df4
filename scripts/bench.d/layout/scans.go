package layout

import (
	"context"
	"fmt"
	"slices"
)

// scanLoad is who looks for candidates in the backlog.
type scanLoad struct {
	name    string
	queues  bool // many, of which the first holds 90 % of the strands
	buckets int  // that the scanning broker owns
	first   int  // the lanes from this one on are served; 0 = the last one alone, whose strands came last
}

var scanLoads = []scanLoad{
	{"one queue, all buckets", false, 256, 1},
	{"one queue, 16 buckets", false, 16, 1},
	{"one queue, 1 bucket", false, 1, 1},
	{"many queues, all buckets", true, 256, 1},
	{"many queues, 16 buckets", true, 16, 1},
	{"many queues, 1 bucket", true, 1, 1},
	{"many queues, the large one paused", true, 256, 2},
	{"many queues, a late one served", true, 256, 0},
}

// scanFigures are what a scan costs a design in a load.
type scanFigures struct {
	Load   string  `json:"load"`
	Design string  `json:"design"`
	List   cost    `json:"list"`        // of the stripes, now and then
	Scan   cost    `json:"scan"`        // of 1,000 candidates
	Found  int     `json:"found"`       // fewer than 1,000 = there were no more
	Index  float64 `json:"index_bytes"` // for each row
}

// measureScans fills a backlog and measures each design's scans in each load.
func measureScans(ctx context.Context, cfg config, t *table, r *report) error {
	name := "scan"
	if t.queues > 1 {
		name = "scan many"
	}
	if !slices.Contains(cfg.loads, name) {
		return nil
	}
	loads := filter(scanLoads, func(l scanLoad) bool { return l.queues == (t.queues > 1) })
	progress("%s: a backlog of %d in %d queues", name, cfg.rows, t.queues)
	if err := t.backlog(ctx, cfg.rows); err != nil {
		return err
	}
	progress("%s: filled", name)
	for range cfg.rounds {
		for _, d := range cfg.designs {
			if d.way == byTID || d.way == ownedByID {
				continue // another design scans the same way
			}
			if err := t.carry(ctx, d); err != nil {
				return err
			}
			size, err := t.indexBytes(ctx, cfg.rows)
			if err != nil {
				return err
			}
			for _, l := range loads {
				f, err := t.scan(ctx, d, l)
				if err != nil {
					return fmt.Errorf("scan, %s, design %s: %w", l.name, d.name, err)
				}
				f.Index = size
				progress("scan: %s, %s: %.1f ms", l.name, d.name, f.Scan.Ms)
				r.Scans = append(r.Scans, f)
			}
		}
	}
	return nil
}

// scan lists the stripes of one owner and finds 1,000 candidates. It is done twice, and the second time counts, when
// pages and plans are in memory.
func (t *table) scan(ctx context.Context, d design, l scanLoad) (scanFigures, error) {
	f := scanFigures{Load: l.name, Design: d.name}
	first := l.first
	if first == 0 {
		first = t.queues
	}
	o := owner{lanes: t.lanes(first), lo: 256 - l.buckets, hi: 256}
	for range 2 {
		p := &probe{session: t.db}
		s := newScanner(p, d, o, t.product)
		if err := s.list(ctx); err != nil {
			return f, err
		}
		f.List = p.take()
		for f.Found = 0; f.Found < limit; {
			found, err := s.next(ctx)
			if err != nil {
				return f, err
			}
			if len(found) == 0 {
				break
			}
			f.Found += len(found)
		}
		f.Scan = p.take()
	}
	return f, nil
}
