package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/respirated/respirated/broker/supervisor"
	"github.com/respirated/respirated/protocol"
)

const (
	followEvery = 250 * time.Millisecond // as often it is looked for new lines
	readAtOnce  = 4 << 20                // bytes of a log
)

func workerLogsCommand(s *settings) *cobra.Command {
	var follow bool
	var lines int
	var stream string
	cmd := &cobra.Command{
		Use:   "logs POOL/INDEX|PID",
		Short: "Show what a worker of this host has written",
		Long: `Show the last lines that the processes on a seat of a pool have written to standard output and error, those of former
processes included. A PID is that of a worker which the daemon on this host knows; POOL/INDEX needs no daemon.

Lines of both streams are in order where they tell their time, as those of log/slog do. With --json each line is an object
on a line of its own.`,
		Example: `  respirated worker logs web/0
  respirated worker logs --follow --lines 0 web/0
  respirated worker logs --stream err --json 4711`,
		Args: takes(cobra.ExactArgs(1)),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until interrupted")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how `MANY` of the last lines")
	cmd.Flags().StringVar(&stream, "stream", "", "only what was written to `out` or err")
	asJSON := addJSON(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if lines < 0 || stream != "" && stream != "out" && stream != "err" {
			return usage(errors.New("--lines is 0 or more, and --stream is out or err"))
		}
		cfg, err := s.loadSeveral()
		if err != nil {
			return err
		}
		l, err := logsOfSeat(cmd.Context(), cfg.Socket, args[0])
		if err != nil {
			return err
		}
		l.print = (&linePrinter{out: cmd.OutOrStdout(), json: *asJSON, streams: stream == ""}).line
		l.readers = slices.DeleteFunc(l.readers, func(r *supervisor.LogReader) bool { return stream != "" && r.Stream() != stream })
		if err := l.last(lines); err != nil || !follow {
			return err
		}
		return l.follow(cmd.Context())
	}
	return cmd
}

// logDir is where the workers of a socket's daemon write to.
func logDir(socket string) (string, error) {
	path, err := protocol.SocketPath(socket)
	return filepath.Join(filepath.Dir(path), "log"), err
}

// seatLogs are the logs of one seat.
type seatLogs struct {
	pool    string
	index   int
	readers []*supervisor.LogReader
	print   func(loggedLine) error
}

// loggedLine is a line, and who wrote it.
type loggedLine struct {
	Pool  string `json:"pool"`
	Index int    `json:"index"`
	supervisor.LogLine
}

// logsOfSeat finds the logs of a seat by its name or the pid of who sits there.
func logsOfSeat(ctx context.Context, socket, name string) (*seatLogs, error) {
	pool, index, err := findSeat(ctx, socket, name)
	if err != nil {
		return nil, err
	}
	dir, err := logDir(socket)
	if err != nil {
		return nil, err
	}
	stdout, stderr := supervisor.LogFiles(dir, pool, index)
	if _, err := os.Stat(stderr); err != nil {
		return nil, codedError{fmt.Errorf("worker %s has written nothing that is here: %w: see respirated worker list, or name the --socket of its daemon", name, err), exitNotFound}
	}
	return &seatLogs{pool: pool, index: index, readers: []*supervisor.LogReader{
		supervisor.NewLogReader(stdout, "out"), supervisor.NewLogReader(stderr, "err"),
	}}, nil
}

// findSeat reads POOL/INDEX, or asks the daemon whose PID it is.
func findSeat(ctx context.Context, socket, name string) (pool string, index int, err error) {
	if pool, at, ok := strings.Cut(name, "/"); ok {
		index, err := strconv.Atoi(at)
		if err != nil || index < 0 || pool == "" || strings.ContainsAny(at, "/+") {
			return "", 0, usage(fmt.Errorf("%.40q is no seat of a pool, such as web/0", name))
		}
		return pool, index, nil
	}
	pid, err := strconv.Atoi(name)
	if err != nil || pid < 1 {
		return "", 0, usage(fmt.Errorf("%.40q is neither a seat of a pool, such as web/0, nor a pid", name))
	}
	var workers []workerStatus
	if err := askDaemon(ctx, socket, "/api/v1/workers", &workers); err != nil {
		return "", 0, err
	}
	for _, w := range workers {
		switch {
		case w.PID != pid:
		case w.Pool == externalPool:
			return "", 0, codedError{fmt.Errorf("worker %d was started by others: what it writes is with them", pid), exitNotFound}
		default:
			return w.Pool, w.Index, nil
		}
	}
	return "", 0, codedError{fmt.Errorf("the daemon knows no worker with pid %d: see respirated worker list", pid), exitNotFound}
}

// last prints the last lines of both streams.
func (l *seatLogs) last(n int) error {
	var lines []loggedLine
	for _, r := range l.readers {
		if err := r.ToLast(n); err != nil {
			return err
		}
		var at *time.Time // a line without a time follows the one before it
		err := readLog(r, func(line supervisor.LogLine) {
			if line.Time != nil {
				at = line.Time
			}
			line.Time = at
			lines = append(lines, loggedLine{l.pool, l.index, line})
		})
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(lines, func(a, b loggedLine) int { return compareTimes(a.Time, b.Time) })
	for _, line := range lines[max(0, len(lines)-n):] {
		if err := l.print(line); err != nil {
			return err
		}
	}
	return nil
}

// compareTimes has what tells no time come first.
func compareTimes(a, b *time.Time) int {
	switch {
	case a != nil && b != nil:
		return a.Compare(*b)
	case a != nil:
		return 1
	case b != nil:
		return -1
	}
	return 0
}

// readLog reads all whole lines that there are.
func readLog(r *supervisor.LogReader, each func(supervisor.LogLine)) error {
	for {
		more, err := r.Read(readAtOnce, false, each)
		if err != nil || !more {
			return err
		}
	}
}

// follow prints what is written, until ctx ends.
func (l *seatLogs) follow(ctx context.Context) error {
	ticker := time.NewTicker(followEvery)
	defer ticker.Stop()
	for {
		for _, r := range l.readers {
			var failed error
			err := readLog(r, func(line supervisor.LogLine) {
				failed = errors.Join(failed, l.print(loggedLine{l.pool, l.index, line}))
			})
			if err := errors.Join(err, failed); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// linePrinter prints lines for people or for programs.
type linePrinter struct {
	out     io.Writer
	json    bool
	streams bool // people are told the stream
}

func (p *linePrinter) line(l loggedLine) error {
	if p.json {
		return printJSONLine(p.out, l)
	}
	text := plain(l.Text)
	if l.Cut {
		text += " [cut]"
	}
	if p.streams {
		text = l.Stream + "  " + text
	}
	_, err := fmt.Fprintln(p.out, text)
	return err
}

// printJSONLine writes a value as JSON on one line.
func printJSONLine(out io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write as JSON: %w", err)
	}
	_, err := out.Write(escapeControls(b.Bytes()))
	return err
}
