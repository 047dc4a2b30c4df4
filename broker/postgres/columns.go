package postgres

import (
	"strings"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/respirated/respirated/broker"
)

// uuids is a uuid[] without nulls. It is a pgtype.ArrayGetter: pgx would box each element of a plain slice.
type uuids [][16]byte

func (u uuids) Dimensions() []pgtype.ArrayDimension {
	if u == nil {
		return nil
	}
	return []pgtype.ArrayDimension{{Length: int32(len(u)), LowerBound: 1}}
}

func (u uuids) Index(i int) any { return (*uuid)(&u[i]) }

func (u uuids) IndexType() any { return new(uuid) }

// uuid is an element of uuids. It is a pgtype.UUIDValuer.
type uuid [16]byte

func (u *uuid) UUIDValue() (pgtype.UUID, error) { return pgtype.UUID{Bytes: *u, Valid: true}, nil }

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
