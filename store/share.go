package store

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/cespare/xxhash/v2"
)

// One replica encodes for all: files are the same on every replica, and to sort, encode and compress rows costs several
// times what to copy a file does. The leader encodes after the Freeze; the others wait for the Install, copy the files that it names
// from whoever has them, and hold them against the hashes in it. Who waits depends on nobody: a replica encodes by itself when
// it leads, when it could not copy for copyLimit, and when no Install has come for encodePatience, so that whoever leads next has files.
//
// A replica that took what it is given would not notice that it had become another one than the leader. So an Install carries sums
// of what its files were made from (sums), and one flush in checkEvery, another one for each replica, is encoded by it, too,
// which finds what sums cannot: rows that changed in memory, and an encoder that is not deterministic.
const (
	checkEvery     = 16
	encodePatience = 30 * time.Second
	copyLimit      = 10 * time.Second
	copyPauseMin   = 25 * time.Millisecond // after a refusal: the leader is about to install the files
	copyPauseMax   = time.Second
)

// copiesMax bounds the flushes that are copied at once: each has buffers of some MiB.
const copiesMax = 4

// checks tells whether this replica encodes a flush to hold it against the leader's files. Not all replicas choose the same ones: where
// they are on one machine, its processors would have to encode them all at once, and fresh rows would wait.
func (t *Tablet) checks(freeze uint64) bool {
	b := binary.LittleEndian.AppendUint64([]byte(t.manager.options.Replica), uint64(t.spec.ID))
	return xxhash.Sum64(binary.LittleEndian.AppendUint64(b, freeze))%checkEvery == 0
}

// encodes tells whether this replica makes the files of f itself.
func (t *Tablet) encodes(f *frozenRowSet) bool {
	if f.seen.IsZero() {
		f.seen = time.Now()
	}
	return f.copyFailed || t.manager.options.Fetch == nil || t.leads() || t.checks(f.freeze) || time.Since(f.seen) >= encodePatience
}

// obtained is where the files of an Install are, and what is known of them.
type obtained struct {
	suffix string   // of their temporary names
	rowOf  []uint32 // by row of the MemRowSet: its row in the file, or noRow; nil: to be looked up by key
}

// obtain sees to it that the files that w names are here, under temporary names.
func (t *Tablet) obtain(ctx context.Context, f *frozenRowSet, w *waitingInstall) (o obtained, err error) {
	if len(w.added) == 0 {
		return o, nil
	}
	if f.encoded == nil && !f.copied && !t.encodes(f) && !t.copyFlush(ctx, f, w.added[0]) {
		if ctx.Err() != nil {
			return o, ctx.Err()
		}
		f.copyFailed = true
		t.removeCopies(w.added[0])
	}
	if f.encoded == nil && !f.copied {
		if err := t.encode(ctx, f); err != nil {
			return o, err
		}
	}
	if !f.copied && len(f.encoded.added) == 1 && f.encoded.added[0] == w.added[0] {
		return obtained{flushSuffix, f.encoded.rowOf}, nil
	}
	if !f.copied {
		t.differs(f.freeze, "files", fmt.Sprint(f.encoded.added), fmt.Sprint(w.added))
		f.same = false
		if err := t.fetchRowSet(ctx, t.manager.options.Fetch, w.added[0]); err != nil {
			return o, err
		}
		f.copied = true
	}
	rowOf, err := t.rowsOf(ctx, f, w.added[0])
	return obtained{fetchSuffix, rowOf}, err
}

// copyFlush copies the files of a flush from a replica that has installed them, and tells whether they are here, whole and safe.
func (t *Tablet) copyFlush(ctx context.Context, f *frozenRowSet, a added) bool {
	begin := time.Now()
	t.manager.reached(Copying)
	ctx, cancel := context.WithTimeout(ctx, copyLimit)
	defer cancel()
	select {
	case t.manager.copies <- struct{}{}:
		defer func() { <-t.manager.copies }()
	case <-ctx.Done():
		t.manager.reached(CopyFailed)
		return false
	}
	pause := copyPauseMin
	wait := func() {
		rest(ctx, pause)
		pause = min(2*pause, copyPauseMax)
	}
	fetch := func(ctx context.Context, id ID, name string, off int64) (io.ReadCloser, error) {
		in, err := t.manager.options.Fetch(ctx, id, name, off)
		if err != nil {
			wait()
		}
		return in, err
	}
	for {
		err := t.fetchRowSet(ctx, fetch, a)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.log.Warn("flush not copied, it is encoded here", "job", f.freeze, "took", time.Since(begin), "error", err)
			t.manager.reached(CopyFailed)
			return false
		}
		wait() // also when it is our own disk that fails
	}
	f.copied = true
	t.log.Info("flush copied", "job", f.freeze, "rows", a.rows, "of", f.rows, "bytes", a.parquet.size+a.keys.size, "took", time.Since(begin))
	t.manager.reached(Copied)
	return true
}

