package postgres

import (
	"testing"

	"github.com/respirated/respirated/broker"
)

func TestJudge(t *testing.T) {
	mine, other := broker.Token{1}, broker.Token{2}
	held := lockedRow{token: mine, held: true, seq: 3, maxTries: 5}
	with := func(change func(*lockedRow)) lockedRow {
		row := held
		change(&row)
		return row
	}
	wanted := with(func(r *lockedRow) { r.cancelled = true })
	free := with(func(r *lockedRow) { r.held = false })
	report := func(act broker.Act, seq uint64) broker.Report {
		return broker.Report{Pair: broker.Pair{Token: mine}, Act: act, Seq: seq}
	}
	lives := fate{verdict: broker.Applied}
	ends := func(how string, try, crashes int) fate {
		return fate{verdict: broker.Applied, end: how, try: try, crashes: crashes}
	}

	for name, c := range map[string]struct {
		row    lockedRow
		report broker.Report
		want   fate
	}{
		"a newer report is applied":           {held, report(broker.Nap, 4), lives},
		"the same report is a dup":            {held, report(broker.Nap, 3), fate{verdict: broker.Dup}},
		"an older report is a dup":            {held, report(broker.Exit, 1), fate{verdict: broker.Dup}},
		"a dup stays one when it is free":     {free, report(broker.Nap, 3), fate{verdict: broker.Dup}},
		"a newer one is stale when it's free": {free, report(broker.Nap, 4), fate{verdict: broker.Stale}},
		"another token is stale":              {with(func(r *lockedRow) { r.token = other }), report(broker.Exit, 4), fate{verdict: broker.Stale}},
		"no token is stale":                   {with(func(r *lockedRow) { r.token = broker.Token{} }), report(broker.Exit, 4), fate{verdict: broker.Stale}},
		"a huge seq is newer":                 {held, report(broker.Save, 1<<63), lives},

		"exit ends as done":                       {held, report(broker.Exit, 4), ends(done, 0, 0)},
		"exit ends as done though cancelled":      {wanted, report(broker.Exit, 4), ends(done, 0, 0)},
		"cancel ends as cancelled":                {held, report(broker.Cancel, 4), ends(cancelled, 0, 0)},
		"save lives on though cancelled":          {wanted, report(broker.Save, 4), lives},
		"nap ends as cancelled where wanted":      {wanted, report(broker.Nap, 4), ends(cancelled, 0, 0)},
		"hop ends as cancelled where wanted":      {wanted, report(broker.Hop, 4), ends(cancelled, 0, 0)},
		"release ends as cancelled where wanted":  {wanted, report(broker.Release, 4), ends(cancelled, 0, 0)},
		"yield ends as cancelled where wanted":    {wanted, report(broker.Yield, 0), ends(cancelled, 0, 0)},
		"failing ends as cancelled where wanted":  {wanted, report(broker.Fail, 4), ends(cancelled, 1, 0)},
		"crashing ends as cancelled where wanted": {wanted, report(broker.Crash, 0), ends(cancelled, 0, 1)},

		"fail counts":             {held, report(broker.Fail, 4), fate{verdict: broker.Applied, try: 1}},
		"the last try is dead":    {with(func(r *lockedRow) { r.try = 4 }), report(broker.Fail, 4), ends(dead, 5, 0)},
		"a try before is not":     {with(func(r *lockedRow) { r.try = 3 }), report(broker.Fail, 4), fate{verdict: broker.Applied, try: 4}},
		"a final failure is dead": {held, broker.Report{Pair: broker.Pair{Token: mine}, Act: broker.Fail, Seq: 4, Final: true}, ends(dead, 1, 0)},
		"crash has no seq":        {held, report(broker.Crash, 0), fate{verdict: broker.Applied, crashes: 1}},
		"yield has no seq":        {held, report(broker.Yield, 0), lives},
		"crash of another is not": {with(func(r *lockedRow) { r.token = other }), report(broker.Crash, 0), fate{verdict: broker.Stale}},
		"the second crash lives":  {with(func(r *lockedRow) { r.crashes = 1 }), report(broker.Crash, 0), fate{verdict: broker.Applied, crashes: 2}},
		"the third crash is dead": {with(func(r *lockedRow) { r.crashes = 2 }), report(broker.Crash, 0), ends(dead, 0, 3)},
		"guilt counts as a try":   {held, broker.Report{Pair: broker.Pair{Token: mine}, Act: broker.Crash, Guilty: true}, fate{verdict: broker.Applied, try: 1, crashes: 1}},
		"guilt can be the last":   {with(func(r *lockedRow) { r.try = 4 }), broker.Report{Pair: broker.Pair{Token: mine}, Act: broker.Crash, Guilty: true}, ends(dead, 5, 1)},
		"no guilt is never a try": {with(func(r *lockedRow) { r.try = 4 }), report(broker.Crash, 0), fate{verdict: broker.Applied, try: 4, crashes: 1}},
		"release burns no try":    {with(func(r *lockedRow) { r.try = 4 }), report(broker.Release, 4), fate{verdict: broker.Applied, try: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			got := judge(c.row, &c.report)
			if got.verdict != broker.Applied {
				got.try, got.crashes = 0, 0 // mean nothing
			}
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}
