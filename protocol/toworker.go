package protocol

// What a broker may send, field by field. A worker trusts its broker more than the reverse, and an older worker meets a newer broker:
// words of lists that may grow (why, st, code) are taken as they come, and payloads are handed on unread.

var welcomeFields = []field[Welcome]{
	{"re", need, func(c *cursor, m *Welcome) error { return readID(c, &m.Re) }},
	{"v", need, func(c *cursor, m *Welcome) error { return readID(c, &m.Version) }},
	{"bid", need, func(c *cursor, m *Welcome) error { return readUUID(c, &m.Broker) }},
	{"sid", need, func(c *cursor, m *Welcome) error { return c.str(&m.Session, MaxToken) }},
	{"max_frame", need, func(c *cursor, m *Welcome) error { return c.uint(&m.MaxFrame, 1, HardMaxFrame) }},
	{"max_n", need, func(c *cursor, m *Welcome) error { return readID(c, &m.MaxN) }},
	{"max_batch", need, func(c *cursor, m *Welcome) error { return readID(c, &m.MaxBatch) }},
	{"hb_ms", need, func(c *cursor, m *Welcome) error { return readPeriod(c, &m.HeartMS) }},
	{"dead_ms", need, func(c *cursor, m *Welcome) error { return readPeriod(c, &m.DeadMS) }},
	{"lease_ms", need, func(c *cursor, m *Welcome) error { return readPeriod(c, &m.LeaseMS) }},
	{"caps", optional, func(c *cursor, m *Welcome) error { return c.strs(&m.Caps, MaxLib) }},
	{"boot_bns", need, func(c *cursor, m *Welcome) error { return c.int(&m.BootNS) }},
}

var strandsFields = []field[Strands]{
	{"b", need, func(c *cursor, m *Strands) error { return readSome(c, strandFields, &m.Strands) }},
}

var strandFields = []field[Strand]{
	{"s", need, func(c *cursor, s *Strand) error { return readUUID(c, &s.ID) }},
	{"tok", need, func(c *cursor, s *Strand) error { return readToken(c, &s.Token) }},
	{"kind", need, func(c *cursor, s *Strand) error { return readName(c, &s.Kind) }},
	{"label", need, func(c *cursor, s *Strand) error { return readName(c, &s.Label) }},
	{"args", need, func(c *cursor, s *Strand) error { return c.bin(&s.Args) }},
	{"stack", optional, func(c *cursor, s *Strand) error { return c.bin(&s.Stack) }},
	{"tenant", optional, func(c *cursor, s *Strand) error { return readWord(c, &s.Tenant) }},
	{"queue", need, func(c *cursor, s *Strand) error { return readWord(c, &s.Queue) }},
	{"prio", need, func(c *cursor, s *Strand) error { return c.int(&s.Priority) }},
	{"try", need, func(c *cursor, s *Strand) error { return readID(c, &s.Try) }},
	{"max_tries", need, func(c *cursor, s *Strand) error { return readID(c, &s.MaxTries) }},
	{"created_ms", need, func(c *cursor, s *Strand) error { return c.int(&s.CreatedMS) }},
	{"dl_bns", need, func(c *cursor, s *Strand) error { return c.int(&s.DeadlineNS) }},
	{"ttl_ms", need, func(c *cursor, s *Strand) error { return readMS(c, &s.TTLMS) }},
	{"run_ms", optional, func(c *cursor, s *Strand) error { return readMS(c, &s.RunMS) }},
	{"tags", optional, func(c *cursor, s *Strand) error { return c.strs(&s.Tags, MaxMessage) }},
	{"meta", optional, func(c *cursor, s *Strand) error { return c.bin(&s.Metadata) }},
	{"in", optional, func(c *cursor, s *Strand) error { s.Inbox = new(Inbox); return readMap(c, inboxFields, s.Inbox) }},
}

var inboxFields = []field[Inbox]{
	{"sem", optional, func(c *cursor, i *Inbox) error { return readList(c, semaphoreFields, &i.Semaphores) }},
	{"ended", optional, func(c *cursor, i *Inbox) error { return readList(c, endedFields, &i.Ended) }},
	{"left", optional, func(c *cursor, i *Inbox) error { return readCount(c, &i.Left) }},
	{"more", optional, func(c *cursor, i *Inbox) error { return c.bool(&i.More) }},
}

var semaphoreFields = []field[Semaphore]{
	{"id", need, func(c *cursor, s *Semaphore) error { return readID(c, &s.ID) }},
	{"name", need, func(c *cursor, s *Semaphore) error { return readName(c, &s.Name) }},
	{"val", optional, func(c *cursor, s *Semaphore) error { return c.bin(&s.Value) }},
	{"at_ms", need, func(c *cursor, s *Semaphore) error { return c.int(&s.SentMS) }},
}

