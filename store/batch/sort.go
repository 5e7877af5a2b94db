package batch

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// Sorter sorts keys and keeps its scratch memory between calls.
//
// The bits in which the keys differ, most significant first, are squeezed into the upper part of a word, whose lower part is the
// position of the key; these words are radix-sorted, and ties are settled by whole keys. Few bits tell most keys apart, so a
// first attempt takes only as many as three passes do; where too many keys are tied after it, a second takes all that fit. Always taking all of them
// takes twice as many passes.
type Sorter struct{ a, b []uint64 }

const (
	radixBits = 11
	quickBits = 3 * radixBits
)

// Sort returns the positions of k's keys in ascending order, equal keys in their order of arrival. out's memory is used if it has room.
func (s *Sorter) Sort(k *Keys, out []uint32) []uint32 {
	n := k.Len()
	out = slices.Grow(out[:0], n)[:n]
	if n < 2 {
		clear(out)
		return out
	}
	s.a, s.b = slices.Grow(s.a[:0], n)[:n], slices.Grow(s.b[:0], n)[:n]
	parts, total := squeeze(k, n)
	rowBits := bits.Len(uint(n - 1))
	use := min(total, 64-rowBits, quickBits)
	s.attempt(k, &parts, use, rowBits)
	if all := min(total, 64-rowBits); use < all && s.ties(rowBits) > n/8 {
		s.attempt(k, &parts, all, rowBits)
	}
	for i, v := range s.a {
		out[i] = uint32(v & (1<<rowBits - 1))
	}
	for i := 0; i < n; {
		j := i + 1
		for j < n && s.a[j]>>rowBits == s.a[i]>>rowBits {
			j++
		}
		if j-i > 1 {
			slices.SortStableFunc(out[i:j], func(x, y uint32) int { return bytes.Compare(k.At(int(x)), k.At(int(y))) })
		}
		i = j
	}
	return out
}

// attempt sorts by the first use bits in which keys differ.
func (s *Sorter) attempt(k *Keys, parts *[squeezeWords]part, use, rowBits int) {
	left := use
	for w := range parts {
		parts[w].use = min(parts[w].size, left)
		left -= parts[w].use
	}
	for i := range s.a {
		s.a[i] = uint64(i)
	}
	shift := rowBits + use
	for w := range parts {
		p := parts[w]
		if p.use == 0 {
			continue
		}
		shift -= p.use
		down, mask := p.low+p.size-p.use, uint64(1)<<p.use-1
		if words, step, left := k.words(w); words != nil {
			for i := range s.a {
				s.a[i] |= binary.BigEndian.Uint64(words[i*step:]) << left >> down & mask << shift
			}
			continue
		}
		for i := range s.a {
			s.a[i] |= k.word(i, w) >> down & mask << shift
		}
	}
	for shift := rowBits; shift < rowBits+use; shift += radixBits {
		radix(s.a, s.b, shift)
		s.a, s.b = s.b, s.a
	}
}

// ties counts the keys with the prefix of the one before.
func (s *Sorter) ties(rowBits int) int {
	n := 0
	for i := 1; i < len(s.a); i++ {
		if s.a[i]>>rowBits == s.a[i-1]>>rowBits {
			n++
		}
	}
	return n
}

// squeezeWords is how many leading words of a key take part in the prefix.
const squeezeWords = 4

// part is the run of bits of a word that holds all those in which any two keys differ.
type part struct {
	low, size int // its lowest bit, and how many there are
	use       int // of these, the upper ones that are taken
}

// squeeze finds the parts of all words and the number of their bits. Bits that are the same in all keys decide nothing, so prefixes of
// the bits between order as the keys do, up to ties.
func squeeze(k *Keys, n int) (parts [squeezeWords]part, total int) {
	words := squeezeWords
	if k.Width > 0 {
		words = min(words, (k.Width+7)/8)
	}
	for w := range words {
		and, or := ^uint64(0), uint64(0)
		if words, step, left := k.words(w); words != nil {
			for i := range n {
				v := binary.BigEndian.Uint64(words[i*step:]) << left
				and &= v
				or |= v
			}
		} else {
			for i := range n {
				v := k.word(i, w)
				and &= v
				or |= v
			}
		}
		if differ := and ^ or; differ != 0 {
			low := bits.TrailingZeros64(differ)
			parts[w] = part{low: low, size: bits.Len64(differ) - low}
			total += parts[w].size
		}
	}
	return parts, total
}

// words is where word w of all keys is, for loops without branches: that of key i is the big-endian number at words[i*step], shifted left. It is
// nil where word must be asked.
func (k *Keys) words(w int) (words []byte, step int, left uint) {
	if k.Width < 8 || len(k.Data) == 0 {
		return nil, 0, 0
	}
	at := min(8*w, k.Width-8) // a last word that is not whole is read with bytes before it
	return k.Data[at:], k.Width, 8 * uint(8*w-at)
}

// word is bytes [8w, 8w+8) of key i as a big-endian number, zeros behind the end.
func (k *Keys) word(i, w int) uint64 {
	key := k.At(i)
	if 8*w+8 <= len(key) {
		return binary.BigEndian.Uint64(key[8*w:])
	}
	var b [8]byte
	if 8*w < len(key) {
		copy(b[:], key[8*w:])
	}
	return binary.BigEndian.Uint64(b[:])
}

func radix(a, b []uint64, shift int) {
	var count [1 << radixBits]uint32
	for _, v := range a {
		count[v>>shift&(1<<radixBits-1)]++
	}
	sum := uint32(0)
	for i := range count {
		count[i], sum = sum, sum+count[i]
	}
	for _, v := range a {
		d := v >> shift & (1<<radixBits - 1)
		b[count[d]] = v
		count[d]++
	}
}
