package kafka

import (
	"encoding/hex"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

// What is written as JSON is what is hashed: parsed by somebody else's parser it gives the same event.
func TestEventJSON(t *testing.T) {
	hashes := map[uint64]bool{}
	for n := range int64(2000) {
		e := EventAt(7, n)
		back := parse(t, e.AppendJSON(nil))
		if back != e || back.Hash() != e.Hash() {
			t.Fatalf("%s\n%+v, want %+v", e.AppendJSON(nil), back, e)
		}
		hashes[e.Hash()] = true
	}
	if len(hashes) != 2000 {
		t.Errorf("%d hashes of 2000 events", len(hashes))
	}
}

// Every value counts in the hash.
func TestEventHash(t *testing.T) {
	base := Event{HasURL: true, HasValue: true, URL: "u"}
	seen := map[uint64]string{base.Hash(): "base"}
	for name, change := range map[string]func(*Event){
		"tenant":  func(e *Event) { e.Tenant = 1 },
		"time":    func(e *Event) { e.TimeMicros = 1 },
		"id":      func(e *Event) { e.ID = 1 },
		"user":    func(e *Event) { e.User = 1 },
		"session": func(e *Event) { e.Session[15] = 1 },
		"url":     func(e *Event) { e.URL = "v" },
		"no url":  func(e *Event) { e.URL, e.HasURL = "", false },
		"empty":   func(e *Event) { e.URL = "" },
		"value":   func(e *Event) { e.Value = math.Copysign(0, -1) },
		"null":    func(e *Event) { e.HasValue = false },
	} {
		e := base
		change(&e)
		if other, same := seen[e.Hash()]; same {
			t.Errorf("%s hashes like %s", name, other)
		}
		seen[e.Hash()] = name
	}
}

func TestEventsCrossMidnight(t *testing.T) {
	begin := time.UnixMicro(eventsBegin).UTC()
	if end := begin.Add(20 * time.Minute); begin.Format("15:04") != "23:50" || end.Day() == begin.Day() {
		t.Errorf("events begin at %s", begin)
	}
}

// parse reads an event with the standard library.
func parse(t *testing.T, text []byte) Event {
	t.Helper()
	var j struct {
		Tenant  int32
		TS      int64
		EventID int64 `json:"event_id"`
		User    struct{ ID int64 }
		Session string
		URL     *string
		Value   *float64
	}
	if err := json.Unmarshal(text, &j); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	back := Event{Tenant: j.Tenant, TimeMicros: j.TS * 1000, ID: j.EventID, User: j.User.ID}
	if _, err := hex.Decode(back.Session[:], []byte(strings.ReplaceAll(j.Session, "-", ""))); err != nil || len(j.Session) != 36 {
		t.Fatalf("session %q: %v", j.Session, err)
	}
	if j.URL != nil {
		back.URL, back.HasURL = *j.URL, true
	}
	if j.Value != nil {
		back.Value, back.HasValue = *j.Value, true
	}
	return back
}
