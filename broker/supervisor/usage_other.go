//go:build !linux

package supervisor

const (
	rusageUnit = 1 // macOS counts bytes
	hasSamples = false
)

// sampleOf knows nothing of running processes here; what they have used is known when they end.
func sampleOf(int, string) (u usage, alive bool) { return u, false }

func ownPeak() int64 { return 0 }

func processesBySession() map[int]int { return nil }

func filesOf(int) int { return 0 }
