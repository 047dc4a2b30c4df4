// Demo-worker is a worker process as an application would write one: it fills a Mux and hands it to worker.Main.
// Its kinds are in cmd/internal/demo.
package main

import (
	"github.com/respirated/respirated/cmd/internal/demo"
	"github.com/respirated/respirated/worker"
)

func main() { worker.Main(demo.Mux()) }
