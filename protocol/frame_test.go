package protocol

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// stream is the frames of all samples in a row.
func stream(t testing.TB) []byte {
	t.Helper()
	var b []byte
	for _, m := range samples() {
		b = append(b, mustAppend(t, m)...)
	}
	return b
}

func TestReaderCutsAStreamIntoFramesHoweverItArrives(t *testing.T) {
	for _, c := range []struct {
		name string
		wrap func(io.Reader) io.Reader
	}{
		{"at once", func(r io.Reader) io.Reader { return r }},
		{"a byte at a time", iotest.OneByteReader},
		{"halves", iotest.HalfReader},
		{"data with the error", iotest.DataErrReader},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := NewReader(c.wrap(bytes.NewReader(stream(t))), HandshakeMaxFrame)
			for _, m := range samples() {
				body, err := r.Next()
				if err != nil {
					t.Fatalf("%s: %v", m.Op(), err)
				}
				if want := mustAppend(t, m)[header:]; !bytes.Equal(body, want) {
					t.Errorf("%s: got %x, want %x", m.Op(), body, want)
				}
			}
			if _, err := r.Next(); err != io.EOF {
				t.Errorf("at the end: %v, want io.EOF", err)
			}
		})
	}
}

func TestStreamCutWithinAFrameIsUnexpected(t *testing.T) {
	frame := mustAppend(t, &Want{N: 3})
	for n := range frame {
		_, err := NewReader(bytes.NewReader(frame[:n]), HandshakeMaxFrame).Next()
		want := io.ErrUnexpectedEOF
		if n == 0 {
			want = io.EOF
		}
		if !errors.Is(err, want) {
			t.Errorf("cut after %d of %d bytes: %v, want %v", n, len(frame), err, want)
		}
	}
}

func TestReaderPassesOnWhatItsSourceFailsWith(t *testing.T) {
	frame := mustAppend(t, &Want{N: 3})
	broken := errors.New("broken")
	for _, n := range []int{0, 2, 7} {
		_, err := NewReader(io.MultiReader(bytes.NewReader(frame[:n]), iotest.ErrReader(broken)), HandshakeMaxFrame).Next()
		if !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v, want %v", n, err, broken)
		}
	}
}

func TestReaderRefusesLengthsThatAreNotAllowed(t *testing.T) {
	for _, c := range []struct {
		name   string
		header string
		max    int
		code   Code
		want   string
	}{
		{"nothing", "\x00\x00\x00\x00", 100, CodeBadFrame, "a frame of length 0"},
		{"a byte too much", "\x00\x00\x00\x65", 100, CodeTooLarge, "a frame of 101 bytes, at most 100 are allowed"},
		{"4 GiB", "\xff\xff\xff\xff", 100, CodeTooLarge, "a frame of 4294967295 bytes"},
		{"HTTP", "GET / HTTP/1.1", HardMaxFrame, CodeTooLarge, "a frame of 1195725856 bytes"},
		{"beyond the hard limit", "\x01\x00\x00\x01", 1 << 30, CodeTooLarge, "at most 16777216 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := NewReader(strings.NewReader(c.header), c.max).Next()
			var fault *Err
			if !errors.As(err, &fault) || fault.Code != c.code || !fault.Fatal || !strings.Contains(fault.Message, c.want) {
				t.Errorf("got %v, want a fatal %s that says %q", err, c.code, c.want)
			}
		})
	}
}

func TestSetMaxHoldsForTheFramesThatFollow(t *testing.T) {
	frame := mustAppend(t, &Want{N: 3})
	r := NewReader(bytes.NewReader(bytes.Repeat(frame, 3)), len(frame)-header)
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	r.SetMax(len(frame) - header - 1)
	var fault *Err
	if _, err := r.Next(); !errors.As(err, &fault) || fault.Code != CodeTooLarge {
		t.Errorf("got %v, want too_large", err)
	}
}

func TestAnnouncedBytesCostNothingUntilTheyArrive(t *testing.T) {
	var r *Reader
	cost := allocated(func() {
		r = NewReader(strings.NewReader("\x00\x10\x00\x00"), HandshakeMaxFrame)
		_, _ = r.Next()
	})
	if len(r.buf) > 4<<10 || cost > 5<<10 {
		t.Errorf("a buffer of %d bytes, %d bytes allocated; want at most 4 KiB and little else", len(r.buf), cost)
	}
}

func TestReaderGrowsForALargeFrameAndGivesTheMemoryBack(t *testing.T) {
	large := mustAppend(t, &Strands{Strands: []Strand{{ID: strandA, Token: tokenA, Args: bytes.Repeat([]byte("x"), 900_000)}}})
	small := mustAppend(t, &Want{N: 3})
	r := NewReader(iotest.HalfReader(bytes.NewReader(append(bytes.Clone(large), small...))), DefaultMaxFrame)
	body, err := r.Next()
	if err != nil || !bytes.Equal(body, large[header:]) {
		t.Fatalf("%d bytes, %v; want the large frame", len(body), err)
	}
	if body, err = r.Next(); err != nil || !bytes.Equal(body, small[header:]) {
		t.Fatalf("%x, %v; want the small frame", body, err)
	}
	if _, err = r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if len(r.buf) > keepBuf {
		t.Errorf("an idle buffer of %d bytes, want at most %d", len(r.buf), keepBuf)
	}
}

func TestFrameThatBeganMustEndInTimeAndIdlenessHasItsOwnBound(t *testing.T) {
	const idle, rest = 15 * time.Second, 2 * time.Second
	frame := mustAppend(t, &Want{N: 3})
	for _, c := range []struct {
		name string
		peer func(io.Writer)
		want time.Duration // until Next fails; 0 = it does not
	}{
		{"nothing comes", func(io.Writer) {}, idle},
		{"a whole frame comes late", func(w io.Writer) { time.Sleep(14 * time.Second); send(w, frame) }, 0},
		{"a frame begins and goes on too late", func(w io.Writer) { time.Sleep(10 * time.Second); send(w, frame[:2]) }, 12 * time.Second},
		{"a frame trickles in", func(w io.Writer) {
			for i := range frame {
				time.Sleep(time.Second)
				send(w, frame[i:i+1])
			}
		}, 3 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var peer sync.WaitGroup
				defer peer.Wait()
				peer.Go(func() { c.peer(far) })
				r := NewReader(near, HandshakeMaxFrame)
				r.SetTimeouts(near, idle, rest)
				start := time.Now()
				_, err := r.Next()
				near.Close()
				if c.want == 0 && err != nil {
					t.Fatal(err)
				}
				if c.want != 0 && (!errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != c.want) {
					t.Errorf("after %v: %v, want a timeout after %v", time.Since(start), err, c.want)
				}
			})
		})
	}
}

func TestDeadlineOfOneFrameDoesNotHurtTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		frame := mustAppend(t, &Want{N: 3})
		go func() {
			defer far.Close()
			send(far, frame[:5])
			time.Sleep(time.Second)
			send(far, frame[5:])
			time.Sleep(time.Hour)
			send(far, frame)
		}()
		r := NewReader(near, HandshakeMaxFrame)
		r.SetTimeouts(near, 0, 2*time.Second)
		for i := range 2 {
			if _, err := r.Next(); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
		}
	})
}

// send writes to a pipe whose reader may have gone, which is the reader's business.
func send(w io.Writer, b []byte) { _, _ = w.Write(b) }
