package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/respirated/respirated/client"
)

// line is one strand of a file.
type line struct {
	number int // from 1
	args   client.RawArgs
	opts   client.InsertOpts
}

// lineJSON is how a line is written: the three arguments of respirate.insert.
type lineJSON struct {
	Kind string          `json:"kind"`
	Args json.RawMessage `json:"args"`
	Opts optsJSON        `json:"opts"`
}

// optsJSON are the options as respirate.insert takes them.
type optsJSON struct {
	ID          string          `json:"id"`
	Queue       string          `json:"queue"`
	Tenant      string          `json:"tenant"`
	Priority    int             `json:"priority"`
	At          *string         `json:"at"`
	In          *float64        `json:"in"` // seconds
	MaxTries    int             `json:"max_tries"`
	Label       string          `json:"label"`
	Tags        []string        `json:"tags"`
	Metadata    json.RawMessage `json:"metadata"`
	Keep        bool            `json:"keep"`
	RequireKind bool            `json:"require_kind"`
}

// longestLine has room for the largest args and metadata, however they are spelled.
const longestLine = 8 << 20

// lineReader reads a file line by line. Empty lines are passed over.
type lineReader struct {
	in     *bufio.Scanner
	clock  dbClock
	number int
}

func newLineReader(in io.Reader, clock dbClock) *lineReader {
	scanner := bufio.NewScanner(in)
	scanner.Buffer(nil, longestLine)
	return &lineReader{in: scanner, clock: clock}
}

// next returns the next strand, or io.EOF.
func (r *lineReader) next() (line, error) {
	for r.in.Scan() {
		r.number++
		text := bytes.TrimSpace(r.in.Bytes())
		if len(text) == 0 {
			continue
		}
		l, err := r.parse(text)
		if err != nil {
			return l, fmt.Errorf("line %d: %w", r.number, err)
		}
		l.number = r.number
		return l, nil
	}
	switch err := r.in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return line{}, fmt.Errorf("line %d: is longer than %d bytes", r.number+1, longestLine)
	case err != nil:
		return line{}, fmt.Errorf("line %d: %w", r.number+1, err)
	}
	return line{}, io.EOF
}

func (r *lineReader) parse(text []byte) (line, error) {
	var l lineJSON
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return line{}, lineError(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return line{}, errors.New("there is something behind the JSON object")
	}
	o := l.Opts
	parsed := line{
		args: client.RawArgs{Name: l.Kind, JSON: l.Args},
		opts: client.InsertOpts{
			ID: o.ID, Queue: o.Queue, Tenant: o.Tenant, Priority: o.Priority, MaxTries: o.MaxTries, Label: o.Label,
			Tags: o.Tags, Metadata: o.Metadata, Keep: o.Keep, RequireKind: o.RequireKind,
		},
	}
	if string(parsed.opts.Metadata) == "null" {
		parsed.opts.Metadata = nil
	}
	at, err := r.schedule(o)
	parsed.opts.ScheduledAt = at
	return parsed, err
}

// mostSeconds is as far as respirate.insert lets a strand be put ahead or behind: a hundred years.
const mostSeconds = 3155760000

func (r *lineReader) schedule(o optsJSON) (at time.Time, err error) {
	switch {
	case o.At != nil && o.In != nil:
		return at, errors.New("opts.in goes without opts.at")
	case o.At != nil:
		if at, err = time.Parse(time.RFC3339, *o.At); err != nil {
			return at, fmt.Errorf("opts.at %.40q is not a time such as 2026-11-22T15:04:05Z", *o.At)
		}
		return at, nil
	case o.In == nil:
		return at, nil
	case math.Abs(*o.In) > mostSeconds:
		return at, fmt.Errorf("opts.in %v is not between %d and %d", *o.In, -mostSeconds, mostSeconds)
	}
	now, err := r.clock()
	return now.Add(time.Duration(*o.In * float64(time.Second))), err
}

// lineError names the field that is at fault, as far as encoding/json knows it.
func lineError(err error) error {
	var typeErr *json.UnmarshalTypeError
	switch {
	case errors.As(err, &typeErr) && typeErr.Field == "":
		return fmt.Errorf("is %s, not a JSON object such as {\"kind\": \"echo\", \"args\": {}}", typeErr.Value)
	case errors.As(err, &typeErr):
		return fmt.Errorf("%s is %s, not %s", typeErr.Field, typeErr.Value, jsonName(typeErr.Type))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON object has no end")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// jsonName is what JSON calls a Go type.
func jsonName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a text"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array of texts"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	}
	return "an object"
}
