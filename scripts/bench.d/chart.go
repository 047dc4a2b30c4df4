package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"github.com/respirated/respirated/scripts/bench.d/plot"
)

// chart is what a mode has measured over something that grows, as a table and as a figure.
type chart struct {
	title   string
	x       string // label of what grows
	columns []string
	formats []string // one for each column
	marks   []mark
}

// mark is one point of a chart.
type mark struct {
	x      int
	line   string    // which curve of several it belongs to
	values []float64 // one for each column
}

// figure is what a chart shows of each point: its title, how it is printed, and what it is.
type figure[P any] struct {
	title, format string
	of            func(P) float64
}

// newChart has a column for each figure, and a mark for each point, which at places.
func newChart[P any](title, x string, figures []figure[P], points []P, at func(P) mark) chart {
	c := chart{title: title, x: x}
	for _, f := range figures {
		c.columns, c.formats = append(c.columns, f.title), append(c.formats, f.format)
	}
	for _, p := range points {
		m := at(p)
		for _, f := range figures {
			m.values = append(m.values, f.of(p))
		}
		c.marks = append(c.marks, m)
	}
	return c
}

// table prints a chart with a word on where it was measured.
func table(out io.Writer, c chart, where string) error {
	fmt.Fprintf(out, "\n%s: %s\n\n", c.title, where)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, c.x)
	for _, title := range c.columns {
		fmt.Fprint(w, "\t", title)
	}
	fmt.Fprintln(w)
	for _, m := range c.marks {
		fmt.Fprint(w, label(m.x, m.line))
		for i, value := range m.values {
			fmt.Fprintf(w, "\t"+c.formats[i], value)
		}
		fmt.Fprintln(w)
	}
	return w.Flush()
}

// figure draws a panel for each column.
func (c chart) figure() plot.Figure {
	f := plot.Figure{Title: c.title, X: c.x}
	for i, title := range c.columns {
		panel := plot.Panel{Y: title}
		index := make(map[string]int)
		for _, m := range c.marks {
			at, ok := index[m.line]
			if !ok {
				at = len(panel.Lines)
				index[m.line] = at
				panel.Lines = append(panel.Lines, plot.Line{Name: m.line})
			}
			panel.Lines[at].Points = append(panel.Lines[at].Points, plot.Point{X: float64(m.x), Y: m.values[i]})
		}
		f.Panels = append(f.Panels, panel)
	}
	return f
}

// draw writes the figure to a file, if one was asked for.
func (c chart) draw(file string) error {
	if file == "" {
		return nil
	}
	return os.WriteFile(file, []byte(c.figure().SVG()), 0o644)
}
