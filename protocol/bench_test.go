package protocol

import (
	"fmt"
	"strings"
	"testing"
)

// batchSizes are of an idle worker, of a usual frame, and of the largest.
var batchSizes = []int{1, 100, DefaultMaxBatch}

// batches are the frames that carry nearly everything, of n strands each.
func batches(n int) []Message { return []Message{manyStrands(n), manyResults(n), manyAcks(n)} }

// manyStrands is a frame as a busy broker sends it.
func manyStrands(n int) *Strands {
	m := &Strands{}
	for i := range n {
		m.Strands = append(m.Strands, Strand{
			ID: numbered(strandA, i), Token: numbered(tokenA, i), Kind: "mail.send", Label: "start", Args: []byte(`{"to":"bob@example.org","template":"welcome"}`),
			Queue: "default", Priority: 5, Try: 1, MaxTries: 25, CreatedMS: 1767225600000, DeadlineNS: 86520000000000, TTLMS: 120000,
		})
	}
	return m
}

// manyResults is a frame as a busy worker sends it.
func manyResults(n int) *Results {
	m := &Results{ID: 7}
	for i := range n {
		m.Results = append(m.Results, Result{Strand: numbered(strandA, i), Token: numbered(tokenA, i), Seq: 1, Act: ActExit, Value: []byte(`{"sent":true}`)})
	}
	return m
}

// manyAcks is the answer to that.
func manyAcks(n int) *Ack {
	m := &Ack{Re: 7}
	for i := range n {
		m.Entries = append(m.Entries, AckEntry{Strand: numbered(strandA, i), Token: numbered(tokenA, i), Seq: 1, State: AckApplied})
	}
	return m
}

func numbered(id string, n int) string { return fmt.Sprintf("%s%03x", id[:33], n) }

func BenchmarkScan(b *testing.B) {
	for _, m := range batches(100) {
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
	eachBatch(b, func(b *testing.B, m Message) {
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = Append(buf[:0], m); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	eachBatch(b, func(b *testing.B, m Message) {
		decode := func(body []byte) (err error) { _, err = DecodeToWorker(body); return err }
		if _, up := m.(ToBroker); up {
			decode = func(body []byte) (err error) { _, err = DecodeToBroker(body); return err }
		}
		body := mustAppend(b, m)[header:]
		for b.Loop() {
			if err := decode(body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// eachBatch measures what is done to frames of all kinds and sizes.
func eachBatch(b *testing.B, measure func(*testing.B, Message)) {
	for _, n := range batchSizes {
		for _, m := range batches(n) {
			b.Run(fmt.Sprintf("%s/%d", m.Op(), n), func(b *testing.B) {
				b.ReportAllocs()
				measure(b, m)
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/strand")
			})
		}
	}
}
