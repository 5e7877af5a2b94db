package wal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"

	"nyala/store/vfs"
)

// Problem is damage: a place where the log is not what was written. It is an ErrCorrupt.
type Problem struct {
	File   string // without the directory
	Offset int64
	Text   string
}

func (p Problem) Error() string { return fmt.Sprintf("wal: %s at %d: %s", p.File, p.Offset, p.Text) }

// Unwrap makes errors.Is(p, ErrCorrupt) hold.
func (p Problem) Unwrap() error { return ErrCorrupt }

// image is a slot as it was found.
type image struct {
	*slot
	header *segmentHeader // nil if there is no valid one
	why    error          // why there is none
	claim  uint64         // the number in a header that is damaged
}

// openImages opens all slots of a directory with open, by name.
func openImages(fsys vfs.FS, dir string, open func(string) (vfs.File, error)) ([]*image, error) {
	names, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("wal: list %s: %w", dir, err)
	}
	var images []*image
	for _, name := range names {
		if _, ok := slotNumber(name); !ok {
			continue
		}
		img, err := openImage(path.Join(dir, name), name, open)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the tidier of an open log, which Dump may look at, removed it just now
		}
		if err != nil {
			closeImages(images)
			return nil, err
		}
		images = append(images, img)
	}
	return images, nil
}

func openImage(full, name string, open func(string) (vfs.File, error)) (*image, error) {
	file, err := open(full)
	if err != nil {
		return nil, fmt.Errorf("wal: open %s: %w", name, err)
	}
	img := &image{slot: &slot{name: name, file: file}}
	if img.size, err = file.Size(); err == nil {
		err = img.readHeader()
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return img, nil
}

func (img *image) readHeader() error {
	b := make([]byte, pageSize)
	n, err := readFull(img.file, b, 0)
	if length := segmentHeaderLength(b[:n]); err == nil && length > int64(len(b)) && length <= img.size {
		b = make([]byte, length)
		n, err = readFull(img.file, b, 0)
	}
	if err != nil {
		return fmt.Errorf("wal: read %s: %w", img.name, err)
	}
	img.header, img.why = parseSegmentHeader(b[:n])
	switch {
	case errors.Is(img.why, errVersion):
		return fmt.Errorf("wal: %s at 8: %w", img.name, img.why)
	case img.header == nil && segmentHeaderLength(b[:n]) > 0:
		img.claim = order.Uint64(b[16:])
	}
	return nil
}

func closeImages(images []*image) {
	for _, img := range images {
		img.close()
	}
}

func (img *image) problem(offset int64, format string, args ...any) *Problem {
	return &Problem{File: img.name, Offset: offset, Text: fmt.Sprintf(format, args...)}
}

// drainImage is a valid drain as it was found. Its records are parts of a buffer that is used again.
type drainImage struct {
	drainHeader
	offset  int64
	records []rawRecord
}

// scanner reads the drains of one segment, from the first on.
type scanner struct {
	img   *image
	seed  uint32
	at    int64  // where the next drain begins
	next  uint64 // its sequence
	begin int64  // where the last drain began that was read; 0 for none
	buf   []byte
}

func newScanner(img *image) *scanner {
	return &scanner{img: img, seed: img.header.seed(), at: img.header.size(), next: img.header.first}
}

// read reads the next drain. A drain that is not valid is a Problem, not an error: whether it is
// damage or the end of the log is for the caller to tell.
func (s *scanner) read() (*drainImage, *Problem, error) {
	head := make([]byte, drainHeaderSize)
	n, err := readFull(s.img.file, head, s.at)
	if err != nil {
		return nil, nil, fmt.Errorf("wal: read %s at %d: %w", s.img.name, s.at, err)
	}
	h, why := parseDrainHeader(head[:n])
	switch {
	case why != nil:
		return nil, s.img.problem(s.at, "%v", why), nil
	case h.identity != s.img.header.identity:
		return nil, s.img.problem(s.at, "drain of segment %d, salt %016x, want %d, %016x",
			h.number, h.salt, s.img.header.number, s.img.header.salt), nil
	case h.sequence != s.next:
		return nil, s.img.problem(s.at, "drain %d, want %d", h.sequence, s.next), nil
	case s.at+h.length > s.img.size:
		return nil, s.img.problem(s.at, "drain %d of %d bytes, the file has %d more", h.sequence, h.length, s.img.size-s.at), nil
	}
	if int64(cap(s.buf)) < h.length {
		s.buf = make([]byte, h.length+h.length/4)
	}
	body := s.buf[:h.length]
	if n, err = readFull(s.img.file, body, s.at); err != nil {
		return nil, nil, fmt.Errorf("wal: read %s at %d: %w", s.img.name, s.at, err)
	}
	d := &drainImage{drainHeader: h, offset: s.at}
	if p := s.records(d, body[:n]); p != nil {
		return nil, p, nil
	}
	s.begin, s.at, s.next = s.at, s.at+padded(h.length), s.next+1
	return d, nil, nil
}

func (s *scanner) records(d *drainImage, body []byte) *Problem {
	var sum uint32
	at := int64(drainHeaderSize)
	for at < int64(len(body)) {
		r, err := parseRecord(body[at:], s.seed)
		if err != nil {
			return s.img.problem(d.offset+at, "drain %d: %v", d.sequence, err)
		}
		r.offset = d.offset + at
		sum = crc32.Update(sum, castagnoli, order.AppendUint32(nil, r.crc))
		d.records = append(d.records, r)
		at += r.size
	}
	if len(d.records) != d.count || sum != d.drainHeader.records {
		return s.img.problem(d.offset, "drain %d: %d records with crc %08x, want %d with %08x",
			d.sequence, len(d.records), sum, d.count, d.drainHeader.records)
	}
	return nil
}

// headersFrom calls visit for each valid drain header at a page boundary from off on, of whatever
// life of the slot it is.
func (img *image) headersFrom(off int64, visit func(at int64, h drainHeader)) error {
	buf := make([]byte, min(1<<20, max(pageSize, padded(img.size-off))))
	for off < img.size {
		n, err := readFull(img.file, buf, off)
		if err != nil {
			return fmt.Errorf("wal: read %s at %d: %w", img.name, off, err)
		}
		if n == 0 {
			return nil
		}
		for at := 0; at < n; at += pageSize {
			if h, err := parseDrainHeader(buf[at:n]); err == nil {
				visit(off+int64(at), h)
			}
		}
		off += int64(len(buf))
	}
	return nil
}
