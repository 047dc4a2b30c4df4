package protocol

import "time"

// Limits of a frame. A frame beyond them is refused before anything is decoded or allocated for it.
const (
	HandshakeMaxFrame = 1 << 20  // bytes of a frame before welcome; a hello that lists MaxN holds must fit
	DefaultMaxFrame   = 1 << 20  // bytes of a frame after it, unless configured
	HardMaxFrame      = 16 << 20 // what Welcome.MaxFrame can be configured to, at most

	MaxItems = 1024     // in one array: holds of a hello, kinds of a worker, results of a frame, inserts of a result
	maxDepth = 12       // containers within containers, the frame's own map included
	maxPairs = 64       // in one map
	maxText  = 64 << 10 // bytes of any str; most fields allow less
	maxKey   = 64       // bytes of a map's key
)

// Defaults of what Welcome states.
const (
	DefaultMaxBatch = 256      // entries in one Results
	DefaultMaxN     = MaxItems // strands that a worker may hold: a list of all of them must fit into one frame

	DefaultHeart = 5 * time.Second  // send something at least this often
	DefaultDead  = 15 * time.Second // silence after which the peer is given up
	DefaultLease = 120 * time.Second

	HandshakeTimeout = 2 * time.Second // from connect to the last byte of hello, and from there to welcome
	WriteTimeout     = 5 * time.Second // for one write to a peer that does not read
)

// Limits of fields.
const (
	MaxID       = 1<<53 - 1                  // ids, sequence numbers and counts: what a double holds exactly
	MaxName     = 255                        // bytes of a kind, label, queue, tenant or failure class
	MaxToken    = 64                         // bytes of a token
	MaxLib      = 64                         // bytes of Hello.Lib, of a capability and of a method
	MaxMessage  = 4 << 10                    // bytes of a failure's message and of any text not named here
	MaxTrace    = 64 << 10                   // bytes of a failure's trace
	MaxFrames   = 64                         // frames of a stack
	MaxSignal   = 256 << 10                  // bytes of a semaphore's value, as jsonb prints it: it must fit beside all else that a strand has
	MaxDuration = 100 * 365 * 24 * time.Hour // of any limit or period; a delay may be longer

	maxMS = uint64(MaxDuration / time.Millisecond)
)
