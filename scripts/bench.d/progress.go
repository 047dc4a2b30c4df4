package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells a person what is going on.
type progress struct {
	out   io.Writer
	began time.Time
}

func newProgress(out io.Writer) *progress { return &progress{out, time.Now()} }

// step says what is being done from now on.
func (p *progress) step(format string, args ...any) {
	fmt.Fprintf(p.out, "%4.0f s  %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}
