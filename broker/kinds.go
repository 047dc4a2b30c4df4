package broker

import (
	"hash/fnv"
	"slices"
)

// mostKinds is how many kinds, or kinds in a queue, a broker names to the others: a notification has room for 8000 bytes. One
// that serves more is taken to serve all.
const mostKinds = 500

// hashKind is how a kind is named to other brokers. Where two have one hash, a strand may be in the part of a broker that has
// no worker for it, and is found by the others once it is overdue.
func hashKind(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	return h.Sum32()
}

// hashKinds is what a [Presence] says of these kinds.
func hashKinds(names []string) []uint32 {
	if len(names) > mostKinds {
		return nil
	}
	hashes := make([]uint32, 0, len(names))
	for _, name := range names {
		hashes = append(hashes, hashKind(name))
	}
	slices.Sort(hashes)
	return slices.Compact(hashes)
}

// hasKind says whether who says this of its kinds serves that one.
func hasKind(kinds []uint32, hash uint32) bool {
	_, has := slices.BinarySearch(kinds, hash)
	return has || kinds == nil
}

// hasKinds says whether it serves all of those.
func hasKinds(kinds, those []uint32) bool {
	if kinds == nil || those == nil {
		return kinds == nil
	}
	for _, hash := range those {
		i, has := slices.BinarySearch(kinds, hash)
		if !has {
			return false
		}
		kinds = kinds[i:]
	}
	return true
}

// hasAny says whether it serves anything.
func hasAny(kinds []uint32) bool { return kinds == nil || len(kinds) > 0 }

func sameKinds(a, b []uint32) bool { return (a == nil) == (b == nil) && slices.Equal(a, b) }
