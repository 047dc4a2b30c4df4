// Package driver is a database as the client sees it, whichever Go library stands in between.
package driver

import (
	"context"
	"io"
)

// Conn runs statements, either each on its own or all inside one transaction. Arguments are strings, integers and nil
// only: these mean the same to every library, and in every mode of pgx that works behind a pooler.
type Conn interface {
	// Query calls row for each row of the answer; row reads its columns by calling scan.
	Query(ctx context.Context, row func(scan Scan) error, sql string, args ...any) error
	// CopyIn sends rows in COPY's text format. It works only where CanCopy says so, and only inside a transaction.
	CopyIn(ctx context.Context, rows io.Reader, sql string) error
	CanCopy() bool
}

// Scan reads the columns of the current row.
type Scan func(dest ...any) error

// Driver is a database as one library shows it, with that library's type of transaction.
type Driver[TTx any] interface {
	Conn
	// In runs statements inside tx.
	In(tx TTx) Conn
	Begin(ctx context.Context) (TTx, error)
	Commit(ctx context.Context, tx TTx) error
	Rollback(ctx context.Context, tx TTx) error
}

// rows is what the libraries' answers have in common.
type rows interface {
	Next() bool
	Scan(dest ...any) error
	Err() error
}

func each(rows rows, row func(Scan) error) error {
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
