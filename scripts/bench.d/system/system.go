// Package system has the systems that are compared, each driven by its own client and its own worker processes, with the
// best settings that we know for it.
package system

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// Place is where a system is made to work.
type Place struct {
	URL string // of the database
	Hub string // the socket where the processes meet the harness
	Dir string // for what the system's processes leave; removed after them
}

// System is one of the compared.
type System interface {
	// Name is how reports call it.
	Name() string
	// Version is what was measured, and Settings is how it was set up; for people.
	Version() (string, error)
	Settings() string
	// Batch is how many jobs its bulk insert is given at once.
	Batch() int
	// Prepare makes its tables in an empty database.
	Prepare(ctx context.Context, url string) error
	// Workers are the commands that make so many worker processes.
	Workers(at Place, processes int) ([]*exec.Cmd, error)
	// Inserter is the command of a process that inserts with its client.
	Inserter(at Place) *exec.Cmd
	// Unfinished is a query that tells, cheaply, whether a job is left that is not persisted as finished.
	Unfinished() string
}

// Brokered is a system whose first processes are not its workers, but start them.
type Brokered interface {
	System
	Brokers() int
}

// childWord is the first argument of this program when it is a process of a system.
const childWord = "child"

// child is the command of a Go process that is this program again.
func child(name, role string, at Place) *exec.Cmd {
	return exec.Command(os.Args[0], childWord, name, role, at.URL, at.Hub)
}

// Child runs this program as a process of a system, where its arguments say so.
func Child(args []string) (isChild bool, err error) {
	if len(args) == 0 || args[0] != childWord {
		return false, nil
	}
	if len(args) != 5 {
		return true, fmt.Errorf("a child takes 4 arguments, not %q", args[1:])
	}
	roles := map[string]func(url, hub string) error{
		"respirate worker":   respirateWorker,
		"respirate inserter": respirateInserter,
		"respirate crowd":    respirateCrowd,
		"river worker":       riverWorker,
		"river inserter":     riverInserter,
	}
	role := strings.Join(args[1:3], " ")
	run, ok := roles[role]
	if !ok {
		return true, errors.New("there is no child " + role)
	}
	return true, run(args[3], args[4])
}

// Tether gives a command a process group of its own, so that Ctrl-C is for the harness alone, and has it end with the
// harness even if that is killed.
func Tether(cmd *exec.Cmd, output *os.File) {
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

// run runs a short command to its end. What it printed is in the error.
func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
