package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/client"
)

func strandWhyCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why ID",
		Short: "Say in one line why a strand does not run now",
		Example: `  respirated strand why 6ba7b810-9dad-41d1-80b4-00c04fd430c8
  respirated strand why 6ba7b810-9dad-41d1-80b4-00c04fd430c8 --json`,
		Args: takes(cobra.ExactArgs(1)),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.lookAt(cmd, args[0], func(l look) error {
			why := l.Why()
			if *asJSON {
				return printJSON(cmd.OutOrStdout(), reason{l.ID, l.State, why, l.Worker(), l.Host()})
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", l.State, plain(why))
			return err
		})
	}
	return cmd
}

// reason is what `strand why --json` prints.
type reason struct {
	ID     string       `json:"id"`
	State  client.State `json:"state"`
	Why    string       `json:"why"`
	Worker string       `json:"worker,omitempty"` // who runs it on this host
	Host   string       `json:"host,omitempty"`
}
