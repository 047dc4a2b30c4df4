package main

import (
	"io"
	"strconv"

	"github.com/schollz/progressbar/v3"
)

// progress shows how far a file has been read, to whoever looks at stderr.
type progress struct{ bar *progressbar.ProgressBar } // nil = nobody looks

// newProgress shows size bytes; -1 = their number is not known.
func newProgress(out io.Writer, size int64) *progress {
	if !isTerminal(out) {
		return &progress{}
	}
	return &progress{progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetDescription("inserting"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(),
	)}
}

// reader counts what is read through it.
func (p *progress) reader(in io.Reader) io.Reader {
	if p.bar == nil {
		return in
	}
	return io.TeeReader(in, p.bar)
}

// inserted tells how many strands there are by now.
func (p *progress) inserted(n int) {
	if p.bar != nil {
		p.bar.Describe("inserting " + strconv.Itoa(n))
	}
}

// finish takes the bar away. It may be called twice.
func (p *progress) finish() {
	if p.bar != nil {
		_ = p.bar.Finish() // it is only for show
	}
}
