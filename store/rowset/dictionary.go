package rowset

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/cespare/xxhash/v2"
)

// dictionary gives values ids in the order of first sight. It is an open-addressing table whose slots hold the
// first and the last 8 bytes of a value and its length, so that a value of up to 16 bytes is decided
// without a look at the value itself; a Go map of strings costs twice as much. Of a longer value the hash takes the place of the
// last bytes: addresses of pages begin and end alike.
type dictionary struct {
	slots []dictSlot
	mask  uint64
	n     int
	data  []byte
	off   []uint32
	seen  []uint32 // by id: the last page that held it, for the page's bounds

	pageData []byte // the values of a page, side by side
	pageOff  []uint32
}

type dictSlot struct {
	head, tail uint64 // tail: the hash of a value of more than 16 bytes
	id         uint32 // id+1; 0: free
	length     uint32
}

const dictSlotsMin = 1 << 12

func (d *dictionary) reset() {
	if d.slots == nil {
		d.slots = make([]dictSlot, dictSlotsMin)
	}
	clear(d.slots)
	d.mask, d.n, d.data, d.off, d.seen = uint64(len(d.slots)-1), 0, d.data[:0], append(d.off[:0], 0), d.seen[:0]
}

func dictHash(head, tail uint64, length int) uint64 {
	hi, lo := bits.Mul64(head^0x9E3779B97F4A7C15, tail^0xD6E8FEB86659FD93^uint64(length)<<32)
	return hi ^ lo
}

func (d *dictionary) at(id int) []byte { return d.data[d.off[id]:d.off[id+1]] }

// size is what the dictionary takes in a file, before compression.
func (d *dictionary) size(kind physical) int {
	if kind == physBytes {
		return len(d.data) + 4*d.n
	}
	return len(d.data)
}

func (d *dictionary) id(head, tail uint64, v []byte, page uint32) int32 {
	for i := dictHash(head, tail, len(v)) & d.mask; ; i = (i + 1) & d.mask {
		s := &d.slots[i]
		if s.head == head && s.tail == tail && s.length == uint32(len(v)) && s.id != 0 && (len(v) <= 16 || string(d.at(int(s.id-1))) == string(v)) {
			d.seen[s.id-1] = page
			return int32(s.id - 1)
		}
		if s.id == 0 {
			d.n++
			*s = dictSlot{head, tail, uint32(d.n), uint32(len(v))}
			d.data = append(d.data, v...)
			d.off, d.seen = append(d.off, uint32(len(d.data))), append(d.seen, page)
			if d.n*2 > len(d.slots) {
				d.double()
			}
			return int32(d.n - 1)
		}
	}
}

func (d *dictionary) double() {
	old := d.slots
	d.slots = make([]dictSlot, 2*len(old))
	d.mask = uint64(len(d.slots) - 1)
	for _, s := range old {
		if s.id == 0 {
			continue
		}
		i := dictHash(s.head, s.tail, int(s.length)) & d.mask
		for d.slots[i].id != 0 {
			i = (i + 1) & d.mask
		}
		d.slots[i] = s
	}
}

// appendIDs appends the ids of a span's values; page marks them as seen there.
func (d *dictionary) appendIDs(dst []int32, kind physical, s *span, page uint32) []int32 {
	switch kind {
	case physInt32, physFloat:
		id, last := int32(-1), uint32(0)
		v := view[uint32](s.data)
		for i, x := range v {
			if x != last || id < 0 {
				id, last = d.id(uint64(x), 0, raw(v[i:i+1]), page), x
			}
			dst = append(dst, id)
		}
	case physInt64, physDouble:
		v := view[uint64](s.data)
		for i, x := range v {
			dst = append(dst, d.id(x, 0, raw(v[i:i+1]), page))
		}
	case physFixed16:
		v := view[[2]uint64](s.data)
		for i, x := range v {
			dst = append(dst, d.id(x[0], x[1], raw(v[i:i+1]), page))
		}
	case physBytes:
		p := unsafe.Pointer(unsafe.SliceData(s.data))
		for i, o := range s.off[:len(s.off)-1] {
			l := int(s.off[i+1] - o)
			q := unsafe.Add(p, o)
			value, tail := unsafe.Slice((*byte)(q), l), uint64(0)
			if l > 16 {
				tail = xxhash.Sum64(value)
			} else if l > 8 {
				tail = *(*uint64)(unsafe.Add(q, l-8))
			}
			dst = append(dst, d.id(load8(q, l), tail, value, page))
		}
	}
	return dst
}

// pageSpan is the distinct values seen in a page, as a span.
func (d *dictionary) pageSpan(page uint32) span {
	d.pageData, d.pageOff = d.pageData[:0], append(d.pageOff[:0], 0)
	for id, p := range d.seen {
		if p == page {
			d.pageData = append(d.pageData, d.at(id)...)
			d.pageOff = append(d.pageOff, uint32(len(d.pageData)))
		}
	}
	n := len(d.pageData)
	d.pageData = append(d.pageData, make([]byte, slack)...)
	return span{rows: len(d.pageOff) - 1, data: d.pageData[:n], off: d.pageOff}
}

// appendPlain appends the dictionary page's body.
func (d *dictionary) appendPlain(dst []byte, kind physical) []byte {
	if kind != physBytes {
		return append(dst, d.data...)
	}
	for i := range d.n {
		dst = append(binary.LittleEndian.AppendUint32(dst, d.off[i+1]-d.off[i]), d.at(i)...)
	}
	return dst
}
