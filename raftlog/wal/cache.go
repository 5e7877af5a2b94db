package wal

// cache keeps the newest entries of all groups in memory, up to a number of bytes, and forgets the
// oldest first: raft reads the tail, to replicate and to apply. It keeps the caller's own slices,
// so that it costs no copy. It is a list through the cached entries themselves, because entries
// also leave from its middle, when a log is cut. Guarded by WAL.mu.
type cache struct {
	limit  int64
	bytes  int64
	oldest *cached
	newest *cached
}

type cached struct {
	record       Record
	owner        *GroupLog
	older, newer *cached
}

func (c *cached) size() int64 { return recordSize(&c.record) }

// add caches an entry that owner's index has, and makes room for it.
func (c *cache) add(owner *GroupLog, r Record) *cached {
	e := &cached{record: r, owner: owner}
	if e.size() > c.limit {
		return nil
	}
	for c.bytes+e.size() > c.limit {
		old := c.oldest
		old.owner.entries[old.record.Index-old.owner.base].cached = nil
		c.remove(old)
	}
	e.older = c.newest
	if c.newest != nil {
		c.newest.newer = e
	} else {
		c.oldest = e
	}
	c.newest = e
	c.bytes += e.size()
	return e
}

func (c *cache) remove(e *cached) {
	if e == nil {
		return
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		c.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		c.newest = e.older
	}
	e.older, e.newer = nil, nil
	c.bytes -= e.size()
}
