package catalog

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"nyala/offsets"
	"nyala/store/vfs"
)

// commands is one of each kind.
func commands() []Command {
	m := Member{"n1", "00000001"}
	return []Command{
		InitCluster{"tracking", "c0ffee", []Member{m}}, register(1, 1), SetNodeState{"n1", "00000001", NodeDown},
		CreateTable{events("events", 4, 1)}, DropTable{"events"}, EnsureRange{"events", 7, true}, DropRanges{"events", 0},
		SetConnector{"app", "events", "f00d", Running}, ReplaceReplica{2, m, Member{"n1", "00000011"}},
		UpdateReplicas{2, 7, []Replica{{m, true, false}}},
		CreateCheckpoints{[]Checkpoint{{offsets.Source{Connector: "app", Partition: 3}, 9}}},
		RaiseCheckpoints{[]Checkpoint{{offsets.Source{}, 0}, {offsets.Source{Connector: "app"}, 1 << 40}}},
		AskFates{m, []TabletID{2, 3}},
		ChangeSettings{"app", 2, "beef"}, SettleSettings{"app", 2, []Position{{offsets.TopicID{7}, 3, 9}}}, ForgetSettings{"app", 2},
		ChangeTable{"events", wider(events("events", 4, 1).Schema, "extra"), []ChangeSettings{{"app", 2, "beef"}}},
		SettleTable{"events", 2, []SettleSettings{{"app", 2, []Position{{offsets.TopicID{7}, 3, 9}}}}},
	}
}

// FuzzCommand: any body under a right checksum is parsed or refused; what is parsed has one encoding that
// is parsed to the same, and can be applied and printed. The state stays whole, and its file readable.
func FuzzCommand(f *testing.F) {
	for _, c := range commands() {
		b, err := Encode(5, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(c.Kind()), b[commandHeader:])
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		b := append([]byte{'N', 'C', commandVersion, kind, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, body...)
		if _, _, err := Parse(b); err == nil && commandSum(b) != 0 {
			t.Fatal("a wrong checksum was accepted")
		}
		le.PutUint32(b[12:], commandSum(b))
		now, c, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
		} else if again, err := Encode(now, c); err != nil {
			t.Fatal(err)
		} else if _, c2, err := Parse(again); err != nil {
			t.Fatal(err)
		} else if third, err := Encode(now, c2); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("another encoding: %q, %q, %v", again, third, err)
		}
		r := newReplica(t, vfs.NewMem())
		r.initialise(3)
		r.want(Done, CreateTable{events("events", 1, 1)})
		r.want(Done, EnsureRange{Table: "events", Value: 7})
		r.want(Done, SetConnector{Name: "app", Table: "events", Desired: Paused})
		for i := range 2 {
			data := r.Apply([]Entry{{Index: uint64(len(r.log) + 1 + i), Term: 9, Data: b}})[0]
			if result, err := ParseResult(data); err != nil || int(result.Code) >= len(codeNames) {
				t.Fatalf("result %+v, %v", result, err)
			}
		}
		if faults := r.Snapshot().Check(); len(faults) > 0 {
			t.Fatal(faults)
		}
		if err := r.Save(t.Context()); err != nil {
			t.Fatal(err)
		}
		if faults := Check(r.options.FS, "node/system"); len(faults) > 0 {
			t.Fatal(faults)
		}
		if err := Dump(r.options.FS, "node/system", io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add(Result{}.AppendTo(nil))
	f.Add(Result{Code: Done, Generation: 300, Table: 7, Low: -5, High: 1 << 60, Tablets: []TabletID{2, 300}, Values: []int64{-1, 5}, Reason: "why"}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResult(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseResult(r.AppendTo(nil))
		if err != nil || !bytes.Equal(again.AppendTo(nil), r.AppendTo(nil)) {
			t.Fatalf("got %+v, %v, want %+v", again, err, r)
		}
	})
}

// FuzzImage: a file of any content is refused, or gives the same bytes again.
func FuzzImage(f *testing.F) {
	r := newReplica(f, vfs.NewMem())
	r.initialise(3)
	r.want(Done, CreateTable{events("events", 2, 1)})
	r.want(Done, EnsureRange{Table: "events", Value: 7})
	f.Add(bytesOf(f, r.Catalog))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= imageHeader {
			b = bytes.Clone(b) // the fuzzer's own may not change
			le.PutUint32(b[12:], imageSum(b))
		}
		m, err := parseImage(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		once, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseImage(once)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := again.encode(); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("another encoding: %v", err)
		}
		if err := DumpManifest(once, io.Discard); err != nil {
			t.Fatal(err)
		}
	})
}
