package rowset

import (
	"encoding/binary"
	"slices"
)

// births are the timestamps at which rows were born. Rows of one entry share one, so they are a table of the distinct ones and
// an id a row:
//
//	4 distinct, 1 width of an id in bits, 3 zero, 8 least, then uvarint differences to the one before, then ids
type births struct {
	table []int64 // ascending
	ids   packed
	rows  int
}

// birthSet finds the distinct births in one pass: an open-addressing table of places in list, plus one.
type birthSet struct {
	list  []int64
	slots []uint32
}

const birthSlotsMin = 1 << 10

func (s *birthSet) id(t int64) uint32 {
	if len(s.list)*2 >= len(s.slots) {
		s.slots = make([]uint32, max(birthSlotsMin, 4*len(s.slots)))
		for i, x := range s.list {
			*s.slot(x) = uint32(i + 1)
		}
	}
	p := s.slot(t)
	if *p == 0 {
		s.list = append(s.list, t)
		*p = uint32(len(s.list))
	}
	return *p - 1
}

// slot is where t is, or the free place where it goes.
func (s *birthSet) slot(t int64) *uint32 {
	mask := uint64(len(s.slots) - 1)
	for i := uint64(t) * 0x9E3779B97F4A7C15 >> 32 & mask; ; i = (i + 1) & mask {
		if p := &s.slots[i]; *p == 0 || s.list[*p-1] == t {
			return p
		}
	}
}

// appendBirths appends the section; set and ids, one place a row, are scratch.
func appendBirths(dst []byte, of []int64, set *birthSet, ids []uint64) []byte {
	set.list = set.list[:0]
	clear(set.slots)
	last, id := of[0], set.id(of[0])
	for i, t := range of {
		if t != last {
			last, id = t, set.id(t)
		}
		ids[i] = uint64(id)
	}
	table := slices.Clone(set.list)
	slices.Sort(table)
	width := widthOf(uint64(len(table) - 1))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(table)))
	dst = append(dst, byte(width), 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(table[0]))
	for i := 1; i < len(table); i++ {
		dst = binary.AppendUvarint(dst, uint64(table[i]-table[i-1]))
	}
	rank := make([]uint64, len(table))
	for i, t := range table {
		rank[set.id(t)] = uint64(i)
	}
	for i, k := range ids {
		ids[i] = rank[k]
	}
	return appendPacked(dst, ids, width)
}

const birthsHeader = 16

// parseBirths reads what appendBirths wrote; packedSlack bytes must be readable behind b.
func parseBirths(b []byte, rows int) (*births, error) {
	if len(b) < birthsHeader {
		return nil, corrupt("births of %d bytes", len(b))
	}
	n, width := int(binary.LittleEndian.Uint32(b)), uint(b[4])
	if n < 1 || n > rows || width != widthOf(uint64(n-1)) {
		return nil, corrupt("births: %d distinct of %d rows, %d bits", n, rows, width)
	}
	s := &births{table: make([]int64, 1, n), rows: rows}
	s.table[0] = int64(binary.LittleEndian.Uint64(b[8:]))
	d := b[birthsHeader:]
	for len(s.table) < n {
		u, k := binary.Uvarint(d)
		if k <= 0 || u == 0 {
			return nil, corrupt("births: table ends at %d of %d", len(s.table), n)
		}
		s.table = append(s.table, s.table[len(s.table)-1]+int64(u))
		d = d[k:]
	}
	if len(d) != packedBytes(rows, width) {
		return nil, corrupt("births: %d bytes of ids for %d rows of %d bits", len(d), rows, width)
	}
	s.ids = packed{data: d[:len(d)+packedSlack], width: width}
	return s, nil
}

// at is the birth of a row.
func (s *births) at(row int) int64 { return s.table[min(int(s.ids.at(row)), len(s.table)-1)] }

func (s *births) least() int64    { return s.table[0] }
func (s *births) greatest() int64 { return s.table[len(s.table)-1] }

// until clears the bits of rows, from first on, that were born after at.
func (s *births) until(at int64, first int, selection []uint64) {
	n, found := slices.BinarySearch(s.table, at)
	if found {
		n++
	}
	for w := range selection {
		var keep uint64
		for i := range min(64, s.rows-first-w*64) {
			in := uint64(0)
			if s.ids.at(first+w*64+i) < uint64(n) {
				in = 1
			}
			keep |= in << (i & 63)
		}
		selection[w] &= keep
	}
}