// removeCopies deletes what came of files that were not copied whole.
func (t *Tablet) removeCopies(a added) {
	for i := range a.names() {
		name := tempName(a.id, fetchSuffix, i)
		if _, err := t.fs.Stat(path.Join(t.dir, name)); err == nil {
			t.remove(name)
		}
	}
}

type tabletFetcher = func(ctx context.Context, id ID, name string, off int64) (io.ReadCloser, error)

func (t *Tablet) fetchRowSet(ctx context.Context, from tabletFetcher, a added) error {
	if from == nil {
		return fmt.Errorf("store: tablet %d: rowset %d is not here, and there is no peer to ask", t.spec.ID, a.id)
	}
	fetch := func(ctx context.Context, name string, off int64) (io.ReadCloser, error) {
		return from(ctx, t.spec.ID, name, off)
	}
	for i, name := range a.names() {
		if err := download(ctx, t.fs, fetch, name, a.files()[i], path.Join(t.dir, tempName(a.id, fetchSuffix, i))); err != nil {
			return err
		}
		t.manager.reached(FlushFileCopied)
	}
	return nil
}

// sortShare is the share of rows that must have died for it to be cheaper to sort all keys once than to look each of those rows up.
const sortShare = 16

// rowsOf says where the rows of f are in a file that was copied. Sorting gives the numbers that encoding gives, if the file was made from
// the same rows; it is worth it only if many have died. Otherwise, nil: by their keys.
func (t *Tablet) rowsOf(ctx context.Context, f *frozenRowSet, a added) ([]uint32, error) {
	if !f.same || f.deaths.count.Load()*sortShare < int64(f.rows) {
		return nil, nil
	}
	w, err := t.manager.takeWorker(ctx)
	if err != nil {
		return nil, err
	}
	defer t.manager.returnWorker(w)
	rows, rowOf := w.gather(f.schema, f, t.broken == lateImage)
	if uint64(len(rows.Refs)) != a.rows {
		return nil, nil
	}
	return rowOf, nil
}

// sums say what the files of an Install were made from: two replicas that have applied the same log have the same.
type sums struct {
	entries uint64 // of the checksums, places and births of the batches in the MemRowSet
	deaths  uint64 // of when its rows died, up to the Freeze
	before  uint64 // of the manifest that the Install replaces: ledger, and deaths in all older files; 0 if that is of the empty tablet
}

// sumsOf computes what goes into an Install of f if it is the next one.
func (t *Tablet) sumsOf(f *frozenRowSet) sums {
	var buf [24]byte
	le := binary.LittleEndian
	h := xxhash.New()
	for _, b := range f.batches {
		le.PutUint32(buf[:], b.first)
		le.PutUint32(buf[4:], b.sum)
		le.PutUint64(buf[8:], uint64(b.birth))
		le.PutUint64(buf[16:], uint64(b.rows.Rows))
		h.Write(buf[:])
	}
	s := sums{entries: h.Sum64()}
	h.Reset()
	f.deaths.each(f.rows, f.manifest.timestamp, func(row uint32, at Timestamp) {
		le.PutUint32(buf[:], row)
		le.PutUint64(buf[4:], uint64(at))
		h.Write(buf[:12])
	})
	s.deaths = h.Sum64()
	t.mu.RLock()
	body, index := t.mu.body, t.mu.durable.Index
	t.mu.RUnlock()
	if index > 0 {
		s.before = xxhash.Sum64(body)
	}
	return s
}

// installOf is the Install of what this replica has encoded.
func (t *Tablet) installOf(f *frozenRowSet) installCommand {
	return installCommand{freeze: f.freeze, sums: t.sumsOf(f), added: f.encoded.added}
}

// compare holds what this replica would make files from against what they were made from.
func (t *Tablet) compare(f *frozenRowSet, w *waitingInstall) {
	if f.compared {
		return
	}
	f.compared = true
	got, want := t.sumsOf(f), w.sums
	f.same = got.entries == want.entries && got.deaths == want.deaths
	for _, s := range []struct {
		what      string
		got, want uint64
	}{{"entries", got.entries, want.entries}, {"deaths", got.deaths, want.deaths}, {"manifest before", got.before, want.before}} {
		if s.got != s.want {
			t.differs(w.freeze, s.what, fmt.Sprintf("%016x", s.got), fmt.Sprintf("%016x", s.want))
		}
	}
}

// differs notes that this replica is not what the leader is. It takes the leader's files and goes on; until it was restored
// or opened again its status says so.
func (t *Tablet) differs(job uint64, what, got, want string) {
	t.log.Error("replica differs from the leader", "job", job, "what", what, "got", got, "want", want)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.differs == nil {
		t.mu.differs = fmt.Errorf("store: tablet %d: flush %d: %s differ from the leader's: got %s, want %s", t.spec.ID, job, what, got, want)
	}
}
