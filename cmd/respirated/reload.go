package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/respirated/respirated/broker/supervisor"
)

// reloader applies what changes in the configuration file to a daemon that runs: pools. What else is changed there is
// named in the log, and waits for the next start.
type reloader struct {
	file    string
	load    func() (fileConfig, error) // the file, with the flags over it
	apply   func([]supervisor.Pool) error
	running fileConfig // what the daemon was started with; its pools are those that were applied last
	log     *slog.Logger
	tell    func() (done func()) // the service manager, that the file is read; nil = nobody

	text   []byte         // of the file, when it was last read
	hangup chan os.Signal // SIGHUP has come
}

// newReloader notes what the file says, before it is taken in.
func newReloader(file string, hangup chan os.Signal) *reloader {
	r := &reloader{file: file, hangup: hangup}
	r.text, _ = os.ReadFile(file) // what is wrong with it says who takes it in
	return r
}

// restFor is how long nothing must happen to the file before it is read: it may be written in several steps.
const restFor = 300 * time.Millisecond

// Run reads the file again on SIGHUP, and whenever it has changed, until ctx ends.
func (r *reloader) Run(ctx context.Context) error {
	var events chan fsnotify.Event // nil = none come
	var errs chan error            // some were lost
	if watcher, err := r.watch(); err != nil {
		r.log.Warn("changes of the configuration are not noticed: send SIGHUP", "file", r.file, "error", err)
	} else {
		defer watcher.Close()
		events, errs = watcher.Events, watcher.Errors
	}
	rest := time.NewTimer(restFor) // it may have changed while the daemon started
	defer rest.Stop()
	waits := true // for rest
	for {
		select {
		case <-r.hangup:
			r.reload("SIGHUP")
		case ev := <-events:
			// What happens to others, which may be often, puts nothing off; but a link to the file may be among them.
			if !waits || filepath.Base(ev.Name) == filepath.Base(r.file) {
				rest.Reset(restFor)
				waits = true
			}
		case <-errs:
			rest.Reset(restFor)
			waits = true
		case <-rest.C:
			waits = false
			r.look()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// watch watches the folder: a file that is replaced by another one is not the one that would be watched.
func (r *reloader) watch() (*fsnotify.Watcher, error) {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := watcher.Add(filepath.Dir(r.file)); err != nil {
		return nil, errors.Join(err, watcher.Close())
	}
	return watcher, nil
}

// look reloads the file if its text is another one. An empty one is more likely to be half written than to be meant.
func (r *reloader) look() {
	text, err := os.ReadFile(r.file)
	if err != nil || bytes.Equal(text, r.text) {
		return
	}
	if len(bytes.TrimSpace(text)) == 0 {
		r.log.Warn("configuration is empty now, which changes nothing: if it is meant, send SIGHUP", "file", r.file)
		r.text = text
		return
	}
	r.reload("it has changed")
}

// reload applies the file. One that is wrong changes nothing.
func (r *reloader) reload(why string) {
	if r.tell != nil {
		defer r.tell()()
	}
	r.text, _ = os.ReadFile(r.file)
	cfg, err := r.load()
	if err == nil {
		waiting := cfg.otherThan(r.running)
		cfg.DrainTimeout = r.running.DrainTimeout // which the times of pools have to fit
		if err = cfg.checkTimes(); err == nil {
			err = r.apply(cfg.pools())
		}
		if err == nil && len(waiting) > 0 {
			r.log.Warn("changed settings wait for a restart of the daemon", "settings", strings.Join(waiting, " "))
		}
	}
	if err != nil {
		r.log.Error("configuration cannot be taken: the former one stays", "file", r.file, "error", err)
		return
	}
	r.running.Pools = cfg.Pools
	r.log.Info("configuration read again", "file", r.file, "why", why, "pools", len(cfg.Pools))
}

// otherThan lists the keys, besides pools, that do not say the same.
func (cfg fileConfig) otherThan(running fileConfig) (keys []string) {
	now, then := reflect.ValueOf(cfg), reflect.ValueOf(running)
	for i := range now.NumField() {
		key := now.Type().Field(i).Tag.Get("yaml")
		if key != "pools" && !reflect.DeepEqual(now.Field(i).Interface(), then.Field(i).Interface()) {
			keys = append(keys, key)
		}
	}
	return keys
}
