package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/respirated/respirated/client"
	"github.com/respirated/respirated/client/explain"
	"github.com/respirated/respirated/protocol"
)

func strandCommand(s *settings) *cobra.Command {
	cmd := group("strand", "List, show and steer strands", `A strand is a durable unit of work. Its states:
  ready      due; runs when a worker that serves its kind has room
  deferred   due later: scheduled, napping, or backing off after a failure
  leased     a worker runs it
  paused     its queue is paused
  done       finished
  cancelled  ended by somebody, or by itself
  dead       has used up its tries, or has ended workers too often`)
	cmd.AddCommand(strandListCommand(s), strandShowCommand(s), strandWhyCommand(s), strandTailCommand(s), strandRetryCommand(s), strandCancelCommand(s),
		strandSignalCommand(s), strandEditCommand(s))
	return cmd
}

// strandFilter are the flags that say which strands are meant.
type strandFilter struct {
	kinds, queues, tenants, states []string
}

func (f *strandFilter) add(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.kinds, "kind", nil, "only these `KINDS`; several with commas, or repeated")
	flags.StringSliceVar(&f.queues, "queue", nil, "only these `QUEUES`")
	flags.StringArrayVar(&f.tenants, "tenant", nil, "only this `TENANT`; \"\" = the default one; may be repeated")
	flags.StringSliceVar(&f.states, "state", nil, "only these `STATES`, see respirated strand --help")
}

// check finds what is no filter at all.
func (f *strandFilter) check() error {
	states := []client.State{client.Ready, client.Deferred, client.Leased, client.Paused, client.Done, client.Cancelled, client.Dead}
	for _, state := range f.wanted() {
		if !slices.Contains(states, state) {
			return usage(fmt.Errorf("%.40q is not a state; the states are %v", state, states))
		}
	}
	return nil
}

// checkIDs finds what cannot be the id of a strand.
func checkIDs(ids ...string) error {
	for _, id := range ids {
		if _, err := protocol.CanonicalID(id); err != nil {
			return usage(fmt.Errorf("id %w", err))
		}
	}
	return nil
}

func (f *strandFilter) given() bool {
	return len(f.kinds)+len(f.queues)+len(f.tenants)+len(f.states) > 0
}

func (f *strandFilter) wanted() []client.State {
	states := make([]client.State, len(f.states))
	for i, state := range f.states {
		states[i] = client.State(state)
	}
	return states
}

func strandListCommand(s *settings) *cobra.Command {
	var filter strandFilter
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List strands: first the live ones by id, then the finished ones, newest first",
		Example: `  respirated strand list --state ready,leased
  respirated strand list --kind report --queue slow --limit 20
  respirated strand list --parent 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand list --state dead --json`,
		Args: takes(cobra.NoArgs),
	}
	filter.add(cmd.Flags())
	limit := cmd.Flags().Int("limit", client.DefaultFirst, "at most so many")
	parent := cmd.Flags().String("parent", "", "only the children of the strand with this `ID`")
	after := cmd.Flags().String("after", "", "go on behind the `PLACE` that the page before told")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 {
			return usage(fmt.Errorf("--limit is %d, it must be at least 1", *limit))
		}
		if *parent != "" {
			if err := checkIDs(*parent); err != nil {
				return err
			}
		}
		if err := filter.check(); err != nil {
			return err
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			page, err := listStrands(cmd, db, filter, *parent, *limit, *after)
			if err != nil {
				return err
			}
			if err := page.explain(cmd.Context(), db); err != nil {
				return err
			}
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), page)
			}
			return printPage(cmd.OutOrStdout(), cmd.ErrOrStderr(), page)
		})
	}
	return cmd
}

// strandPage is what `strand list --json` prints.
type strandPage struct {
	Strands []shownStrand `json:"strands"`
	After   string        `json:"after,omitempty"` // where the next page begins; none = there is none
}

// explain notes why strands do not run though they are due.
func (p *strandPage) explain(ctx context.Context, db *database) error {
	brokers, err := db.BrokerList(ctx)
	now := time.Now()
	for i := range p.Strands {
		p.Strands[i].Note = explain.Note(p.Strands[i].StrandRow, brokers, now)
	}
	return err
}

