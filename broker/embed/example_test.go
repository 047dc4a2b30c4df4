package embed_test

import (
	"context"
	"log"
	"os"

	"github.com/respirated/respirated/broker/embed"
	"github.com/respirated/respirated/worker"
)

// Greet is a kind of strand.
type Greet struct {
	Name string `json:"name"`
}

func (Greet) Kind() string { return "greet" }

// An application without a second program: it is its own worker, and runs itself again as the broker.
func Example() {
	embed.Main() // first of all: in the second process it does not return

	b, err := embed.Start(context.Background(), embed.Config{DatabaseURL: os.Getenv("DATABASE_URL"), Migrate: true})
	if err != nil {
		log.Fatal(err)
	}
	defer b.Stop()
	mux := worker.NewMux()
	worker.AddFunc(mux, func(_ context.Context, s *worker.Strand[Greet]) error {
		log.Print("hello, ", s.Args.Name)
		return nil
	})
	if err := worker.Run(context.Background(), mux, worker.Config{Socket: b.Socket()}); err != nil {
		log.Print(err)
	}
}
