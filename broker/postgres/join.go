package postgres

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker"
)

// Join implements [broker.Store].
func (s *Store) Join(ctx context.Context, req broker.JoinRequest, ttl time.Duration) (broker.Joined, error) {
	members, err := query(ctx, s, scanMember, "join",
		[16]byte(req.Broker), clean(req.Host), req.PID, clean(req.Build), req.Number, req.Most, ttl)
	if err != nil {
		return broker.Joined{}, s.failed(err, "ask for a partition number for broker %s", req.Broker)
	}
	var joined broker.Joined
	for _, m := range members {
		if m.Broker == req.Broker {
			joined.Number = m.Number
		} else {
			joined.Members = append(joined.Members, m)
		}
	}
	return joined, nil
}

func scanMember(row pgx.CollectableRow) (p broker.Presence, err error) {
	err = row.Scan((*[16]byte)(&p.Broker), &p.Number)
	return p, err
}

// Tell implements [broker.Store].
func (s *Store) Tell(ctx context.Context, p broker.Presence) error {
	if err := s.exec(ctx, "presence", presenceText(p)); err != nil {
		return s.failed(err, "tell that broker %s is there", p.Broker)
	}
	return nil
}

const (
	mostPartitions = 4096 // no configuration allows a higher number
	leftWord       = "left"
	kindsWord      = "kinds:"
)

// presenceText is how a presence is told: "3 6ba7b810-9dad-41d1-80b4-00c04fd430c8", and behind it " kinds:0a1b2c3d99999999" with
// the hashes of the kinds that it serves, unless it is to be taken to serve all, or " left" from one who leaves.
func presenceText(p broker.Presence) string {
	text := []byte(strconv.Itoa(p.Number) + " " + p.Broker.String())
	switch {
	case p.Left:
		text = append(text, " "+leftWord...)
	case p.Kinds != nil:
		text = append(text, " "+kindsWord...)
		for _, hash := range p.Kinds {
			text = hex.AppendEncode(text, binary.BigEndian.AppendUint32(nil, hash))
		}
	}
	return string(text)
}

// parsePresence reads what presenceText writes, and nothing else.
func parsePresence(text string) (p broker.Presence, ok bool) {
	words := strings.Split(text, " ")
	if len(words) < 2 {
		return p, false
	}
	number, err := strconv.Atoi(words[0])
	if err != nil || number < 1 || number > mostPartitions {
		return p, false
	}
	id, err := broker.ParseID(words[1])
	if err != nil {
		return p, false
	}
	p = broker.Presence{Broker: id, Number: number}
	if len(words) > 2 {
		if hashes, kinds := strings.CutPrefix(words[2], kindsWord); kinds {
			p.Kinds = parseKinds(hashes)
		} else {
			p.Left = true
		}
	}
	return p, presenceText(p) == text
}

// parseKinds reads hashes in their order, each once; nil = they are not that.
func parseKinds(text string) []uint32 {
	bytes, err := hex.DecodeString(text)
	if err != nil || len(bytes)%4 != 0 {
		return nil
	}
	kinds := make([]uint32, 0, len(bytes)/4)
	for ; len(bytes) > 0; bytes = bytes[4:] {
		hash := binary.BigEndian.Uint32(bytes)
		if n := len(kinds); n > 0 && hash <= kinds[n-1] {
			return nil
		}
		kinds = append(kinds, hash)
	}
	return kinds
}