// listStrands reads until the limit is reached or there are no more: a page of the client's may be short.
func listStrands(cmd *cobra.Command, db *database, filter strandFilter, parent string, limit int, after string) (strandPage, error) {
	page := strandPage{Strands: []shownStrand{}, After: after}
	for {
		found, err := db.StrandList(cmd.Context(), &client.StrandListParams{
			Kinds: filter.kinds, Queues: filter.queues, Tenants: filter.tenants, States: filter.wanted(), Parent: parent,
			First: min(limit-len(page.Strands), client.MaxFirst), After: page.After,
		})
		if err != nil {
			return page, err
		}
		for _, row := range found.Strands {
			page.Strands = append(page.Strands, shownStrand{StrandRow: row})
		}
		page.After = found.After
		if page.After == "" || len(page.Strands) >= limit {
			return page, nil
		}
	}
}

func printPage(out, errOut io.Writer, page strandPage) error {
	now := time.Now()
	t := newTable(out, "ID", "KIND", "LABEL", "QUEUE", "TENANT", "STATE", "PRIO", "TRY", "CREATED", "DUE / FINISHED", "WHY")
	for _, r := range page.Strands {
		t.row(r.ID, r.Kind, r.Label, r.Queue, r.Tenant, string(r.State), strconv.Itoa(r.Priority),
			fmt.Sprintf("%d/%d", r.Try, r.MaxTries), ago(r.CreatedAt, now), moment(r.StrandRow, now), r.Note)
	}
	if err := t.flush(); err != nil {
		return err
	}
	if page.After != "" {
		fmt.Fprintf(errOut, "there are more: --after %s\n", page.After)
	}
	return nil
}

// moment is when a strand is due, or was finished.
func moment(r *client.StrandRow, now time.Time) string {
	switch {
	case r.FinishedAt != nil:
		return ago(*r.FinishedAt, now)
	case r.State == client.Leased:
		return "running"
	case r.ScheduledAt != nil:
		return ago(*r.ScheduledAt, now)
	}
	return ""
}

func strandRetryCommand(s *settings) *cobra.Command {
	var at string
	var by func() string
	cmd := steerCommand(s, steering{
		verb: "retry", done: "due now",
		short: "Make strands due now; finished ones come back where they ended, with their tries counted anew",
		long: `A strand that waits for its schedule or its back-off need not wait any longer. With a filter, dead ones are meant unless --state says otherwise.

One that was dead has its children again: it waits for those that live, and is told how the others have ended. Signals that
waited for it are gone. One that was done or cancelled had given up its children, and comes back without.

With --at it goes on at that label of its program, which has to know it. That, and who did it, is shown by strand show; it needs
the rights of respirate.grant_operator('ROLE').`,
		example: `  respirated strand retry 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand retry 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --at start --by 'ann, ticket 7'
  respirated strand retry --kind report --all
  respirated strand retry --state dead --all`,
		check: func(cmd *cobra.Command, all bool) error {
			switch {
			case cmd.Flags().Changed("at") && all:
				return errors.New("--at goes with ids, and not with --all: a label is of one program")
			case cmd.Flags().Changed("at") && at == "":
				return errors.New("--at is empty: name a label")
			case cmd.Flags().Changed("by") && at == "":
				return errors.New("--by goes with --at")
			}
			return nil
		},
		one: func(cmd *cobra.Command, db *database, id string) (client.State, error) {
			if at != "" {
				return db.StrandRetryAt(cmd.Context(), id, at, by())
			}
			return db.StrandRetry(cmd.Context(), id)
		},
		many: func(cmd *cobra.Command, db *database, p *client.StrandManyParams) (int, error) {
			return db.StrandRetryMany(cmd.Context(), p)
		},
	})
	cmd.Flags().StringVar(&at, "at", "", "go on at this `LABEL`")
	by = addBy(cmd)
	return cmd
}

