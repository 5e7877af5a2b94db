package rowset

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"

	"nyala/store/vfs"
)

// Hash identifies the content of a file among replicas. It is a tree of two levels: the 128-bit GMAC
// (AES-GCM without plaintext, a fixed key, the block's number as nonce) of each block of 1 MiB, and
// the SHA-256 of those and the length. It runs at five times the speed of SHA-256 alone and finds
// damage and difference; it is no proof against an adversary, who would know the key.
type Hash [sha256.Size]byte

func (h Hash) String() string { return hex.EncodeToString(h[:]) }

const hashBlock = 1 << 20

// Hasher computes a Hash of what is written to it.
type Hasher struct {
	gcm   cipher.AEAD
	block []byte // not yet hashed
	leafs []byte
	size  int64
}

// NewHasher makes an empty Hasher.
func NewHasher() *Hasher {
	c, err := aes.NewCipher([]byte("nyala file hash1"))
	must(err == nil, "rowset: aes: %v", err)
	gcm, err := cipher.NewGCM(c)
	must(err == nil, "rowset: gcm: %v", err)
	return &Hasher{gcm: gcm}
}

// Expect makes room for the bytes of a file of that size: what grows to a block by doubling is copied once more.
func (h *Hasher) Expect(size int64) *Hasher {
	h.block = slices.Grow(h.block, int(min(size, hashBlock)))
	return h
}

// HashOf is the Hash of a file with that content.
func HashOf(data []byte) Hash {
	h := NewHasher()
	for len(data) > 0 {
		n := min(len(data), hashBlock)
		h.leaf(data[:n])
		data = data[n:]
	}
	return h.Sum()
}

// Reset makes the Hasher empty again.
func (h *Hasher) Reset() { h.block, h.leafs, h.size = h.block[:0], h.leafs[:0], 0 }

// Write adds bytes; it never fails.
func (h *Hasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(h.block) == 0 && len(p) >= hashBlock {
			h.leaf(p[:hashBlock])
			p = p[hashBlock:]
			continue
		}
		k := min(hashBlock-len(h.block), len(p))
		h.block = append(h.block, p[:k]...)
		p = p[k:]
		if len(h.block) == hashBlock {
			h.leaf(h.block)
			h.block = h.block[:0]
		}
	}
	return n, nil
}

func (h *Hasher) leaf(block []byte) {
	var nonce [12]byte
	binary.BigEndian.PutUint64(nonce[4:], uint64(len(h.leafs)/16))
	h.leafs = h.gcm.Seal(h.leafs, nonce[:], nil, block)
	h.size += int64(len(block))
}

// Sum ends the hash: the Hasher must be Reset before it is used again.
func (h *Hasher) Sum() Hash {
	if len(h.block) > 0 {
		h.leaf(h.block)
		h.block = h.block[:0]
	}
	return sha256.Sum256(binary.LittleEndian.AppendUint64(h.leafs, uint64(h.size)))
}

// HashFile reads a whole file and returns its size and Hash.
func HashFile(f vfs.File) (size int64, sum Hash, err error) {
	h := NewHasher()
	buf := make([]byte, hashBlock)
	for {
		n, err := f.ReadAt(buf, size)
		h.Write(buf[:n])
		size += int64(n)
		switch {
		case errors.Is(err, io.EOF) || (err == nil && n == 0):
			return size, h.Sum(), nil
		case err != nil:
			return 0, Hash{}, fmt.Errorf("rowset: hash at %d: %w", size, err)
		}
	}
}
