package client

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/respirated/respirated/client/internal/pgtext"
	"github.com/respirated/respirated/protocol"
)

// walk is a listing on its way.
type walk struct {
	kinds, queues, tenants any // array literals; nil = all
	live, finished         []string
	parent                 string // "" = all
	first, found           int
	at                     position // behind it the walk goes on
}

// The parts of a listing, in order.
const (
	phaseLive     = "live"
	phaseFinished = "finished"
	phaseEnd      = ""
)

// position is a place in a listing.
type position struct {
	Phase string `json:"phase,omitempty"`
	ID    string `json:"id,omitempty"`
	At    string `json:"at,omitempty"` // finished_at, as Postgres spells it
}

// The places before all others.
var (
	liveStart     = position{Phase: phaseLive}
	finishedStart = position{Phase: phaseFinished, ID: "ffffffff-ffff-ffff-ffff-ffffffffffff", At: "infinity"}
)

func newWalk(params *StrandListParams) (*walk, error) {
	if params == nil {
		params = &StrandListParams{}
	}
	w := &walk{
		kinds:   filter(params.Kinds),
		queues:  filter(params.Queues),
		tenants: filter(params.Tenants),
		first:   params.First,
		at:      liveStart,
	}
	switch {
	case w.first == 0:
		w.first = DefaultFirst
	case w.first < 0 || w.first > MaxFirst:
		return nil, fmt.Errorf("first is %d, not 1 to %d", w.first, MaxFirst)
	}
	for _, text := range slices.Concat(params.Kinds, params.Queues, params.Tenants) {
		if err := checkOptionalName(text); err != nil {
			return nil, fmt.Errorf("a filter %w", err)
		}
	}
	if params.Parent != "" {
		parent, err := protocol.CanonicalID(params.Parent)
		if err != nil {
			return nil, fmt.Errorf("parent %w", err)
		}
		w.parent = parent
	}
	if err := w.pick(params.States); err != nil {
		return nil, err
	}
	if params.After == "" {
		w.skipEmpty()
		return w, nil
	}
	at, err := parsePosition(params.After)
	w.at = at
	return w, err
}

func filter(names []string) any {
	if len(names) == 0 {
		return nil
	}
	return pgtext.Array(names)
}

func (w *walk) pick(states []State) error {
	if len(states) == 0 {
		states = allStates
	}
	for _, s := range states {
		switch {
		case slices.Contains(liveStates, s):
			w.live = append(w.live, string(s))
		case slices.Contains(finishedStates, s):
			w.finished = append(w.finished, string(s))
		default:
			return fmt.Errorf("%.40q is not a state; the states are %v", s, allStates)
		}
	}
	w.live, w.finished = unique(w.live), unique(w.finished)
	return nil
}

func unique(texts []string) []string {
	slices.Sort(texts)
	return slices.Compact(texts)
}

func (w *walk) filtersLanes() bool { return w.kinds != nil || w.queues != nil || w.tenants != nil }

func (w *walk) left() int { return w.first - w.found }

// advance moves behind what was found if that is enough, else behind the last that was looked at; and on to the next
// part, if there was no more in this one.
func (w *walk) advance(found []position, last position, over bool) {
	w.found += len(found)
	phase := w.at.Phase
	switch {
	case w.left() == 0 && len(found) > 0:
		w.at = found[len(found)-1]
	case over:
		w.nextPhase()
		return
	default:
		w.at = last
	}
	w.at.Phase = phase
}

func (w *walk) nextPhase() {
	if w.at.Phase == phaseLive {
		w.at = finishedStart
	} else {
		w.at = position{Phase: phaseEnd}
	}
	w.skipEmpty()
}

// skipEmpty passes the parts that no wanted state is in.
func (w *walk) skipEmpty() {
	if w.at.Phase == phaseLive && len(w.live) == 0 {
		w.at = finishedStart
	}
	if w.at.Phase == phaseFinished && len(w.finished) == 0 {
		w.at = position{Phase: phaseEnd}
	}
}

// String is the opaque form that callers see.
func (p position) String() string {
	if p.Phase == phaseEnd {
		return ""
	}
	text, _ := json.Marshal(p) // of strings, so it cannot fail
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePosition(after string) (position, error) {
	var p position
	text, err := base64.RawURLEncoding.DecodeString(after)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil || !p.valid() {
		return p, fmt.Errorf("after %.80q is not a place in a listing; give what the page before said", after)
	}
	return p, nil
}

func (p position) valid() bool {
	_, idErr := protocol.CanonicalID(p.ID)
	_, timeErr := time.Parse(time.RFC3339, p.At)
	switch p.Phase {
	case phaseLive:
		return idErr == nil || p == liveStart
	case phaseFinished:
		return idErr == nil && timeErr == nil || p == finishedStart
	}
	return false
}
