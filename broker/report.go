package broker

import (
	"time"

	"github.com/respirated/respirated/protocol"
)

// actSave marks a save frame on its way through the same reading as results. It is no act of the wire.
const actSave = "save"

// reported turns a result frame into an event. Entries that cannot be reports are answered, not dropped.
func (s *session) reported(m *protocol.Results) reported {
	ev := reported{session: s.id, re: m.ID, reports: make([]Report, 0, len(m.Results))}
	for i := range m.Results {
		r := &m.Results[i]
		rep, err := s.reportOf(r)
		if err != nil {
			ev.refused = append(ev.refused, refusalOf(r.Strand, r.Token, r.Seq, err.Error()))
			continue
		}
		ev.reports = append(ev.reports, rep)
	}
	for _, e := range m.Invalid {
		ev.refused = append(ev.refused, refusalOf(e.Strand, e.Token, e.Seq, e.Why))
	}
	return ev
}

func refusalOf(strand, token string, seq uint64, why string) refusal {
	r := refusal{strand: strand, token: token, seq: seq, why: why}
	pair, err := parsePair(strand, token)
	r.pair, r.known = pair, err == nil
	return r
}

func (s *session) reportOf(r *protocol.Result) (rep Report, err error) {
	if rep.Pair, err = parsePair(r.Strand, r.Token); err != nil {
		return rep, err
	}
	rep.Seq, rep.Act, rep.Final = r.Seq, actOf(r.Act), r.Final
	rep.Label, rep.Kind, rep.Value, rep.Stack = r.Label, r.NewKind, r.Value, r.Stack
	rep.Delay = delayOf(r)
	if r.Failure != nil {
		rep.Failure = &Failure{Class: r.Failure.Class, Message: r.Failure.Message, Trace: r.Failure.Trace, Worker: s.peer.String()}
	}
	if rep.Inserts, err = insertsOf(r.Inserts); err != nil {
		return rep, err
	}
	rep.Frame, rep.Stay = int(r.Frame), r.Chain
	return rep, rep.addEffects(r)
}

// addEffects reads what a result does to other strands, and to what waits for its own.
func (r *Report) addEffects(wire *protocol.Result) (err error) {
	if r.Signals, err = signalsOf(wire.Signals); err != nil {
		return err
	}
	for _, id := range wire.Used {
		r.Used = append(r.Used, int64(id))
	}
	for _, child := range wire.Reaped {
		id, err := ParseID(child)
		if err != nil {
			return err
		}
		r.Reaped = append(r.Reaped, id)
	}
	if d := wire.Due; d != nil {
		r.Due = &Due{Target: d.Target, In: durationOf(d.MS), Most: durationOf(d.MostMS)}
	}
	return nil
}

func actOf(wire string) Act {
	switch wire {
	case protocol.ActExit:
		return Exit
	case protocol.ActNap:
		return Nap
	case protocol.ActHop:
		return Hop
	case protocol.ActFail:
		return Fail
	case protocol.ActCancel:
		return Cancel
	case protocol.ActRelease:
		return Release
	case protocol.ActOwn:
		return Own
	case actSave:
		return Save
	}
	return 0
}

// longestDelay is as far ahead as a strand may be put: Ubicloud's respirate hibernates for a thousand years, and a
// time.Duration ends before three hundred.
const longestDelay = 250 * 365 * 24 * time.Hour

func delayOf(r *protocol.Result) time.Duration {
	switch {
	case r.DelayMS == nil && r.Act == protocol.ActFail:
		return -1
	case r.DelayMS == nil:
		return 0
	}
	return durationOf(*r.DelayMS)
}

func durationOf(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(longestDelay/time.Millisecond))) * time.Millisecond
}

func insertsOf(wire []protocol.Insert) ([]Insert, error) {
	inserts := make([]Insert, 0, len(wire))
	for _, w := range wire {
		id, err := ParseID(w.Key)
		if err != nil {
			return nil, err
		}
		inserts = append(inserts, Insert{ID: id, Kind: w.Kind, Args: w.Args, Opts: w.Opts, Child: w.Child, Watch: w.Watch})
	}
	if len(inserts) == 0 {
		return nil, nil
	}
	return inserts, nil
}

// signalsOf reads signals. One without a strand is to the strand whose result carries it.
func signalsOf(wire []protocol.Signal) (signals []Signal, err error) {
	for _, w := range wire {
		signal := Signal{Name: w.Name, Value: w.Value, Quiet: w.Quiet}
		if w.Strand != "" {
			if signal.ID, err = ParseID(w.Strand); err != nil {
				return nil, err
			}
		}
		signals = append(signals, signal)
	}
	return signals, nil
}
