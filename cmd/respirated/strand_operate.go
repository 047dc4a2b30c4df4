package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

// addBy gives a verb its --by, and tells who is meant.
func addBy(cmd *cobra.Command) func() string {
	by := cmd.Flags().String("by", "", "`WHO` does it, for the record (default the user of the system, and the host)")
	return func() string {
		if *by != "" {
			return *by
		}
		return whoami()
	}
}

// whoami is user@host, as far as that can be known; "" = nothing is.
func whoami() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil || name == "" {
		return name
	}
	return name + "@" + host
}

func strandSignalCommand(s *settings) *cobra.Command {
	var filter strandFilter
	cmd := &cobra.Command{
		Use:   "signal (ID NAME [VALUE-JSON] | [FILTER] --all NAME [VALUE-JSON])",
		Short: "Send a semaphore to live strands, and wake them",
		Long: `Send a semaphore to live strands, and wake them. It has a name, which their program knows, and perhaps a value. It stays
until the strand has used it; a strand that runs finds it when it runs next, which is at once if it only naps then.`,
		Example: `  respirated strand signal 6ba7b810-9dad-41d1-80b4-00c04fd430c8 booted
  respirated strand signal 6ba7b810-9dad-41d1-80b4-00c04fd430c8 resize '{"cpus": 4}' --quiet
  respirated strand signal --kind provision --all destroy`,
		Args: takes(cobra.RangeArgs(1, 3)),
	}
	filter.add(cmd.Flags())
	all := cmd.Flags().Bool("all", false, "yes, all live strands that match the filter")
	quiet := cmd.Flags().Bool("quiet", false, "do not wake them: they find it when they run next")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		signal := client.SignalParams{Quiet: *quiet}
		switch {
		case *all && len(args) > 2:
			return usage(errors.New("with --all there is no id: it is NAME [VALUE-JSON]"))
		case !*all && filter.given():
			return usage(errors.New("a filter goes with --all, and without an id"))
		case !*all && len(args) < 2:
			return usage(errors.New("say which strand and the name of the semaphore: ID NAME; or a filter (--kind, --queue, --tenant, --state) and --all"))
		case !*all:
			signal.ID, args = args[0], args[1:]
		}
		signal.Name = args[0]
		if len(args) > 1 {
			value, err := jsonArg("the value", args[1])
			if err != nil {
				return err
			}
			signal.Value = value
		}
		if err := filter.check(); err != nil {
			return err
		}
		if !*all {
			if err := checkIDs(signal.ID); err != nil {
				return err
			}
		}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			verb := steering{
				verb: "signal", done: "signalled",
				one: func(cmd *cobra.Command, db *database, _ string) (client.State, error) {
					there, err := db.SignalMany(cmd.Context(), []client.SignalParams{signal})
					if err == nil && !there[0] {
						err = client.ErrNotFound
					}
					return "signalled", err
				},
				many: func(cmd *cobra.Command, db *database, p *client.StrandManyParams) (int, error) {
					return db.StrandSignalMany(cmd.Context(), p, signal)
				},
			}
			if *all {
				return verb.steerAll(cmd, db, filter, *asJSON)
			}
			if err := verb.steerEach(cmd, db, []string{signal.ID}, *asJSON); errors.Is(err, client.ErrNotFound) {
				return fmt.Errorf("%w; one that has finished takes no signals", err)
			} else if err != nil {
				return err
			}
			return nil
		})
	}
	return cmd
}

// jsonArg is an argument that has to be JSON.
func jsonArg(what, text string) (json.RawMessage, error) {
	if !json.Valid([]byte(text)) {
		return nil, usage(fmt.Errorf("%s is not JSON: %.80q; a text needs quotes of its own: '\"text\"'", what, text))
	}
	return json.RawMessage(text), nil
}

func strandEditCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "edit ID --args JSON",
		Short: "Replace the args of the frame of a strand that runs next",
		Long: `Replace the args of the frame of a strand that runs next, while no worker runs it. Those of a dead or cancelled strand
count when it is retried; of one that is done they stand. What they were, and who did it, is shown by strand show. It needs the rights of respirate.grant_operator('ROLE').`,
		Example: `  respirated strand edit 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --args '{"to": "a@example.org"}'
  respirated strand edit 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --args '{"n": 1}' --by 'ann, ticket 7' --json`,
		Args: takes(cobra.ExactArgs(1)),
	}
	text := cmd.Flags().String("args", "", "`JSON` that they are from now on")
	by := addBy(cmd)
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, ids []string) error {
		if !cmd.Flags().Changed("args") {
			return usage(errors.New("say what the args are to be: --args JSON"))
		}
		args, err := jsonArg("--args", *text)
		if err := cmp.Or(err, checkIDs(ids...)); err != nil {
			return err
		}
		edit := steering{verb: "edit", one: func(cmd *cobra.Command, db *database, id string) (client.State, error) {
			return db.StrandEdit(cmd.Context(), id, args, by())
		}}
		return s.withDatabase(cmd.Context(), client.InsertOpts{}, func(db *database) error {
			return edit.steerEach(cmd, db, ids, *asJSON)
		})
	}
	return cmd
}
