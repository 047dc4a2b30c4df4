package postgres

import (
	"encoding/binary"
	"slices"
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

// registerUUIDs has a connection write uuids at once, which by its getters takes a call and two copies for each element.
func registerUUIDs(m *pgtype.Map) {
	known, _ := m.TypeForOID(pgtype.UUIDArrayOID)
	m.RegisterType(&pgtype.Type{Name: known.Name, OID: known.OID, Codec: uuidsCodec{known.Codec}})
}

// uuidsCodec is the codec of uuid[], but for parameters that are uuids.
type uuidsCodec struct{ pgtype.Codec }

// PlanEncode implements [pgtype.Codec].
func (c uuidsCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuids); ok && format == pgtype.BinaryFormatCode {
		return encodeUUIDs{}
	}
	return c.Codec.PlanEncode(m, oid, format, value)
}

type encodeUUIDs struct{}

// Encode implements [pgtype.EncodePlan]. It writes what array_recv reads: the number of dimensions, whether there are nulls,
// the type of the elements, length and lower bound of the one dimension, and each element behind its length.
func (encodeUUIDs) Encode(value any, buf []byte) ([]byte, error) {
	u := value.(uuids)
	if u == nil {
		return nil, nil
	}
	const header, element = 5 * 4, 4 + 16
	buf = slices.Grow(buf, header+len(u)*element)
	for _, n := range []uint32{1, 0, pgtype.UUIDOID, uint32(len(u)), 1} {
		buf = binary.BigEndian.AppendUint32(buf, n)
	}
	for i := range u {
		buf = binary.BigEndian.AppendUint32(buf, uint32(len(u[i])))
		buf = append(buf, u[i][:]...)
	}
	return buf, nil
}

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
