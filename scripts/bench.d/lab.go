package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/respirated/respirated/broker/postgres/private"
	"github.com/respirated/respirated/scripts/bench.d/meter"
	"github.com/respirated/respirated/scripts/bench.d/system"
)

// serverSettings are what differs from PostgreSQL's defaults, or must not differ.
var serverSettings = map[string]string{
	"fsync":                    "on",
	"synchronous_commit":       "on",
	"full_page_writes":         "on",
	"autovacuum":               "on",
	"shared_buffers":           "1GB",
	"max_wal_size":             "4GB",
	"max_connections":          "500",
	"shared_preload_libraries": "pg_stat_statements",
	"pg_stat_statements.track": "all",
}

// lab is one PostgreSQL server and what has been prepared in it. All measurements of a run share it.
type lab struct {
	work     string // a folder for everything; removed by main
	server   *private.Server
	meter    *meter.Server
	progress *progress

	templates map[string]string // database with a system's empty tables, by the system's name
	visits    int
}

func openLab(ctx context.Context, work string, p *progress) (_ *lab, err error) {
	p.step("start PostgreSQL")
	l := &lab{work: work, progress: p, templates: make(map[string]string)}
	if l.server, err = private.Start(ctx, private.Config{Settings: serverSettings}); err != nil {
		return nil, err
	}
	if l.meter, err = meter.Open(ctx, l.server.URL()); err != nil {
		return nil, errors.Join(err, l.server.Stop())
	}
	return l, nil
}

func (l *lab) close() error {
	_ = l.meter.Close(context.Background()) // the server ends anyway
	return l.server.Stop()
}

// database makes a database with a system's empty tables, by copying one that was prepared once.
func (l *lab) database(ctx context.Context, s system.System) (name, url string, err error) {
	template, ok := l.templates[s.Name()]
	if !ok {
		l.progress.step("prepare %s", s.Name())
		template = fmt.Sprintf("template_%d", len(l.templates))
		if url, err = l.server.Database(ctx, template); err != nil {
			return "", "", err
		}
		if err := s.Prepare(ctx, url); err != nil {
			return "", "", fmt.Errorf("prepare %s: %w", s.Name(), err)
		}
		l.templates[s.Name()] = template
	}
	l.visits++
	name = fmt.Sprintf("visit_%d", l.visits)
	if err := l.meter.Copy(ctx, template, name); err != nil {
		return "", "", err
	}
	return name, strings.Replace(l.server.URL(), "/postgres?", "/"+name+"?", 1), nil
}

// settings are for the report.
func (l *lab) settings() []string {
	all := []string{"PostgreSQL " + l.meter.Version(), "Unix socket"}
	for name, value := range serverSettings {
		all = append(all, name+" "+value)
	}
	slices.Sort(all[2:])
	return all
}

// folder makes a short-lived folder for a visit.
func (l *lab) folder() (string, error) {
	dir := filepath.Join(l.work, fmt.Sprint("v", l.visits))
	return dir, os.Mkdir(dir, 0o700)
}
