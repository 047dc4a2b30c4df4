package protocol

import "fmt"

// What a worker may send, field by field. The tables are constants in all but name: nothing writes to them.

var helloFields = []field[Hello]{
	{"id", need, func(c *cursor, m *Hello) error { return readID(c, &m.ID) }},
	{"v", need, func(c *cursor, m *Hello) error { return readVersions(c, &m.Versions) }},
	{"lib", need, func(c *cursor, m *Hello) error { return c.str(&m.Lib, MaxLib) }},
	{"wid", need, func(c *cursor, m *Hello) error { return readUUID(c, &m.Worker) }},
	{"gen", need, func(c *cursor, m *Hello) error { return readStored(c, &m.Build, MaxName) }},
	{"pid", need, func(c *cursor, m *Hello) error { return c.int(&m.PID) }},
	{"key", optional, func(c *cursor, m *Hello) error { return c.str(&m.Key, MaxName) }},
	{"kinds", optional, func(c *cursor, m *Hello) error { return readList(c, kindFields, &m.Kinds) }},
	{"caps", optional, func(c *cursor, m *Hello) error { return c.strs(&m.Caps, MaxLib) }},
	{"boot_bns", need, func(c *cursor, m *Hello) error { return c.int(&m.BootNS) }},
	{"hold", optional, func(c *cursor, m *Hello) error { return readList(c, holdFields, &m.Hold) }},
}

var kindFields = []field[Kind]{
	{"kind", need, func(c *cursor, k *Kind) error { return readName(c, &k.Name) }},
	{"run_ms", optional, func(c *cursor, k *Kind) error { return readMS(c, &k.RunMS) }},
	{"labels", optional, func(c *cursor, k *Kind) error { return readEach(c, &k.Labels, readName) }},
	{"isolate", optional, func(c *cursor, k *Kind) error { return c.bool(&k.Isolate) }},
}

var holdFields = []field[Hold]{
	{"s", need, func(c *cursor, h *Hold) error { return readUUID(c, &h.Strand) }},
	{"tok", need, func(c *cursor, h *Hold) error { return readToken(c, &h.Token) }},
	{"kind", need, func(c *cursor, h *Hold) error { return readName(c, &h.Kind) }},
	{"st", need, func(c *cursor, h *Hold) error { return readHoldState(c, &h.State) }},
}

var wantFields = []field[Want]{
	{"n", need, func(c *cursor, m *Want) error { return readCount(c, &m.N) }},
	{"bytes", optional, func(c *cursor, m *Want) error { return readCount(c, &m.Bytes) }},
}

var touchFields = []field[Touch]{
	{"t", need, func(c *cursor, m *Touch) error { return readSome(c, gripFields, &m.Grips) }},
	{"note", optional, func(c *cursor, m *Touch) error { return readMessage(c, &m.Note) }},
}

var gripFields = []field[Grip]{
	{"s", need, func(c *cursor, g *Grip) error { return readUUID(c, &g.Strand) }},
	{"tok", need, func(c *cursor, g *Grip) error { return readToken(c, &g.Token) }},
}

var saveFields = []field[Save]{
	{"id", need, func(c *cursor, m *Save) error { return readID(c, &m.ID) }},
	{"s", need, func(c *cursor, m *Save) error { return readUUID(c, &m.Strand) }},
	{"tok", need, func(c *cursor, m *Save) error { return readToken(c, &m.Token) }},
	{"seq", need, func(c *cursor, m *Save) error { return readID(c, &m.Seq) }},
	{"stack", need, func(c *cursor, m *Save) error { return readJSON(c, &m.Stack, '[') }},
}

var resultsFields = []field[Results]{
	{"id", need, func(c *cursor, m *Results) error { return readID(c, &m.ID) }},
	{"r", need, readResults},
}

var resultFields = []field[Result]{
	{"s", need, func(c *cursor, r *Result) error { return readUUID(c, &r.Strand) }},
	{"tok", need, func(c *cursor, r *Result) error { return readToken(c, &r.Token) }},
	{"seq", need, func(c *cursor, r *Result) error { return readID(c, &r.Seq) }},
	{"act", need, func(c *cursor, r *Result) error { return readWord(c, &r.Act) }},
	{"ms", optional, func(c *cursor, r *Result) error { r.DelayMS = new(uint64); return readCount(c, r.DelayMS) }},
	{"label", optional, func(c *cursor, r *Result) error { return readName(c, &r.Label) }},
	{"kind", optional, func(c *cursor, r *Result) error { return readName(c, &r.NewKind) }},
	{"val", optional, func(c *cursor, r *Result) error { return readJSON(c, &r.Value, 0) }},
	{"stack", optional, func(c *cursor, r *Result) error { return readJSON(c, &r.Stack, '[') }},
	{"err", optional, func(c *cursor, r *Result) error {
		r.Failure = new(Failure)
		return readMap(c, failureFields, r.Failure)
	}},
	{"final", optional, func(c *cursor, r *Result) error { return c.bool(&r.Final) }},
	{"enq", optional, func(c *cursor, r *Result) error { return readList(c, insertFields, &r.Inserts) }},
	{"sig", optional, func(c *cursor, r *Result) error { return readList(c, signalFields, &r.Signals) }},
	{"used", optional, func(c *cursor, r *Result) error { return readIDs(c, &r.Used) }},
	{"reap", optional, func(c *cursor, r *Result) error { return readUUIDs(c, &r.Reaped) }},
	{"due", optional, func(c *cursor, r *Result) error { r.Due = new(Due); return readMap(c, dueFields, r.Due) }},
	{"frame", optional, func(c *cursor, r *Result) error { return c.uint(&r.Frame, 0, MaxFrames) }},
	{"chain", optional, func(c *cursor, r *Result) error { return c.bool(&r.Chain) }},
}

