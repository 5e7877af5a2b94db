package rowset

import (
	"bytes"
	"encoding/binary"

	"nyala/store/schema"
)

// keyBlockRows is how many keys a block has; the last of a file has what is left.
const keyBlockRows = 256

// keyRestart is how many keys of different lengths stand behind each other before one is written whole.
const keyRestart = 16

// keyBlock is a part of the sorted keys, compressed so that it is searched as it is, without being decoded:
// resident keys then cost a few bytes a row and a lookup a few hundred nanoseconds.
//
// Where all key columns have a fixed width, each (a UUID is two of 8 bytes) is an unsigned integer of its big-endian bytes, and value i
// is base + i*step + residual i. Keys of events grow about evenly, so residuals are small: 17 bits for a time and for
// an id, none for a tenant. Prefix compression, the usual way, needs 11 bytes for such a key.
//
//	per column: 8 base, 8 step, 1 width in bits, residuals of that width from the lowest bit on
//
// Else keys are bytes with the prefix that they share with the one before left out, every 16th whole:
//
//	per key: uvarint shared, uvarint length of the rest, the rest
//	at the end: 4 bytes for every 16th key, its place in the block
type keyBlock struct {
	data   []byte // packedSlack bytes are readable behind it
	rows   int
	widths []int // of the key's columns in bytes; nil: lengths differ
}

// keyWidths is the width of each part of a key of s, nil where keys differ in length.
func keyWidths(s *schema.Schema) (widths []int) {
	if s.KeyWidth() == 0 {
		return nil
	}
	for _, k := range s.Key {
		if w := s.Columns[k].Type.Width(); w == 16 {
			widths = append(widths, 8, 8)
		} else {
			widths = append(widths, w)
		}
	}
	return widths
}

// keyPart reads a big-endian integer of w bytes.
func keyPart(b []byte, w int) uint64 {
	switch w {
	case 8:
		return binary.BigEndian.Uint64(b)
	case 4:
		return uint64(binary.BigEndian.Uint32(b))
	case 2:
		return uint64(binary.BigEndian.Uint16(b))
	}
	return uint64(b[0])
}

// appendKeyParts appends a block of keys that lie one behind the other and have parts of the given widths.
func appendKeyParts(dst, keys []byte, widths []int) []byte {
	var values [keyBlockRows]uint64
	stride := 0
	for _, w := range widths {
		stride += w
	}
	n, off := len(keys)/stride, 0
	for _, w := range widths {
		for i := range n {
			values[i] = keyPart(keys[i*stride+off:], w)
		}
		dst = appendPart(dst, values[:n])
		off += w
	}
	return dst
}

// appendPart picks the line through the first and the last value, or a level one, whichever leaves fewer bits. The sums wrap, and
// wrap back when read.
func appendPart(dst []byte, v []uint64) []byte {
	base, step := v[0], uint64(0)
	most := v[0]
	for _, x := range v {
		base, most = min(base, x), max(most, x)
	}
	width := widthOf(most - base)
	if len(v) > 1 && width < 62 {
		slope := uint64((int64(v[len(v)-1]-base) - int64(v[0]-base)) / int64(len(v)-1))
		low, high := int64(0), int64(0)
		for i, x := range v {
			d := int64(x - v[0] - uint64(i)*slope)
			low, high = min(low, d), max(high, d)
		}
		if w := widthOf(uint64(high - low)); w < width {
			base, step, width = v[0]+uint64(low), slope, w
		}
	}
	dst = binary.LittleEndian.AppendUint64(dst, base)
	dst = binary.LittleEndian.AppendUint64(dst, step)
	dst = append(dst, byte(width))
	for i := range v {
		v[i] -= base + uint64(i)*step
	}
	return appendPacked(dst, v, width)
}

// appendPrefixed appends a block of keys of different lengths; at(i) is key i of n, and the keys before it stay.
func appendPrefixed(dst []byte, n int, at func(i int) []byte) []byte {
	start := len(dst)
	var restarts []byte
	var last []byte
	for i := range n {
		k, shared := at(i), 0
		if i%keyRestart == 0 {
			restarts = binary.LittleEndian.AppendUint32(restarts, uint32(len(dst)-start))
		} else {
			for shared < min(len(k), len(last)) && k[shared] == last[shared] {
				shared++
			}
		}
		dst = binary.AppendUvarint(dst, uint64(shared))
		dst = binary.AppendUvarint(dst, uint64(len(k)-shared))
		dst = append(dst, k[shared:]...)
		last = k
	}
	return append(dst, restarts...)
}

// partReader is a column of a block of fixed widths.
type partReader struct {
	base, step uint64
	residuals  packed
}

func (p *partReader) at(i int) uint64 { return p.base + uint64(i)*p.step + p.residuals.at(i) }

const partHeader = 17

// keyPartsMax is the most parts that a search keeps on the stack; a primary key has few columns.
const keyPartsMax = 16

// parts looks at the columns of a block of fixed widths.
func (b *keyBlock) parts(out []partReader) ([]partReader, error) {
	out = out[:0]
	d := b.data
	for range b.widths {
		if len(d) < partHeader || d[16] > 64 {
			return nil, corrupt("key block of %d bytes", len(b.data))
		}
		p := partReader{base: binary.LittleEndian.Uint64(d), step: binary.LittleEndian.Uint64(d[8:]), residuals: packed{width: uint(d[16])}}
		n := packedBytes(b.rows, p.residuals.width)
		if len(d) < partHeader+n {
			return nil, corrupt("key block of %d bytes", len(b.data))
		}
		p.residuals.data = d[partHeader : partHeader+n+packedSlack]
		out, d = append(out, p), d[partHeader+n:]
	}
	if len(d) != 0 {
		return nil, corrupt("key block of %d bytes has %d too many", len(b.data), len(d))
	}
	return out, nil
}

