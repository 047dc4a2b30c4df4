package postgres

import (
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/respirated/respirated/broker"
)

// ForgetFloors has the next scan from the bottom walk up from the very bottom, as it does every few seconds. Tests call
// it after they have set clocks back behind the store's back.
func (s *Store) ForgetFloors() {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	clear(s.lanes.walks)
}

// SetPing has the channel look sooner whether the server is still there.
func (c *Channel) SetPing(d time.Duration) { c.ping = d }

// ScanStatement is what the next scan of these kinds would send, from the lanes that are known.
func (s *Store) ScanStatement(req broker.ScanRequest) (sql string, args []any) {
	spots, _ := s.lanes.start(req)
	return s.sql.get("scan"), scanArgs(req, spots[:min(fewLanes, len(spots))], req.Limit)
}

// Statement is the text of a file of sql/, in the default schema.
func Statement(name string) string { return loadStatements(DefaultSchema).get(name) }

// StepsSQL makes a schema as it is after the given step.
func StepsSQL(schema string, version int64) string {
	var text strings.Builder
	for _, m := range loadMigrations(schema)[:version] {
		text.WriteString(m.up)
	}
	return text.String()
}

// StatementNames lists the files of sql/.
func StatementNames() []string { return slices.Sorted(maps.Keys(loadStatements(DefaultSchema))) }

// Exec sends a statement of sql/ as the store does, and tells how many rows it has returned or changed.
func (s *Store) Exec(ctx context.Context, name string, args ...any) (rows int64, err error) {
	done, err := s.pool.Exec(ctx, s.sql.get(name), args...)
	return done.RowsAffected(), err
}

// UUIDs is a uuid[] without nulls; OptionalUUIDs has nulls.
type (
	UUIDs         = uuids
	OptionalUUIDs = optionalUUIDs
)

// ForgetLanes has the next scan begin at the very bottom of every lane that is known.
func (s *Store) ForgetLanes() {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	clear(s.lanes.floors)
	clear(s.lanes.cursors)
}

// RewindScan has the next scan begin at the floors.
func (s *Store) RewindScan() {
	s.lanes.mu.Lock()
	defer s.lanes.mu.Unlock()
	clear(s.lanes.cursors)
}

// PresenceText and ParsePresence are the two ways of a presence.
var (
	PresenceText  = presenceText
	ParsePresence = parsePresence
)

// Essentials are the settings that every connection gets.
var Essentials = essentials

// ForgetPaged has the next announcement open pages.
func (s *Store) ForgetPaged() { s.paged = time.Time{} }

// TryLooked commits reports in one transaction of the closer look, and tells what has become of them.
func (s *Store) TryLooked(ctx context.Context, reports ...broker.Report) (acts []broker.Act, states []broker.VerdictState, err error) {
	entries := make([]*entry, len(reports))
	for i := range reports {
		entries[i] = &entry{report: &reports[i]}
	}
	err = s.commitLooked(ctx, entries)
	for _, e := range entries {
		acts, states = append(acts, e.report.Act), append(states, e.verdict.State)
	}
	return acts, states, err
}
