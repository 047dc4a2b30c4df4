package worker

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/protocol"
)

// What programs get wrong, through a real broker with a real database. LINEAGE.md of the broker lists these tests under "Bad input".

// parcel is a program of which there are several builds.
type parcel struct {
	Size int    `json:"size,omitempty"`
	Pad  string `json:"pad,omitempty"`
}

func (parcel) Kind() string { return "parcel" }

// letter is another one.
type letter struct{}

func (letter) Kind() string { return "letter" }

// build is one build of the programs, as a worker of it has them.
type build map[string]Label[parcel]

// at runs a worker of that build in a house, until the test ends or stop is called. What it logs goes to log.
func (b build) at(h *house, log io.Writer) (stop func()) {
	mux := NewMux()
	prog := Prog[parcel]{Labels: b}
	for prog.Start = range b { // the strands say where they start
	}
	AddProg(mux, prog)
	return h.serve(mux, 4, slog.New(slog.NewTextHandler(log, nil)))
}

// TestBadInput has one house, in which each case has workers of its own.
func TestBadInput(t *testing.T) {
	h := openHouse(t)
	h.openBroker()
	for _, c := range []struct {
		name string
		test func(t *testing.T, h *house)
	}{
		{"AnUnknownProgOrLabelWaitsForTheWorkerThatHasIt", unknownProgOrLabel},
		{"TwoBuildsOfAProgSideBySideLoseNothing", twoBuilds},
		{"AFrameOverTheLimitFailsItsRunOnly", frameOverTheLimit},
		{"AProgThatPushesItselfEndlesslyIsDeadAndNamesTheCycle", cyclicPush},
		{"TheExitOfAStrandThatHasEndedChangesNothing", exitOfTheExited},
		{"ASignalToAMissingStrandIsToldOrPassedOver", signalToNobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			own := *h
			own.t = t
			c.test(t, &own)
		})
	}
}

// post inserts a parcel.
func (h *house) post(opts string) (id string) {
	h.t.Helper()
	return h.ask(`select respirate.insert('parcel', '{}', $1)::text`, opts)
}

func (h *house) ask(sql string, args ...any) (text string) {
	h.t.Helper()
	if err := h.pool.QueryRow(h.t.Context(), sql, args...).Scan(&text); err != nil {
		h.t.Fatalf("%s: %v", sql, err)
	}
	return text
}

// becomes waits until a query, if it has a row, says so.
func (h *house) becomes(want, sql string, args ...any) {
	h.t.Helper()
	var got string
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		err := h.pool.QueryRow(h.t.Context(), sql, args...).Scan(&got)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			h.t.Fatalf("%s: %v", sql, err)
		}
		if err == nil && got == want {
			return
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s: got %q, want %q", sql, got, want)
		}
	}
}

const (
	liveAs  = `select state || ' at ' || label || ', ' || try || ' failures' from respirate.strands where id = $1`
	overAs  = `select state || ' at ' || label || ', ' || try || ' failures' from respirate.finished where id = $1`
	failed1 = `select message from respirate.attempts where strand = $1`
)

// A deploy that is not through: a kind that nobody serves yet, and a label that only the new build has. Both wait, lose no try,
// and go on when a worker of the new build is there.
func unknownProgOrLabel(t *testing.T, h *house) {
	id := h.post(`{"keep":true,"label":"weigh"}`)
	h.becomes("ready at weigh, 0 failures", liveAs, id) // nobody serves its kind
	old := build{"start": func(context.Context, *Strand[parcel]) (Outcome, error) { return Exit(nil), nil }}.at(h, io.Discard)
	h.becomes("done at start, 0 failures", overAs, h.post(`{"keep":true}`))
	h.becomes("ready at weigh, 0 failures", liveAs, id) // nobody has its label
	build{"weigh": func(context.Context, *Strand[parcel]) (Outcome, error) { return Exit("weighed"), nil }}.at(h, io.Discard)
	h.becomes("done at weigh, 0 failures", overAs, id)
	old()
}