func strandCancelCommand(s *settings) *cobra.Command {
	return steerCommand(s, steering{
		verb: "cancel", done: "cancelled or asked to stop",
		short: "End strands; running ones are asked to stop",
		long:  "A strand that has finished stays as it is. With a filter, all live ones are meant unless --state says otherwise.",
		example: `  respirated strand cancel 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand cancel --kind report --queue slow --all
  respirated strand cancel --state ready --all`,
		one: func(cmd *cobra.Command, db *database, id string) (client.State, error) {
			return db.StrandCancel(cmd.Context(), id)
		},
		many: func(cmd *cobra.Command, db *database, p *client.StrandManyParams) (int, error) {
			return db.StrandCancelMany(cmd.Context(), p)
		},
	})
}

// steering is a verb that changes strands.
type steering struct {
	verb, done           string
	short, long, example string
	check                func(cmd *cobra.Command, all bool) error // of flags of its own; nil = there are none
	one                  func(cmd *cobra.Command, db *database, id string) (client.State, error)
	many                 func(cmd *cobra.Command, db *database, params *client.StrandManyParams) (int, error)
}

func steerCommand(s *settings, v steering) *cobra.Command {
	var filter strandFilter
	cmd := &cobra.Command{
		Use:     v.verb + " (ID... | [FILTER] --all)",
		Short:   v.short,
		Long:    v.short + ".\n\n" + v.long,
		Example: v.example,
		Args:    takes(cobra.ArbitraryArgs),
	}
	filter.add(cmd.Flags())
	all := cmd.Flags().Bool("all", false, "yes, all strands that match the filter")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		switch {
		case len(ids) > 0 && (*all || filter.given()):
			return usage(errors.New("ids go without a filter and --all"))
		case len(ids) == 0 && !*all:
			return usage(errors.New("say which strands: their ids, or a filter (--kind, --queue, --tenant, --state) and --all"))
		}
		if v.check != nil {
			if err := v.check(cmd, *all); err != nil {
				return usage(err)
			}
		}
		if err := cmp.Or(filter.check(), checkIDs(ids...)); err != nil {
			return err
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			if *all {
				return v.steerAll(cmd, db, filter, *asJSON)
			}
			return v.steerEach(cmd, db, ids, *asJSON)
		})
	}
	return cmd
}

func (v steering) steerAll(cmd *cobra.Command, db *database, filter strandFilter, asJSON bool) error {
	n, err := v.many(cmd, db, &client.StrandManyParams{
		Kinds: filter.kinds, Queues: filter.queues, Tenants: filter.tenants, States: filter.wanted(), All: true,
	})
	if err != nil {
		return err
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), map[string]int{"strands": n})
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d strands %s\n", n, v.done)
	return err
}

// steered is what `strand retry --json` and its like print of each strand.
type steered struct {
	ID    string       `json:"id"`
	State client.State `json:"state,omitempty"` // it is in now; none = there is no such strand
}

// steerEach does what it can, and then tells which strands are not there.
func (v steering) steerEach(cmd *cobra.Command, db *database, ids []string, asJSON bool) error {
	results := make([]steered, len(ids))
	var missing []string
	for i, id := range ids {
		state, err := v.one(cmd, db, id)
		if errors.Is(err, client.ErrNotFound) {
			missing, state = append(missing, id), ""
		} else if err != nil {
			return err
		}
		results[i] = steered{id, state}
	}
	if err := v.print(cmd.OutOrStdout(), results, asJSON); err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", client.ErrNotFound, strings.Join(missing, ", "))
	}
	return nil
}

func (v steering) print(out io.Writer, results []steered, asJSON bool) error {
	if asJSON {
		return printJSON(out, results)
	}
	for _, r := range results {
		if r.State == "" {
			continue
		}
		if _, err := fmt.Fprintf(out, "%s is %s\n", r.ID, v.now(r.State)); err != nil {
			return err
		}
	}
	return nil
}

// now says what a strand is after the verb.
func (v steering) now(state client.State) string {
	switch {
	case v.verb == "cancel" && state == client.Leased:
		return "running and was asked to stop"
	case v.verb == "edit" && (state == client.Dead || state == client.Cancelled):
		return string(state) + "; the other args count when it is retried"
	case v.verb == "edit":
		return string(state) + ", with other args"
	}
	return string(state)
}
