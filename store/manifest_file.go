package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path"

	"nyala/store/batch"
	"nyala/store/vfs"
)

const manifestName = "manifest"

// manifestFile is a tablet's file of manifests: records one behind the other, each on 8 bytes, the last
// one counts.
//
//	 0  8  magic "NYMANIF1", or "NYMANIR1": from another replica, and so perhaps ahead of this one's log
//	 8  8  sequence number, one more than that of the record before
//	16  4  length of the body
//	20  4  CRC32C of bytes 0 to 20 and the body
//	24     body: a manifest; zeros to 8 bytes
//
// A record is appended and synced before the next one is written, so only the last one may be torn: it was
// never relied upon and is left out. Damage before a whole record is corruption. After an error of any kind
// nothing is appended any more: the next record goes into a new file, which replaces this one.
//
// Records are whole manifests, not differences: a restart reads one, a copy sends one, and a file
// that grew too long is replaced by one.
type manifestFile struct {
	fs    vfs.FS
	name  string
	file  vfs.File // nil: the next record replaces the file
	size  int64
	seq   uint64
	first int64 // size of the file when it was replaced last

	reached  func(Point)
	restored bool // the newest record came from another replica
}

const (
	manifestMagic  = "NYMANIF1"
	restoredMagic  = "NYMANIR1"
	manifestHeader = 24
	manifestGrowth = 256 << 10 // a file is replaced when it has grown by this and by 16 times its first record
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func manifestRecord(magic string, seq uint64, body []byte) []byte {
	b := append(make([]byte, 0, manifestHeader+len(body)+8), magic...)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	crc := crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, body)
	b = append(binary.LittleEndian.AppendUint32(b, crc), body...)
	return append(b, make([]byte, -len(b)&7)...)
}

// parseManifestRecord returns the record that b begins with, nil if there is none.
func parseManifestRecord(b []byte) (seq uint64, body []byte, size int) {
	if len(b) < manifestHeader || string(b[:8]) != manifestMagic && string(b[:8]) != restoredMagic {
		return 0, nil, 0
	}
	n := int(binary.LittleEndian.Uint32(b[16:]))
	if n > len(b)-manifestHeader {
		return 0, nil, 0
	}
	body = b[manifestHeader : manifestHeader+n : manifestHeader+n]
	if crc32.Update(crc32.Checksum(b[:20], castagnoli), castagnoli, body) != binary.LittleEndian.Uint32(b[20:]) {
		return 0, nil, 0
	}
	return binary.LittleEndian.Uint64(b[8:]), body, min((manifestHeader+n+7)&^7, len(b))
}

// lastManifest is what a manifest file ends with.
type lastManifest struct {
	seq      uint64
	body     []byte
	at, end  int // of the record
	restored bool
}

// readManifests returns the last record of a manifest file. What is behind it was never relied upon, or would be
// whole: a torn write is left out, and the log above the record that counts makes good what is missing.
func readManifests(b []byte) (last lastManifest, err error) {
	for last.end < len(b) {
		s, found, n := parseManifestRecord(b[last.end:])
		if found == nil || (last.body != nil && s != last.seq+1) {
			break
		}
		last = lastManifest{seq: s, body: found, at: last.end, end: last.end + n, restored: string(b[last.end:][:8]) == restoredMagic}
	}
	for at := last.end + 8&^7; at < len(b); at += 8 {
		if s, found, _ := parseManifestRecord(b[at:]); found != nil && s > last.seq {
			return last, fmt.Errorf("store: manifest file: damaged at %d, before record %d at %d: %w", last.end, s, at, batch.ErrCorrupt)
		}
	}
	if last.body == nil {
		return last, fmt.Errorf("store: manifest file of %d bytes: no whole record at 0: %w", len(b), batch.ErrCorrupt)
	}
	return last, nil
}

// openManifest reads a tablet's manifest file; a missing one is an error that wraps fs.ErrNotExist.
func openManifest(fsys vfs.FS, dir string) (*manifestFile, *manifest, error) {
	f := &manifestFile{fs: fsys, name: path.Join(dir, manifestName)}
	b, err := vfs.ReadFile(fsys, f.name)
	if err != nil {
		return nil, nil, fmt.Errorf("store: manifest: %w", err)
	}
	last, err := readManifests(b)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.name, err)
	}
	m, err := parseManifest(last.body)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: record %d at %d: %w", f.name, last.seq, last.at, err)
	}
	f.seq, f.size, f.first, f.restored = last.seq, int64(last.end), int64(len(last.body)), last.restored
	if last.end == len(b) {
		if f.file, err = fsys.OpenFile(f.name); err != nil {
			return nil, nil, fmt.Errorf("store: manifest: %w", err)
		}
	}
	return f, m, nil
}

// add makes body the newest manifest, durably.
func (f *manifestFile) add(body []byte, unsynced bool) error {
	record := manifestRecord(manifestMagic, f.seq+1, body)
	if f.file == nil || f.size > manifestGrowth+16*f.first {
		return f.replace(record)
	}
	f.reached(ManifestAppending)
	_, err := f.file.WriteAt(record, f.size)
	if err == nil {
		f.reached(ManifestAppended)
	}
	if err == nil && !unsynced {
		err = f.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("store: manifest %s at %d: %w", f.name, f.size, errors.Join(err, f.close()))
	}
	f.size += int64(len(record))
	f.seq++
	f.reached(ManifestSynced)
	f.restored = false
	return nil
}

// restore makes body, another replica's manifest, the only one, durably.
func (f *manifestFile) restore(body []byte) error {
	err := f.replace(manifestRecord(restoredMagic, f.seq+1, body))
	f.restored = f.restored || err == nil
	return err
}

// replace writes a new file of one record.
func (f *manifestFile) replace(record []byte) error {
	err := f.close()
	if err == nil {
		err = vfs.ReplaceFile(f.fs, f.name, record)
	}
	if err != nil {
		return fmt.Errorf("store: manifest %s: %w", f.name, err)
	}
	f.size, f.first, f.restored = int64(len(record)), int64(len(record)), false
	f.seq++
	if f.file, err = f.fs.OpenFile(f.name); err != nil {
		f.file = nil // the record is durable; the next one replaces the file again
	}
	return nil
}

func (f *manifestFile) close() error {
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}
