package broker

import (
	"math/rand/v2"
	"slices"
	"time"
)

// place is a broker's place among those that share the ids: it joins, tells the others that it is there, hears of them, and
// leaves. It is a value without goroutines and clocks, and knows nothing of strands. Its owner calls join, speak and divide
// whenever something has happened, and when next says so.
type place struct {
	Partition
	members
	dice rand.PCG // so that not all speak at once

	former  int   // the number to ask for first, since it is ours already; 0 = there is none
	joining bool  // asked for a number, and not yet answered
	joinAt  int64 // when to ask; 0 = there is no reason to
	readyAt int64 // the first scan waits until then, at most; 0 = we have no number yet
	echoed  bool  // our own word has come back: we hear what is told

	speaking bool     // a word is on its way
	spokenAt int64    // when the last one went
	speakAt  int64    // the next one by time
	soonAt   int64    // and by reason; 0 = there is none
	unheard  int      // words sent since the last of ours came back
	moved    bool     // to another number, which was not told yet
	served   []string // the kinds that our workers serve; sorted, never changed in place
	fewerAt  int64    // when to tell that some kind is served no more; 0 = there is none
	leaving  bool
	silentBy int64 // leaving: the goodbye has until then

	parts   parts // as of the last call of divide
	turn    int   // when to ask for those who are silent: the place of our number among all, as of then
	twinIDs []ID  // the others with our number, as of then
	twinAt  int64 // when we give up a number that another has, too; 0 = never
}

const (
	answerSpread = int64(50 * time.Millisecond) // a newcomer is answered by all others, not by all at once
	answerApart  = int64(50 * time.Millisecond) // many newcomers share an answer
	answerShare  = int64(4 * time.Millisecond)  // which is so much rarer for each broker
	probeSpread  = int64(500 * time.Millisecond)
	againApart   = int64(10 * time.Millisecond) // a new number is told twice: the last word of the old one may come late
	goodbyeTime  = int64(2 * time.Second)
	tellRetry    = int64(time.Second)
	noneFree     = int64(2 * time.Second) // until we ask again for a number, where all are taken
	twinPatience = int64(6 * time.Second) // from meeting another with our number to giving it up, if the other does not
	deafAfter    = 3                      // words that did not come back
)

func newPlace(self ID, p Partition, seed uint64) place {
	return place{Partition: p, members: newMembers(self, p), dice: *rand.NewPCG(seed, 0), joinAt: 1}
}

// on says whether ids are divided at all.
func (p *place) on() bool { return p.Partition.Number != 0 }

// ready says whether it may be scanned for strands: when it is settled what is ours, as far as one can know.
func (p *place) ready(now int64) bool {
	return !p.on() || p.number != 0 && (p.echoed || now >= p.readyAt)
}

// join says whether to ask for a number now. The answer goes to [place.joined].
func (p *place) join(now int64) bool {
	at := p.joinTime()
	if at == 0 || now < at {
		return false
	}
	p.joining = true
	return true
}

// wanted is the number to ask for; 0 = any.
func (p *place) wanted() int {
	if p.former != 0 {
		return p.former
	}
	return max(p.Partition.Number, 0)
}

// joined takes in the number that we have got, and whom the database knows.
func (p *place) joined(now int64, j Joined, err error) {
	p.joining = false
	switch {
	case err != nil:
		p.joinAt = now + errorRetry
		return
	case j.Number == 0:
		p.joinAt = now + noneFree
		return
	}
	p.joinAt, p.speakAt, p.soonAt, p.former = 0, now, now, 0
	p.moved = p.number != 0 && p.number != j.Number
	if p.twinAt = 0; p.twinIDs != nil {
		p.twinAt = now + twinPatience // in case that it is the same number again
	}
	p.become(j.Number)
	p.meet(j.Members)
	if p.readyAt == 0 {
		p.readyAt = now
		if len(p.others) > 0 {
			p.readyAt += beat
		}
	}
}

// speak is what to tell the others now; nil = nothing. The answer goes to [place.spoken].
func (p *place) speak(now int64) *Presence {
	if !p.mustSpeak(now) || p.leaving && now >= p.silentBy {
		return nil
	}
	if p.expect(); !p.mustSpeak(now) {
		return nil // we were about to ask for those who have spoken meanwhile
	}
	p.speaking, p.spokenAt, p.soonAt = true, now, 0
	said := Presence{Broker: p.self, Number: p.number, Left: p.leaving}
	if !p.leaving {
		said.Kinds = p.told
	}
	return &said
}

// spoken takes in that the others have been told.
func (p *place) spoken(now int64, said Presence, err error) {
	p.speaking = false
	switch {
	case said.Left:
		p.silentBy = 0
	case p.leaving: // the goodbye is next
	case err != nil:
		p.speakAt = now + tellRetry
	default:
		p.unheard++
		p.speakAt = p.later(p.spokenAt, beatEvery(p.count()))
		if p.moved && said.Number == p.number {
			p.moved, p.soonAt = false, now+againApart
		}
	}
}

// later is a moment in the last tenth of a time from now on.
func (p *place) later(now, after int64) int64 { return now + after - p.random(after/10) }

func (p *place) random(most int64) int64 { return int64(p.dice.Uint64() % uint64(most+1)) }