var endedFields = []field[Ended]{
	{"s", need, func(c *cursor, e *Ended) error { return readUUID(c, &e.Strand) }},
	{"kind", need, func(c *cursor, e *Ended) error { return readName(c, &e.Kind) }},
	{"st", need, func(c *cursor, e *Ended) error { return readWord(c, &e.State) }},
	{"val", optional, func(c *cursor, e *Ended) error { return c.bin(&e.Value) }},
}

var leaseFields = []field[Lease]{
	{"l", need, func(c *cursor, m *Lease) error { return readSome(c, deadlineFields, &m.Leases) }},
}

var deadlineFields = []field[Deadline]{
	{"s", need, func(c *cursor, d *Deadline) error { return readUUID(c, &d.Strand) }},
	{"tok", need, func(c *cursor, d *Deadline) error { return readToken(c, &d.Token) }},
	{"dl_bns", need, func(c *cursor, d *Deadline) error { return c.int(&d.DeadlineNS) }},
	{"ttl_ms", need, func(c *cursor, d *Deadline) error { return readMS(c, &d.TTLMS) }},
}

var cancelFields = []field[Cancel]{
	{"c", need, func(c *cursor, m *Cancel) error { return readSome(c, stopFields, &m.Cancels) }},
}

var stopFields = []field[Stop]{
	{"s", need, func(c *cursor, s *Stop) error { return readUUID(c, &s.Strand) }},
	{"tok", need, func(c *cursor, s *Stop) error { return readToken(c, &s.Token) }},
	{"why", need, func(c *cursor, s *Stop) error { return readWord(c, &s.Why) }},
	{"by_ms", need, func(c *cursor, s *Stop) error { return readMS(c, &s.ByMS) }},
}

var ackFields = []field[Ack]{
	{"re", need, func(c *cursor, m *Ack) error { return readID(c, &m.Re) }},
	{"r", need, func(c *cursor, m *Ack) error { return readList(c, ackEntryFields, &m.Entries) }},
	{"all", optional, func(c *cursor, m *Ack) error { return c.bool(&m.All) }},
}

var ackEntryFields = []field[AckEntry]{
	{"s", need, func(c *cursor, e *AckEntry) error { return readUUID(c, &e.Strand) }},
	{"tok", need, func(c *cursor, e *AckEntry) error { return readToken(c, &e.Token) }},
	{"seq", need, func(c *cursor, e *AckEntry) error { return readID(c, &e.Seq) }},
	{"st", need, func(c *cursor, e *AckEntry) error { return readWord(c, &e.State) }},
	{"why", optional, func(c *cursor, e *AckEntry) error { return readMessage(c, &e.Why) }},
	{"retry_ms", optional, func(c *cursor, e *AckEntry) error { return readMS(c, &e.RetryMS) }},
	{"next", optional, func(c *cursor, e *AckEntry) error { return readWord(c, &e.Next) }},
	{"in", optional, func(c *cursor, e *AckEntry) error { e.Inbox = new(Inbox); return readMap(c, inboxFields, e.Inbox) }},
}

var replyFields = []field[Reply]{
	{"re", need, func(c *cursor, m *Reply) error { return readID(c, &m.Re) }},
	{"ids", optional, func(c *cursor, m *Reply) error { return c.strs(&m.IDs, MaxName) }},
	{"found", optional, func(c *cursor, m *Reply) error { return readEach(c, &m.Found, (*cursor).bool) }},
	{"err", optional, func(c *cursor, m *Reply) error { m.Err = new(Err); return readMap(c, errFields, m.Err) }},
}

var drainFields = []field[Drain]{
	{"by_ms", need, func(c *cursor, m *Drain) error { return readMS(c, &m.ByMS) }},
	{"why", need, func(c *cursor, m *Drain) error { return readWord(c, &m.Why) }},
}

// What both may send.

var pingFields = []field[Ping]{
	{"n", need, func(c *cursor, m *Ping) error { return readCount(c, &m.N) }},
}

var pongFields = []field[Pong]{
	{"n", need, func(c *cursor, m *Pong) error { return readCount(c, &m.N) }},
}

var byeFields = []field[Bye]{
	{"why", need, func(c *cursor, m *Bye) error { return readMessage(c, &m.Why) }},
}

var errFields = []field[Err]{
	{"re", optional, func(c *cursor, m *Err) error { return readCount(c, &m.Re) }},
	{"code", need, func(c *cursor, m *Err) error { return readWord(c, (*string)(&m.Code)) }},
	{"msg", need, func(c *cursor, m *Err) error { return readMessage(c, &m.Message) }},
	{"fatal", need, func(c *cursor, m *Err) error { return c.bool(&m.Fatal) }},
	{"retry_ms", optional, func(c *cursor, m *Err) error { return readMS(c, &m.RetryMS) }},
}

// readPeriod reads a duration that some timer runs by.
func readPeriod(c *cursor, to *uint64) error { return c.uint(to, 1, maxMS) }
