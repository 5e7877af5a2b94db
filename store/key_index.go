package store

import (
	"bytes"
	"math/bits"

	"nyala/store/batch"
)

// keyIndex maps a primary key to the newest row of a MemRowSet that has it: an open-addressing table
// of 8-byte slots, the upper half of the key's hash before the row's number plus one. It holds no keys;
// those lie in the MemRowSet by row number.
//
// A key's place is the top bits of its hash, which are in the slot, so growing reads the old table from front to
// back, writes the new one from front to back, and never touches a key; that is why the place is not the
// hash's low bits. Trees of any kind cost 4 to 40 times as much for keys that do not come in order.
type keyIndex struct {
	slots []uint64
	spare *spare // where slots come from and go to; nil: the heap
	shift uint   // place = hash >> shift
	used  int
}

const indexSlotsMin = 1 << 10

// newKeyIndex makes an index with room for rows keys.
func newKeyIndex(rows int, s *spare) keyIndex {
	n := max(indexSlotsMin, 1<<bits.Len(uint(rows+rows/3)))
	x := keyIndex{shift: uint(64 - bits.Len(uint(n-1))), spare: s}
	x.slots = x.empty(n)
	return x
}

// empty returns n slots that hold nothing.
func (x *keyIndex) empty(n int) []uint64 {
	slots, fresh := x.spare.take(n)
	if fresh {
		writePages(slots)
	} else {
		clear(slots)
	}
	return slots
}

// release gives the memory away; the index must not be used any more.
func (x *keyIndex) release() {
	x.spare.give(x.slots)
	x.slots = nil
}

// reserve makes room for n more keys.
func (x *keyIndex) reserve(n int) {
	size := len(x.slots)
	for (x.used+n)*4 > size*3 {
		size *= 2
	}
	if size > len(x.slots) {
		x.grow(size)
	}
}

// grow makes it size slots, 2^n times as many as it has.
func (x *keyIndex) grow(size int) {
	old := x.slots
	x.slots = x.empty(size)
	x.shift = uint(64 - bits.Len(uint(size-1)))
	mask := uint64(len(x.slots) - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		at := s >> x.shift
		for x.slots[at] != 0 {
			at = (at + 1) & mask
		}
		x.slots[at] = s
	}
	x.spare.give(old)
}

// touch reads the slots that hashes lead to. Done for a whole batch first, the cache misses of its
// keys overlap instead of following each other. The sum keeps the loads alive.
func (x *keyIndex) touch(hashes []uint64) (sum uint64) {
	for _, h := range hashes {
		sum += x.slots[h>>x.shift]
	}
	return sum
}

// touchSome is touch without those that skip leaves out.
func (x *keyIndex) touchSome(hashes []uint64, skip []bool) (sum uint64) {
	for i, h := range hashes {
		if !skip[i] {
			sum += x.slots[h>>x.shift]
		}
	}
	return sum
}

const fingerprint = 0xffffffff00000000 // the part of a slot that is of the hash

// find returns the slot of key, whose hash is h, and the row there plus one; or the empty slot where it belongs, and 0.
func (x *keyIndex) find(keys *batch.Keys, h uint64, key []byte) (slot uint64, row1 uint32) {
	mask := uint64(len(x.slots) - 1)
	for at := h >> x.shift; ; at = (at + 1) & mask {
		s := x.slots[at]
		if s == 0 {
			return at, 0
		}
		if (s^h)&fingerprint == 0 && bytes.Equal(keys.At(int(uint32(s)-1)), key) {
			return at, uint32(s)
		}
	}
}

// put makes row the newest of its key, whose slot find returned.
func (x *keyIndex) put(slot, h uint64, row uint32) {
	if x.slots[slot] == 0 {
		x.used++
	}
	x.slots[slot] = h&fingerprint | uint64(row+1)
}
