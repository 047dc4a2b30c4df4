package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/respirated/respirated/broker"
	"github.com/respirated/respirated/broker/brokertest"
	"github.com/respirated/respirated/worker"
)

// run has a broker with a store in memory, and one worker of the demo's kinds, until the test ends.
func run(t *testing.T) *brokertest.Store {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo") // short: t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	l, err := broker.ListenSocket(filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	store := brokertest.NewStore(time.Now)
	b, err := broker.New(store, nil, broker.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		all.Wait()
		os.RemoveAll(dir)
	})
	must := func(err error) {
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	all.Go(func() { must(b.Run(ctx, l)) })
	all.Go(func() { must(b.Listen(ctx, store.Channel())) })
	all.Go(func() { must(worker.Run(ctx, Mux(), worker.Config{Socket: l.Path, Slots: 4, Logger: quiet})) })
	return store
}

func insert(t *testing.T, store *brokertest.Store, kind, args string) broker.ID {
	t.Helper()
	ids, err := store.Insert(t.Context(), []broker.Insert{{Kind: kind, Args: []byte(args), Opts: []byte(`{"keep":true}`)}})
	if err != nil {
		t.Fatal(err)
	}
	return ids[0]
}

// finished waits for the end of a strand.
func finished(t *testing.T, store *brokertest.Store, id broker.ID) brokertest.Finished {
	t.Helper()
	var f brokertest.Finished
	brokertest.Eventually(t, "the strand ends", func() bool {
		var ok bool
		f, ok = store.Finished(id)
		return ok
	})
	return f
}

func TestProvisionReapsItsPartsAndIsReady(t *testing.T) {
	store := run(t)
	id := insert(t, store, "provision", `{"for":"10ms"}`)
	f := finished(t, store, id)
	var said []string
	for _, name := range []string{"disk", "address", "machine"} {
		if strings.Contains(string(f.Value), fmt.Sprintf("%q", name)) {
			said = append(said, name)
		}
	}
	if f.State != "done" || len(said) != 3 {
		t.Errorf("ended as %s with %s, want the three parts", f.State, f.Value)
	}
	if pages := store.Pages(id); len(pages) > 0 {
		t.Errorf("pages %+v, want none", pages)
	}
}

func TestProvisionThatIsLateOpensAPageAndResolvesIt(t *testing.T) {
	store := run(t)
	late := insert(t, store, "provision", `{"parts":["disk"],"for":"1ms","boot":"1h","within":"1ms"}`)
	brokertest.Eventually(t, "a page is opened", func() bool {
		store.OpenPages()
		return len(store.Pages(late)) == 1
	})
	if found, err := store.Signal(t.Context(), []broker.Signal{{ID: late, Name: "booted"}}); err != nil || !slices.Equal(found, []bool{true}) {
		t.Fatalf("signal: %v, %v", found, err)
	}
	finished(t, store, late)
	if pages := store.Pages(late); len(pages) != 1 || !pages[0].Resolved {
		t.Errorf("pages %+v, want one that is resolved", pages)
	}
}

func TestProvisionThatIsToldToGoTakesEverythingDown(t *testing.T) {
	store := run(t)
	id := insert(t, store, "provision", `{"for":"1h"}`)
	brokertest.Eventually(t, "it waits for its parts", func() bool { r, ok := store.Row(id); return ok && r.Label == "parts" && !r.Leased })
	if found, err := store.Signal(t.Context(), []broker.Signal{{ID: id, Name: "destroy"}}); err != nil || !slices.Equal(found, []bool{true}) {
		t.Fatalf("signal: %v, %v", found, err)
	}
	if f := finished(t, store, id); string(f.Value) != `"destroyed"` {
		t.Errorf("ended as %s with %s", f.State, f.Value)
	}
}

func TestProvisionGivesUpOnWhatDoesNotBoot(t *testing.T) {
	store := run(t)
	id := insert(t, store, "provision", `{"for":"1ms","parts":["disk","address"],"boot":"50ms"}`)
	if f := finished(t, store, id); f.State != brokertest.Dead {
		t.Errorf("ended as %s with %s, want dead", f.State, f.Value)
	}
	if failures := store.Attempts(id); len(failures) != 1 || failures[0].Message != "declared dead by its handler: the machine does not boot" {
		t.Errorf("failures %+v", failures)
	}
}
