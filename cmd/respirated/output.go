package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"github.com/respirated/respirated/client/explain"
)

// table writes aligned columns for people. Cells are cleaned: they may come from anywhere.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, header ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
	if len(header) > 0 {
		t.row(header...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cell = "-"
		}
		cells[i] = plain(cell)
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t")) // kept in memory until flush, which tells of an error
}

func (t *table) flush() error { return t.w.Flush() }

// plain is text without anything that a terminal takes for a command, or that makes it show text in another order.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return ' '
		case unicode.IsControl(r), unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp), r == unicode.ReplacementChar:
			return '?'
		}
		return r
	}, s)
}

// paragraph is plain text that keeps its lines, each indented.
func paragraph(s, indent string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		line = strings.ReplaceAll(line, "\t", "    ")
		b.WriteString(indent + strings.TrimRight(plain(line), " ") + "\n")
	}
	return b.String()
}

// oneLine is the text of an error as one clean line.
func oneLine(s string) string { return plain(strings.Join(strings.Fields(s), " ")) }

// printJSON writes a value as indented JSON.
func printJSON(out io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	_, err := out.Write(escapeControls(b.Bytes()))
	return err
}

// escapeControls escapes what encoding/json leaves alone and a terminal does not: DEL and the C1 controls. They occur
// in JSON inside of strings only.
func escapeControls(b []byte) []byte {
	var out bytes.Buffer
	for _, r := range string(b) {
		if r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&out, `\u%04x`, r)
			continue
		}
		out.WriteRune(r)
	}
	return out.Bytes()
}

// isTerminal tells whether somebody looks at w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// ago is a moment as people say it.
func ago(t, now time.Time) string { return explain.Ago(t, now) }

// span is a duration in its greatest unit or two.
func span(d time.Duration) string { return explain.Span(d) }
