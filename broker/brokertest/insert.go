package brokertest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/respirated/respirated/broker"
)

// Insert implements [broker.Store].
func (s *Store) Insert(ctx context.Context, inserts []broker.Insert) ([]broker.ID, error) {
	var ids []broker.ID
	hint := false
	err := s.call(ctx, Insert, func(now time.Time) error {
		made, err := s.prepare(inserts, now)
		if err != nil {
			return err
		}
		for _, r := range made {
			if s.admit(r) {
				hint = s.hintWanted(now)
			}
			ids = append(ids, r.id)
		}
		return nil
	})
	if hint {
		s.channel.Hint(broker.Hint{})
	}
	if err != nil {
		return nil, err
	}
	return ids, nil
}

// prepare makes strands without letting them in, or tells which insert is bad.
func (s *Store) prepare(inserts []broker.Insert, now time.Time) ([]*strand, error) {
	made := make([]*strand, 0, len(inserts))
	for i, in := range inserts {
		d, bad := newDraft(in, now)
		if bad == nil && d.requireKind && !s.served(d.kind, now) {
			bad = &broker.InsertError{Field: "kind", Why: fmt.Sprintf("no worker serves %q now", d.kind)}
		}
		if bad != nil {
			bad.Index = i
			return nil, bad
		}
		made = append(made, &d.strand)
	}
	return made, nil
}

// admit lets a strand in, unless one of its id is or was there.
func (s *Store) admit(r *strand) bool {
	_, live := s.live[r.id]
	_, over := s.history[r.id]
	if live || over {
		return false
	}
	s.live[r.id] = r
	return true
}

// draft is a strand while its options are read.
type draft struct {
	strand
	now         time.Time
	requireKind bool
}

func newDraft(in broker.Insert, now time.Time) (*draft, *broker.InsertError) {
	d := &draft{now: now, strand: strand{
		args:     in.Args,
		created:  now,
		schedule: now,
		label:    "start",
		maxTries: 25,
		lane:     lane{queue: queue{name: "default"}, priority: 5, kind: in.Kind},
	}}
	if why := checkName(in.Kind); why != "" {
		return nil, &broker.InsertError{Field: "kind", Why: why}
	}
	if why := cmp.Or(checkSize(in.Args, maxArgs), checkJSON(in.Args)); why != "" {
		return nil, &broker.InsertError{Field: "args", Why: why}
	}
	if bad := d.read(in.Opts); bad != nil {
		return nil, bad
	}
	if d.schedule.Before(now) { // nothing may appear behind a scan's cursor
		d.schedule = now
	}
	if in.ID != (broker.ID{}) {
		d.id = in.ID
	}
	if d.id == (broker.ID{}) {
		rand.Read(d.id[:])
	}
	return d, nil
}

// read takes the options in, in the order of their names, so that of several bad ones always the same is told.
func (d *draft) read(opts []byte) *broker.InsertError {
	if len(opts) == 0 {
		return nil
	}
	var given map[string]json.RawMessage
	why := checkJSON(opts)
	if why == "" && (json.Unmarshal(opts, &given) != nil || given == nil) {
		why = "is not a JSON object"
	}
	if why != "" {
		return &broker.InsertError{Field: "opts", Why: why}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		set, known := options[name]
		if !known {
			return &broker.InsertError{Field: "opts." + name, Why: "is not an option"}
		}
		if string(given[name]) == "null" { // as good as none
			delete(given, name)
			continue
		}
		if why := set(d, given[name]); why != "" {
			return &broker.InsertError{Field: "opts." + name, Why: why}
		}
	}
	if given["at"] != nil && given["in"] != nil {
		return &broker.InsertError{Field: "opts.in", Why: "goes without opts.at"}
	}
	return nil
}

// options are the keys of Insert.Opts. Each sets its part of the draft, or says why it cannot.
var options = map[string]func(d *draft, value []byte) (why string){
	"id": func(d *draft, value []byte) string {
		var text string
		if why := decode(value, &text, "a UUID"); why != "" {
			return why
		}
		id, err := broker.ParseID(text)
		if err != nil {
			return err.Error()
		}
		d.id = id
		return ""
	},
	"queue":  func(d *draft, value []byte) string { return decodeName(value, &d.name) },
	"tenant": func(d *draft, value []byte) string { return decodeTenant(value, &d.tenant) },
	"label":  func(d *draft, value []byte) string { return decodeName(value, &d.label) },
	"priority": func(d *draft, value []byte) string {
		return decodeNumber(value, &d.priority, 1, 9)
	},
	"max_tries": func(d *draft, value []byte) string {
		return decodeNumber(value, &d.maxTries, 1, 32767)
	},
	"at": func(d *draft, value []byte) string { return decode(value, &d.schedule, "a time") },
	"in": func(d *draft, value []byte) string {
		var seconds float64
		if why := decode(value, &seconds, "a number of seconds"); why != "" {
			return why
		}
		d.schedule = d.now.Add(time.Duration(seconds * float64(time.Second)))
		return ""
	},
	"tags": func(d *draft, value []byte) string { return decodeTags(value, &d.tags) },
	"metadata": func(d *draft, value []byte) string {
		d.metadata = value
		return cmp.Or(checkSize(value, maxMetadata), decode(value, &map[string]json.RawMessage{}, "a JSON object"))
	},
	"keep": func(_ *draft, value []byte) string { // this store keeps everything
		return decode(value, new(bool), "true or false")
	},
	"require_kind": func(d *draft, value []byte) string {
		return decode(value, &d.requireKind, "true or false")
	},
}

func decode(value []byte, into any, what string) (why string) {
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Sprintf("%.40s is not %s", value, what)
	}
	return ""
}

func decodeName(value []byte, into *string) (why string) {
	return cmp.Or(decode(value, into, "a text"), checkName(*into))
}

// decodeTenant allows the empty text, which is the default tenant.
func decodeTenant(value []byte, into *string) (why string) {
	if bytes.Equal(value, []byte(`""`)) {
		*into = ""
		return ""
	}
	return decodeName(value, into)
}

func decodeTags(value []byte, into *[]string) (why string) {
	if why := decode(value, into, "an array of texts"); why != "" {
		return why
	}
	if len(*into) > maxTags {
		return fmt.Sprintf("has %d entries, at most %d are allowed", len(*into), maxTags)
	}
	for _, tag := range *into {
		if why := checkName(tag); why != "" {
			return why
		}
	}
	return ""
}

func decodeNumber(value []byte, into *int, lo, hi int) (why string) {
	if why := decode(value, into, "a whole number"); why != "" {
		return why
	}
	if *into < lo || *into > hi {
		return fmt.Sprintf("%d is not between %d and %d", *into, lo, hi)
	}
	return ""
}