// heard takes in what a broker has told, this one included.
func (p *place) heard(now int64, who Presence) {
	if !p.on() || p.leaving {
		return
	}
	if who.Broker == p.self && !who.Left {
		p.echoed, p.unheard = true, 0
	}
	if wrong := who.Broker == p.self && who.Left; p.hear(now, who) || wrong {
		p.answer(now)
	}
}

// answer tells soon that we are there, to a newcomer or to those who were told that we left.
func (p *place) answer(now int64) {
	n := int64(p.count())
	soon := max(now, p.spokenAt+min(max(answerApart, n*answerShare), beat/2))
	if at := soon + p.random(min(n*answerShare, answerSpread)); p.soonAt == 0 || at < p.soonAt {
		p.soonAt = at
	}
}

// connected takes in that we hear again, and may have missed much. We are asked for, too: others may have missed us.
func (p *place) connected(now int64) {
	p.reopen(now)
	p.soonAt, p.unheard = now, 0
}

// deaf says whether what we tell does not come back any more. It says so once, and then again after as many words.
func (p *place) deaf() bool {
	if p.unheard < deafAfter {
		return false
	}
	p.unheard = 0
	return true
}

// serves takes in which kinds our workers serve by now. One that is new is told at once. One that is served no more is told a
// beat later: if the workers were only started anew they are back by then, and no ids have moved.
func (p *place) serves(now int64, kinds []string) {
	if !p.on() || p.leaving || p.gaps == GapsOverdue {
		return
	}
	p.served = kinds
	every := slices.Concat(p.kinds, kinds)
	slices.Sort(every)
	if every = slices.Compact(every); len(every) > len(p.kinds) {
		p.serve(every)
		p.soonAt = now
	}
	switch {
	case len(p.kinds) == len(kinds):
		p.fewerAt = 0
	case p.fewerAt == 0:
		p.fewerAt = now + beat
	}
}

// leave takes in that we scan no more. The others are told at once.
func (p *place) leave(now int64) {
	p.leaving, p.fewerAt = true, 0
	if p.number != 0 {
		p.soonAt, p.silentBy = now, now+goodbyeTime
	}
}

// left says whether the goodbye is told, or given up.
func (p *place) left(now int64) bool { return now >= p.silentBy }

// change is what is new about the division of the ids.
type change struct {
	parts
	why   []string // nil = the division is as before
	twins []ID     // others with our number, of whom we did not know
}

// divide says what is new about the division of the ids since it was called last; nil = nothing.
func (p *place) divide(now int64) *change {
	if p.twinAt != 0 && now >= p.twinAt {
		p.joinAt, p.twinAt = now, 0
	}
	if p.fewerAt != 0 && now >= p.fewerAt {
		p.serve(p.served)
		p.fewerAt, p.soonAt = 0, now
	}
	if p.news == nil {
		return nil
	}
	c := change{parts: p.members.divide()}
	if !c.parts.equal(p.parts) {
		c.why = p.news
	}
	twins := p.twins()
	for _, id := range twins {
		if !slices.Contains(p.twinIDs, id) {
			c.twins = append(c.twins, id)
		}
	}
	p.news, p.parts, p.turn, p.twinIDs = nil, c.parts, p.members.turn(), twins
	p.resent(now)
	if c.why == nil && c.twins == nil {
		return nil
	}
	return &c
}

// resent decides when to give up a number that another broker has, too. Who was told its number keeps it: both may scan,
// since leases are granted once only. Of two that chose theirs, the one with the lower id keeps it.
func (p *place) resent(now int64) {
	switch {
	case p.twinIDs == nil || p.Partition.Number != Auto:
		p.twinAt = 0
	case p.twinAt != 0:
	case compareIDs(p.twinIDs[0], p.self) < 0:
		p.twinAt = now
	default:
		p.twinAt = now + twinPatience
	}
}

// next is when the place wants to be looked at, later than after, if nothing happens before; 0 = never.
func (p *place) next(after int64) (next int64) {
	for _, at := range []int64{p.joinTime(), p.speakTime(), p.twinAt, p.waitTime(), p.silentBy, p.fewerAt} {
		if at > after && (next == 0 || at < next) {
			next = at
		}
	}
	return next
}

// joinTime is when to ask for a number; 0 = not before something happens.
func (p *place) joinTime() int64 {
	if !p.on() || p.joining || p.leaving {
		return 0
	}
	return p.joinAt
}

func (p *place) mustSpeak(now int64) bool {
	at := p.speakTime()
	return at != 0 && now >= at
}

// speakTime is when to tell the others that we are there, or leave; 0 = not before something happens.
func (p *place) speakTime() int64 {
	if p.number == 0 || p.speaking || p.leaving && p.silentBy == 0 {
		return 0
	}
	at := p.speakAt
	for _, sooner := range []int64{p.soonAt, p.probeTime()} {
		if sooner != 0 {
			at = min(at, sooner)
		}
	}
	return at
}

// probeTime is when to tell out of turn, so that our own word tells whether somebody is silent; 0 = there is no reason to. The
// lowest number does so first, which is enough for all.
func (p *place) probeTime() int64 {
	silence := p.silenceAt()
	if silence <= p.spokenAt {
		return 0
	}
	return silence + min(int64(p.turn)*answerShare, probeSpread)
}

// waitTime is when the first scan need not wait any longer for our own word.
func (p *place) waitTime() int64 {
	if p.echoed {
		return 0
	}
	return p.readyAt
}
