package broker

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// members are the brokers that share the ids, as far as this one has heard of them. Each tells all others every few
// seconds that it is there. What counts as silence is the time in which its word would have come: while nothing comes at
// all, not even our own, nobody can be told from the dead, and so nobody is forgotten. That holds for a cut connection, a
// database that hangs, and a host that sleeps; no clock of another host is asked.
type members struct {
	self   ID
	number int // our own; 0 = none yet
	most   int // highest number
	gaps   Gaps
	kinds  []string // those that we tell that we serve; sorted, never changed in place
	told   []uint32 // and how; nil = all
	others map[ID]member

	heardAt int64    // when the last word came, whoever's
	open    int64    // how long our ears have been open, in all
	patient int64    // nobody can be silent before they have been open for so long
	news    []string // what has changed since the last call of divide
}

// member is another broker. Several may have one number, which is live while any of them is.
type member struct {
	number  int
	kinds   []uint32 // as in its last word; nil = all
	heardAt int64    // when its last word came; 0 = we have only read of it
	open    int64    // how long our ears had been open by then
}

const (
	beat       = int64(2 * time.Second)  // a broker tells that often that it is there
	slowBeat   = int64(4 * time.Second)  // and that often where there are many: each word goes to all
	aloneBeat  = int64(10 * time.Second) // where there is nobody to tell: a newcomer reads of us, and is answered at once
	fewBrokers = 64                      // share what their words cost without slowing down
)

func newMembers(self ID, p Partition) members {
	m := members{self: self, most: p.Most, gaps: p.Gaps, others: map[ID]member{}}
	if p.Gaps == GapsRank {
		m.told = []uint32{} // else nobody goes by it
	}
	return m
}

// beatEvery is how often each of n brokers tells that it is there. A word goes to everybody, so that words cost n*n/beatEvery.
// Deliveries a second, with the jitter, as the simulation counts them: 2 of 2 brokers, 37 of 8, 2300 of 64, 19,000 of 256;
// these would be 38,000 if they told each 2 s. One takes 15 to 50 µs of the server's processors, as measured with as many
// connections, so that 256 brokers take between a quarter and the whole of one. Telling still more seldom would not keep the
// promise that a crash is noticed within seven seconds, with time left for a word that is late.
func beatEvery(n int) int64 {
	if n == 1 {
		return aloneBeat
	}
	return min(max(beat, beat*int64(n)/fewBrokers), slowBeat)
}

// silentAfter is the silence after which one of n brokers is forgotten, at the next word that comes. Where none would come
// soon, somebody asks for one: see [place.probeTime]. So all in all it is seven seconds at most.
func silentAfter(n int) int64 { return max(beat, beatEvery(n)) + beat }

func (m *members) count() int { return len(m.others) + 1 }

// valid says whether a presence can be true.
func (m *members) valid(p Presence) bool { return p.Number >= 1 && p.Number <= m.most }

// hear takes in that a broker is there, or leaves. It says whether we had not heard it before: it may not know us then.
func (m *members) hear(now int64, p Presence) (unknown bool) {
	if !m.valid(p) {
		return false
	}
	m.openUntil(now)
	if p.Broker != m.self {
		unknown = m.update(now, p)
	}
	m.forget()
	return unknown
}

// openUntil counts the time since the last word, as far as we would have heard one: had it come later than our own next
// word was to come back, it was not for lack of speakers.
func (m *members) openUntil(now int64) {
	if m.heardAt != 0 {
		m.open += min(now-m.heardAt, m.mostOpen())
	}
	m.heardAt = now
}

// mostOpen is how long it may take until the next word comes, our own at the latest.
func (m *members) mostOpen() int64 { return max(beat, beatEvery(m.count())) }

func (m *members) update(now int64, p Presence) (unknown bool) {
	old, known := m.others[p.Broker]
	switch {
	case p.Left && known:
		delete(m.others, p.Broker)
		m.patient = 0 // the limit may be another now
		m.note("%d has left", old.number)
	case p.Left, !known && len(m.others) >= 2*m.most: // somebody plays with the channel
		return false
	case !known:
		m.patient = 0
		m.note("%d has come", p.Number)
	case old.number != p.Number:
		m.note("%d has become %d", old.number, p.Number)
	case old.heardAt == 0 && p.Number == m.number: // so it is not who had our number before
		m.note("%d is there, too", p.Number)
	case !sameKinds(old.kinds, p.Kinds):
		m.note("%d %s", p.Number, newsOf(old.kinds, p.Kinds))
	}
	if !p.Left {
		m.others[p.Broker] = member{p.Number, p.Kinds, now, m.open}
	}
	return !p.Left && old.heardAt == 0
}

