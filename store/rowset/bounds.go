package rowset

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"unicode/utf8"
	"unsafe"
)

// boundLimit is the length to which bounds of bytes are cut: enough to tell URLs of one site apart, and
// small beside the page that they speak of.
const boundLimit = 32

// total32 and total64 map the bits of a float to an integer that sorts as the float does: NaN at either end, -0 below +0.
func total32(b uint32) int32 { return int32(b ^ uint32(int32(b)>>31)>>1) }
func total64(b uint64) int64 { return int64(b ^ uint64(int64(b)>>63)>>1) }

var (
	inf32 = total32(math.Float32bits(float32(math.Inf(1))))
	inf64 = total64(math.Float64bits(math.Inf(1)))
)

// bounds returns the least and the greatest value of a span in Parquet's plain form; ok is false where
// there are none: no values, or a NaN among them.
func bounds(kind physical, s *span) (lo, hi []byte, ok bool) {
	n := s.values()
	if n == 0 {
		return nil, nil, false
	}
	switch kind {
	case physBool:
		lo, hi = boolBounds(s.data, n)
	case physInt32:
		a, b := minMax(view[int32](s.data))
		lo, hi = raw([]int32{a}), raw([]int32{b})
	case physInt64:
		a, b := minMax(view[int64](s.data))
		lo, hi = raw([]int64{a}), raw([]int64{b})
	case physFloat:
		return floatBounds(view[uint32](s.data))
	case physDouble:
		return doubleBounds(view[uint64](s.data))
	case physFixed16:
		lo, hi = fixed16Bounds(s.data)
	case physBytes:
		a, b := bytesBounds(s)
		lo, hi = append([]byte{}, a...), append([]byte{}, b...)
	}
	return lo, hi, true
}

func minMax[T int32 | int64](v []T) (a, b T) {
	a, b = v[0], v[0]
	for _, x := range v {
		a, b = min(a, x), max(b, x)
	}
	return a, b
}

func boolBounds(data []byte, n int) (lo, hi []byte) {
	ones := 0
	for _, b := range data[:n/8] {
		ones += bits.OnesCount8(b)
	}
	if n%8 != 0 {
		ones += bits.OnesCount8(data[n/8] & (1<<(n%8) - 1))
	}
	return []byte{oneIf(ones == n)}, []byte{oneIf(ones > 0)}
}

func oneIf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// floatBounds gives none when there is a NaN. Parquet wants a zero bound as -0 below and +0 above.
func floatBounds(v []uint32) (lo, hi []byte, ok bool) {
	a, b := int32(math.MaxInt32), int32(math.MinInt32)
	for _, x := range v {
		t := total32(x)
		a, b = min(a, t), max(b, t)
	}
	if b > inf32 || a < ^inf32 {
		return nil, nil, false
	}
	if a == 0 {
		a = -1
	}
	if b == -1 {
		b = 0
	}
	return raw([]int32{total32(uint32(a))}), raw([]int32{total32(uint32(b))}), true
}

func doubleBounds(v []uint64) (lo, hi []byte, ok bool) {
	a, b := int64(math.MaxInt64), int64(math.MinInt64)
	for _, x := range v {
		t := total64(x)
		a, b = min(a, t), max(b, t)
	}
	if b > inf64 || a < ^inf64 {
		return nil, nil, false
	}
	if a == 0 {
		a = -1
	}
	if b == -1 {
		b = 0
	}
	return raw([]int64{total64(uint64(a))}), raw([]int64{total64(uint64(b))}), true
}

func fixed16Bounds(data []byte) (lo, hi []byte) {
	v := view[[2]uint64](data)
	a, b := 0, 0
	aHead := bits.ReverseBytes64(v[0][0])
	bHead := aHead
	for i := range v {
		x := bits.ReverseBytes64(v[i][0])
		if x <= aHead && (x < aHead || bits.ReverseBytes64(v[i][1]) < bits.ReverseBytes64(v[a][1])) {
			a, aHead = i, x
		}
		if x >= bHead && (x > bHead || bits.ReverseBytes64(v[i][1]) > bits.ReverseBytes64(v[b][1])) {
			b, bHead = i, x
		}
	}
	return append([]byte{}, data[a*16:a*16+16]...), append([]byte{}, data[b*16:b*16+16]...)
}

