package wal

import (
	"math"
	"slices"
)

// chain is the log as the newest valid header gives it.
type chain struct {
	images []*image // all slots
	newest *image   // nil when the log has no segment yet
	live   []link   // what the newest lists, and itself, by number
	cut    bool     // there are newer segments, which are not part of the log
}

// link is one segment of the chain.
type link struct {
	liveSegment
	img    *image // nil when it is missing
	sealed bool   // all but the newest: its end is known
}

// newChain finds the chain, of segments up to a number.
func newChain(images []*image, upTo uint64) (*chain, *Problem) {
	c := &chain{images: images}
	byNumber := map[uint64]*image{}
	for _, img := range images {
		if img.header == nil || img.header.number == 0 {
			continue
		}
		if other := byNumber[img.header.number]; other != nil {
			return c, img.problem(0, "segment %d, as %s", img.header.number, other.name)
		}
		byNumber[img.header.number] = img
		if img.header.number > upTo {
			c.cut = true
		} else if c.newest == nil || c.newest.header.number < img.header.number {
			c.newest = img
		}
	}
	if c.newest == nil {
		return c, nil
	}
	for _, l := range c.newest.header.live {
		c.live = append(c.live, link{liveSegment: l, img: byNumber[l.number], sealed: true})
	}
	newest := liveSegment{number: c.newest.header.number, end: c.newest.size}
	c.live = append(c.live, link{liveSegment: newest, img: c.newest})
	return c, nil
}

// ending is where a walk along the chain found the end of the log.
type ending struct {
	broken   bool     // in the middle of the chain
	missing  bool     // that is, a segment is missing, so that nobody knows what last would be
	number   uint64   // of the last segment that can be a part of the log
	scan     *scanner // of the segment where it is; nil if that is missing
	last     uint64   // sequence of the last valid drain before it
	problem  *Problem // what is there instead of a next drain; nil for a log without segments
	leftover bool     // valid drains of the newest segment are behind it, which only PageCache allows
}

// readLog reads the log. Mostly it is the chain of the newest header. But with PageCache a power cut
// may leave that header and lose parts of older segments. Then the log ends where the first such part
// is, and it is the chain of the header before that place: later ones left segments out because of
// records that may be lost.
func readLog(images []*image) (*chain, *ending, *replay, error) {
	var first *Problem
	for upTo := uint64(math.MaxUint64); ; {
		c, problem := newChain(images, upTo)
		if problem != nil {
			return c, nil, nil, *problem
		}
		r := &replay{groups: map[uint64]*replayed{}}
		e, err := c.walk(r.drain)
		if err == nil && first == nil {
			first = e.problem
		}
		if err == nil && !e.missing {
			err = c.judge(e, first)
		}
		if err == nil && !e.broken {
			err = r.check(c)
		}
		if err != nil || !e.broken {
			return c, e, r, err
		}
		upTo = e.number
	}
}

// walk reads all drains of the log in order, until one is not valid. There always is such a one: at
// the end of the newest segment if nothing is wrong.
func (c *chain) walk(visit func(l link, d *drainImage) error) (*ending, error) {
	e := &ending{}
	for _, l := range c.live {
		e.broken, e.number, e.scan = l.sealed, l.number, nil
		if l.img == nil {
			e.missing = true
			e.number-- // the end can only be in one before it
			var err error
			e.problem, err = c.missing(l.number)
			return e, err
		}
		e.scan, e.last = newScanner(l.img), l.img.header.first-1
		for !l.sealed || e.scan.at < l.end {
			d, problem, err := e.scan.read()
			if err != nil {
				return nil, err
			}
			if problem != nil {
				e.problem = problem
				return e, nil
			}
			e.last = d.sequence
			if err := visit(l, d); err != nil {
				return nil, err
			}
		}
		if e.last != l.last || e.scan.at != l.end {
			e.problem = l.img.problem(e.scan.at, "ends with drain %d at %d, want %d at %d", e.last, e.scan.at, l.last, l.end)
			return e, nil
		}
	}
	return e, nil
}

// missing says where a segment should be: in the file that has drains of it behind a damaged header,
// if there is one.
func (c *chain) missing(number uint64) (*Problem, error) {
	problem := c.newest.problem(0, "segment %d, which it lists, is missing", number)
	for _, img := range c.images {
		if img.header != nil {
			continue
		}
		err := img.headersFrom(0, func(_ int64, h drainHeader) {
			if h.number == number {
				problem = img.problem(0, "segment %d: %v", number, img.why)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return problem, nil
}

// judge tells a log that ends from one that is damaged. Where the walk ended, bytes may be missing
// that were never synced: that is the end. But whatever valid header says that more had been synced
// when it was written proves that something durable is lost: that is damage.
//
// If all is well only the rest of the newest segment is looked through, and files without a header;
// the headers of the others are of older lives, or were verified.
func (c *chain) judge(e *ending, first *Problem) error {
	thorough := e.broken || c.cut
	for _, img := range c.images {
		from := int64(0)
		switch {
		case img == c.newest && !e.broken:
			from = e.scan.at
		case img.header != nil && !thorough:
			continue
		case img.header != nil && img.header.durable > e.last:
			return c.damage(first, img, 0)
		}
		proof := int64(-1)
		err := img.headersFrom(from, func(at int64, h drainHeader) {
			if h.durable > e.last && proof < 0 {
				proof = at
			}
			if img == c.newest && !e.broken && h.identity == img.header.identity && h.sequence > e.last && at > from {
				e.leftover = true
			}
		})
		if err != nil {
			return err
		}
		if proof >= 0 {
			return c.damage(first, img, proof)
		}
	}
	return nil
}

// damage names the place where the log ends too early, as a header at an offset of img proves. first
// is the first place where it could not be read on. If nothing is wrong with what can be read, then
// img itself has lost its header, and is the place.
func (c *chain) damage(first *Problem, img *image, at int64) error {
	if img.header == nil && !c.cut {
		return *img.problem(0, "the header is lost of a segment that was synced, as its drain at %d says: %v", at, img.why)
	}
	if first == nil {
		return *img.problem(at, "something was synced, but the log is empty")
	}
	return *first
}

// maxNumber returns the highest segment number that there ever was. A damaged header counts: half of
// it may be lost in one power cut, and made whole by the next one, when it tears another header that
// was written over it and has the same list. Then two segments would have one number. But no more
// than there are files, because the damage may be to the number.
func (c *chain) maxNumber() uint64 {
	highest := uint64(0)
	for _, img := range c.images {
		if img.header != nil {
			highest = max(highest, img.header.number)
		}
	}
	bound := highest + uint64(len(c.images))
	for _, img := range c.images {
		if img.header == nil && img.claim <= bound {
			highest = max(highest, img.claim)
		}
	}
	return highest
}

func (c *chain) isLive(img *image) bool {
	return slices.ContainsFunc(c.live, func(l link) bool { return l.img == img })
}
