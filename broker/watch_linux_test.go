package broker

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// The client never closes its end, as a process that has inherited it.
func TestAConnectionIsReadToTheEndOfWhatWasSentThoughItsOtherEndStaysOpen(t *testing.T) {
	t.Chdir(t.TempDir()) // whose path is too long for a socket
	l, err := net.Listen("unix", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err := net.Dial("unix", "s")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	ours, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	sent := bytes.Repeat([]byte("result"), 10_000)
	if _, err := theirs.Write(sent); err != nil {
		t.Fatal(err)
	}
	waits := make(chan []byte)
	go func() {
		_ = ours.SetReadDeadline(time.Now().Add(time.Minute))
		got := make([]byte, len(sent))
		n, _ := io.ReadFull(ours, got[:len(sent)/2])
		waits <- nil
		m, err := io.ReadFull(ours, got[n:])
		waits <- got[:n+m]
		if n, end := ours.Read(got); n != 0 || end != io.EOF || err != nil {
			t.Errorf("after it %d bytes, %v, %v; want the end", n, end, err)
		}
		close(waits)
	}()
	<-waits
	endReading(ours)
	if got := <-waits; !bytes.Equal(got, sent) {
		t.Errorf("read %d of %d bytes that were sent before", len(got), len(sent))
	}
	<-waits
}
