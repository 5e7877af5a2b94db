package decode

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
)

// TestRunAgrees decodes reference events, with damages, spaces, other orders and other values, with and without run: rows, errors
// and what is left of a bad record must be the same.
func TestRunAgrees(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for _, kind := range []schema.Kind{schema.String, schema.UUID} {
		s := eventSchema(kind)
		s.Columns[3].Nullable, s.Columns[8].Nullable, s.Columns[10].Nullable = true, true, true
		quick, err := NewJSON(Options{Schema: s, TimestampUnit: Microseconds})
		if err != nil {
			t.Fatal(err)
		}
		careful, err := NewJSON(quick.options)
		if err != nil {
			t.Fatal(err)
		}
		careful.careful = true
		a, b := batch.NewBuilder(s.Columns, 64), batch.NewBuilder(s.Columns, 64)
		good := 0
		for i, event := range eventRecords(20_000) {
			if event = vary(rng, event); i%64 == 0 {
				a.Reset()
				b.Reset()
			}
			_, errA := quick.Decode(&Record{Value: event}, a)
			_, errB := careful.Decode(&Record{Value: event}, b)
			if fmt.Sprint(errA) != fmt.Sprint(errB) {
				t.Fatalf("%s: got %v, with care %v", event, errA, errB)
			}
			if errA == nil {
				good++
			}
			if i%64 == 63 && !reflect.DeepEqual(a.View(), b.View()) {
				t.Fatalf("%s: rows differ", event)
			}
		}
		if good < 5000 || good > 18_000 {
			t.Errorf("%d of 20,000 are good", good)
		}
	}
}

// vary changes a record in one of several ways, or not.
func vary(rng *rand.Rand, event []byte) []byte {
	text := string(event)
	switch rng.IntN(8) {
	case 0: // a byte becomes another
		event[rng.IntN(len(event))] = []byte("\"\\,:{}0 9.eE-xtn\x00\x1f\x80\xc3\xff")[rng.IntN(21)]
		return event
	case 1: // the end is missing
		return event[:rng.IntN(len(event))]
	case 2: // as Python writes it
		return []byte(strings.NewReplacer(`":`, `": `, `,"`, `, "`).Replace(text))
	case 3: // another order
		pairs := strings.Split(strings.Trim(text, "{}"), `,"`)
		for i := range pairs {
			pairs[i] = `"` + strings.TrimPrefix(pairs[i], `"`)
		}
		rng.Shuffle(len(pairs), func(i, j int) { pairs[i], pairs[j] = pairs[j], pairs[i] })
		return []byte("{" + strings.Join(pairs, ",") + "}")
	case 4: // fields that are nothing, come again or are unknown
		return []byte(text[:len(text)-1] + []string{`,"ok":null}`, `,"user_id":null}`, `,"tenant":5}`, `,"x":[{"ok":1}]}`, `,"value":1e3 }`, "\n}", `,}`}[rng.IntN(7)])
	case 5: // text that is not plain
		return []byte(strings.Replace(text, "https://", []string{"\u00e4\u20ac\U0001F600", `\u00e4\n`, `\"`, "\xc3", `\ud800`, "\x7f", "\x01", ""}[rng.IntN(8)], 1))
	case 6: // numbers of every length
		digits := "1234567890123456789012"[:1+rng.IntN(22)]
		name := []string{`"event_id":`, `"value":`, `"tenant":`, `"event_time":`}[rng.IntN(4)]
		return []byte(strings.Replace(text, name, name+[]string{"-", "", "0", "0.", "-0.00"}[rng.IntN(5)]+digits+[]string{"", ".5", "e2", ".", "E", "."}[rng.IntN(6)]+`,"y":`, 1))
	}
	return event
}

// TestEightDigits tries every count of digits before every byte.
func TestEightDigits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for n := range 9 {
		for after := range 256 {
			if n < 8 && after >= '0' && after <= '9' {
				continue
			}
			var w, want uint64
			for i := range 8 {
				c := uint64(rng.IntN(256))
				if i < n {
					d := rng.Uint64N(10)
					want, c = want*10+d, '0'+d
				} else if i == n {
					c = uint64(after)
				}
				w |= c << (8 * i)
			}
			if v, got := eightDigits(w); got != n || v != want {
				t.Fatalf("%016x: got %d of %d digits, want %d of %d", w, v, got, want, n)
			}
		}
	}
}

// TestHexDigits tries every byte at every place of a UUID.
func TestHexDigits(t *testing.T) {
	for _, text := range []string{"00112233-4455-6677-8899-aabbccddeeff", "FFeeDDccBBaa99887766554433221100"} {
		for at := range len(text) {
			for c := range 256 {
				s := []byte(text)
				s[at] = byte(c)
				want, err := hex.DecodeString(strings.ReplaceAll(string(s), "-", ""))
				good := err == nil && (len(s) == 32 || s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-')
				var got [16]byte
				if ok := parseUUID(&got, s); ok != good || ok && string(got[:]) != string(want) {
					t.Fatalf("%q: got %x, %v, want %x, %v", s, got, ok, want, good)
				}
			}
		}
	}
}
