package client

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNotFound says that no strand has that id: it was never inserted, or it has finished and was not kept.
var ErrNotFound = errors.New("no such strand")

// ErrPageNotFound says that there is no page with that id, or none any more.
var ErrPageNotFound = errors.New("no such page")

// ErrLeased says that a worker runs the strand, so that nothing can be done to it by hand.
var ErrLeased = errors.New("the strand is leased")

// ErrDone says that the strand has done its work, so that nothing would come of the change.
var ErrDone = errors.New("the strand is done")

// InsertError says which of the strands handed to an insert was refused, and why. Nothing of the call was stored.
type InsertError struct {
	Index int    // its place among those handed in, from 0
	Kind  string // its kind
	Field string // what is wrong: "kind", "args", or "opts." and the JSON key of the option
	Why   string
}

// Error names the strand, the field and the reason.
func (e *InsertError) Error() string {
	return fmt.Sprintf("strand %d of kind %.80q: %s %s", e.Index, e.Kind, e.Field, e.Why)
}

// SQLSTATEs that the client acts on.
const (
	stateRefused       = "22023" // respirate.insert says no: COLUMN is the field, DETAIL tells which strand
	stateDeadlock      = "40P01"
	stateSerialization = "40001"
	stateInUse         = "55006" // somebody runs the strand
	stateOver          = "55000" // it is done
)

// refusal turns the database's refusal of one of rows into an [InsertError].
func refusal(err error, rows []row) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != stateRefused || pg.ColumnName == "" {
		return err
	}
	var n int
	if _, scanErr := fmt.Sscanf(pg.Detail, "insert %d", &n); scanErr != nil || n < 0 || n >= len(rows) {
		return err
	}
	why := strings.TrimPrefix(pg.Message, pg.ColumnName+": ")
	return &InsertError{Index: rows[n].index, Kind: rows[n].kind, Field: pg.ColumnName, Why: why}
}

// undone tells whether the database itself has undone the statement, for the sake of another's, so that it may be
// repeated.
func undone(err error) bool {
	state := sqlState(err)
	return state == stateDeadlock || state == stateSerialization
}

// sqlState is the code of a database's error. Every driver's error knows it by this method.
func sqlState(err error) string {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState()
	}
	return ""
}
