package wal

import (
	"bytes"
	"testing"
)

// FuzzFile lets any bytes be a slot: nothing panics, and what opens can be closed and opened again
// with the same content.
func FuzzFile(f *testing.F) {
	s, _, opts := wornLog(f)
	for _, data := range s {
		f.Add(data)
	}
	f.Add([]byte(segmentMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := snapshot{"00000001.wal": data}.restore(t, "", nil)
		var out bytes.Buffer
		if err := Dump(m, "/wal", &out); err != nil {
			return
		}
		problems, err := Check(m, "/wal")
		w, openErr := Open(m, "/wal", opts)
		if (openErr == nil) != (err == nil && len(problems) == 0) {
			t.Fatalf("check says %v, %v, open says %v", problems, err, openErr)
		}
		if openErr != nil {
			return
		}
		check(t, w.Close())
		w = open(t, m, opts)
		check(t, w.Close())
	})
}

// FuzzRecord lets any bytes be a record, with the right checksums, so that the lengths are reached.
func FuzzRecord(f *testing.F) {
	r := entry(1, 4, 1, 50)
	b := make([]byte, recordHeaderSize+aligned(50)+aligned(len(r.Extensions)))
	encodeRecordHeader(b, entryRecord, 1, &r, payloadCRC(&r), 7)
	copy(b[recordHeaderSize:], r.Data)
	copy(b[recordHeaderSize+aligned(50):], r.Extensions)
	f.Add(b)
	typ, state := (&groupState{first: 1, next: 3, values: map[string][]byte{"a": []byte("b")}}).record()
	b = make([]byte, recordHeaderSize+aligned(len(state.Data)))
	encodeRecordHeader(b, typ, 1, &state, payloadCRC(&state), 7)
	copy(b[recordHeaderSize:], state.Data)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < recordHeaderSize {
			return
		}
		fixRecord(b)
		got, err := parseRecord(b, 7)
		if err != nil {
			return
		}
		again := make([]byte, recordHeaderSize)
		clear(b[50:recordHeaderSize])
		fixRecord(b)
		encodeRecordHeader(again, got.typ, got.group, &got.Record, payloadCRC(&got.Record), 7)
		if !bytes.Equal(again, b[:recordHeaderSize]) {
			t.Fatalf("%x\nbecame %x", b[:recordHeaderSize], again)
		}
		if got.typ == stateRecord || got.typ == dropRecord {
			if s, err := parseState(&got); err == nil {
				if _, err := parseState(&rawRecord{Record: second(s.record()), typ: got.typ}); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

func second[A, B any](_ A, b B) B { return b }

// fixRecord corrects the checksums of a record, if its lengths fit.
func fixRecord(b []byte) {
	data, extensions := int(order.Uint32(b[40:])), int(order.Uint32(b[44:]))
	if size := recordHeaderSize + aligned(data) + aligned(extensions); size > len(b) || size > recordBytesMax {
		return
	}
	r := Record{
		Index: order.Uint64(b[16:]), Term: order.Uint64(b[24:]), AppendedAt: int64(order.Uint64(b[32:])), Kind: b[49],
		Data: b[recordHeaderSize:][:data],
	}
	if extensions > 0 {
		r.Extensions = b[recordHeaderSize+aligned(data):][:extensions]
	}
	order.PutUint32(b[4:], payloadCRC(&r))
	typ, group := recordType(b[48]), order.Uint64(b[8:])
	header := make([]byte, recordHeaderSize)
	encodeRecordHeader(header, typ, group, &r, payloadCRC(&r), 7)
	copy(b, header)
}