var signalFields = []field[Signal]{
	{"s", optional, func(c *cursor, s *Signal) error { return readUUID(c, &s.Strand) }},
	{"name", need, func(c *cursor, s *Signal) error { return readName(c, &s.Name) }},
	{"val", optional, func(c *cursor, s *Signal) error { return readJSON(c, &s.Value, 0) }},
	{"quiet", optional, func(c *cursor, s *Signal) error { return c.bool(&s.Quiet) }},
}

var dueFields = []field[Due]{
	{"target", need, func(c *cursor, d *Due) error { return readName(c, &d.Target) }},
	{"ms", need, func(c *cursor, d *Due) error { return readMS(c, &d.MS) }},
	{"most_ms", optional, func(c *cursor, d *Due) error { return readMS(c, &d.MostMS) }},
}

var failureFields = []field[Failure]{
	{"class", need, func(c *cursor, f *Failure) error { return readName(c, &f.Class) }},
	{"msg", need, func(c *cursor, f *Failure) error { return readStored(c, &f.Message, MaxMessage) }},
	{"trace", optional, func(c *cursor, f *Failure) error { return readStored(c, &f.Trace, MaxTrace) }},
}

var insertFields = []field[Insert]{
	{"key", need, func(c *cursor, i *Insert) error { return readUUID(c, &i.Key) }},
	{"kind", need, func(c *cursor, i *Insert) error { return readName(c, &i.Kind) }},
	{"args", need, func(c *cursor, i *Insert) error { return readJSON(c, &i.Args, 0) }},
	{"opts", optional, func(c *cursor, i *Insert) error { return readJSON(c, &i.Opts, '{') }},
	{"child", optional, func(c *cursor, i *Insert) error { return c.bool(&i.Child) }},
	{"watch", optional, func(c *cursor, i *Insert) error { return c.bool(&i.Watch) }},
}

var callFields = []field[Call]{
	{"id", need, func(c *cursor, m *Call) error { return readID(c, &m.ID) }},
	{"m", need, func(c *cursor, m *Call) error { return c.str(&m.Method, MaxLib) }},
	{"enq", optional, func(c *cursor, m *Call) error { return readOrphans(c, &m.Inserts) }},
	{"sig", optional, func(c *cursor, m *Call) error { return readAddressed(c, &m.Signals) }},
}

// readVersions reads [lowest, highest].
func readVersions(c *cursor, to *[]uint64) error {
	n, err := c.count()
	if err != nil {
		return err
	}
	if n != 2 {
		return misfit("an array of %d, want 2: the lowest and the highest version", n)
	}
	v := make([]uint64, 2)
	for i := range v {
		if err := c.uint(&v[i], 1, MaxID); err != nil {
			return err
		}
	}
	if v[0] > v[1] {
		return misfit("[%d, %d], want the lowest version first", v[0], v[1])
	}
	*to = v
	return nil
}

// readOrphans reads inserts that come with no result, so that there is no parent for a child.
func readOrphans(c *cursor, to *[]Insert) error {
	if err := readList(c, insertFields, to); err != nil {
		return err
	}
	for i := range *to {
		if (*to)[i].Child {
			return within(misfit("a call has no strand that could be the parent"), fmt.Sprintf("[%d].child", i))
		}
		if (*to)[i].Watch {
			return within(misfit("a call has no strand that could be woken"), fmt.Sprintf("[%d].watch", i))
		}
	}
	return nil
}

// readAddressed reads signals that come with no result, so that none can be to the strand itself.
func readAddressed(c *cursor, to *[]Signal) error {
	if err := readList(c, signalFields, to); err != nil {
		return err
	}
	for i := range *to {
		if (*to)[i].Strand == "" {
			return within(misfit("missing; a call has no strand of its own"), fmt.Sprintf("[%d].s", i))
		}
	}
	return nil
}

func readHoldState(c *cursor, to *string) error {
	if err := readWord(c, to); err != nil {
		return err
	}
	if *to != HoldRun && *to != HoldDone {
		return misfit("%q, want %q or %q", *to, HoldRun, HoldDone)
	}
	return nil
}
