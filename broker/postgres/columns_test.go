package postgres

import (
	"bytes"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
)

// What a connection of ours writes for uuid[] is what pgx would write.
func TestUUIDsAreWrittenAsPgxWritesThem(t *testing.T) {
	ours, theirs := pgtype.NewMap(), pgtype.NewMap()
	registerUUIDs(ours)
	for _, u := range []uuids{nil, {{1, 2, 3}}, {{0xff}, {}, {15: 7}}} {
		for _, format := range []int16{pgtype.BinaryFormatCode, pgtype.TextFormatCode} {
			got, err := ours.Encode(pgtype.UUIDArrayOID, format, u, []byte("before"))
			want, wantErr := theirs.Encode(pgtype.UUIDArrayOID, format, u, []byte("before"))
			if err != nil || wantErr != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
				t.Errorf("%v in format %d: got %x, %v, want %x, %v", u, format, got, err, want, wantErr)
			}
		}
	}
	got, err := ours.Encode(pgtype.UUIDArrayOID, pgtype.BinaryFormatCode, uuids{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read := [][16]byte{{1}}
	if err := theirs.Scan(pgtype.UUIDArrayOID, pgtype.BinaryFormatCode, got, &read); err != nil || read == nil || len(read) != 0 {
		t.Errorf("an array of none was read as %v, %v", read, err)
	}
}
