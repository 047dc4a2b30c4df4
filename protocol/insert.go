package protocol

import (
	"encoding/json"
	"time"
)

// Defaults of [InsertOpts].
const (
	DefaultQueue    = "default"
	DefaultPriority = 5
	DefaultMaxTries = 25
	DefaultLabel    = "start"
)

// InsertOpts says how a new strand is to be run. The zero value means the defaults. It is written as JSON in the form
// that respirate.insert takes, that [Insert].Opts carries, and that the command line reads.
type InsertOpts struct {
	ID          string          // a UUID; inserting one that exists already changes nothing; "" = a random one
	Queue       string          // "" = DefaultQueue
	Tenant      string          // "" = the default tenant
	Priority    int             // 1 (first) to 9 (last); 0 = 5
	ScheduledAt time.Time       // not before, in the years 1 to 9999; zero or past = at once
	MaxTries    int             // failures until it is dead, at most 32767; 0 = 25
	Label       string          // where the program starts; "" = "start"
	Tags        []string        // for people, and for SQL that looks for them
	Metadata    json.RawMessage // a JSON object that travels with the strand; nil = none
	Keep        bool            // keep it in the history when it has finished, whatever its queue says
	RequireKind bool            // refuse it unless some live worker serves its kind
}

// insertOpts is the JSON form: a default is left out, so that the database fills it in.
type insertOpts struct {
	ID          string          `json:"id,omitempty"`
	Queue       string          `json:"queue,omitempty"`
	Tenant      string          `json:"tenant,omitempty"`
	Priority    int             `json:"priority,omitempty"`
	ScheduledAt *time.Time      `json:"at,omitempty"`
	MaxTries    int             `json:"max_tries,omitempty"`
	Label       string          `json:"label,omitempty"`
	Tags        []string        `json:"tags,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
	Keep        bool            `json:"keep,omitempty"`
	RequireKind bool            `json:"require_kind,omitempty"`
}

// MarshalJSON writes the object that respirate.insert takes.
func (o InsertOpts) MarshalJSON() ([]byte, error) {
	j := insertOpts{ID: o.ID, Queue: o.Queue, Tenant: o.Tenant, Priority: o.Priority, MaxTries: o.MaxTries, Label: o.Label,
		Tags: o.Tags, Metadata: o.Metadata, Keep: o.Keep, RequireKind: o.RequireKind}
	if !o.ScheduledAt.IsZero() {
		at := o.ScheduledAt.UTC()
		j.ScheduledAt = &at
	}
	return json.Marshal(j)
}
