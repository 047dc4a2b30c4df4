package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/respirated/respirated/broker"
)

const (
	awayLong   = 30 * time.Second // a failover takes less
	misfitKeep = 30 * time.Second
)

// health is the answer of /healthz. It names nothing: whoever asks has no token.
type health struct {
	Status string `json:"status"` // ok, or not ok
	Why    string `json:"why,omitempty"`
}

// health says whether this broker can run strands. One that cannot is left alone: whoever starts a daemon anew because its database
// is away gains nothing.
func (d *dashboard) health(w http.ResponseWriter, r *http.Request) {
	snap, err := d.snapshot(r.Context())
	answer, code := health{Status: "ok"}, http.StatusOK
	why, bad := d.ailment(r.Context(), snap, err)
	if answer.Why = why; bad {
		answer.Status, code = "not ok", http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(answer) // who asked is gone
}

// ailment says what is wrong, and whether so much that no strand runs.
func (d *dashboard) ailment(ctx context.Context, snap broker.Snapshot, err error) (why string, bad bool) {
	if err != nil {
		return err.Error(), true
	}
	if snap.Draining {
		return "it drains: the daemon is about to stop", true
	}
	lame := 0
	for i, db := range snap.Databases {
		away := time.Duration(db.AwayMS) * time.Millisecond
		switch {
		case db.Away && away >= awayLong:
			why = fmt.Sprintf("the database has been away for %v", away.Round(time.Second))
		case i < len(d.misfits) && d.misfits[i] != nil:
			misfit, err := d.misfits[i].get(ctx)
			if err != nil || misfit == "" {
				continue
			}
			why = "the schema does not fit this program"
		default:
			continue
		}
		lame++
	}
	if lame > 0 && len(snap.Databases) > 1 {
		why = fmt.Sprintf("%d of %d databases cannot be used; of one of them: %s", lame, len(snap.Databases), why)
	}
	return why, lame > 0 && lame == len(snap.Databases)
}

// misfitOf looks now and then whether the schema has become another one; nil = nobody can tell.
func misfitOf(db Database) *cached[string] {
	if db.Misfit == nil {
		return nil
	}
	return newCached(misfitKeep, db.Misfit)
}
