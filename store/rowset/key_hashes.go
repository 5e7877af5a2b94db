package rowset

import (
	"bytes"
	"fmt"

	"nyala/store/batch"
	"nyala/store/schema"
)

// AppendBlockHashes appends the hashes of the keys of one block, as AppendHashes makes them. Blocks are 0 to KeyBlocks()-1.
func (r *RowSet) AppendBlockHashes(dst []uint64, block int) ([]uint64, error) {
	k := r.keys.Load()
	blocks := newBlockReader()
	defer blocks.free()
	b, err := blocks.at(k, block)
	if err == nil {
		err = b.each(func(_ int, key []byte) error {
			dst = append(dst, schema.HashBytes(key))
			return nil
		})
	}
	if err != nil {
		return dst, fmt.Errorf("rowset: %s: block %d: %w", k.name, block, err)
	}
	return dst, nil
}

// KeyBlocks is how many blocks the keys are in.
func (r *RowSet) KeyBlocks() int { return r.keys.Load().count }

// LookupSome is LookupAll for the keys at the given positions, of which it is likely that they are here; they are the faster found the
// more of them ascend.
func (r *RowSet) LookupSome(keys *batch.Keys, hashes []uint64, at []uint32, hits []Hit) ([]Hit, error) {
	return r.keys.Load().lookupSome(keys, hashes, at, hits)
}

func (k *keysFile) lookupSome(keys *batch.Keys, hashes []uint64, at []uint32, hits []Hit) ([]Hit, error) {
	near := 0
	blocks := newBlockReader()
	defer blocks.free()
	for _, i := range at {
		if !k.mayContain(hashes[i]) {
			continue
		}
		if near > 0 && bytes.Compare(k.first(near), keys.At(int(i))) >= 0 {
			near = 0 // the keys do not ascend
		}
		var err error
		if hits, near, err = k.appendHit(hits, keys, i, near, blocks); err != nil {
			return hits, err
		}
	}
	return hits, nil
}
