package rowset

import (
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go/encoding/rle"
	"pgregory.net/rapid"
)

func TestIDRuns(t *testing.T) {
	var codes rle.DictionaryEncoding
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.SampledFrom([]int32{0, 1, 2, 200, 300, 70_000, 1 << 30}).Draw(t, "most")
		var ids []int32
		for range rapid.IntRange(1, 12).Draw(t, "runs") {
			id, n := rapid.Int32Range(0, most).Draw(t, "id"), rapid.IntRange(1, 40).Draw(t, "length")
			if rapid.Bool().Draw(t, "equal") {
				ids = append(ids, slices.Repeat([]int32{id}, n)...)
			} else {
				ids = append(ids, rapid.SliceOfN(rapid.Int32Range(0, most), n, n).Draw(t, "ids")...)
			}
		}
		got, err := codes.DecodeInt32(nil, appendIDRuns(nil, ids))
		if err != nil || len(got) < len(ids) || !slices.Equal(got[:len(ids)], ids) {
			t.Fatalf("got %v, want %v (%v)", got, ids, err)
		}
	})
}
