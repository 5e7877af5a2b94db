package store

import "nyala/store/rowset"

// Status is what a replica of a tablet looks like now.
type Status struct {
	ID        ID
	Table     string
	Rows      int64       // alive as of LastTimestamp
	Bytes     int64       // of DiskRowSets' files and of MemRowSets
	MemBytes  int64       // of MemRowSets, also those on their way to disk
	RowSets   int         // DiskRowSets
	Height    int         // the most DiskRowSets that may have one key, by their key bounds
	Frozen    int         // MemRowSets on their way to disk
	Applied   uint64      // index of the last entry applied
	Durable   uint64      // durable index
	Last      Timestamp   // timestamp of the last entry applied
	Horizon   Timestamp   // reads below it are refused
	Hash      rowset.Hash // of the durable manifest: equal on replicas of equal durable index
	Failed    error       // why it does not apply any more
	Fault     error       // why work on its files failed last; it is tried again
	Differs   error       // in what this replica differed from the leader at an Install since it was opened or restored
	Damage    error       // a damaged file that is being copied from another replica
	Deleted   int64       // rows of DiskRowSets that are dead
	FilesSize int64       // bytes of DiskRowSets' files
	Resident  int64       // memory for keys, filters and deaths of DiskRowSets
}

// Status describes the tablet.
func (t *Tablet) Status() Status {
	t.mu.RLock()
	s := t.mu.state
	t.mu.RUnlock()
	out := Status{
		ID: t.spec.ID, Table: t.spec.Table, MemBytes: s.mem.bytes.Load(), RowSets: len(s.disks), Height: height(s.disks), Frozen: len(s.frozen),
		Applied: s.applied, Durable: s.durable.Index, Last: s.last, Horizon: s.horizon,
		Hash: manifestHash(s.body), Failed: s.failed, Fault: s.fault, Differs: s.differs, Damage: s.damage(),
	}
	alive := func(batches []memBatch, d *deaths) {
		if n := len(batches); n > 0 {
			last := batches[n-1]
			out.Rows += int64(last.first) + int64(last.rows.Rows) - d.count.Load()
		}
	}
	alive(s.batches, &s.mem.deaths)
	for _, f := range s.frozen {
		out.MemBytes += f.bytes.Load()
		alive(f.batches, &f.deaths)
	}
	for _, d := range s.disks {
		dead := d.deaths.count.Load()
		out.Rows += int64(d.rows) - dead
		out.Deleted += dead
		out.FilesSize += d.parquet.size + d.keys.size
		out.Resident += d.residentBytes()
	}
	out.Resident += s.directory.bytes()
	out.Bytes = out.MemBytes + out.FilesSize
	return out
}
