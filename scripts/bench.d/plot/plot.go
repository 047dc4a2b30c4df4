// Package plot draws curves as SVG: several small panels over one axis, each with its own unit.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Figure is a set of panels that share what is on their horizontal axes.
type Figure struct {
	Title  string
	X      string // label with its unit; the axis is logarithmic
	Panels []Panel
}

// Panel is one drawing.
type Panel struct {
	Y     string // label with its unit; the axis is linear and begins at 0
	Lines []Line
}

// Line is one curve. Points with X <= 0 cannot be drawn.
type Line struct {
	Name   string
	Points []Point
}

// Point is one measurement.
type Point struct{ X, Y float64 }

const (
	columns     = 3
	panelWidth  = 340
	panelHeight = 240
	left        = 64 // of the axes within their panel
	right       = 20
	top         = 34
	bottom      = 46
	titleHeight = 54
)

// colours are told apart also by those who see no red or no green.
var colours = []string{"#0072b2", "#d55e00", "#009e73", "#cc79a7"}

// SVG draws the figure.
func (f Figure) SVG() string {
	var b strings.Builder
	rows := (len(f.Panels) + columns - 1) / columns
	width, height := columns*panelWidth, titleHeight+rows*panelHeight
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="11">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text(&b, 16, 24, `font-size="16"`, f.Title)
	f.legend(&b)
	for i, p := range f.Panels {
		fmt.Fprintf(&b, `<g transform="translate(%d %d)">`+"\n", i%columns*panelWidth, titleHeight+i/columns*panelHeight)
		f.panel(&b, p)
		b.WriteString("</g>\n")
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// legend names the lines, where there is more than one.
func (f Figure) legend(b *strings.Builder) {
	if len(f.Panels) == 0 || len(f.Panels[0].Lines) < 2 {
		return
	}
	x := 16
	for i, line := range f.Panels[0].Lines {
		colour := colours[i%len(colours)]
		fmt.Fprintf(b, `<rect x="%d" y="36" width="12" height="4" fill="%s"/>`+"\n", x, colour)
		text(b, x+18, 42, "", line.Name)
		x += 40 + 7*len(line.Name)
	}
}

func (f Figure) panel(b *strings.Builder, p Panel) {
	a := axesOf(p)
	text(b, left, top-12, `font-weight="bold"`, p.Y)
	text(b, left+(panelWidth-left-right)/2, panelHeight-10, `text-anchor="middle"`, f.X)
	for _, y := range a.yTicks {
		fmt.Fprintf(b, `<line x1="%d" x2="%d" y1="%.1f" y2="%.1f" stroke="#ddd"/>`+"\n", left, panelWidth-right, a.y(y), a.y(y))
		text(b, left-6, int(a.y(y))+4, `text-anchor="end"`, number(y))
	}
	for _, x := range a.xTicks {
		fmt.Fprintf(b, `<line x1="%.1f" x2="%.1f" y1="%d" y2="%d" stroke="#888"/>`+"\n", a.x(x), a.x(x), panelHeight-bottom, panelHeight-bottom+4)
		text(b, int(a.x(x)), panelHeight-bottom+16, `text-anchor="middle"`, number(x))
	}
	fmt.Fprintf(b, `<path d="M%d %dV%dH%d" fill="none" stroke="#444"/>`+"\n", left, top, panelHeight-bottom, panelWidth-right)
	for i, line := range p.Lines {
		a.draw(b, line, colours[i%len(colours)])
	}
}

func (a axes) draw(b *strings.Builder, line Line, colour string) {
	var path strings.Builder
	for i, p := range line.Points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], a.x(p.X), a.y(p.Y))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", a.x(p.X), a.y(p.Y), colour)
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), colour)
}

// axes turns values into places of a panel.
type axes struct {
	least, most    float64 // of x
	highest        float64 // of y
	xTicks, yTicks []float64
}

func axesOf(p Panel) axes {
	a := axes{least: math.Inf(1), most: math.Inf(-1)}
	seen := make(map[float64]bool)
	for _, line := range p.Lines {
		for _, p := range line.Points {
			a.least, a.most, a.highest = math.Min(a.least, p.X), math.Max(a.most, p.X), math.Max(a.highest, p.Y)
			if !seen[p.X] {
				seen[p.X] = true
				a.xTicks = append(a.xTicks, p.X) // what was measured is what should be read off
			}
		}
	}
	step := niceStep(a.highest)
	a.yTicks = []float64{0}
	for top := 0.; top == 0 || top < a.highest; {
		top += step
		a.yTicks = append(a.yTicks, top)
	}
	a.highest = a.yTicks[len(a.yTicks)-1]
	return a
}

// niceStep parts an axis from 0 into two to five steps of 1, 2 or 5 times a power of ten.
func niceStep(highest float64) float64 {
	if highest <= 0 {
		return 1
	}
	power := math.Pow(10, math.Floor(math.Log10(highest/5)))
	for _, m := range []float64{1, 2, 5} {
		if highest/(m*power) <= 5 {
			return m * power
		}
	}
	return 10 * power
}

func (a axes) x(v float64) float64 {
	const span = panelWidth - left - right
	if a.most == a.least {
		return left + span/2
	}
	return left + span*math.Log(v/a.least)/math.Log(a.most/a.least)
}

func (a axes) y(v float64) float64 {
	return panelHeight - bottom - (panelHeight-bottom-top)*v/a.highest
}

// number writes a value short: 1500000 as 1.5M.
func number(v float64) string {
	for _, unit := range []struct {
		size float64
		name string
	}{{1e6, "M"}, {1e3, "k"}} {
		if v >= unit.size {
			return fmt.Sprintf("%.4g%s", v/unit.size, unit.name)
		}
	}
	return fmt.Sprintf("%.4g", v)
}

func text(b *strings.Builder, x, y int, attributes, content string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" %s>%s</text>`+"\n", x, y, attributes, html.EscapeString(content))
}
