package plot

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func example() Figure {
	line := func(name string, ys ...float64) Line {
		l := Line{Name: name}
		for i, y := range ys {
			l.Points = append(l.Points, Point{X: []float64{1, 4, 16}[i], Y: y})
		}
		return l
	}
	return Figure{Title: "a < b & c", X: "worker processes", Panels: []Panel{
		{Y: "strands/s", Lines: []Line{line("free", 0, 5000, 10_000), line("held", 0, 2500, 5000)}},
		{Y: "connections", Lines: []Line{line("free", 0, 0, 0), line("held")}},
	}}
}

func TestFigureIsWellFormed(t *testing.T) {
	for _, f := range []Figure{example(), {}, {Panels: []Panel{{}}}} {
		decoder := xml.NewDecoder(strings.NewReader(f.SVG()))
		for {
			if _, err := decoder.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v, in:\n%s", err, f.SVG())
			}
		}
		if strings.Contains(f.SVG(), "NaN") || strings.Contains(f.SVG(), "Inf") {
			t.Errorf("a place is no number, in:\n%s", f.SVG())
		}
	}
}

func TestPointsLieWhereTheAxesSay(t *testing.T) {
	a := axesOf(example().Panels[0])
	if want := []float64{1, 4, 16}; !slices.Equal(a.xTicks, want) {
		t.Errorf("ticks at %v, want %v", a.xTicks, want)
	}
	for _, c := range []struct{ got, want float64 }{
		{a.x(1), left}, {a.x(4), left + (panelWidth-left-right)/2}, {a.x(16), panelWidth - right},
		{a.y(0), panelHeight - bottom}, {a.y(a.highest), top},
	} {
		if c.got-c.want > 0.01 || c.want-c.got > 0.01 {
			t.Errorf("place %v, want %v", c.got, c.want)
		}
	}
	if svg := example().SVG(); !strings.Contains(svg, fmt.Sprintf(`<circle cx="%.1f" cy="%.1f"`, a.x(4), a.y(5000))) {
		t.Error("the point (4, 5000) is not drawn at its place")
	}
}

func TestStepsAreRoundAndFew(t *testing.T) {
	for highest, want := range map[float64]float64{0: 1, 0.9: 0.2, 1: 0.2, 5: 1, 6: 2, 49: 10, 51: 20, 18_000: 5000} {
		if got := niceStep(highest); got/want > 1.0001 || want/got > 1.0001 {
			t.Errorf("niceStep(%v) = %v, want %v", highest, got, want)
		}
	}
}

func TestNumbersAreShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.25: "0.25", 256: "256", 1000: "1k", 65_536: "65.54k", 5_000_000: "5M"} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}
