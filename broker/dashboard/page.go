package dashboard

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"
)

//go:embed templates
var files embed.FS

var templates = template.Must(template.New("").ParseFS(files, "templates/*.html"))

// frame is what every page has.
type frame struct {
	Title string
	Root  string // leads from the page to the dashboard's own root, so that it need not know where that is mounted
}

func frameOf(r *http.Request, title string) frame {
	return frame{title, strings.Repeat("../", max(0, strings.Count(r.URL.Path, "/")-1))}
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
func style(w http.ResponseWriter, _ *http.Request) {
	text, err := files.ReadFile("templates/style.css")
	if err != nil {
		panic("bug: " + err.Error())
	}
	w.Header().Set("Content-Type", "text/css; charset=utf-8")
	w.Header().Set("Cache-Control", "max-age=3600")
	_, _ = w.Write(text) // who asked is gone
}
