package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/respirated/respirated/protocol"
)

// mergeOpts puts the options of the call over those of the args over the defaults, each option by itself.
// Where there are only defaults, it returns these.
func mergeOpts(p InsertManyParams, defaults *InsertOpts) *InsertOpts {
	merged := defaults
	if own, ok := p.Args.(ArgsWithInsertOpts); ok {
		over := own.InsertOpts()
		merged = overlay(merged, &over)
	}
	if p.InsertOpts != nil {
		merged = overlay(merged, p.InsertOpts)
	}
	if string(bytes.TrimSpace(merged.Metadata)) == "null" {
		bare := *merged
		bare.Metadata = nil
		return &bare
	}
	return merged
}

func overlay(under, over *InsertOpts) *InsertOpts {
	return &InsertOpts{
		ID:          either(over.ID, under.ID),
		Queue:       either(over.Queue, under.Queue),
		Tenant:      either(over.Tenant, under.Tenant),
		Priority:    either(over.Priority, under.Priority),
		ScheduledAt: either(over.ScheduledAt, under.ScheduledAt),
		MaxTries:    either(over.MaxTries, under.MaxTries),
		Label:       either(over.Label, under.Label),
		Tags:        eitherSlice(over.Tags, under.Tags),
		Metadata:    eitherSlice(over.Metadata, under.Metadata),
		Keep:        over.Keep || under.Keep,
		RequireKind: over.RequireKind || under.RequireKind,
	}
}

func either[T comparable](over, under T) T {
	var none T
	if over != none {
		return over
	}
	return under
}

func eitherSlice[S ~[]E, E any](over, under S) S {
	if over != nil {
		return over
	}
	return under
}

// What the functions of the schema allow. A COPY passes them by, so they are held here too; a test compares the two.
const (
	maxPriority = 9
	maxArgs     = 1 << 20  // bytes, in the spelling of jsonb
	maxMetadata = 64 << 10 // bytes, in the spelling of jsonb
	maxTags     = 100
)

// checkOpts refuses the option that the database would refuse; of several, the first by name, as it does.
func checkOpts(o *InsertOpts) error {
	for _, check := range [...]fieldError{
		{"opts.at", checkTime(o.ScheduledAt)},
		{"opts.id", checkID(o.ID)},
		{"opts.label", checkOptionalName(o.Label)},
		{"opts.max_tries", checkRange(o.MaxTries, math.MaxInt16)},
		{"opts.metadata", checkMetadata(o.Metadata)},
		{"opts.priority", checkRange(o.Priority, maxPriority)},
		{"opts.queue", checkOptionalName(o.Queue)},
		{"opts.tags", checkTags(o.Tags)},
		{"opts.tenant", checkOptionalName(o.Tenant)},
	} {
		if check.why != nil {
			return &fieldError{check.field, check.why} // a copy, so that the usual case allocates nothing
		}
	}
	return nil
}

// checkRange allows 0, which stands for the default.
func checkRange(n, highest int) error {
	if n < 0 || n > highest {
		return fmt.Errorf("is %d, not 1 to %d", n, highest)
	}
	return nil
}

func checkID(id string) error {
	if id == "" {
		return nil
	}
	_, err := protocol.CanonicalID(id)
	return err
}

func checkOptionalName(name string) error {
	if name == "" {
		return nil
	}
	return protocol.CheckName(name)
}

// checkTime keeps to the years that JSON can spell.
func checkTime(at time.Time) error {
	if at.IsZero() {
		return nil
	}
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return fmt.Errorf("is in the year %d, not 1 to 9999", year)
	}
	return nil
}

func checkTags(tags []string) error {
	if len(tags) > maxTags {
		return fmt.Errorf("has %d entries, more than %d", len(tags), maxTags)
	}
	for _, tag := range tags {
		if err := protocol.CheckName(tag); err != nil {
			return fmt.Errorf("has an entry that %w", err)
		}
	}
	return nil
}

func checkMetadata(metadata json.RawMessage) error {
	if metadata == nil {
		return nil
	}
	if err := checkSize(protocol.MeasureJSON, metadata, maxMetadata); err != nil {
		return err
	}
	if start := bytes.TrimLeft(metadata, " \t\r\n"); start[0] != '{' {
		return fmt.Errorf("is not a JSON object: %.40s", start)
	}
	return nil
}

func checkSize(measure func([]byte) (int, error), text []byte, limit int) error {
	n, err := measure(text)
	if err == nil && n > limit {
		err = fmt.Errorf("is %d bytes long, more than %d", n, limit)
	}
	return err
}

// encodeArgs writes args as JSON that Postgres can store.
func encodeArgs(args Args) ([]byte, error) {
	if raw, ok := args.(RawArgs); ok {
		if raw.JSON == nil {
			return []byte("{}"), nil
		}
		return raw.JSON, checkSize(protocol.MeasureJSON, raw.JSON, maxArgs)
	}
	text, err := json.Marshal(args)
	if err != nil {
		return nil, fmt.Errorf("cannot be written as JSON: %w", err)
	}
	return text, checkSize(protocol.MeasureMarshalled, text, maxArgs)
}
