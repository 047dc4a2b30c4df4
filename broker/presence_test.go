package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
)

// reruns is a channel that tells when it begins to run.
type reruns chan struct{}

func (r reruns) Run(ctx context.Context, _ func(Hint)) error {
	r <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func TestPartitionChannelThatIsDeafIsRunAnew(t *testing.T) {
	b, err := New(nil, nil, Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	channel, ended := make(reruns), make(chan error)
	go func() { ended <- b.Listen(ctx, channel) }()
	<-channel
	b.performPlace(ctx, &sync.WaitGroup{}, b.databases[0], &requests{relisten: true})
	<-channel
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("listen: got error %v, want %v", err, context.Canceled)
	}
}

// sharer is a broker that shares the ids, with what it logs.
func sharer(t *testing.T) (*Broker, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	b, err := New(nil, nil, Config{Partition: Partition{Number: 1}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return b, &log
}

func TestPartitionNotificationsThatSayNothingAreLoggedOnceAndShort(t *testing.T) {
	b, log := sharer(t)
	for _, h := range []Hint{
		{Bad: strings.Repeat("x\x00\xff", 4000)}, {Bad: "1.5"}, {Bad: "foo"},
		{Presence: &Presence{Number: 257}}, {Presence: &Presence{Number: 0}}, {Presence: &Presence{Number: -1}},
	} {
		for range 100 {
			b.note(hinted{h})
		}
	}
	if n := strings.Count(log.String(), "\n"); n != 1 || log.Len() > 500 {
		t.Errorf("%d lines, want a short one:\n%s", n, log)
	}
	delete(b.databases[0].faults, "presence")
	b.note(hinted{Hint{Presence: &Presence{Number: 257}}})
	if !strings.Contains(log.String(), `payload="257 00000000-`) {
		t.Errorf("the number is not named:\n%s", log)
	}
}

func TestWithoutAFreePartitionNumberTheLogSaysWhatToDo(t *testing.T) {
	b, log := sharer(t)
	for range 100 {
		b.note(joined{})
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "nothing is scanned until one is free; raise") {
		t.Errorf("got %s, want one line that says what to do", got)
	}
}

func TestPartitionChangeIsLoggedInOneLineWithItsReason(t *testing.T) {
	b, log := sharer(t)
	b.databases[0].noteChange(change{parts: parts{division: division{3, 2, 3}}, why: []string{"1 has left", "7 is silent"}})
	want := `msg="partition changed" number=3 rank=2 of=3 range=55555555-aaaaaaa9 why="1 has left, 7 is silent"`
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
		t.Errorf("got %s, want one line with %s", got, want)
	}
	log.Reset()
	b.databases[0].noteChange(change{parts: parts{division: division{3, 2, 3}}, twins: []ID{brokerID(7)}})
	if got := log.String(); !strings.Contains(got, "level=WARN") || !strings.Contains(got, "broker="+brokerID(7).String()) {
		t.Errorf("got %s, want a warning that names the other", got)
	}
}
