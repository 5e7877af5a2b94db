package rowset

import (
	"encoding/binary"
	"math/bits"
)

// packed is a list of unsigned integers of the same number of bits, 0 to 64, one behind the other from the lowest bit on. Any of
// them can be read without the others: 16 bytes behind the last must be readable.
type packed struct {
	data  []byte
	width uint
}

const packedSlack = 16

// packedBytes is the length of n integers of width bits.
func packedBytes(n int, width uint) int { return (n*int(width) + 7) / 8 }

// appendPacked appends values; those behind width bits must be zero.
func appendPacked(dst []byte, values []uint64, width uint) []byte {
	if width == 0 {
		return dst
	}
	var acc uint64
	var held uint
	for _, v := range values {
		acc |= v << held
		if held += width; held >= 64 {
			dst = binary.LittleEndian.AppendUint64(dst, acc)
			held -= 64
			acc = v >> (width - held) // width-held bits of v went out; a shift by 64 gives 0
		}
	}
	for ; held > 0; held -= min(8, held) {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}

// at is value i.
func (p packed) at(i int) uint64 {
	if p.width == 0 {
		return 0
	}
	b := uint(i) * p.width
	at, shift := b>>3, b&7
	v := binary.LittleEndian.Uint64(p.data[at:]) >> shift
	if shift+p.width > 64 {
		v |= uint64(p.data[at+8]) << (64 - shift)
	}
	return v & (^uint64(0) >> (64 - p.width))
}

// widthOf is the number of bits that v takes.
func widthOf(v uint64) uint { return uint(bits.Len64(v)) }