// search returns the first row whose key is at or above key, and how many rows from there have that very key.
func (b *keyBlock) search(key []byte) (row, equal int, err error) {
	if b.widths == nil {
		return b.searchPrefixed(key)
	}
	var room [keyPartsMax]partReader
	parts, err := b.parts(room[:0])
	if err != nil {
		return 0, 0, err
	}
	var want [keyPartsMax]uint64
	wants := want[:0]
	off := 0
	for _, w := range b.widths {
		wants = append(wants, keyPart(key[off:], w))
		off += w
	}
	lo, hi := 0, b.rows
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if compareParts(parts, wants, m) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	for hi < b.rows && compareParts(parts, wants, hi) == 0 {
		hi++
	}
	return lo, hi - lo, nil
}

// compareParts compares key i with wants.
func compareParts(parts []partReader, wants []uint64, i int) int {
	for k := range parts {
		if v := parts[k].at(i); v != wants[k] {
			if v < wants[k] {
				return -1
			}
			return 1
		}
	}
	return 0
}

// appendKey appends key i of a block of fixed widths.
func appendKey(dst []byte, parts []partReader, widths []int, i int) []byte {
	for k, w := range widths {
		var be [8]byte
		binary.BigEndian.PutUint64(be[:], parts[k].at(i))
		dst = append(dst, be[8-w:]...)
	}
	return dst
}

// prefixed splits a block of keys of different lengths into its keys and its restarts.
func (b *keyBlock) prefixed() (keys, restarts []byte, err error) {
	n := (b.rows + keyRestart - 1) / keyRestart * 4
	if len(b.data) < n {
		return nil, nil, corrupt("key block of %d bytes", len(b.data))
	}
	return b.data[:len(b.data)-n], b.data[len(b.data)-n:], nil
}

// nextPrefixed reads the key behind last from d; it overwrites last's memory.
func nextPrefixed(last, d []byte) (key, rest []byte, err error) {
	shared, n := binary.Uvarint(d)
	if n <= 0 || shared > uint64(len(last)) {
		return nil, nil, corrupt("key block")
	}
	length, k := binary.Uvarint(d[n:])
	if k <= 0 || length > uint64(len(d)-n-k) {
		return nil, nil, corrupt("key block")
	}
	d = d[n+k:]
	return append(last[:shared], d[:length]...), d[length:], nil
}

func (b *keyBlock) searchPrefixed(key []byte) (row, equal int, err error) {
	keys, restarts, err := b.prefixed()
	if err != nil {
		return 0, 0, err
	}
	lo, hi := 0, len(restarts)/4 // the first restart at or above key
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		whole, _, err := restartKey(keys, restarts, m)
		if err != nil {
			return 0, 0, err
		}
		if bytes.Compare(whole, key) < 0 {
			lo = m + 1
		} else {
			hi = m
		}
	}
	from := max(lo-1, 0)
	d := keys[min(int(binary.LittleEndian.Uint32(restarts[from*4:])), len(keys)):]
	var k []byte
	first := -1
	for i := from * keyRestart; i < b.rows; i++ {
		if k, d, err = nextPrefixed(k, d); err != nil {
			return 0, 0, err
		}
		switch c := bytes.Compare(k, key); {
		case c == 0 && first < 0:
			first = i
		case c > 0 && first < 0:
			return i, 0, nil
		case c > 0:
			return first, i - first, nil
		}
	}
	if first < 0 {
		return b.rows, 0, nil
	}
	return first, b.rows - first, nil
}

// restartKey is the key at restart m; it is whole and not copied.
func restartKey(keys, restarts []byte, m int) (key, rest []byte, err error) {
	at := int(binary.LittleEndian.Uint32(restarts[m*4:]))
	if at >= len(keys) || keys[at] != 0 {
		return nil, nil, corrupt("key block: restart %d at %d of %d", m, at, len(keys))
	}
	length, n := binary.Uvarint(keys[at+1:])
	if n <= 0 || length > uint64(len(keys)-at-1-n) {
		return nil, nil, corrupt("key block: restart %d", m)
	}
	at += 1 + n
	return keys[at : at+int(length)], keys[at+int(length):], nil
}

// each calls fn with every key in order; the key lives until fn returns.
func (b *keyBlock) each(fn func(i int, key []byte) error) error {
	if b.widths != nil {
		var room [keyPartsMax]partReader
		parts, err := b.parts(room[:0])
		if err != nil {
			return err
		}
		var key []byte
		for i := range b.rows {
			key = appendKey(key[:0], parts, b.widths, i)
			if err := fn(i, key); err != nil {
				return err
			}
		}
		return nil
	}
	d, _, err := b.prefixed()
	if err != nil {
		return err
	}
	var k []byte
	for i := range b.rows {
		if k, d, err = nextPrefixed(k, d); err != nil {
			return err
		}
		if err := fn(i, k); err != nil {
			return err
		}
	}
	if len(d) != 0 {
		return corrupt("key block has %d bytes too many", len(d))
	}
	return nil
}
