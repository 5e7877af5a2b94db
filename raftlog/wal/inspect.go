package wal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"time"

	"nyala/store/vfs"
)

// Dump prints the files of a log readably: each with its segment, its drains and their records, and
// what stands behind the last one. It changes nothing; of a log that is open elsewhere it shows some
// state between two writes.
func Dump(fsys vfs.FS, dir string, out io.Writer) error {
	images, err := openImages(fsys, dir, fsys.Open)
	if err != nil {
		return err
	}
	defer closeImages(images)
	c, problem := newChain(images, math.MaxUint64)
	if problem != nil {
		fmt.Fprintln(out, problem.Error())
	}
	buffered := bufio.NewWriter(out)
	for _, img := range images {
		if err := c.dumpImage(img, buffered); err != nil {
			return errors.Join(err, buffered.Flush())
		}
	}
	return buffered.Flush()
}

func (c *chain) dumpImage(img *image, out io.Writer) error {
	switch {
	case img.header == nil:
		fmt.Fprintf(out, "%s: %d bytes, free: %v\n", img.name, img.size, img.why)
		return nil
	case img.header.number == 0:
		fmt.Fprintf(out, "%s: %d bytes, free: never used\n", img.name, img.size)
		return nil
	}
	h, use := img.header, "free"
	switch {
	case img == c.newest:
		use = "current"
	case c.isLive(img):
		use = "live"
	}
	fmt.Fprintf(out, "%s: %d bytes, segment %d, %s, salt %016x, created %s, first drain %d, synced %d\n",
		img.name, img.size, h.number, use, h.salt, instant(h.created), h.first, h.durable)
	for _, l := range h.live {
		fmt.Fprintf(out, "  needs segment %d to %d, drain %d\n", l.number, l.end, l.last)
	}
	s := newScanner(img)
	for {
		d, problem, err := s.read()
		if err != nil {
			return err
		}
		if problem != nil {
			fmt.Fprintf(out, "  %10d end: %s\n", problem.Offset, problem.Text)
			return nil
		}
		closes := ""
		if d.flags&flagClose != 0 {
			closes = ", closes the log"
		}
		fmt.Fprintf(out, "  %10d drain %d, %d bytes, synced %d, written %s%s\n",
			d.offset, d.sequence, d.length, d.durable, instant(d.written), closes)
		for i := range d.records {
			dumpRecord(&d.records[i], out)
		}
	}
}

func instant(micros int64) string {
	return time.UnixMicro(micros).UTC().Format("2006-01-02T15:04:05.000000Z")
}

func dumpRecord(r *rawRecord, out io.Writer) {
	fmt.Fprintf(out, "  %10d   group %d ", r.offset, r.group)
	switch r.typ {
	case entryRecord:
		fmt.Fprintf(out, "entry %d term %d kind %d, %d bytes", r.Index, r.Term, r.Kind, len(r.Data))
		if len(r.Extensions) > 0 {
			fmt.Fprintf(out, " and %d", len(r.Extensions))
		}
	case dropRecord:
		fmt.Fprint(out, "dropped")
	case stateRecord:
		fmt.Fprintf(out, "state, entries [%d, %d)", r.Index, r.Term)
		if s, err := parseState(r); err != nil {
			fmt.Fprintf(out, ", %v", err)
		} else {
			for _, key := range sortedKeys(s.values) {
				fmt.Fprintf(out, ", %q=%x", key, s.values[key])
			}
		}
	default:
		fmt.Fprintf(out, "of unknown type %d", r.typ)
	}
	fmt.Fprintln(out)
}

// Check verifies every record of the log in a directory and returns what is wrong with it, nothing
// for a log that Open would take. It changes nothing. The log must not be open elsewhere.
func Check(fsys vfs.FS, dir string) ([]Problem, error) {
	images, err := openImages(fsys, dir, fsys.Open)
	if err != nil {
		return nil, err
	}
	defer closeImages(images)
	c, problem := newChain(images, math.MaxUint64)
	if problem != nil {
		return []Problem{*problem}, nil
	}
	var problems []Problem
	for _, l := range c.live {
		if l.img == nil {
			continue
		}
		more, err := l.check()
		if err != nil {
			return nil, err
		}
		problems = append(problems, more...)
	}
	// What Open would refuse the log for, if it is not among them.
	var first Problem
	if _, _, _, err := readLog(images); errors.As(err, &first) {
		known := func(p Problem) bool { return p.File == first.File && p.Offset == first.Offset }
		if !slices.ContainsFunc(problems, known) {
			problems = append(problems, first)
		}
	} else if err != nil {
		return nil, err
	}
	return problems, nil
}

// check reads all drains of a segment, also behind those that are damaged, and returns the damage.
// What is not valid at the end of the newest segment, with nothing behind it, is not damage.
func (l *link) check() ([]Problem, error) {
	s := newScanner(l.img)
	var problems []Problem
	for {
		if l.sealed && s.at >= l.end {
			return problems, nil
		}
		d, problem, err := s.read()
		if err != nil {
			return nil, err
		}
		if d != nil {
			continue
		}
		next, err := l.nextDrain(s)
		if err != nil {
			return nil, err
		}
		if next == nil {
			if l.sealed {
				problems = append(problems, *problem)
			}
			return problems, nil
		}
		problems = append(problems, *problem)
		s.at, s.next = next.offset, next.sequence
	}
}

// nextDrain finds the first header of the same life behind the place where the scanner stands, of
// which the sequence proves that it was synced before that header was written.
func (l *link) nextDrain(s *scanner) (*drainImage, error) {
	var next *drainImage
	err := l.img.headersFrom(s.at+pageSize, func(at int64, h drainHeader) {
		if next == nil && h.identity == l.img.header.identity && h.durable >= s.next && h.sequence > s.next {
			next = &drainImage{drainHeader: h, offset: at}
		}
	})
	return next, err
}

// Span is what a log has of a group: entries [First, Next), and its stable values.
type Span struct {
	First, Next uint64
	Values      map[string][]byte
}

// Spans reads a log that is not open, as Open would, and returns what it has of each group. It changes nothing.
func Spans(fsys vfs.FS, dir string) (map[uint64]Span, error) {
	images, err := openImages(fsys, dir, fsys.Open)
	if err != nil {
		return nil, err
	}
	defer closeImages(images)
	_, _, r, err := readLog(images)
	if err != nil {
		return nil, err
	}
	spans := map[uint64]Span{}
	for id, g := range r.groups {
		if !g.dropped {
			spans[id] = Span{g.first, g.next, g.values}
		}
	}
	return spans, nil
}
