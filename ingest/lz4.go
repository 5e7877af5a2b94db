package ingest

import (
	"encoding/binary"

	"github.com/pierrec/lz4/v4"
)

// An LZ4 frame as Kafka's producers write it (github.com/lz4/lz4, doc/lz4_Frame_format.md): magic, flags, size of blocks, an optional
// size of the content, a checksum of these, blocks, an end mark, an optional checksum of the content.
const (
	lz4Magic         = 0x184D2204
	lz4HeaderMin     = 7
	lz4VersionMask   = 0xC2 // the version and a reserved bit
	lz4Version       = 0x40
	lz4Independent   = 0x20 // no block refers to the ones before it
	lz4BlockSums     = 0x10
	lz4ContentSize   = 0x08
	lz4ContentSum    = 0x04
	lz4Dictionary    = 0x01
	lz4Plain         = 1 << 31 // a block's data are not compressed
	lz4Window        = 64 << 10
	lz4SmallestBlock = 4 // BD: 4 is 64 KiB, each further one four times that
	lz4LargestBlock  = 7
	lz4RoomMax       = 1 << (poolClasses - 1)
)

// lz4Frame is what the header says of the blocks behind it.
type lz4Frame struct {
	blocks    []byte
	blockMax  int
	linked    bool
	blockSum  int // bytes behind each block
	endSum    int // bytes behind the end mark
	sizeKnown int // of the content; -1 if the header does not say
}

// parseLZ4 reads the header of a frame. It refuses what no producer of Kafka writes.
func parseLZ4(src []byte) (f lz4Frame, ok bool) {
	if len(src) < lz4HeaderMin || binary.LittleEndian.Uint32(src) != lz4Magic {
		return f, false
	}
	flags, size := src[4], src[5]>>4
	if flags&lz4VersionMask != lz4Version || flags&lz4Dictionary != 0 || size < lz4SmallestBlock || size > lz4LargestBlock {
		return f, false
	}
	f = lz4Frame{blockMax: lz4Window << (2 * (size - lz4SmallestBlock)), linked: flags&lz4Independent == 0, sizeKnown: -1}
	header := lz4HeaderMin
	if flags&lz4ContentSize != 0 {
		if header += 8; len(src) < header {
			return f, false
		}
		n := binary.LittleEndian.Uint64(src[6:])
		if n > lz4RoomMax {
			return f, false
		}
		f.sizeKnown = int(n)
	}
	if flags&lz4BlockSums != 0 {
		f.blockSum = 4
	}
	if flags&lz4ContentSum != 0 {
		f.endSum = 4
	}
	f.blocks = src[header:]
	return f, true
}

// inflateLZ4 decodes a batch that is one whole frame, straight into a buffer of the pool: the library's reader copies every byte once
// more, through a buffer of its own, and computes a checksum of the content, which together was 6 % of what an event costs. The batch's CRC-32C
// is of the compressed bytes, the client has verified it, and Kafka's own client does not look at the frame's checksums either.
//
// Of whatever is not such a frame, or becomes more than the pool keeps, it says false: the library decides then.
func (p *recordPool) inflateLZ4(src []byte) ([]byte, bool) {
	f, ok := parseLZ4(src)
	if !ok {
		return nil, false
	}
	dst := p.buffer(max(decompressRoom(len(src)), f.sizeKnown))
	n := 0
	for rest := f.blocks; ; {
		block, plain, next, ok := f.next(rest)
		switch {
		case !ok || block == nil && f.sizeKnown >= 0 && n != f.sizeKnown:
			p.PutDecompressBytes(dst)
			return nil, false
		case block == nil:
			return dst[:n], true
		}
		for {
			wrote, fits := f.decode(dst, n, block, plain)
			if fits {
				n += wrote
				break
			}
			if cap(dst)-n >= f.blockMax || cap(dst) >= lz4RoomMax { // there was room for any good block, or this is a large one
				p.PutDecompressBytes(dst)
				return nil, false
			}
			larger := p.buffer(min(2*cap(dst), lz4RoomMax))
			copy(larger[:n], dst[:n])
			p.PutDecompressBytes(dst)
			dst = larger
		}
		rest = next
	}
}

// next takes a block off the frame; the block is nil at the frame's end. Not ok is one that is cut off or has something behind its
// end.
func (f *lz4Frame) next(src []byte) (block []byte, plain bool, rest []byte, ok bool) {
	if len(src) < 4 {
		return nil, false, nil, false
	}
	size := binary.LittleEndian.Uint32(src)
	src = src[4:]
	if size == 0 {
		return nil, false, nil, len(src) == f.endSum
	}
	n := int(size &^ lz4Plain)
	if n == 0 || n > f.blockMax || n+f.blockSum > len(src) {
		return nil, false, nil, false
	}
	return src[:n], size&lz4Plain != 0, src[n+f.blockSum:], true
}

// decode writes a block's content at dst[n:cap(dst)]. It does not fit if there is too little room, or if the block is broken: the two
// look the same.
func (f *lz4Frame) decode(dst []byte, n int, block []byte, plain bool) (wrote int, fits bool) {
	room := dst[n:min(cap(dst), n+f.blockMax)]
	switch {
	case plain:
		return copy(room, block), len(room) >= len(block)
	case f.linked:
		wrote, err := lz4.UncompressBlockWithDict(block, room, dst[max(0, n-lz4Window):n])
		return wrote, err == nil
	default:
		wrote, err := lz4.UncompressBlock(block, room)
		return wrote, err == nil
	}
}
