package batch

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSortPrefixes sorts keys whose differences lie in few and many bits, near and far apart, so that the first bits tell all of
// them apart, some, or nearly none.
func TestSortPrefixes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	random := func(n int) func(int) []byte {
		return func(int) []byte {
			b := make([]byte, n)
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return b
		}
	}
	cases := map[string]func(i int) []byte{
		"random of 20 bytes": random(20), "random of 8": random(8), "random of 3": random(3), "random of 40": random(40), "random of 1": random(1),
		"equal": func(int) []byte { return make([]byte, 20) },
		"one far from all": func(i int) []byte {
			b := binary.BigEndian.AppendUint64(nil, rng.Uint64N(5000))
			b[0] = byte(i / 2999 << 7)
			return b
		},
		"differ in the last word": func(int) []byte { return append(make([]byte, 30), byte(rng.IntN(4)), byte(rng.IntN(256))) },
		"differ behind all words": func(int) []byte { return append(make([]byte, 33), byte(rng.IntN(256))) },
		"tenant, time, id": func(i int) []byte {
			b := binary.BigEndian.AppendUint32(nil, uint32(rng.IntN(64)))
			b = binary.BigEndian.AppendUint64(b, uint64(1_795_000_000_000_000+i*20-rng.IntN(200_000)))
			return binary.BigEndian.AppendUint64(b, uint64(i))
		},
	}
	var s Sorter
	for name, key := range cases {
		for _, n := range []int{0, 1, 2, 7, 3000} {
			for _, varying := range []bool{false, true} {
				k := &Keys{Width: len(key(0))}
				if varying {
					*k = Keys{Offsets: []uint32{0}}
				}
				for i := range n {
					b := key(i)
					if varying {
						b = b[:len(b)-rng.IntN(min(len(b), 3))]
						k.Offsets = append(k.Offsets, uint32(len(k.Data)+len(b)))
					}
					k.Data = append(k.Data, b...)
				}
				want := make([]uint32, n)
				for i := range want {
					want[i] = uint32(i)
				}
				slices.SortStableFunc(want, func(a, b uint32) int { return bytes.Compare(k.At(int(a)), k.At(int(b))) })
				if got := s.Sort(k, nil); !slices.Equal(got, want) {
					t.Errorf("%s, %d keys, varying lengths %v: wrong order", name, n, varying)
				}
			}
		}
	}
}

// BenchmarkSort sorts keys of tenant, time and id: as many as an entry has, and as many as a flush has.
func BenchmarkSort(b *testing.B) {
	for _, n := range []int{3000, 400_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 2))
			k := &Keys{Width: 20}
			for i := range n {
				k.Data = binary.BigEndian.AppendUint32(k.Data, uint32(rng.IntN(64)))
				k.Data = binary.BigEndian.AppendUint64(k.Data, uint64(1_795_000_000_000_000+i*20-rng.IntN(200_000)))
				k.Data = binary.BigEndian.AppendUint64(k.Data, uint64(i))
			}
			var s Sorter
			var order []uint32
			for b.Loop() {
				order = s.Sort(k, order)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/row")
		})
	}
}
