package verify

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"nyala/store/batch"
	"nyala/store/vfs"
)

func TestDigestBytes(t *testing.T) {
	for _, d := range []digest{
		{},
		{key: [2]uint64{1, 2}, row: 3, offset: -1, kind: letterKind, op: batch.Delete, open: true, source: 1<<32 - 1},
		{key: [2]uint64{^uint64(0), 1 << 63}, row: ^uint64(0), offset: 1 << 62, kind: rowKind, source: 7},
	} {
		b := d.appendTo(nil)
		if got := parseDigest(b); got != d || len(b) != digestBytes {
			t.Errorf("got %+v of %d bytes, want %+v", got, len(b), d)
		}
	}
}

// draw makes digests of some keys, in an order in which they are read: by source, by offset.
func draw(rng *rand.Rand, keys, digests int) []digest {
	var out []digest
	for i := range digests {
		key := rng.Uint64N(uint64(keys)) * 0x9e3779b97f4a7c15
		out = append(out, digest{key: [2]uint64{key, key}, row: rng.Uint64(), offset: int64(i), source: uint32(i * 3 / digests), open: i%50 == 49})
	}
	return out
}

// TestBucketsGiveBackWhatTheyTook spills nearly everything, and a key that comes in every second digest must not fill the memory.
func TestBucketsGiveBackWhatTheyTook(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, folds := range []bool{false, true} {
		mem := vfs.NewMem()
		b := newBuckets(&Options{FS: mem, Dir: "verify", MemoryBytes: 1 << 20}, 400_000, folds)
		all := draw(rng, 20_000, 300_000)
		for i := range all {
			if i%2 == 0 {
				all[i].key = [2]uint64{5, 5}
			}
			if err := b.add(&all[i]); err != nil {
				t.Fatal(err)
			}
		}
		if len(b.all) < 4 || b.spills < 200_000*digestBytes {
			t.Errorf("%d buckets, %d bytes spilled, want several and most", len(b.all), b.spills)
		}
		var got, list []digest
		var err error
		for i := range b.all {
			if list, err = b.load(i, list); err != nil {
				t.Fatal(err)
			}
			if folds {
				if cap(list) > 250_000 {
					t.Errorf("bucket %d took room for %d digests", i, cap(list))
				}
				list = fold(list)
			}
			got = append(got, list...)
		}
		want := slices.Clone(all)
		if sortDigests(want); folds {
			want = fold(want)
		}
		if sortDigests(got); !slices.Equal(got, want) {
			t.Errorf("folds %v: got %d digests, want %d", folds, len(got), len(want))
		}
		if names, err := mem.List("verify"); err != nil || len(names) > 0 {
			t.Errorf("files left: %v, %v", names, err)
		}
	}
}

// TestBucketsOnADiskThatFails names the file, and leaves nothing behind.
func TestBucketsOnADiskThatFails(t *testing.T) {
	mem := vfs.NewMem()
	faulty := vfs.NewFaulty(mem)
	b := newBuckets(&Options{FS: faulty, Dir: "verify", MemoryBytes: 1 << 20}, 400_000, true)
	broken := errors.New("no space left on device")
	faulty.Add(vfs.Rule{Op: vfs.OpWrite, Err: broken, After: 3})
	var err error
	for _, d := range draw(rand.New(rand.NewPCG(1, 1)), 100_000, 300_000) {
		if err = b.add(&d); err != nil {
			break
		}
	}
	if !errors.Is(err, broken) {
		t.Errorf("got %v, want %v", err, broken)
	}
	if err := b.close(); err != nil {
		t.Error(err)
	}
	if names, err := mem.List("verify"); err != nil || len(names) > 0 {
		t.Errorf("files left: %v, %v", names, err)
	}
}

func TestCleanRemovesLeftovers(t *testing.T) {
	mem := vfs.NewMem()
	if err := Clean(mem, "data/verify"); err != nil {
		t.Errorf("a directory that is not there: %v", err)
	}
	if err := mem.MkdirAll("data/verify"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"0000.digests", "0017.digests"} {
		if _, err := mem.Create("data/verify/" + name); err != nil {
			t.Fatal(err)
		}
	}
	if err := Clean(mem, "data/verify"); err != nil {
		t.Fatal(err)
	}
	if names, err := mem.List("data/verify"); err != nil || len(names) > 0 {
		t.Errorf("files left: %v, %v", names, err)
	}
}
