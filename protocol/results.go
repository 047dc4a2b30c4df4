package protocol

import (
	"fmt"
	"strings"
)

// readResults reads the entries of a result frame. One that is wrong but says whose it is goes to m.Invalid and its neighbours stay;
// one that does not is a fault of the frame.
func readResults(c *cursor, m *Results) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	if n == 0 {
		return misfit("empty, want one entry at least")
	}
	m.Results = make([]Result, 0, c.reserve(n))
	for i := range n {
		m.Results = append(m.Results, Result{})
		r := &m.Results[len(m.Results)-1]
		err := readMap(c, resultFields, r)
		if err == nil {
			err = r.check()
		}
		if err == nil {
			continue
		}
		if r.Strand == "" || r.Token == "" || r.Seq == 0 {
			return within(err, fmt.Sprintf("[%d]", i))
		}
		m.Invalid = append(m.Invalid, InvalidEntry{Strand: r.Strand, Token: r.Token, Seq: r.Seq, Why: err.Error()})
		m.Results = m.Results[:len(m.Results)-1]
	}
	return nil
}

// check holds a result against what its act allows.
func (r *Result) check() error {
	allowed, ok := actFields(r.Act)
	if !ok {
		return &fault{code: CodeBadField, path: "act", why: fmt.Sprintf("%q is not an act", r.Act)}
	}
	for _, f := range []struct {
		key string
		set bool
	}{
		{"ms", r.DelayMS != nil}, {"label", r.Label != ""}, {"kind", r.NewKind != ""}, {"val", r.Value != nil}, {"stack", r.Stack != nil},
		{"err", r.Failure != nil}, {"final", r.Final}, {"enq", len(r.Inserts) > 0}, {"sig", len(r.Signals) > 0},
		{"used", len(r.Used) > 0}, {"reap", len(r.Reaped) > 0}, {"due", r.Due != nil}, {"frame", r.Frame > 0}, {"chain", r.Chain},
	} {
		if f.set && !strings.Contains(allowed, " "+f.key+" ") {
			return &fault{code: CodeBadField, path: f.key, why: fmt.Sprintf("does not go with %s", r.Act)}
		}
	}
	return r.lacks()
}

// actFields lists the fields that an act may carry, between spaces.
func actFields(act string) (string, bool) {
	switch act {
	case ActExit:
		return " val enq sig used reap ", true
	case ActNap:
		return " ms stack enq sig used reap due frame chain ", true
	case ActHop:
		return " ms label kind stack enq sig used reap due frame chain ", true
	case ActFail:
		return " ms err final stack ", true
	case ActCancel:
		return " err ", true
	case ActRelease:
		return " ms ", true
	case ActOwn:
		return " err ", true
	}
	return "", false
}

// lacks gives a fault if the act needs a field that is not there.
func (r *Result) lacks() error {
	switch {
	case r.Act == ActHop && r.Label == "":
		return &fault{code: CodeBadField, path: "label", why: "missing, a hop needs it"}
	case r.Chain && r.DelayMS != nil && *r.DelayMS > 0:
		return &fault{code: CodeBadField, path: "chain", why: "does not go with a delay"}
	case r.Act == ActFail && r.Failure == nil:
		return &fault{code: CodeBadField, path: "err", why: "missing, a fail needs it"}
	}
	return nil
}