// Two builds side by side, of which one has a label more. Each strand gets there by the build that has it, whoever it meets before, and
// nothing happens twice.
func twoBuilds(t *testing.T, h *house) {
	const strands = 40
	h.run(`select respirate.insert('parcel', '{}', '{"keep":true,"tags":["two"]}') from generate_series(1, $1::int)`, strands)
	h.run(`create table effect (strand uuid not null, label text not null)`)
	note := func(ctx context.Context, s *Strand[parcel]) error {
		_, err := h.pool.Exec(ctx, `insert into effect values ($1, $2)`, s.ID, s.Label)
		return err
	}
	start := func(ctx context.Context, s *Strand[parcel]) (Outcome, error) {
		return Hop("pack").After(time.Millisecond), note(ctx, s) // so that either may get the next label
	}
	pack := func(ctx context.Context, s *Strand[parcel]) (Outcome, error) {
		return Hop("seal").After(time.Millisecond), note(ctx, s)
	}
	build{"start": start, "pack": func(ctx context.Context, s *Strand[parcel]) (Outcome, error) { return Exit(nil), note(ctx, s) }}.at(h, io.Discard)
	build{"start": start, "pack": pack, "seal": func(ctx context.Context, s *Strand[parcel]) (Outcome, error) { return Exit(nil), note(ctx, s) }}.at(h, io.Discard)
	for end := time.Now().Add(time.Minute); h.count(`select count(*) from respirate.strands`) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d strands are left", h.count(`select count(*) from respirate.strands`))
		}
		h.run(`select respirate.wake(id) from respirate.strands where state = 'deferred' and label = 'seal'`)
	}
	if n := h.count(`select count(*) from respirate.finished where state = 'done' and tags = '{two}'`); n != strands {
		t.Errorf("%d strands are done, want %d", n, strands)
	}
	if n := h.count(`select count(*) from (select from effect group by strand, label having count(*) > 1) twice`) +
		h.count(`select count(*) from respirate.attempts a join respirate.finished f on f.id = a.strand where f.tags = '{two}'`); n > 0 {
		t.Errorf("%d labels ran twice or failed", n)
	}
	if n := h.count(`select count(*) from effect e where label = 'seal' or label = 'pack' and exists (select from respirate.finished f where f.id = e.strand and f.label = 'pack')`); n != strands {
		t.Errorf("%d strands ended where their build says, want %d", n, strands)
	}
}

// A frame that is over the limit fails its run with the sizes, and the worker and its other strands do not notice. What was stored
// before is there, and a build without the mistake goes on from it.
func frameOverTheLimit(t *testing.T, h *house) {
	tooLarge := h.post(`{"keep":true,"max_tries":1}`)
	id := h.post(`{"keep":true,"max_tries":1}`)
	pad := strings.Repeat("x", protocol.DefaultMaxFrame) // what may be stored is as much, without what is around it
	wrong := build{
		"start": func(_ context.Context, s *Strand[parcel]) (Outcome, error) {
			return Hop("grow").With(parcel{Size: s.Args.Size + 1}), nil
		},
		"grow": func(_ context.Context, s *Strand[parcel]) (Outcome, error) {
			grown := parcel{Size: s.Args.Size + 1, Pad: pad}
			if s.ID == tooLarge {
				grown.Pad = strings.Repeat(pad, 20)
			}
			return Hop("grow").With(grown), nil
		},
		"small": func(context.Context, *Strand[parcel]) (Outcome, error) { return Exit(nil), nil },
	}.at(h, io.Discard)
	other := h.post(`{"keep":true,"label":"small"}`)
	h.becomes("dead at grow, 1 failures", overAs, id)
	h.becomes("dead at grow, 1 failures", overAs, tooLarge)
	h.becomes("done at small, 0 failures", overAs, other)
	if why := h.ask(failed1, tooLarge); !strings.Contains(why, "fit into a frame: the exit value, the args of With") {
		t.Errorf("the failure says %q", why)
	}
	if why := h.ask(failed1, id); !strings.Contains(why, "the result was refused: stack: is ") || !strings.Contains(why, "at most 1048576 are allowed") {
		t.Errorf("the failure says %q", why)
	}
	wrong()
	build{"grow": func(_ context.Context, s *Strand[parcel]) (Outcome, error) { return Exit(s.Args.Size), nil }}.at(h, io.Discard)
	h.run(`select respirate.retry($1)`, id)
	h.becomes("1", `select value::text from respirate.finished where id = $1 and state = 'done'`, id)
}

