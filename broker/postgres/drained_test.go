package postgres_test

import (
	"regexp"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/respirated/respirated/broker/postgres"
)

// TestScanKeepsToItsIndexWhenStatisticsSayThatTheTableIsEmpty: analyzed just when a backlog was drained, the table
// promises to have no rows, and the key's index, read whole and sorted, looks as cheap as any.
func TestScanKeepsToItsIndexWhenStatisticsSayThatTheTableIsEmpty(t *testing.T) {
	url := migrated(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	const fill = `insert into respirate.strand (id, lane, args) select gen_random_uuid(), 1, '{}' from generate_series(1, 50000)`
	setUp := []string{fill, `delete from respirate.strand where get_byte(uuid_send(id), 1) > 0`, `analyze respirate.strand`, fill}
	for name, value := range postgres.Essentials {
		setUp = append(setUp, `set `+name+` = '`+value+`'`)
	}
	for _, sql := range setUp {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if plan := genericPlan(t, conn, postgres.Statement("scan")); regexp.MustCompile(`using strand_pkey`).MatchString(plan) {
		t.Errorf("the scan reads the key's index:\n%s", plan)
	}
}
