package dashboard

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"unicode"
)

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").ParseFS(files, "templates/*.html"))

// frame is what every page has.
type frame struct {
	Title   string
	Root    string // leads from the page to the dashboard's own root, so that it need not know where that is mounted
	Refresh int    // seconds after which it loads itself again; 0 = never
}

func frameOf(r *http.Request, title string) frame {
	return frame{Title: title, Root: strings.Repeat("../", max(0, strings.Count(r.URL.Path, "/")-1))}
}

// view is a page: blocks, one below the other.
type view struct {
	frame
	Blocks []*block
}

// block is one thing that there is to say: facts, a table, or texts.
type block struct {
	Title   string
	Trouble string // somebody has to act; "" = nobody has to
	Note    string
	Facts   []cell
	Header  []string
	Rows    [][]cell
	Empty   string // said in place of a table without rows
	Texts   []string
	More    cell // where more of it is
}

// cell is a value that is shown. It has come from anywhere.
type cell struct {
	Label string
	Text  string
	Link  string // of our own, below the root; "" = none
	Mood  string // bad, warn, good or ""
}

const (
	mostInCell = 200   // runes; the CLI has all of it
	mostInText = 8_000 // of a trace, or of last lines
	mostRows   = 200   // of a table
	refresh    = 5     // seconds
)

func (v *view) block(title string) *block {
	b := &block{Title: title}
	v.Blocks = append(v.Blocks, b)
	return b
}

// fact says something, unless there is nothing to say.
func (b *block) fact(label, text string) {
	if text != "" {
		b.Facts = append(b.Facts, cell{Label: label, Text: cut(text, 5*mostInCell)})
	}
}

// row adds one to the table, up to so many.
func (b *block) row(cells ...cell) {
	if len(b.Rows) >= mostRows {
		b.Note = fmt.Sprintf("Only the first %d are shown.", mostRows)
		return
	}
	for i := range cells {
		cells[i].Label = b.Header[i]
		cells[i].Text = cut(cells[i].Text, mostInCell)
	}
	b.Rows = append(b.Rows, cells)
}

// text adds what keeps its lines.
func (b *block) text(text string) {
	if text != "" {
		b.Texts = append(b.Texts, cut(text, mostInText))
	}
}

// texts are cells that say no more than that.
func texts(all ...string) []cell {
	cells := make([]cell, len(all))
	for i, text := range all {
		cells[i].Text = text
	}
	return cells
}

// cut bounds a text, and takes from it what would show it in another order than it is written in, or not at all.
func cut(text string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range text {
		if n++; n > most {
			return b.String() + " ..."
		}
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp)) {
			r = unicode.ReplacementChar
		}
		b.WriteRune(r)
	}
	return b.String()
}

// write sends the page. What its parts say has come from anywhere, too.
func (v *view) write(w http.ResponseWriter, code int) {
	for _, b := range v.Blocks {
		b.Title, b.Trouble = cut(b.Title, mostInCell), cut(b.Trouble, 5*mostInCell)
	}
	render(w, code, "view", v)
}

// render writes a page as a whole: one that fails half way is none.
func render(w http.ResponseWriter, code int, name string, data any) {
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, data); err != nil {
		http.Error(w, "the page cannot be shown: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = page.WriteTo(w) // who asked is gone
}

// style is the style sheet, which may be seen without a login: the form has it, too.
func style(w http.ResponseWriter) {
	text, err := files.ReadFile("templates/style.css")
	if err != nil {
		panic("bug: " + err.Error())
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	_, _ = w.Write(text) // who asked is gone
}
