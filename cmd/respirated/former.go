package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/respirated/respirated/broker"
)

// formerFile is where a daemon writes down its broker's id, for the next daemon in the folder.
const formerFile = "broker"

// withdrawFormer withdraws the broker that was here before, which is dead, since the folder is ours. If it was killed, it
// could not say goodbye: its number would be taken, and its part of the strands be left to it, until the others miss it.
func (d *daemon) withdrawFormer(ctx context.Context) {
	text, err := os.ReadFile(filepath.Join(d.socket.Dir, formerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	var former broker.ID
	if err == nil {
		former, err = broker.ParseID(string(bytes.TrimSpace(text[:min(len(text), 64)])))
	}
	if err == nil {
		for _, store := range d.stores {
			err = errors.Join(err, store.Leave(ctx, former))
		}
	}
	if err != nil {
		d.log.Warn("the former broker of this host is not withdrawn: the others will miss it", "error", err)
	}
}

// writeDown tells the next daemon in the folder whom to withdraw, and what its tokens begin with.
func (d *daemon) writeDown() {
	if !d.socket.Owned() {
		return
	}
	if err := os.WriteFile(filepath.Join(d.socket.Dir, formerFile), []byte(d.broker.ID().String()+"\n"), 0o600); err != nil {
		d.log.Warn("the broker cannot be written down for the next daemon", "error", err)
	}
	d.marks.writeDown()
}

const (
	marksFile = "marks.json" // what tokens of the daemons in the folder begin with
	mostMarks = 8            // of daemons; nothing is left of those before, unless they were killed one right after the other
)

// marks are those of this folder's daemons, by which the leases of a killed one are found. Of a daemon that had workers which
// are not in workers.json nobody knows when all of them have said what they hold: its leases have to run out.
type marks struct {
	socket *broker.Socket
	log    *slog.Logger

	mu   sync.Mutex // guards what follows
	runs []pastRun  // the last one is of this daemon, once own was called
}

// pastRun is a run of a daemon.
type pastRun struct {
	Mark      broker.Mark `json:"mark"`
	Strangers bool        `json:"strangers,omitempty"` // had workers that no supervisor knows
}

// formerMarks reads what former daemons have written down.
func formerMarks(socket *broker.Socket, log *slog.Logger) *marks {
	m := &marks{socket: socket, log: log}
	text, err := os.ReadFile(m.file())
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	if err == nil {
		err = json.Unmarshal(text, &m.runs)
	}
	if err != nil {
		log.Warn("what a former daemon had leased is not known: it has to run out", "error", err)
		m.runs = nil
	}
	m.runs = m.runs[max(0, len(m.runs)-mostMarks):]
	return m
}

func (m *marks) file() string { return filepath.Join(m.socket.Dir, marksFile) }

// former are the marks whose leases can be given back.
func (m *marks) former() (former []broker.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.runs[:max(0, len(m.runs)-1)] {
		if !r.Strangers {
			former = append(former, r.Mark)
		}
	}
	return former
}

// own adds the mark of this daemon.
func (m *marks) own(mark broker.Mark) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.runs = append(m.runs, pastRun{Mark: mark})
}

// strangers takes in that this daemon has a worker that is not in workers.json.
func (m *marks) strangers() {
	m.mu.Lock()
	own := &m.runs[len(m.runs)-1]
	news := !own.Strangers
	own.Strangers = true
	m.mu.Unlock()
	if news {
		m.writeDown()
	}
}

// writeDown tells the next daemon. A file that a crash has left torn is not believed.
func (m *marks) writeDown() {
	if !m.socket.Owned() {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	text, err := json.Marshal(m.runs)
	if err == nil {
		err = os.WriteFile(m.file(), text, 0o600)
	}
	if err != nil {
		m.log.Warn("what is leased cannot be found by the next daemon: it would have to run out", "error", err)
	}
}