// newsOf says how the kinds that a broker serves have changed.
func newsOf(before, after []uint32) string {
	switch {
	case !hasAny(after):
		return "has no workers"
	case !hasAny(before):
		return "has workers"
	}
	return "serves other kinds"
}

// forget drops those that are silent.
func (m *members) forget() {
	if m.open < m.patient {
		return
	}
	var silent []int
	limit := silentAfter(m.count())
	for id, o := range m.others {
		if m.open-o.open > limit {
			delete(m.others, id)
			silent = append(silent, o.number)
		}
	}
	slices.Sort(silent)
	for _, number := range silent {
		m.note("%d is silent", number)
	}
	m.expect()
	if silent != nil {
		m.forget() // the limit may be another now
	}
}

// expect looks when somebody can be silent at the earliest.
func (m *members) expect() {
	limit := silentAfter(m.count())
	m.patient = m.open + limit + 1
	for _, o := range m.others {
		m.patient = min(m.patient, o.open+limit+1)
	}
}

// silenceAt is a time before which nobody can be silent, whoever speaks or not; 0 = it cannot be told.
func (m *members) silenceAt() int64 {
	left := m.patient - m.open
	if len(m.others) == 0 || m.heardAt == 0 || left <= 0 || left > m.mostOpen() {
		return 0
	}
	return m.heardAt + left
}

// meet takes in who is there as of the database. Those that we have heard of, we know better.
func (m *members) meet(who []Presence) {
	for _, p := range who {
		if _, known := m.others[p.Broker]; !known && p.Broker != m.self && m.valid(p) {
			m.update(0, p)
		}
	}
}

// become takes a number for our own.
func (m *members) become(number int) {
	switch {
	case m.number == 0:
		m.note("joined")
	case m.number != number:
		m.note("moved from %d to %d", m.number, number)
	}
	m.number = number
}

// reopen takes in that our ears have been shut until now: everybody gets the time to be heard.
func (m *members) reopen(now int64) {
	m.heardAt, m.patient = now, 0
	for id, o := range m.others {
		o.open = m.open
		m.others[id] = o
	}
}

// serve takes in the kinds that we tell that we serve.
func (m *members) serve(kinds []string) {
	before := m.told
	m.kinds, m.told = kinds, hashKinds(kinds)
	m.note("%s", newsOf(before, m.told))
}

// divide is the division among the live. By rank each kind is divided among those who serve it.
func (m *members) divide() parts {
	if m.number == 0 {
		return parts{}
	}
	if m.gaps == GapsOverdue {
		highest := m.number
		for _, o := range m.others {
			highest = max(highest, o.number)
		}
		p := parts{division: division{m.number, m.number, highest}}
		p.take(p.division)
		return p
	}
	all := m.among(hasAny)
	if !m.differ() {
		return newParts(all, m.kinds, nil)
	}
	otherwise := map[string]division{}
	for _, kind := range m.kinds {
		hash := hashKind(kind)
		if d := m.among(func(kinds []uint32) bool { return hasKind(kinds, hash) }); d != all {
			otherwise[kind] = d
		}
	}
	if len(otherwise) == 0 {
		otherwise = nil
	}
	return newParts(all, m.kinds, otherwise)
}

// differ says whether some broker with workers has none for some kind of ours.
func (m *members) differ() bool {
	for _, o := range m.others {
		if hasAny(o.kinds) && !hasKinds(o.kinds, m.told) {
			return true
		}
	}
	return false
}

// among is the division by the ranks of those who serve what is asked.
func (m *members) among(serves func(kinds []uint32) bool) division {
	var numbers []int
	mine := serves(m.told)
	if mine {
		numbers = append(numbers, m.number)
	}
	for _, o := range m.others {
		if serves(o.kinds) {
			numbers = append(numbers, o.number)
		}
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	d := division{number: m.number, of: len(numbers)}
	if mine {
		index, _ := slices.BinarySearch(numbers, m.number)
		d.rank = index + 1
	}
	return d
}

// turn is the place of our number among all that are live, from 1.
func (m *members) turn() int {
	lower := map[int]bool{}
	for _, o := range m.others {
		if o.number < m.number {
			lower[o.number] = true
		}
	}
	return len(lower) + 1
}

// twins are the others that say that they have our number, by id. One that we have only read of may be who had it before.
func (m *members) twins() (ids []ID) {
	for id, o := range m.others {
		if o.number == m.number && o.heardAt != 0 {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, compareIDs)
	return ids
}

func (m *members) note(format string, args ...any) {
	m.news = append(m.news, fmt.Sprintf(format, args...))
}

func compareIDs(a, b ID) int { return bytes.Compare(a[:], b[:]) }
