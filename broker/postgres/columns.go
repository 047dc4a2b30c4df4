package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// uuids is a uuid[] without nulls.
type uuids [][16]byte

// optionalUUIDs is a uuid[] with nulls.
type optionalUUIDs []pgtype.UUID

// optional is a UUID, or null for the zero one.
func optional(id broker.ID) pgtype.UUID {
	return pgtype.UUID{Bytes: id, Valid: id != (broker.ID{})}
}

// clean makes a text that Postgres can hold: valid UTF-8 without NUL. It is for texts that are meant for people.
func clean(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
