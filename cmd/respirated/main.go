// Respirated is the daemon that runs strands on one host, and every verb that an operator needs.
//
//	main.go, settings.go, database.go, output.go    what all verbs share: exit codes, flags and file, connection, tables
//	run.go, daemon.go, control.go                   the daemon: what it is made of, and in which order it stops
//	init.go                                         process 1 of a container
//	pool.go, reload.go                              its pools: asked for, steered, read again
//	systemd.go                                      what it tells systemd, and gets from it
//	upgrade.go, become_*.go                         how it becomes another build of itself
//	backlog.go                                      its log, which holds up nobody
//	partition.go                                    which part of the strands it looks for
//	dashboard.go                                    the dashboard: where it listens, who is let in, what it reads with
//	dev.go, dev_show.go                             everything at once on a fresh machine, with a live demo
//	bench*.go                                       what this installation can do, measured
//	migrate.go, insert*.go, strand*.go, list.go,
//	worker_logs.go, page.go                         the operator's verbs
//	signals.go                                      when a process ends in peace, and when at once
//	page_send.go, hooks.go, command.go              commands of the operator's: pages sent on, events of workers told
//	check_config.go                                 a configuration, tried
//	doctor*.go                                      what keeps strands from running, looked for
//
// All decisions are made elsewhere: broker decides who runs what, broker/postgres owns the tables, broker/supervisor
// the worker processes, client inserts and reads.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

func main() {
	if os.Getpid() == 1 {
		os.Exit(initProcess(os.Args[1:], os.Stderr))
	}
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute runs one verb and returns the exit code.
func execute(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := rootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && err.Error() != "" {
		fmt.Fprintf(stderr, "%s: %s\n", cmd.CommandPath(), oneLine(err.Error()))
	}
	return exitCode(err)
}

const exitCodes = `Exit codes:
  0  done
  1  failed; the error says what and what to do
  2  called in a wrong way
  3  there is no such strand, page, pool or worker
  4  the time to wait for was over
  5  the strand that was waited for did not succeed`

func rootCommand() *cobra.Command {
	s := &settings{}
	root := group("respirated", "Durable work on Postgres, run by one broker per host", exitCodes)
	root.Version = version()
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetVersionTemplate("respirated {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	s.addFlags(root.PersistentFlags())
	root.AddCommand(
		devCommand(s),
		runCommand(s),
		migrateCommand(s),
		insertCommand(s),
		strandCommand(s),
		pageCommand(s),
		poolCommand(s),
		workerCommand(s),
		brokerCommand(s),
		doctorCommand(s),
		checkConfigCommand(s),
		systemdUnitCommand(s),
		benchCommand(s),
		versionCommand(),
		demoWorkerCommand(),
		benchHostCommand(),
	)
	return root
}

// group is a verb that only has verbs below it.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long:  strings.TrimSpace(short + ".\n\n" + long),
		Args:  cobra.ArbitraryArgs,

		SuggestionsMinimumDistance: 2,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			hint := "see " + cmd.CommandPath() + " --help"
			if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
				hint = "did you mean " + strings.Join(like, " or ") + "?"
			}
			return usage(fmt.Errorf("there is no verb %q: %s", args[0], hint))
		},
	}
}

// takes wraps a check of positional arguments, so that its errors are errors of usage.
func takes(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usage(fmt.Errorf("%w: it is called as %s", err, cmd.UseLine()))
		}
		return nil
	}
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  respirated version",
		Args:    takes(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "respirated", version())
			return err
		},
	}
}

// version is the module's version, or the commit that a checkout was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

// Exit codes, as the help of the root verb tells them.
const (
	exitFailed       = 1
	exitUsage        = 2
	exitNotFound     = 3
	exitTimeout      = 4
	exitUnsuccessful = 5
)

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code int
}

func (e codedError) Unwrap() error { return e.error }

func usage(err error) error { return codedError{err, exitUsage} }

func exitCode(err error) int {
	var coded codedError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &coded):
		return coded.code
	}
	return exitFailed
}
