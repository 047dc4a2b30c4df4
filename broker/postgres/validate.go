package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// scratchSchema is where Validate makes the schema once more, in a transaction that is rolled back.
const scratchSchema = "respirate_scratch_7f3a"

// Validate compares the schema with what the migrations make, and lists what is missing or different, and what is on
// the strand table that should not be there. Anything else that somebody added, such as an index on history, is left
// unmentioned.
func (m *Migrator) Validate(ctx context.Context) (differences []string, err error) {
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return nil, cannotConnect(err)
	}
	defer conn.Close()
	err = conn.Raw(func(driver any) error {
		differences, err = m.compare(ctx, driver.(*stdlib.Conn).Conn())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("validate schema %s: %w", m.schema, err)
	}
	return differences, nil
}

func (m *Migrator) compare(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	defer tx.Rollback(ctx) // always: nothing is to stay
	got, err := fingerprint(ctx, tx, m.schema)
	if err != nil {
		return nil, err
	}
	script := "create schema " + scratchSchema + ";\n"
	for _, step := range loadMigrations(scratchSchema) {
		script += step.up
	}
	if _, err := tx.Exec(ctx, script); err != nil {
		return nil, fmt.Errorf("make it once more for comparison: %w", err)
	}
	want, err := fingerprint(ctx, tx, scratchSchema)
	if err != nil {
		return nil, err
	}
	return differences(got, want), nil
}

// fingerprint describes everything in a schema, one line each, with @ in place of its name.
func fingerprint(ctx context.Context, tx pgx.Tx, schema string) ([]string, error) {
	rows, err := tx.Query(ctx, mustRead(sqlFiles, "sql/fingerprint.sql"), schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func differences(got, want []string) []string {
	var all []string
	for _, line := range want {
		if !slices.Contains(got, line) {
			all = append(all, "missing or different: "+strings.ReplaceAll(line, "@.", ""))
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) && strings.Contains(line, " on strand") {
			all = append(all, "unexpected: "+strings.ReplaceAll(line, "@.", ""))
		}
	}
	return all
}
