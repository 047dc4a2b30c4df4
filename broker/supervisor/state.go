package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	stateVersion = 1
	maxState     = 16 << 20 // bytes; 10,000 workers need 4 MiB
)

// state is the content of workers.json: all that a later daemon needs to know its workers again.
type state struct {
	Version int      `json:"version"`
	Boot    string   `json:"boot"` // pids and start times mean nothing in another boot
	Workers []record `json:"workers"`
	Paused  []string `json:"paused,omitempty"` // pools that get no strands; they are so in another boot, too

	Pools json.RawMessage `json:"pools,omitempty"` // a list of [past]; what of it cannot be read spoils nothing else
}

// record is one worker process.
type record struct {
	Pool    string    `json:"pool"`
	Index   int       `json:"index"`
	Key     string    `json:"key"`
	PID     int       `json:"pid"`   // 0: it was about to be started
	Start   string    `json:"start"` // the kernel's start time, in whatever form: it is only compared
	Binary  string    `json:"binary"`
	Image   string    `json:"image"`              // the version of the binary; "" = not known
	Started time.Time `json:"started"`            // for people
	RunsAs  string    `json:"runs_as,omitempty"`  // see [Pool.runsAs]; "" = not known
	ErrFrom int64     `json:"err_from"`           // size of its stderr log when it was started
	ErrFile uint64    `json:"err_file,omitempty"` // inode of that log; 0 = not known
	Cgroup  string    `json:"cgroup,omitempty"`
	Surplus bool      `json:"surplus,omitempty"` // it has no place any more, and was asked to end
}

// stateFile reads and replaces workers.json.
type stateFile struct {
	path string
	boot string
}

// load returns the workers of a former daemon, and what it has left of pools, by name. An error means that there is a file, but
// its workers are not to be trusted.
func (s stateFile) load() ([]record, map[string]past, error) {
	st, err := s.parse()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err = checkRecords(st.Workers); st.Boot != s.boot {
		err = fmt.Errorf("%s is of another boot of the host", s.path)
	}
	if err != nil {
		st.Workers, st.Pools = nil, nil
	}
	return st.Workers, st.pasts(), err
}

// pasts puts together what is known of each pool.
func (st state) pasts() map[string]past {
	pasts := make(map[string]past)
	var texts []json.RawMessage
	_ = json.Unmarshal(st.Pools, &texts) // there may be none
	for _, text := range texts {
		var p past
		if json.Unmarshal(text, &p) == nil {
			pasts[p.Name] = p
		}
	}
	for _, name := range st.Paused {
		p := pasts[name]
		p.Name, p.Paused = name, true
		pasts[name] = p
	}
	return pasts
}

func (s stateFile) parse() (st state, err error) {
	data, err := s.read()
	if err != nil {
		return st, err
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return st, fmt.Errorf("parse %s: %w", s.path, err)
	}
	if st.Version != stateVersion {
		return st, fmt.Errorf("%s has version %d, this daemon knows %d", s.path, st.Version, stateVersion)
	}
	return st, nil
}

// read takes the file only if nobody else can have written it: its pids are going to be signalled.
func (s stateFile) read() ([]byte, error) {
	f, err := os.OpenFile(s.path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file", s.path)
	case !ok || int(owner.Uid) != os.Geteuid() || info.Mode()&0o022 != 0:
		return nil, fmt.Errorf("%s belongs to, or can be written by, somebody else (mode %v)", s.path, info.Mode())
	case info.Size() > maxState:
		return nil, fmt.Errorf("%s has %d bytes, at most %d are believed", s.path, info.Size(), maxState)
	}
	return io.ReadAll(io.LimitReader(f, maxState))
}

// checkRecords refuses the whole file for one record that no daemon writes.
func checkRecords(records []record) error {
	keys := make(map[string]bool, len(records))
	for _, r := range records {
		switch {
		case r.PID < 0 || r.PID == 1:
			return fmt.Errorf("a record has pid %d", r.PID)
		case r.PID > 0 && r.Start == "":
			return fmt.Errorf("the record of pid %d has no start time", r.PID)
		case len(r.Key) != keyLen || keys[r.Key]:
			return fmt.Errorf("the record of pid %d has a bad key", r.PID)
		case !poolName.MatchString(r.Pool) || r.Index < 0 || r.ErrFrom < 0:
			return fmt.Errorf("the record of pid %d has no place among logs: %q, %d", r.PID, r.Pool, r.Index)
		case r.Cgroup != "" && !ownGroupPath(r.Cgroup):
			return fmt.Errorf("the record of pid %d has a cgroup that is none of ours: %q", r.PID, r.Cgroup)
		}
		keys[r.Key] = true
	}
	return nil
}

// save replaces the file. After an error the old one is still there.
func (s stateFile) save(records []record, pasts []past) error {
	st := state{Version: stateVersion, Boot: s.boot, Workers: records}
	for _, p := range pasts {
		if p.Paused {
			st.Paused = append(st.Paused, p.Name)
		}
	}
	var err error
	if len(pasts) > 0 {
		if st.Pools, err = json.Marshal(pasts); err != nil {
			return fmt.Errorf("encode %s: %w", s.path, err)
		}
	}
	data, err := json.MarshalIndent(st, "", "\t")
	if err != nil {
		return fmt.Errorf("encode %s: %w", s.path, err)
	}
	temp := s.path + ".new"
	if err := writeSynced(temp, data); err != nil {
		_ = os.Remove(temp) // it may not even be there
		return err
	}
	return os.Rename(temp, s.path)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
