package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheLowestNumbersAreMissing(t *testing.T) {
	for args, want := range map[string][]string{
		"":                     {""},
		"1":                    {"1"},
		"0":                    {"none"},
		"0 3":                  {"none", "none", "none"},
		"4":                    {"4", "3", "2", "1"},
		"4 4":                  {"4", "3", "2", "1"},
		"8 7 --gaps overdue":   {"8", "7", "6", "5", "4", "3", "2"},
		"--gaps overdue 256 2": {"256", "255"},
	} {
		p, err := parsePlan(strings.Fields(args))
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		var got []string
		for _, h := range newFleet("", "", p).hosts {
			got = append(got, h.partition)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got daemons %q, want %q", args, got, want)
		}
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for _, args := range []string{"x", "257", "-1", "1.5", "4 5", "0 0", "0 33", "33", "1 2 3", "1 --gaps no", "1 --gaps", "--frob"} {
		if p, err := parsePlan(strings.Fields(args)); err == nil {
			t.Errorf("%q was taken as %+v", args, p)
		}
	}
}

func TestPartsAreThoseOfTheRuleForGaps(t *testing.T) {
	for args, want := range map[string]string{
		"0 2":                "[{0 0 100000000} {0 0 100000000}]",
		"1":                  "[{1 0 100000000}]",
		"3":                  "[{1 0 55555555} {2 55555555 aaaaaaaa} {3 aaaaaaaa 100000000}]",
		"3 2":                "[{2 0 80000000} {3 80000000 100000000}]",
		"3 2 --gaps overdue": "[{2 55555555 aaaaaaaa} {3 aaaaaaaa 100000000}]",
	} {
		p, err := parsePlan(strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", newFleet("", "", p).parts()); got != want {
			t.Errorf("%q: got %s, want %s", args, got, want)
		}
	}
}
