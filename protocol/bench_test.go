package protocol

import (
	"fmt"
	"strings"
	"testing"
)

// hundredStrands is a frame as a busy broker sends it.
func hundredStrands() *Strands {
	m := &Strands{}
	for i := range 100 {
		m.Strands = append(m.Strands, Strand{
			ID: numbered(strandA, i), Token: numbered(tokenA, i), Kind: "mail.send", Label: "start", Args: []byte(`{"to":"bob@example.org","template":"welcome"}`),
			Queue: "default", Priority: 5, Try: 1, MaxTries: 25, CreatedMS: 1767225600000, DeadlineNS: 86520000000000, TTLMS: 120000,
		})
	}
	return m
}

// hundredResults is a frame as a busy worker sends it.
func hundredResults() *Results {
	m := &Results{ID: 7}
	for i := range 100 {
		m.Results = append(m.Results, Result{Strand: numbered(strandA, i), Token: numbered(tokenA, i), Seq: 1, Act: ActExit, Value: []byte(`{"sent":true}`)})
	}
	return m
}

func numbered(id string, n int) string { return fmt.Sprintf("%s%03x", id[:33], n) }

func BenchmarkScan(b *testing.B) {
	for _, m := range []Message{hundredStrands(), hundredResults()} {
		b.Run(m.Op(), func(b *testing.B) {
			body := mustAppend(b, m)[header:]
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				if _, err := scan(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The worst that a frame can ask of the scanner: nothing but keys, as many to a map as there may be.
func BenchmarkScanOfKeys(b *testing.B) {
	body := []byte(op + "\xa1k\xdc\x04\x00" + strings.Repeat(mapOf(maxPairs), 1024))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := scan(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	for _, m := range []Message{hundredStrands(), hundredResults()} {
		b.Run(m.Op(), func(b *testing.B) {
			var buf []byte
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if buf, err = Append(buf[:0], m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	b.Run("strands", func(b *testing.B) {
		body := mustAppend(b, hundredStrands())[header:]
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeToWorker(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("result", func(b *testing.B) {
		body := mustAppend(b, hundredResults())[header:]
		b.ReportAllocs()
		for b.Loop() {
			if _, err := DecodeToBroker(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}
