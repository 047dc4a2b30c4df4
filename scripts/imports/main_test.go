package main

import (
	"slices"
	"testing"
)

func TestAnImportThatNobodyDrewIsNamed(t *testing.T) {
	drawing := []room{
		{path: "low", modules: []string{"example.org/kept"}, closed: true},
		{path: "high", rooms: []string{"low"}, not: []string{"os/exec"}},
		{path: "top/...", wires: true},
	}
	for name, c := range map[string]struct {
		from pkg
		want []string
	}{
		"a drawn arrow":            {from: pkg{ImportPath: house + "high", Imports: []string{house + "low", "fmt"}}},
		"an arrow back":            {from: pkg{ImportPath: house + "low", Imports: []string{house + "high"}}, want: []string{"low imports high"}},
		"a drawn module":           {from: pkg{ImportPath: house + "low", Imports: []string{"example.org/kept/sub"}}},
		"a module nobody drew":     {from: pkg{ImportPath: house + "high", Imports: []string{"example.org/kept/sub"}}, want: []string{"high imports example.org/kept/sub"}},
		"something through others": {from: pkg{ImportPath: house + "low", Deps: []string{"example.org/other"}}, want: []string{"low pulls in example.org/other"}},
		"a banned package":         {from: pkg{ImportPath: house + "high", Imports: []string{"os/exec"}}, want: []string{"high imports os/exec"}},
		"a room nobody drew":       {from: pkg{ImportPath: house + "attic"}, want: []string{"attic is not in the drawing"}},
		"wiring":                   {from: pkg{ImportPath: house + "top/most", Imports: []string{"example.org/other", house + "low"}}},
	} {
		t.Run(name, func(t *testing.T) {
			packages := map[string]pkg{
				"fmt": {ImportPath: "fmt"}, "os/exec": {ImportPath: "os/exec"},
				"example.org/kept/sub": module("example.org/kept/sub", "example.org/kept"),
				"example.org/other":    module("example.org/other", "example.org/other"),
				house + "low":          {ImportPath: house + "low"},
				house + "high":         {ImportPath: house + "high"},
			}
			packages[c.from.ImportPath] = c.from
			if got := compare(drawing, packages); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func module(path, name string) pkg {
	return pkg{ImportPath: path, Module: &struct{ Path string }{name}}
}
