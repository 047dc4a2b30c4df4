package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// surroundings are what the figures of a measurement depend on.
type surroundings struct {
	server     string   // its version
	statements string   // the view of pg_stat_statements; "" = it is not there, or tells nothing
	warnings   []string // never nil
}

// lookAround asks the server, and watches it and this machine for a moment.
func lookAround(ctx context.Context, conn *pgx.Conn, own string) (surroundings, error) {
	s := surroundings{warnings: []string{}}
	left, err := leftBenchSchemas(ctx, conn, own)
	if err != nil {
		return s, err
	}
	for _, schema := range left {
		s.warn("%s is left of an earlier measurement that was killed, or told to keep it: %s", schema, dropStatement(schema))
	}
	var fsync, synchronous string
	const settings = "select current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')"
	if err := conn.QueryRow(ctx, settings).Scan(&s.server, &fsync, &synchronous); err != nil {
		return s, fmt.Errorf("ask for the server's settings: %w", err)
	}
	if fsync == "off" {
		s.warn("fsync is off: a crash of the machine may destroy this database, and the figures are better than they could be with it")
	}
	if synchronous == "off" {
		s.warn("synchronous_commit is off: a crash may lose what was committed, and the figures are better than they could be with it")
	}
	s.findStatements(ctx, conn)
	return s, s.watch(ctx, conn)
}

func (s *surroundings) warn(format string, args ...any) {
	s.warnings = append(s.warnings, fmt.Sprintf(format, args...))
}

// findStatements looks for pg_stat_statements. It may be in any schema, and not loaded, and not for us.
func (s *surroundings) findStatements(ctx context.Context, conn *pgx.Conn) {
	var view string
	const find = `select quote_ident(n.nspname) || '.pg_stat_statements' from pg_extension e
		join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'`
	if conn.QueryRow(ctx, find).Scan(&view) != nil {
		return
	}
	if _, err := conn.Exec(ctx, "select from "+view+" limit 1"); err == nil {
		s.statements = view
	}
}

const (
	watchFor     = 500 * time.Millisecond
	muchWAL      = 16 << 10 // bytes in that time; a server at rest writes next to nothing
	muchBusyness = 0.25     // of all processors
)

// watch finds out what others do, before we do anything.
func (s *surroundings) watch(ctx context.Context, conn *pgx.Conn) error {
	walBefore, err := walPosition(ctx, conn)
	if err != nil {
		return err
	}
	busyBefore, allBefore := processorTime()
	select {
	case <-time.After(watchFor):
	case <-ctx.Done():
		return ctx.Err()
	}
	busy, all := processorTime()
	if all > allBefore {
		if share := (busy - busyBefore) / (all - allBefore); share > muchBusyness {
			s.warn("this machine is busy: %.0f %% of its processors' time went to others before anything was measured", 100*share)
		}
	}
	wal, err := walPosition(ctx, conn)
	if wal -= walBefore; err == nil && wal > muchWAL {
		s.warn("others write to this server, %.0f KiB of WAL a second: that is in the figure of WAL per strand", float64(wal)/1024/watchFor.Seconds())
	}
	return err
}

func walPosition(ctx context.Context, conn *pgx.Conn) (bytes int64, err error) {
	if err := conn.QueryRow(ctx, "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint").Scan(&bytes); err != nil {
		return 0, fmt.Errorf("ask how much WAL there is: %w", err)
	}
	return bytes, nil
}

// processorTime is how long all processors of this machine have been busy, and up; 0 where there is no /proc.
func processorTime() (busy, all float64) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	first, _, _ := strings.Cut(string(stat), "\n")
	for i, field := range strings.Fields(strings.TrimPrefix(first, "cpu")) {
		var ticks float64
		const idle, ioWait, guest = 3, 4, 8 // guests' time is in that of users, too
		if _, err := fmt.Sscan(field, &ticks); err != nil || i >= guest {
			break
		}
		all += ticks
		if i != idle && i != ioWait {
			busy += ticks
		}
	}
	return busy, all
}

// peakMemory is the most that a process has had resident, in bytes; 0 where there is no /proc.
func peakMemory(pid int) (bytes int64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	return 0
}
