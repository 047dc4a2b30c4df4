package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// commandEnv is what commands that a daemon runs may see of its environment: as much as workers, so no password of the database.
var commandEnv = []string{"PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER"}

// runCommandOn runs a command of the operator's with text as its standard input, and returns the end of what it said. It
// and all that it has started are killed when its time is over or ctx ends.
func runCommandOn(ctx context.Context, args []string, text []byte, limit time.Duration) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("it has taken longer than %v", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	cmd.Stdin = bytes.NewReader(text)
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return !slices.Contains(commandEnv, name)
	})
	err := cmd.Run()
	if cause := context.Cause(ctx); cause != nil && err != nil {
		err = cause
	}
	words := oneLine(string(said.text))
	if err != nil {
		return words, fmt.Errorf("%w; it said: %s", err, cmp.Or(words, "nothing"))
	}
	return words, nil
}

// tail keeps the end of what is written.
type tail struct{ text []byte }

const tailSize = 1000

func (t *tail) Write(p []byte) (int, error) {
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailSize):]
	return len(p), nil
}
