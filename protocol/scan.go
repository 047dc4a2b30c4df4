package protocol

import (
	"bytes"
	"hash/maphash"
)

// envelope is what the scanner learns of a frame on its way.
type envelope struct {
	op   []byte // aliases the frame
	id   uint64 // the frame's id, to answer a fault with; 0 = none
	must bool   // the sender wants a fault rather than silence if op is unknown
}

// scan walks over a frame, all of which a stranger may have written, before a decoder sees it. It returns a *[Err]
// unless the frame is exactly one map within the limits, so that the decoder behind it allocates no more than the frame
// justifies and recurses no deeper than maxDepth. It allocates nothing itself, unless there is a fault to report.
func scan(frame []byte) (envelope, error) {
	s := scanner{lexer: lexer{frame: frame}, seed: maphash.MakeSeed()}
	err := s.run()
	return s.env, err
}

// scanner is the state of one scan. Its size is fixed: depth costs no stack and keys cost no heap.
type scanner struct {
	lexer
	depth int
	open  [maxDepth]container // those below depth
	seed  maphash.Seed        // another one for each frame: nobody can make keys that clash
	env   envelope
}

// container is a map or array whose end is not reached yet.
//
// That all keys of a map differ is a matter of a hash table, but not where they are, one by one, those of the map that was
// here before: those did differ. The entries of a list are nearly always such maps.
type container struct {
	isMap  bool
	left   int            // pairs or elements still to come
	keys   [maxPairs]span // of the keys so far; behind them those of the map before, up to known
	nkeys  int
	known  int                 // so many keys, all different, are in keys
	hashed bool                // this map's keys are in slots
	slots  [2 * maxPairs]uint8 // hash table of the keys: 1 + an index into keys; 0 = free
}

func (s *scanner) run() error {
	first, err := s.next()
	if err != nil {
		return err
	}
	if first.kind != kindMap {
		return s.bad(0, "a frame holds one map, this one starts with byte 0x%02x", s.frame[0])
	}
	if err := s.enter(first); err != nil {
		return err
	}
	for s.depth > 0 {
		if err := s.element(&s.open[s.depth-1]); err != nil {
			return err
		}
	}
	if s.pos != len(s.frame) {
		return s.bad(s.pos, "%d bytes follow the map", len(s.frame)-s.pos)
	}
	if len(s.env.op) == 0 {
		return s.bad(0, "the map has no op")
	}
	return nil
}

// element steps over the next element of top, or leaves top behind if there is none.
func (s *scanner) element(top *container) error {
	if top.left == 0 {
		s.depth--
		return nil
	}
	top.left--
	var key span
	if top.isMap {
		var err error
		if key, err = s.key(top); err != nil {
			return err
		}
	}
	at := s.pos
	value, err := s.next()
	if err != nil {
		return err
	}
	if s.depth == 1 {
		if err := s.note(key, at, value); err != nil {
			return err
		}
	}
	if value.kind == kindArray || value.kind == kindMap {
		return s.enter(value)
	}
	return nil
}

// enter opens a container. That each element takes a byte at least is what keeps a short frame from announcing a long list.
func (s *scanner) enter(t token) error {
	limit, name, need := uint64(MaxItems), "array", t.n
	if t.kind == kindMap {
		limit, name, need = maxPairs, "map", 2*t.n
	}
	switch {
	case t.n > limit:
		return s.bad(s.pos, "%s of %d, at most %d are allowed", name, t.n, limit)
	case need > uint64(len(s.frame)-s.pos):
		return s.bad(s.pos, "%s of %d in the %d bytes that are left", name, t.n, len(s.frame)-s.pos)
	case s.depth == maxDepth:
		return s.bad(s.pos, "nested deeper than %d", maxDepth)
	}
	c := &s.open[s.depth]
	c.isMap, c.left, c.nkeys, c.hashed = t.kind == kindMap, int(t.n), 0, false
	s.depth++
	return nil
}

// key reads a key of the map top, which must be new there.
func (s *scanner) key(top *container) (span, error) {
	at := s.pos
	t, err := s.next()
	if err != nil {
		return span{}, err
	}
	key := s.text(t.span)
	switch {
	case t.kind != kindStr:
		return span{}, s.bad(at, "a key that is no str (byte 0x%02x)", s.frame[at])
	case len(key) > maxKey:
		return span{}, s.bad(at, "a key of %d bytes, at most %d are allowed", len(key), maxKey)
	case !s.add(top, t.span):
		return span{}, s.bad(at, "key %q twice in one map", key)
	}
	return t.span, nil
}

// add takes in a key of the map c, and reports whether it is new there.
func (s *scanner) add(c *container, key span) bool {
	if !c.hashed && c.nkeys < c.known && bytes.Equal(s.text(c.keys[c.nkeys]), s.text(key)) {
		c.nkeys++
		return true
	}
	if !c.hashed {
		s.hash(c)
	}
	return s.insert(c, key)
}

// hash puts the keys that c has so far into its table.
func (s *scanner) hash(c *container) {
	clear(c.slots[:])
	n := c.nkeys
	c.hashed, c.nkeys = true, 0
	for _, key := range c.keys[:n] {
		s.insert(c, key)
	}
}

// insert puts a key into the table of c, unless it is there.
func (s *scanner) insert(c *container, key span) bool {
	i := maphash.Bytes(s.seed, s.text(key)) % uint64(len(c.slots))
	for c.slots[i] != 0 {
		if bytes.Equal(s.text(c.keys[c.slots[i]-1]), s.text(key)) {
			return false
		}
		i = (i + 1) % uint64(len(c.slots))
	}
	c.keys[c.nkeys] = key
	c.nkeys++
	c.known = c.nkeys
	c.slots[i] = uint8(c.nkeys)
	return true
}

// note keeps what the envelope needs of a pair of the frame's own map.
func (s *scanner) note(key span, at int, value token) error {
	switch string(s.text(key)) {
	case "op":
		if value.kind != kindStr {
			return s.bad(at, "op is no str (byte 0x%02x)", s.frame[at])
		}
		s.env.op = s.text(value.span)
	case "id":
		if value.kind == kindInt && !value.neg && value.n <= MaxID {
			s.env.id = value.n
		}
	case "must":
		s.env.must = value.kind == kindBool && value.n == 1
	}
	return nil
}
