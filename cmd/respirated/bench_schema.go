package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client"
)

// benchSchema is the schema that a measurement works in. The connection that made it lives as long as the measurement
// and is named after it: by that others see that the schema is in use.
type benchSchema struct {
	name string
	url  string
	db   *database
}

// makeBenchSchema makes a schema with a name that nobody else has.
func makeBenchSchema(ctx context.Context, url string) (*benchSchema, error) {
	random := make([]byte, 4)
	rand.Read(random) // never fails: see its documentation
	s := &benchSchema{name: "respirate_bench_" + hex.EncodeToString(random), url: url}
	var err error
	if s.db, err = s.connect(ctx); err != nil {
		return nil, err
	}
	// Not "if not exists": what is there is somebody's. And not cut off by an interrupt, or nobody knew whether it is there.
	making, cancel := context.WithTimeout(context.WithoutCancel(ctx), schemaWithin)
	defer cancel()
	if _, err := s.db.conn.Exec(making, "create schema "+s.name); err != nil {
		s.db.close(ctx)
		return nil, s.cannotMake(err)
	}
	return s, nil
}

func (s *benchSchema) connect(ctx context.Context) (*database, error) {
	return connect(ctx, fileConfig{DatabaseURLs: urls{withApplicationName(s.url, s.name)}, Schema: s.name}, client.InsertOpts{})
}

func (s *benchSchema) cannotMake(err error) error {
	const denied = "42501"
	if sqlState(err) == denied {
		conf := s.db.conn.Config()
		return fmt.Errorf("bench works in a schema of its own, which this role may not make: let its owner say `grant create on database %s to %s`: %w",
			pgx.Identifier{conf.Database}.Sanitize(), pgx.Identifier{conf.User}.Sanitize(), err)
	}
	return fmt.Errorf("make the schema %s: %w", s.name, err)
}

// schemaWithin is how long making the schema may take, and dropping it, also when we were told to stop.
const schemaWithin = time.Minute

// close drops the schema, unless it is to be kept. Its own connection may be in no state to do that: a statement that was
// cut off ends it.
func (s *benchSchema) close(ctx context.Context, keep bool, errOut io.Writer) error {
	defer s.db.close(ctx)
	if keep {
		_, err := fmt.Fprintf(errOut, "schema %s is kept: look at it with --schema, and in the end: %s\n", s.name, dropStatement(s.name))
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), schemaWithin)
	defer cancel()
	db, err := s.connect(ctx)
	if err == nil {
		defer db.close(ctx)
		_, err = db.conn.Exec(ctx, dropStatement(s.name))
	}
	if err != nil {
		return fmt.Errorf("the schema %s is left behind, remove it with `%s`: %w", s.name, dropStatement(s.name), err)
	}
	return nil
}

func dropStatement(schema string) string { return "drop schema " + schema + " cascade" }

// leftBenchSchemas lists the schemas of measurements that have ended, but for own: those that were killed or kept.
func leftBenchSchemas(ctx context.Context, conn *pgx.Conn, own string) ([]string, error) {
	// Query passes on its error to CollectRows.
	rows, _ := conn.Query(ctx, `select n.nspname from pg_namespace n
		where n.nspname ~ '^respirate_bench_[0-9a-f]{8}$' and n.nspname <> $1
		and not exists (select from pg_stat_activity a where a.application_name = n.nspname)
		order by 1`, own)
	left, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for schemas that were left: %w", err)
	}
	return left, nil
}

// withApplicationName names the connections that are made by a URL, or by key=value pairs.
func withApplicationName(conn, name string) string {
	if u, err := url.Parse(conn); err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") {
		query := u.Query()
		query.Set("application_name", name)
		u.RawQuery = query.Encode()
		return u.String()
	}
	return strings.TrimSpace(conn + " application_name=" + name)
}
