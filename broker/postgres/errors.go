package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/respirated/respirated/broker"
)

// ErrSchema marks an error of [Open] that migrating, or another version of the binary, would cure.
var ErrSchema = errors.New("schema does not fit")

// Codes of SQLSTATE that we decide by; see the appendix of the PostgreSQL manual.
const (
	serializationFailure = "40001"
	deadlockDetected     = "40P01"
	lockNotAvailable     = "55P03"
	queryCanceled        = "57014"
	invalidParameter     = "22023"
	uniqueViolation      = "23505"
	readOnlyTransaction  = "25006"
	outOfMemory          = "53200"
)

// sqlState is the code of a server's error; "" for an error that no server sent.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// Retryable says whether the same call may succeed later without anybody doing anything about it.
func Retryable(err error) bool {
	return errors.Is(err, broker.ErrAway) || contention(err) || sqlState(err) == queryCanceled
}

// contention says that another transaction was in the way.
func contention(err error) bool {
	switch sqlState(err) {
	case serializationFailure, deadlockDetected, lockNotAvailable:
		return true
	}
	return false
}

// badData says that the content of a statement was refused: data, constraints, or limits such as the depth of JSON.
func badData(err error) bool {
	code := sqlState(err)
	return strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") || strings.HasPrefix(code, "54")
}

// unreadable says that a row cannot be given out: its text is too long for the server, or one of its values is none that we
// can hold.
func unreadable(err error) bool {
	_, scanning := errors.AsType[pgx.ScanArgError](err)
	code := sqlState(err)
	return scanning || code == outOfMemory || strings.HasPrefix(code, "22") || strings.HasPrefix(code, "54")
}

// away says that the database cannot be reached, is starting, stopping or full of connections, or has become a standby.
func away(err error) bool {
	switch code := sqlState(err); {
	case code == "":
		return connectionLost(err)
	case code == queryCanceled:
		return false
	case code == readOnlyTransaction:
		return true
	default:
		class := code[:2]
		return class == "08" || class == "57" || class == "53"
	}
}

// connectionLost tells trouble with a connection from errors that pgx makes of its own, such as for a bad argument.
func connectionLost(err error) bool {
	var network net.Error
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	return connecting || errors.As(err, &network) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, context.DeadlineExceeded)
}

// failed wraps an error of the database with what we were doing.
func failed(err error, doing string, args ...any) error {
	doing = fmt.Sprintf(doing, args...)
	if away(err) {
		return fmt.Errorf("%s: %w: %w", doing, broker.ErrAway, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// oneLine is an error's text for people who look at one line.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}
