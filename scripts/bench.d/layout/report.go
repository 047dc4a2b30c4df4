package layout

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
)

// report is all that was measured.
type report struct {
	Server   string            `json:"server"`
	Settings map[string]string `json:"settings"`
	Rows     int               `json:"rows"`
	Drain    int               `json:"drain"`
	Pinned   int               `json:"pinned"`
	Queues   int               `json:"queues"`
	Rounds   int               `json:"rounds"`
	Scans    []scanFigures     `json:"scans"`
	Drains   []drainFigures    `json:"drains"`
	Inserts  []bucketFigures   `json:"inserts"`
}

func (r *report) save(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// print writes a table for each thing that was measured, of medians.
func (r *report) print(to io.Writer) {
	fmt.Fprintf(to, "%s; medians of %d rounds\n", r.Server, r.Rounds)
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	r.printScans(w)
	r.printDrains(w)
	r.printPinned(w)
	r.printInserts(w)
	w.Flush()
}

func (r *report) printScans(w io.Writer) {
	for _, l := range scanLoads {
		title := fmt.Sprintf("scan of %d candidates, backlog %d, %s (many = %d)", limit, r.Rows, l.name, r.Queues)
		for _, d := range designs {
			of := filter(r.Scans, func(f scanFigures) bool { return f.Load == l.name && f.Design == d.name })
			if len(of) == 0 {
				continue
			}
			title = head(w, title, "list ms\tpages\tscan ms\tpages\tstatements\tfound\tindex B/row")
			list, scan := medianCost(of, func(f scanFigures) cost { return f.List }), medianCost(of, func(f scanFigures) cost { return f.Scan })
			fmt.Fprintf(w, "%s\t%.1f\t%d\t%.1f\t%d\t%d\t%d\t%.0f\t\n",
				d.name, list.Ms, list.Buffers, scan.Ms, scan.Buffers, scan.Statements, of[0].Found, of[0].Index)
		}
	}
}

func (r *report) printDrains(w io.Writer) {
	for _, l := range drainLoads {
		title := fmt.Sprintf("drain of %d (pinned: %d), %s", r.Drain, r.Pinned, l.name)
		for _, d := range designs {
			of := r.drainsOf(l, d)
			if len(of) == 0 {
				continue
			}
			title = head(w, title, "inserts/s\tCPU us\tWAL B\tdrained/s\tCPU us\tWAL B\tcut short")
			insert := medianUsage(of, func(f drainFigures) usage { return f.Insert })
			drain := medianUsage(of, func(f drainFigures) usage { return f.Drain })
			fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.0f\t%.0f\t%.1f\t%.0f\t%t\t\n", d.name,
				insert.PerSecond, insert.CPU, insert.WAL, drain.PerSecond, drain.CPU, drain.WAL, of[0].Cut)
		}
	}
}

func (r *report) printPinned(w io.Writer) {
	title := fmt.Sprintf("scan after a drain of %d with a pinned horizon", r.Pinned-left)
	for _, l := range drainLoads {
		for _, d := range designs {
			of := r.drainsOf(l, d)
			if !l.pinned || len(of) == 0 {
				continue
			}
			title = head(w, title, "from the bottom ms\tpages\tfrom the first live strand ms\tpages")
			bottom := medianCost(of, func(f drainFigures) cost { return f.Bottom })
			floor := medianCost(of, func(f drainFigures) cost { return f.Floor })
			fmt.Fprintf(w, "%s\t%.1f\t%d\t%.1f\t%d\t\n", d.name, bottom.Ms, bottom.Buffers, floor.Ms, floor.Buffers)
		}
	}
}

func (r *report) printInserts(w io.Writer) {
	title := fmt.Sprintf("insert of %d", r.Drain)
	for _, with := range []bool{true, false} {
		of := filter(r.Inserts, func(f bucketFigures) bool { return f.Bucket == with })
		if len(of) == 0 {
			continue
		}
		title = head(w, title, "inserts/s\tCPU us\tWAL B\ttable B/row")
		insert := medianUsage(of, func(f bucketFigures) usage { return f.Insert })
		name := map[bool]string{true: "with bucket", false: "without"}[with]
		fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.0f\t%.0f\t\n", name, insert.PerSecond, insert.CPU, insert.WAL, of[0].Table)
	}
}

// head begins a table, once: it gives "" to be handed in the next time.
func head(w io.Writer, title, columns string) string {
	if title != "" {
		fmt.Fprintf(w, "\n%s\ndesign\t%s\t\n", title, columns)
	}
	return ""
}

func (r *report) drainsOf(l drainLoad, d design) []drainFigures {
	return filter(r.Drains, func(f drainFigures) bool { return f.Load == l.name && f.Design == d.name })
}

func filter[T any](all []T, keep func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(all), func(f T) bool { return !keep(f) })
}

// median is the middle one of what get gives, the lower one of two.
func median[T any](all []T, get func(T) float64) float64 {
	values := make([]float64, len(all))
	for i, f := range all {
		values[i] = get(f)
	}
	slices.Sort(values)
	return values[(len(values)-1)/2]
}

func medianCost[T any](all []T, get func(T) cost) cost {
	return cost{
		Statements: int(median(all, func(f T) float64 { return float64(get(f).Statements) })),
		Ms:         median(all, func(f T) float64 { return get(f).Ms }),
		Buffers:    int(median(all, func(f T) float64 { return float64(get(f).Buffers) })),
	}
}

func medianUsage[T any](all []T, get func(T) usage) usage {
	return usage{
		PerSecond: median(all, func(f T) float64 { return get(f).PerSecond }),
		CPU:       median(all, func(f T) float64 { return get(f).CPU }),
		WAL:       median(all, func(f T) float64 { return get(f).WAL }),
	}
}
