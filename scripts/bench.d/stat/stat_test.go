package stat

import (
	"math"
	"testing"
)

func TestMedianOfEvenAndOddNumbersOfRuns(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{nil, Summary{}},
		{[]float64{7}, Summary{7, 7, 7}},
		{[]float64{9, 1, 5}, Summary{5, 1, 9}},
		{[]float64{9, 1, 5, 7}, Summary{6, 1, 9}},
	} {
		if got := Summarize(c.values); got != c.want {
			t.Errorf("Summarize(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestPercentileIsOneOfTheValues(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = 100 - i // 1 to 100, backwards
	}
	for _, c := range []struct {
		values []int
		p      float64
		want   int
	}{
		{nil, 50, 0}, {[]int{3}, 50, 3}, {[]int{3}, 99, 3}, {[]int{3, 4}, 50, 3}, {[]int{3, 4}, 51, 4},
		{hundred, 0, 1}, {hundred, 50, 50}, {hundred, 95, 95}, {hundred, 99, 99}, {hundred, 99.5, 100}, {hundred, 100, 100},
	} {
		if got := Percentile(c.values, c.p); got != c.want {
			t.Errorf("Percentile(%d values, %v) = %d, want %d", len(c.values), c.p, got, c.want)
		}
	}
	if hundred[0] != 100 {
		t.Error("Percentile sorted the values of its caller")
	}
}

func TestRatioOfWhatWasNotMeasuredIsNoNumber(t *testing.T) {
	if got := Ratio(3, 2); got != 1.5 {
		t.Errorf("Ratio(3, 2) = %v", got)
	}
	for _, c := range [][2]float64{{0, 2}, {2, 0}, {0, 0}} {
		if got := Ratio(c[0], c[1]); !math.IsNaN(got) {
			t.Errorf("Ratio(%v, %v) = %v, want no number", c[0], c[1], got)
		}
	}
}
