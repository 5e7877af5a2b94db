package rowset

import (
	"encoding/binary"
	"math/bits"
)

// appendIDRuns encodes dictionary ids as RLE_DICTIONARY: the number of bits, then runs of 8 and more equal ids as such, by eights,
// and all others bit-packed by eights, the last eight filled with zeros.
//
// parquet-go's own encoder is not used: with AVX2 it takes two halves of four equal ids for eight equal ones and ends the packed
// run there (v0.32.0, encodeInt32IndexEqual8ContiguousAVX2). Its answer is valid, but another one than without AVX2, and
// replicas on different processors must write the same bytes.
func appendIDRuns(dst []byte, ids []int32) []byte {
	var all uint32
	for _, id := range ids {
		all |= uint32(id)
	}
	width := uint(bits.Len32(all))
	dst = append(dst, byte(width))
	if width == 0 {
		return binary.AppendUvarint(dst, uint64(len(ids))<<1)
	}
	eights := len(ids) / 8
	for i := 0; i < eights; {
		j := i
		for j < eights && eightEqual((*[8]int32)(ids[j*8:]), ids[i*8]) {
			j++
		}
		if j > i {
			dst = appendIDRun(dst, (j-i)*8, uint32(ids[i*8]), width)
			i = j
			continue
		}
		for j = i + 1; j < eights && !eightEqual((*[8]int32)(ids[j*8:]), ids[j*8]); j++ {
		}
		dst = binary.AppendUvarint(dst, uint64(j-i)<<1|1)
		for ; i < j; i++ {
			dst = appendEight(dst, (*[8]int32)(ids[i*8:]), width)
		}
	}
	if rest := ids[eights*8:]; len(rest) > 0 {
		var last [8]int32
		copy(last[:], rest)
		dst = append(dst, 1<<1|1)
		dst = appendEight(dst, &last, width)
	}
	return dst
}

func eightEqual(v *[8]int32, x int32) bool {
	return (v[0]^x)|(v[1]^x)|(v[2]^x)|(v[3]^x)|(v[4]^x)|(v[5]^x)|(v[6]^x)|(v[7]^x) == 0
}

func appendIDRun(dst []byte, n int, id uint32, width uint) []byte {
	dst = binary.AppendUvarint(dst, uint64(n)<<1)
	for ; width > 0; width -= min(8, width) {
		dst = append(dst, byte(id))
		id >>= 8
	}
	return dst
}

// appendEight packs 8 ids of up to 32 bits into as many bytes as an id has bits.
func appendEight(dst []byte, v *[8]int32, width uint) []byte {
	if width <= 8 {
		x := uint64(v[0]) | uint64(v[1])<<width | uint64(v[2])<<(2*width) | uint64(v[3])<<(3*width) |
			uint64(v[4])<<(4*width) | uint64(v[5])<<(5*width) | uint64(v[6])<<(6*width) | uint64(v[7])<<(7*width)
		return binary.LittleEndian.AppendUint64(dst, x)[:len(dst)+int(width)]
	}
	var acc uint64
	var held uint
	for _, x := range v { // at most 31+32 bits are held
		acc |= uint64(x) << held
		if held += width; held >= 32 {
			dst = binary.LittleEndian.AppendUint32(dst, uint32(acc))
			acc >>= 32
			held -= 32
		}
	}
	for ; held > 0; held -= 8 {
		dst = append(dst, byte(acc))
		acc >>= 8
	}
	return dst
}
