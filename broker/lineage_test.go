package broker_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// LINEAGE.md names the tests that keep what respirate does. None of them may have gone, and no number may be missing.
func TestLineageNamesTestsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("LINEAGE.md")
	if err != nil {
		t.Fatal(err)
	}
	sources := goFiles(t, "..")
	for _, m := range regexp.MustCompile("`([A-Z][A-Za-z0-9]+)`").FindAllStringSubmatch(string(text), -1) {
		if name := m[1]; !strings.Contains(sources, "func "+name+"(") && !strings.Contains(sources, `{"`+name+`"`) {
			t.Errorf("there is no test %s", name)
		}
	}
	next := 1
	for _, m := range regexp.MustCompile(`(?m)^\| (\d+)(?:-(\d+))? \|`).FindAllStringSubmatch(string(text), -1) {
		first, last := number(t, m[1]), number(t, m[1])
		if m[2] != "" {
			last = number(t, m[2])
		}
		if first != next {
			t.Errorf("%d comes where %d should", first, next)
		}
		next = last + 1
	}
	if next != 100 {
		t.Errorf("got the behaviours up to %d, want all 99", next-1)
	}
}

// goFiles is the text of all Go files below a folder.
func goFiles(t *testing.T, root string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
