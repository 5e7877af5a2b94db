package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lz4Library is what the library's reader makes of a frame. Of its checksums it says nothing: the fast path leaves them to the
// batch's CRC.
func lz4Library(src []byte) ([]byte, error) {
	out, err := io.ReadAll(lz4.NewReader(bytes.NewReader(src)))
	if errors.Is(err, lz4.ErrInvalidFrameChecksum) || errors.Is(err, lz4.ErrInvalidBlockChecksum) || errors.Is(err, lz4.ErrInvalidHeaderChecksum) {
		return nil, errChecksum
	}
	return out, err
}

var errChecksum = errors.New("checksum")

// lz4Differs compares the fast path with the library.
func lz4Differs(src []byte) error {
	got, ok := newRecordPool(1 << 26).inflateLZ4(src)
	if !ok {
		return nil // the library decides
	}
	want, err := lz4Library(src)
	if errors.Is(err, errChecksum) {
		return nil
	}
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("frame of %d bytes: %d bytes, the library has %d, %v", len(src), len(got), len(want), err)
	}
	return nil
}

func lz4Frames(t testing.TB, content []byte) map[string][]byte {
	frames := map[string][]byte{}
	for _, size := range []lz4.BlockSize{lz4.Block64Kb, lz4.Block256Kb, lz4.Block4Mb} {
		for _, sums := range []bool{false, true} {
			for _, known := range []uint64{0, uint64(len(content))} {
				var b bytes.Buffer
				w := lz4.NewWriter(&b)
				if err := w.Apply(lz4.BlockSizeOption(size), lz4.BlockChecksumOption(sums), lz4.ChecksumOption(sums), lz4.SizeOption(known)); err != nil {
					t.Fatal(err)
				}
				if _, err := w.Write(content); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				frames[fmt.Sprintf("%s, sums %v, size %d", size, sums, known)] = b.Bytes()
			}
		}
	}
	return frames
}

// TestInflateLZ4 reads frames of every kind: what compresses well, little, not at all, nothing, and more than the first buffer holds.
func TestInflateLZ4(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300_000)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	contents := map[string][]byte{
		"one byte": {7}, "zeros": make([]byte, 3<<20), "noise": noise, "events": bytes.Repeat([]byte(`{"id":17,"url":"https://example.org/a/b","n":1.5}`), 10_000),
		"both": slices.Concat(noise, make([]byte, 200_000), noise[:70_000]),
	}
	for name, content := range contents {
		for kind, frame := range lz4Frames(t, content) {
			p := newRecordPool(1 << 26)
			for range 2 { // the second time in a buffer that was used
				got, ok := p.inflateLZ4(frame)
				if !ok || !bytes.Equal(got, content) {
					t.Errorf("%s, %s: %v, %d bytes, want %d", name, kind, ok, len(got), len(content))
				}
				clear(got[:cap(got)])
				p.PutDecompressBytes(got)
			}
		}
	}
	if _, ok := newRecordPool(1 << 26).inflateLZ4(lz4Frames(t, make([]byte, lz4RoomMax+1))["4Mb, sums true, size 0"]); ok {
		t.Error("a batch larger than what the pool keeps was not left to the library")
	}
}

// TestInflateLZ4Linked reads blocks that refer to the ones before them, which the library reads and never writes.
func TestInflateLZ4Linked(t *testing.T) {
	frame := binary.LittleEndian.AppendUint32(nil, lz4Magic)
	frame = append(frame, lz4Version, lz4SmallestBlock<<4, 0)
	block := func(b ...byte) { frame = append(binary.LittleEndian.AppendUint32(frame, uint32(len(b))), b...) }
	block(0x40, 'k', 'a', 'f', 'k')                       // four literals
	block(0x10, 'a', 4, 0, 0x50, '1', '2', '3', '4', '5') // one, then four from four back: "afk" and the one
	block(0x04, 13, 0, 0x50, 'a', 'b', 'c', 'd', 'e')     // eight from 13 back, the first block's beginning
	frame = append(frame, 0, 0, 0, 0)
	want := "kafk" + "aafka" + "12345" + "afkaafka" + "abcde"
	got, ok := newRecordPool(1 << 20).inflateLZ4(frame)
	if !ok || string(got) != want {
		t.Errorf("%v, %q, want %q", ok, got, want)
	}
	if err := lz4Differs(frame); err != nil {
		t.Error(err)
	}
}

// TestInflateLZ4Damaged flips, cuts and lengthens frames: each is what the library makes of it, or left to the library.
func TestInflateLZ4Damaged(t *testing.T) {
	content := bytes.Repeat([]byte(`{"id":17,"url":"https://example.org"}`), 30)
	for kind, frame := range lz4Frames(t, content) {
		for i := range frame {
			if got, ok := newRecordPool(1 << 20).inflateLZ4(frame[:i]); ok {
				t.Errorf("%s: cut at %d: %d bytes", kind, i, len(got))
			}
			for bit := range 8 {
				if testing.Short() && (i+bit)%8 != 0 {
					continue
				}
				damaged := slices.Clone(frame)
				damaged[i] ^= 1 << bit
				if err := lz4Differs(damaged); err != nil {
					t.Errorf("%s: bit %d of byte %d: %v", kind, bit, i, err)
				}
			}
		}
		if _, ok := newRecordPool(1 << 20).inflateLZ4(append(slices.Clone(frame), frame...)); ok {
			t.Errorf("%s: two frames were read as one", kind)
		}
	}
}

func FuzzInflateLZ4(f *testing.F) {
	for _, frame := range lz4Frames(f, bytes.Repeat([]byte(`{"id":17}`), 30)) {
		f.Add(frame)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		if err := lz4Differs(src); err != nil {
			t.Error(err)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	var content []byte
	for len(content) < 1<<20 { // compresses to a half, as events do
		content = fmt.Appendf(content, `{"id":%d,"session":"%016x%016x","url":"https://example.org/%x","country":"no","duration":%.3f}`, rng.Uint32(), rng.Uint64(), rng.Uint64(), rng.IntN(1000), rng.Float64())
	}
	c, err := kgo.DefaultCompressor(kgo.Lz4Compression())
	if err != nil {
		b.Fatal(err)
	}
	frame, _ := c.Compress(new(bytes.Buffer), content)
	inflate, err := newInflater(newRecordPool(1<<26), 1<<62)
	if err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func() ([]byte, error){
		"path=fast":    func() ([]byte, error) { return inflate.Decompress(frame, kgo.CodecLz4) },
		"path=library": func() ([]byte, error) { return inflate.Decompressor.Decompress(frame, kgo.CodecLz4) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				out, err := read()
				if err != nil || len(out) != len(content) {
					b.Fatal(len(out), err)
				}
				inflate.pool.PutDecompressBytes(out)
			}
			b.ReportMetric(float64(len(content))/float64(len(frame)), "ratio")
		})
	}
}
