package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/postgres"
)

func migrateCommand(s *settings) *cobra.Command {
	cmd := group("migrate", "Make and change the schema", `Old and new binaries can work with the same schema while you deploy: migrate first, then replace the binaries.`)
	cmd.AddCommand(
		migrateUpCommand(s),
		migrateDownCommand(s),
		migrateStatusCommand(s),
		migrateSQLCommand(s),
		migrateValidateCommand(s),
	)
	return cmd
}

// withMigrator connects for one verb.
func (s *settings) withMigrator(cmd *cobra.Command, verb func(*postgres.Migrator) error) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	return withMigratorOf(cmd, cfg, verb)
}

func withMigratorOf(cmd *cobra.Command, cfg fileConfig, verb func(*postgres.Migrator) error) (err error) {
	m, err := postgres.NewMigrator(cmd.Context(), postgres.Config{URL: cfg.DatabaseURLs.one(), Schema: cfg.Schema, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close()) }()
	return verb(m)
}

func migrateUpCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "up",
		Short:   "Apply all missing migrations, to each database that is named",
		Example: "  respirated migrate up\n  respirated migrate up --schema jobs",
		Args:    takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		for _, one := range cfg.each() {
			if len(cfg.DatabaseURLs) > 1 && !*asJSON {
				fmt.Fprintf(cmd.OutOrStdout(), "%s:\n", databaseName(one.DatabaseURLs.one()))
			}
			err := withMigratorOf(cmd, one, func(m *postgres.Migrator) error {
				steps, err := m.Up(cmd.Context())
				return errors.Join(printSteps(cmd.OutOrStdout(), steps, "nothing to do", *asJSON), err)
			})
			if err != nil {
				return one.among(cfg, err)
			}
		}
		return nil
	}
	return cmd
}

func migrateDownCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "down --to VERSION",
		Short:   "Take migrations back; to version 0 takes everything away, strands and history included",
		Example: "  respirated migrate down --to 3\n  respirated migrate down --to 0",
		Args:    takes(cobra.NoArgs),
	}
	to := cmd.Flags().Int64("to", -1, "the `VERSION` that remains")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *to < 0 || *to > postgres.LatestVersion() {
			return usage(fmt.Errorf("say which version remains: --to 0 (nothing) to %d", postgres.LatestVersion()))
		}
		return s.withMigrator(cmd, func(m *postgres.Migrator) error {
			steps, err := m.DownTo(cmd.Context(), *to)
			return errors.Join(printSteps(cmd.OutOrStdout(), steps, "nothing to do", *asJSON), err)
		})
	}
	return cmd
}

func migrateStatusCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "List all migrations and which of them the database has",
		Example: "  respirated migrate status\n  respirated migrate status --json",
		Args:    takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.withMigrator(cmd, func(m *postgres.Migrator) error {
			steps, err := m.Status(cmd.Context())
			if err != nil {
				return err
			}
			return printSteps(cmd.OutOrStdout(), steps, "", *asJSON)
		})
	}
	return cmd
}

func migrateSQLCommand(s *settings) *cobra.Command {
	return &cobra.Command{
		Use:     "sql",
		Short:   "Print the SQL that makes the whole schema, without a database",
		Example: "  respirated migrate sql > schema.sql",
		Args:    takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := s.loadSeveral()
			if err != nil {
				return err
			}
			text, err := postgres.UpSQL(cfg.Schema)
			if err != nil {
				return usage(err)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
}

func migrateValidateCommand(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "validate",
		Short:   "Compare the schema with what the migrations make; exit code 1 if they differ",
		Example: "  respirated migrate validate",
		Args:    takes(cobra.NoArgs),
	}
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return s.withMigrator(cmd, func(m *postgres.Migrator) error {
			found, err := m.Validate(cmd.Context())
			if err != nil {
				return err
			}
			if err := printDifferences(cmd.OutOrStdout(), found, *asJSON); err != nil || len(found) == 0 {
				return err
			}
			return fmt.Errorf("the schema differs in %d places from what the migrations make: run `respirated migrate up`, or undo what was changed by hand", len(found))
		})
	}
	return cmd
}

func printDifferences(out io.Writer, found []string, asJSON bool) error {
	if asJSON {
		return printJSON(out, append([]string{}, found...))
	}
	if len(found) == 0 {
		found = []string{"the schema is as it should be"}
	}
	for _, line := range found {
		if _, err := fmt.Fprintln(out, plain(line)); err != nil {
			return err
		}
	}
	return nil
}

// stepJSON is a migration as --json prints it.
type stepJSON struct {
	Version int64      `json:"version"`
	Name    string     `json:"name"`
	Applied bool       `json:"applied"`
	At      *time.Time `json:"at,omitempty"`
}

func printSteps(out io.Writer, steps []postgres.Step, none string, asJSON bool) error {
	if asJSON {
		return printJSON(out, stepsJSON(steps))
	}
	if len(steps) == 0 {
		_, err := fmt.Fprintln(out, none)
		return err
	}
	t := newTable(out, "VERSION", "NAME", "APPLIED")
	for _, step := range steps {
		t.row(fmt.Sprint(step.Version), step.Name, applied(step))
	}
	return t.flush()
}

func stepsJSON(steps []postgres.Step) []stepJSON {
	all := make([]stepJSON, len(steps))
	for i, step := range steps {
		all[i] = stepJSON{Version: step.Version, Name: step.Name, Applied: step.Applied}
		if !step.At.IsZero() {
			all[i].At = &steps[i].At
		}
	}
	return all
}

func applied(step postgres.Step) string {
	switch {
	case !step.Applied:
		return "no"
	case step.At.IsZero():
		return "yes"
	}
	return step.At.UTC().Format(time.RFC3339)
}