// A program that pushes itself without an end is stopped at 64 frames, by an error that names the kinds of its cycle.
func cyclicPush(t *testing.T, h *house) {
	id := h.post(`{"keep":true,"max_tries":1}`)
	mux := NewMux()
	AddProg(mux, Prog[parcel]{Labels: build{"start": func(context.Context, *Strand[parcel]) (Outcome, error) { return Push(letter{}), nil }}})
	AddProg(mux, Prog[letter]{Labels: map[string]Label[letter]{"start": func(context.Context, *Strand[letter]) (Outcome, error) { return Push(parcel{}), nil }}})
	h.serve(mux, 1, slog.New(slog.DiscardHandler))
	h.becomes("dead", `select state from respirate.finished where id = $1`, id)
	if why := h.ask(failed1, id); !strings.Contains(why, `the stack has 64 frames already, the most there may be, of the kinds "letter", "parcel"`) {
		t.Errorf("the failure says %q", why)
	}
	if n := h.count(`select jsonb_array_length(stack) from respirate.finished where id = $1`, id); n != 64 {
		t.Errorf("%d frames are stored, want 64", n)
	}
}

// The exit of a strand that has ended meanwhile, as somebody has cancelled it when its lease was over, changes nothing: it ends once, and
// its worker goes on.
func exitOfTheExited(t *testing.T, h *house) {
	id := h.post(`{"keep":true}`)
	runs, end := make(chan string, 4), make(chan struct{})
	build{"start": func(_ context.Context, s *Strand[parcel]) (Outcome, error) {
		runs <- s.ID
		<-end
		return Exit("late"), nil
	}}.at(h, io.Discard)
	if got := <-runs; got != id {
		t.Fatalf("%s runs, want %s", got, id)
	}
	// At once, or the broker may lease it anew in between.
	h.run(`update respirate.strand set lease = clock_timestamp() - interval '1 hour' where id = '` + id + `'; select respirate.cancel('` + id + `')`)
	h.becomes("cancelled at start, 0 failures", overAs, id)
	close(end)
	next := h.post(`{"keep":true}`)
	h.becomes("done at start, 0 failures", overAs, next)
	if n := h.count(`select count(*) from respirate.finished where id = $1`, id); n != 1 {
		t.Errorf("it has ended %d times", n)
	}
	if state := h.ask(`select state || coalesce(value::text, '') from respirate.finished where id = $1`, id); state != "cancelled" {
		t.Errorf("it has ended as %s", state)
	}
	for _, verb := range []string{"cancel", "wake"} { // those of people, too
		h.run(`select respirate.`+verb+`($1)`, id)
	}
	if state := h.ask(`select state from respirate.finished where id = $1`, id); state != "cancelled" {
		t.Errorf("it is %s", state)
	}
}

// A signal to a strand that is not there, or has ended, is told to applications, and passed over where a program sends it.
func signalToNobody(t *testing.T, h *house) {
	id := h.post(`{"keep":true}`)
	const missing = "00000000-0000-4000-8000-000000000000"
	build{"start": func(ctx context.Context, _ *Strand[parcel]) (Outcome, error) {
		return Exit(nil), Signal(ctx, missing, "hello", nil)
	}}.at(h, io.Discard)
	h.becomes("done at start, 0 failures", overAs, id)
	c, err := client.New(h.pool, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{missing, id} {
		if err := c.Signal(t.Context(), gone, "hello", nil); !errors.Is(err, client.ErrNotFound) {
			t.Errorf("signal to %s: got %v, want ErrNotFound", gone, err)
		}
		if there := h.ask(`select respirate.signal($1, 'hello')::text`, gone); there != "false" {
			t.Errorf("signal to %s in SQL: got %s, want false", gone, there)
		}
	}
	if n := h.count(`select count(*) from respirate.semaphores`); n != 0 {
		t.Errorf("%d semaphores wait for nobody", n)
	}
}
