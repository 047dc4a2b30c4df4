package client

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/client/internal/driver"
	"github.com/respirated/respirated/protocol"
)

// Defaults of [Config].
const (
	DefaultSchema  = "respirate"
	DefaultTimeout = 30 * time.Second
)

// Config is how a client behaves. Its zero value is the default.
type Config struct {
	Schema     string        // where the tables and functions are; "" = DefaultSchema
	Logger     *slog.Logger  // nil = slog.Default()
	Timeout    time.Duration // the longest that one call to the database may take; 0 = DefaultTimeout
	InsertOpts InsertOpts    // what an insert gets where neither the call nor its args say otherwise; without an ID
}

// withDefaults fills in what was left out, and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	if c.Schema == "" {
		c.Schema = DefaultSchema
	}
	if err := checkSchema(c.Schema); err != nil {
		return c, fmt.Errorf("config: %w", err)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Timeout < 0 {
		return c, fmt.Errorf("config: timeout %v is negative; 0 means %v", c.Timeout, DefaultTimeout)
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.InsertOpts.ID != "" {
		return c, errors.New("config: InsertOpts.ID would give every strand the same id; leave it empty")
	}
	return c, nil
}

// InsertOpts are the options of one insert; see [protocol.InsertOpts].
type InsertOpts = protocol.InsertOpts

// Client inserts strands, reads them and steers them. It is safe for use by many goroutines, has no goroutine and no
// connection of its own, and need not be closed. TTx is the transaction of its database library, taken by each verb
// whose name ends in Tx.
type Client[TTx any] struct {
	db  driver.Driver[TTx]
	cfg Config
	sql statements
}

// PgxDB is what [New] needs of pgx. *pgxpool.Pool and *pgx.Conn have it, and so has pgx.Tx: a client made of a
// transaction does all its work inside it.
type PgxDB interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Begin(ctx context.Context) (pgx.Tx, error)
}

// New makes a client of a pgx pool. A nil config means the defaults.
func New(pool PgxDB, config *Config) (*Client[pgx.Tx], error) {
	return newClient[pgx.Tx](driver.NewPgx(pool), config)
}

// NewSQL makes a client of a database/sql pool with any driver for Postgres. A nil config means the defaults.
func NewSQL(db *sql.DB, config *Config) (*Client[*sql.Tx], error) {
	return newClient[*sql.Tx](driver.NewSQL(db), config)
}

func newClient[TTx any](d driver.Driver[TTx], config *Config) (*Client[TTx], error) {
	if config == nil {
		config = &Config{}
	}
	cfg, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Client[TTx]{db: d, cfg: cfg, sql: loadStatements(cfg.Schema)}, nil
}

// pool runs each statement on its own.
func (c *Client[TTx]) pool() driver.Conn { return driver.Timed(c.db, c.cfg.Timeout) }

// in runs statements inside the caller's transaction.
func (c *Client[TTx]) in(tx TTx) driver.Conn { return driver.Timed(c.db.In(tx), c.cfg.Timeout) }

// atomically runs work so that all of it happens or nothing. Work that is a single statement needs no transaction around
// it. What the database undid for the sake of somebody else's transaction is tried again.
func (c *Client[TTx]) atomically(ctx context.Context, single bool, work func(driver.Conn) error) error {
	const tries = 4
	for try := 1; ; try++ {
		var err error
		if single {
			err = work(c.pool())
		} else {
			err = driver.InTx(ctx, c.db, c.cfg.Timeout, work)
		}
		if err == nil || try == tries || !undone(err) {
			return err
		}
		c.cfg.Logger.DebugContext(ctx, "database undid a statement, trying again", "try", try, "error", err)
	}
}
