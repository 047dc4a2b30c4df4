package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/client"
)

// database is what a verb reads and writes with: one connection.
type database struct {
	*client.Client[pgx.Tx]
	conn   *pgx.Conn
	schema string
}

// withDatabase connects, runs one verb, and disconnects. defaults are options for what the verb inserts.
func (s *settings) withDatabase(ctx context.Context, defaults client.InsertOpts, verb func(*database) error) error {
	cfg, err := s.load()
	if err != nil {
		return err
	}
	db, err := connect(ctx, cfg, defaults)
	if err != nil {
		return err
	}
	defer db.close(ctx)
	return db.explain(verb(db))
}

const connectTimeout = 10 * time.Second

func connect(ctx context.Context, cfg fileConfig, defaults client.InsertOpts) (*database, error) {
	conf, err := pgx.ParseConfig(cfg.DatabaseURLs.one())
	if err != nil {
		return nil, fmt.Errorf("the database URL is not one, it should look like postgres://user:password@host:5432/name: %w", err)
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = connectTimeout
	}
	if conf.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		// No named statements, so that it works behind a pooler too.
		conf.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
	if _, named := conf.RuntimeParams["application_name"]; !named {
		conf.RuntimeParams["application_name"] = "respirated"
	}
	conn, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return nil, cannotConnect(err)
	}
	db := &database{conn: conn, schema: cfg.Schema}
	db.Client, err = client.New(conn, &client.Config{Schema: cfg.Schema, Logger: slog.New(slog.DiscardHandler), InsertOpts: defaults})
	if err != nil {
		db.close(ctx)
		return nil, usage(err)
	}
	return db, nil
}

// cannotConnect says what to look at.
func cannotConnect(err error) error {
	hint := "is it running, and are host and port right? They come from --database-url, DATABASE_URL or the PG* variables"
	switch sqlState(err) {
	case "28P01", "28000":
		hint = "check user and password"
	case "3D000":
		hint = "create it, or check its name"
	}
	return fmt.Errorf("cannot connect to the database: %w: %s", saidOnce{err}, hint)
}

// saidOnce is an error of pgx, which lists all that it has tried: without TLS, too, unless the URL says otherwise. What came of
// both is told once, and that a server has no TLS is not why it refuses.
type saidOnce struct{ error }

func (e saidOnce) Unwrap() error { return e.error }

func (e saidOnce) Error() string {
	lines := strings.Split(e.error.Error(), "\n")
	told := slices.Compact(slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasSuffix(line, "tls error: server refused TLS connection") }))
	if len(told) < 2 { // all that there was
		told = lines
	}
	return strings.Join(told, "\n")
}

// explain tells what to do about errors that a verb cannot know.
func (db *database) explain(err error) error {
	const undefinedSchema, undefinedTable, undefinedFunction, undefinedColumn, denied = "3F000", "42P01", "42883", "42703", "42501"
	switch sqlState(err) {
	case undefinedSchema, undefinedTable, undefinedFunction, undefinedColumn:
		return fmt.Errorf("schema %s is missing or older than this binary: run `respirated migrate up`, or name another --schema: %w", db.schema, err)
	case denied:
		return fmt.Errorf("this role may not do that: its owner grants it with `select %s.grant_client('ROLE')`, or, to change strands by hand, grant_operator: %w", db.schema, err)
	}
	if errors.Is(err, client.ErrNotFound) || errors.Is(err, client.ErrPageNotFound) {
		return codedError{err, exitNotFound}
	}
	return err
}

func (db *database) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = db.conn.Close(ctx) // all is committed, and the process is about to end
}

// now is the time by the database's clock, which is the one that schedules.
func (db *database) now(ctx context.Context) (t time.Time, err error) {
	if err = db.conn.QueryRow(ctx, "select clock_timestamp()").Scan(&t); err != nil {
		return t, fmt.Errorf("ask the database for the time: %w", err)
	}
	return t, nil
}

func sqlState(err error) string {
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return refused.Code
	}
	return ""
}