// bytesBounds compares by one word where it can: all values so far begin with the same prefix bytes, and the 8 bytes behind
// them decide. A value without that prefix is a new bound and shortens it; a tie of words compares in full.
func bytesBounds(s *span) (lo, hi []byte) {
	p, off := unsafe.Pointer(unsafe.SliceData(s.data)), s.off
	at := func(i int) []byte { return unsafe.Slice((*byte)(unsafe.Add(p, off[i])), off[i+1]-off[i]) }
	lo = at(0)
	hi = lo
	prefix := len(lo)
	var loWord, hiWord uint64
	for i := 1; i < len(off)-1; i++ {
		v := at(i)
		if len(v) >= prefix && string(v[:prefix]) == string(lo[:prefix]) {
			k := load8(unsafe.Add(p, int(off[i])+prefix), min(len(v)-prefix, 8))
			if k > loWord && k < hiWord {
				continue
			}
			if k < loWord || k == loWord && bytes.Compare(v, lo) < 0 {
				lo, loWord = v, k
			}
			if k > hiWord || k == hiWord && bytes.Compare(v, hi) > 0 {
				hi, hiWord = v, k
			}
			continue
		}
		if bytes.Compare(v, lo) < 0 {
			lo = v
		} else if bytes.Compare(v, hi) > 0 {
			hi = v
		}
		for prefix = 0; prefix < min(len(lo), len(hi)) && lo[prefix] == hi[prefix]; prefix++ {
		}
		loWord = wordBehind(lo, prefix)
		hiWord = wordBehind(hi, prefix)
	}
	return lo, hi
}

// wordBehind is the word of v behind its first skip bytes; v is in a span.
func wordBehind(v []byte, skip int) uint64 {
	return load8(unsafe.Add(unsafe.Pointer(unsafe.SliceData(v)), skip), min(len(v)-skip, 8))
}

// cutBelow and cutAbove shorten bounds of bytes so that they still bound. Text is cut between characters: readers
// check that a bound of text is valid UTF-8.
func cutBelow(v []byte, text bool) []byte {
	if len(v) <= boundLimit {
		return v
	}
	return v[:cutPoint(v, text)]
}

func cutPoint(v []byte, text bool) int {
	n := boundLimit
	for text && n > 0 && !utf8.RuneStart(v[n]) {
		n--
	}
	return n
}

// cutAbove raises the last byte or character that can be raised, and gives v itself where none can.
func cutAbove(v []byte, text bool) []byte {
	if len(v) <= boundLimit {
		return v
	}
	cut := v[:cutPoint(v, text)]
	for len(cut) > 0 {
		if !text {
			last := cut[len(cut)-1]
			cut = cut[:len(cut)-1]
			if last != 0xff {
				return append(append([]byte{}, cut...), last+1)
			}
			continue
		}
		r, n := utf8.DecodeLastRune(cut)
		if r == utf8.RuneError && n == 1 {
			return v // not text after all
		}
		cut = cut[:len(cut)-n]
		if r == 0xd7ff {
			r = 0xdfff // the surrogates are no characters
		}
		if r < utf8.MaxRune {
			return utf8.AppendRune(append([]byte{}, cut...), r+1)
		}
	}
	return v
}

// plainLess orders plain values as Parquet's type-defined order does.
func plainLess(kind physical, a, b []byte) bool {
	switch kind {
	case physInt32:
		return int32(binary.LittleEndian.Uint32(a)) < int32(binary.LittleEndian.Uint32(b))
	case physInt64:
		return int64(binary.LittleEndian.Uint64(a)) < int64(binary.LittleEndian.Uint64(b))
	case physFloat:
		return total32(binary.LittleEndian.Uint32(a)) < total32(binary.LittleEndian.Uint32(b))
	case physDouble:
		return total64(binary.LittleEndian.Uint64(a)) < total64(binary.LittleEndian.Uint64(b))
	}
	return bytes.Compare(a, b) < 0
}
