// Bench.d measures respirate. `bench.d layout` compares layouts of its hot table.
package main

import (
	"fmt"
	"os"

	"github.com/respirated/respirated/scripts/bench.d/layout"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != "layout" {
		fmt.Fprintln(os.Stderr, "usage: bench.d layout [flags]")
		os.Exit(2)
	}
	if err := layout.Main(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "layout:", err)
		os.Exit(1)
	}
}
