package ingest

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/offsets"
	"nyala/store/schema"
)

func TestDecisionAt(t *testing.T) {
	s, other := offsets.Source{Connector: "app", Partition: 1}, offsets.Source{Connector: "app", Partition: 2}
	d := &Decisions{Version: 4, Each: []Decision{{}, {From: map[offsets.Source]int64{s: 10}}, {From: map[offsets.Source]int64{s: 10}}, {From: map[offsets.Source]int64{s: 15}}}}
	forgotten := &Decisions{Version: 4, Each: d.Each[3:]}
	for _, c := range []struct {
		d      *Decisions
		source offsets.Source
		offset int64
		at     int
		until  int64
	}{
		{d, s, 0, 0, 10}, {d, s, 9, 0, 10}, {d, s, 10, 2, 15}, {d, s, 14, 2, 15}, {d, s, 15, 3, math.MaxInt64}, {d, other, 0, 3, math.MaxInt64},
		{forgotten, s, 14, -1, 15}, {forgotten, s, 15, 0, math.MaxInt64}, {forgotten, other, 0, 0, math.MaxInt64},
	} {
		if at, until := c.d.at(c.source, c.offset); at != c.at || until != c.until {
			t.Errorf("%s at %d: got %d until %d, want %d until %d", c.source, c.offset, at, until, c.at, c.until)
		}
	}
}

// present is what Options.Decisions answers in a test.
type present struct {
	mu       sync.Mutex
	d        *Decisions
	changing bool
}

func (p *present) get() (*Decisions, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changing {
		return nil, ErrChanging
	}
	return p.d, nil
}

func (p *present) set(d *Decisions, changing bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.d, p.changing = d, changing
}

// fence makes every tablet refuse what a connector decided under older versions.
func (w *world) fence(f offsets.Fence) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.mu.tablets {
		t.ledger.Fence(f)
	}
}

// oddRecords have a field that no column takes.
func oddRecords(from, n int) (records []*kgo.Record) {
	for i := range n {
		id := strconv.Itoa(from + i)
		records = append(records, &kgo.Record{Topic: "app", Value: []byte(`{"tenant":0,"id":` + id + `,"text":"t` + id + `","more":1}`)})
	}
	return records
}

// TestSettingsChange: while the settings change, owners wait, and what is on its way is refused; then each record is decided by the
// settings at its offset, though a run of records has some of both.
func TestSettingsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, map[string]int32{"app": 1})
		settings := Settings{Add: map[string]string{"part": "partition", "off": "offset"}}
		strict := settings
		strict.RefuseUnknownFields = true
		p := &present{}
		p.set(&Decisions{Version: 1, Each: []Decision{{Settings: settings}}}, false)
		n := w.connector(func(o *Options) { o.Decisions = p.get })
		w.produceRecords(oddRecords(0, 100)...)
		w.awaitRows(100)
		source := offsets.Source{Connector: "app", Topic: w.cluster.TopicInfo("app").TopicID}

		w.fence(offsets.Fence{Connector: "app", Decision: 2})
		w.produceRecords(oddRecords(100, 20)...) // decided by a node that does not know yet
		time.Sleep(10 * time.Second)
		if rows := len(w.rows("events")); rows != 100 {
			t.Errorf("%d rows behind the fence, want 100", rows)
		}
		p.set(nil, true)
		w.produceRecords(oddRecords(120, 80)...)
		time.Sleep(10 * time.Second)
		if rows, letters := len(w.rows("events")), len(w.rows(schema.DeadLettersTable)); rows != 100 || letters != 0 {
			t.Errorf("%d rows and %d dead letters during the change, want 100 and 0", rows, letters)
		}
		p.set(&Decisions{Version: 2, Each: []Decision{{Settings: settings}, {Settings: strict, From: map[offsets.Source]int64{source: 150}}}}, false)
		w.checkpointed(map[int32]int64{0: 200})
		want := ids(200)
		for i := 150; i < 200; i++ {
			want[i] = -1
		}
		w.exactlyOnce(map[int32][]int{0: want})
		if letters := len(w.rows(schema.DeadLettersTable)); letters != 50 {
			t.Errorf("%d dead letters, want 50", letters)
		}
		if r := fmt.Sprint(n.Status().Reason); r != "" {
			t.Errorf("reason %q is left", r)
		}
	})
}
