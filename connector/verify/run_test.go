package verify

import (
	"math"
	"testing"

	"nyala/connector/catalog"
	"nyala/store/batch"
	"nyala/store/schema"
)

// TestPlaces has values of a range column in ranges that are there, that will be made, that were refused, and that were dropped.
func TestPlaces(t *testing.T) {
	s := &schema.Schema{Version: 1, Columns: []schema.Column{{ID: 1, Name: "day", Type: schema.Type{Kind: schema.Int64}}}, Key: []int{0}, Buckets: 1,
		Range: &schema.Range{Column: 0, Every: 10}}
	table := &catalog.Table{TableSpec: catalog.TableSpec{Name: "events", Schema: s}, Floor: 100, Refused: []int64{130, 150},
		Partitions: []catalog.Partition{{Low: 100, High: 110, Tablets: []catalog.TabletID{5}}, {Low: 120, High: 130, Tablets: []catalog.TabletID{6}}}}
	r := &Run{o: Options{Table: table}}
	for _, c := range []struct {
		value int64
		want  placement
		low   int64
	}{
		{100, hasPlace, 100}, {109, hasPlace, 100}, {110, noPlace, 0}, {120, hasPlace, 120}, {129, hasPlace, 120}, {105, hasPlace, 100},
		{130, refusedPlace, 0}, {159, refusedPlace, 0}, {160, noPlace, 0}, {99, droppedPlace, 0}, {-5, droppedPlace, 0},
		{math.MaxInt64, refusedPlace, 0}, {math.MinInt64, refusedPlace, 0},
	} {
		rows := batch.NewBuilder(s.Columns, 1)
		rows.Columns[0].AppendInt(c.value)
		b := rows.View()
		p, got := r.placeOf(&b, 0)
		if got != c.want || c.want == hasPlace && p.Low != c.low {
			t.Errorf("value %d: got %d in %+v, want %d in %d", c.value, got, p, c.want, c.low)
		}
	}
}
