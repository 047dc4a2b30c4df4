package protocol

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// DefaultSocket is where a broker listens if nothing else is said, relative to its working directory.
const DefaultSocket = "tmp/respirate/respirate.sock"

// longestSocket is the longest path that a Unix socket can have everywhere (macOS allows 103 bytes, Linux 107).
const longestSocket = 103

// SocketPath is the path really used for a socket: absolute, and where that is too long for a socket, a short one in
// the temporary folder, made from a hash of it. Broker, workers and tools of one user come to the same answer, as long
// as they agree on TMPDIR.
func SocketPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("find the socket %q: %w", path, err)
	}
	if len(abs) <= longestSocket {
		return abs, nil
	}
	sum := sha256.Sum256([]byte(abs))
	folder := "respirate-" + strconv.Itoa(os.Getuid()) + "-" + hex.EncodeToString(sum[:6])
	short := filepath.Join(os.TempDir(), folder, "respirate.sock")
	if len(short) > longestSocket {
		return "", fmt.Errorf("the socket path %q has %d bytes, %d are possible, and the temporary folder %q is no shorter: choose a shorter one",
			abs, len(abs), longestSocket, os.TempDir())
	}
	return short, nil
}
