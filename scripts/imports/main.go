// Imports compares the import arrows of the house with their drawing, and says which one nobody drew.
//
//	go run ./scripts/imports
package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

const house = "github.com/respirated/respirated/"

// drawing lists every room with what its code, tests apart, may import: other rooms, and modules from outside.
var drawing = []room{
	{path: "protocol", modules: []string{msgpack, sys}, not: tests, closed: true},
	{path: "client", rooms: []string{"protocol", "client/internal/driver", "client/internal/pgtext"}, modules: []string{pgx}, not: tests, closed: true},
	{path: "client/internal/driver", modules: []string{pgx}, not: tests, closed: true},
	{path: "client/internal/pgtext", not: tests, closed: true},
	{path: "client/explain", rooms: []string{"client", "protocol", "client/internal/driver", "client/internal/pgtext"}, modules: []string{pgx}, not: tests, closed: true},
	{path: "worker", rooms: []string{"protocol"}, not: tests, closed: true},
	{path: "worker/workflow", rooms: []string{"worker", "protocol"}, not: tests, closed: true},
	{path: "broker", rooms: []string{"protocol"}, modules: []string{sys}, not: []string{"os/exec", "database/sql", "testing"}},
	{path: "broker/postgres", rooms: []string{"broker", "protocol"}, modules: []string{pgx, goose, sys}, not: tests},
	{path: "broker/postgres/private", modules: []string{pgx, embedded}, not: tests},
	{path: "broker/postgres/private/privatetest", rooms: []string{"broker/postgres/private"}},
	{path: "broker/embed", rooms: []string{"broker", "broker/postgres", "protocol"}, not: tests},
	{path: "broker/supervisor", rooms: []string{"broker", "protocol"}, modules: []string{sys}, not: tests},
	{path: "broker/dashboard", rooms: []string{"broker", "broker/supervisor", "client", "client/explain"}, modules: []string{prometheus}, not: slices.Concat(tests, []string{"database/sql"})},
	{path: "broker/brokertest", rooms: []string{"broker"}, modules: []string{rapid}},
	{path: "cmd/...", wires: true},
	{path: "scripts/...", wires: true},
}

// tests has no place in what users link: it brings flags of its own.
var tests = []string{"testing"}

const (
	embedded   = "github.com/fergusstrange/embedded-postgres"
	goose      = "github.com/pressly/goose/v3"
	msgpack    = "github.com/vmihailenco/msgpack/v5"
	pgx        = "github.com/jackc/pgx/v5"
	prometheus = "github.com/prometheus/client_golang"
	rapid      = "pgregory.net/rapid"
	sys        = "golang.org/x/sys"
)

// indirect are the modules that come into a closed room by way of those above.
var indirect = []string{
	msgpack, "github.com/vmihailenco/tagparser/v2", sys,
	"github.com/jackc/pgpassfile", "github.com/jackc/pgservicefile", "github.com/jackc/puddle/v2", "golang.org/x/sync", "golang.org/x/text",
}

// room is one package, or with "..." all packages below a folder.
type room struct {
	path    string
	rooms   []string
	modules []string
	not     []string // packages of the standard library that have no place here
	closed  bool     // an application links it: nothing else may come in, by whatever way
	wires   bool     // it may import anything
}

// pkg is what `go list` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
	Deps       []string
}

func main() {
	packages, err := list()
	if err != nil {
		fmt.Fprintln(os.Stderr, "imports:", err)
		os.Exit(1)
	}
	found := compare(drawing, packages)
	for _, f := range found {
		fmt.Fprintln(os.Stderr, f)
	}
	if len(found) > 0 {
		fmt.Fprintf(os.Stderr, "imports: %d arrows that the drawing in scripts/imports/main.go does not have\n", len(found))
		os.Exit(1)
	}
}

// list asks the go command for the house's packages and all that they import.
func list() (map[string]pkg, error) {
	// Without the profile, since each package that is built with one would be listed a second time, by another name.
	cmd := exec.Command("go", "list", "-pgo=off", "-deps", "-json=ImportPath,Standard,Module,Imports,Deps", house+"...")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	packages := map[string]pkg{}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list says: %w", err)
		}
		packages[p.ImportPath] = p
	}
}

// compare returns a line for each import that the drawing does not have.
func compare(drawing []room, packages map[string]pkg) []string {
	var found []string
	for path, p := range packages {
		name, ours := strings.CutPrefix(path, house)
		if !ours {
			continue
		}
		r, ok := roomOf(drawing, name)
		if !ok {
			found = append(found, name+" is not in the drawing")
			continue
		}
		found = append(found, r.strays(name, p, packages)...)
	}
	slices.SortFunc(found, cmp.Compare)
	return found
}

func roomOf(drawing []room, name string) (room, bool) {
	i := slices.IndexFunc(drawing, func(r room) bool {
		folder, all := strings.CutSuffix(r.path, "...")
		return name == r.path || all && strings.HasPrefix(name, folder)
	})
	if i < 0 {
		return room{}, false
	}
	return drawing[i], true
}

// strays lists what a package of the room imports without leave.
func (r room) strays(name string, p pkg, packages map[string]pkg) []string {
	var found []string
	if r.wires {
		return nil
	}
	for _, path := range p.Imports {
		if !r.mayImport(packages[path]) {
			found = append(found, name+" imports "+strings.TrimPrefix(path, house))
		}
	}
	if !r.closed {
		return found
	}
	for _, path := range p.Deps {
		if !r.mayHold(packages[path]) {
			found = append(found, name+" pulls in "+strings.TrimPrefix(path, house))
		}
	}
	return found
}

// mayImport judges one direct import.
func (r room) mayImport(p pkg) bool {
	name, ours := strings.CutPrefix(p.ImportPath, house)
	switch {
	case ours:
		return slices.Contains(r.rooms, name)
	case p.Module != nil:
		return slices.Contains(r.modules, p.Module.Path)
	default:
		return !slices.Contains(r.not, p.ImportPath)
	}
}

// mayHold judges what comes into a closed room by way of others.
func (r room) mayHold(p pkg) bool {
	return r.mayImport(p) || p.Module != nil && slices.Contains(indirect, p.Module.Path)
}
