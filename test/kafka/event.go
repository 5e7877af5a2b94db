package kafka

import (
	"encoding/binary"
	"encoding/hex"
	"hash/crc64"
	"math"
	"strconv"
)

// Event is a row of the table `events` of the README's configuration: what is produced as JSON, and what a table must give back.
type Event struct {
	Tenant     int32
	TimeMicros int64 // since 1970, UTC; JSON has whole milliseconds
	ID         int64 // the number of the event; no two have the same
	User       int64
	Session    [16]byte
	URL        string // null unless HasURL
	HasURL     bool
	Value      float64 // null unless HasValue
	HasValue   bool
}

// eventsBegin is ten minutes before midnight, 19 November 2026, in microseconds: events are a millisecond apart, so that a longer run crosses
// into another day, which is another range partition.
const eventsBegin = 1_795_132_200_000_000

// EventAt is the n-th event of a seed: the same at every call.
func EventAt(seed uint64, n int64) Event {
	a := mix(seed ^ mix(uint64(n)))
	b, c := mix(a), mix(a+1)
	e := Event{
		Tenant:     int32(a % 64),
		TimeMicros: eventsBegin + (n+int64(a>>8%200))*1000, // a little out of order
		ID:         n,
		User:       int64(b >> 1),
		HasURL:     c%16 != 0,
		HasValue:   c>>4%8 != 0,
	}
	binary.LittleEndian.PutUint64(e.Session[:8], b)
	binary.LittleEndian.PutUint64(e.Session[8:], c)
	if e.HasURL {
		e.URL = "/shop/" + strconv.FormatUint(b%5000, 10) + "/item?q=\"" + strconv.FormatUint(c, 36) + "\"&l=größe"
	}
	if e.HasValue {
		e.Value = float64(int64(c)) / 1024
	}
	return e
}

// AppendJSON appends the event as the configuration of the tests expects it: event_time in `ts`, in milliseconds, and user_id in
// `user.id`. A null is left out by half of the events, and written by the others.
func (e Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"tenant":`...)
	b = strconv.AppendInt(b, int64(e.Tenant), 10)
	b = append(b, `,"ts":`...)
	b = strconv.AppendInt(b, e.TimeMicros/1000, 10)
	b = append(b, `,"event_id":`...)
	b = strconv.AppendInt(b, e.ID, 10)
	b = append(b, `,"user":{"id":`...)
	b = strconv.AppendInt(b, e.User, 10)
	b = append(b, `},"session":"`...)
	for i, end := range []int{4, 6, 8, 10, 16} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, e.Session[[]int{0, 4, 6, 8, 10}[i]:end])
	}
	b = append(b, '"')
	if e.HasURL {
		b = append(b, `,"url":`...)
		b = appendQuoted(b, e.URL)
	} else if e.ID%2 == 0 {
		b = append(b, `,"url":null`...)
	}
	if e.HasValue {
		b = append(b, `,"value":`...)
		b = strconv.AppendFloat(b, e.Value, 'g', -1, 64)
	} else if e.ID%2 == 0 {
		b = append(b, `,"value":null`...)
	}
	return append(b, '}')
}

// appendQuoted is for the text of URLs: quotes are all that needs an escape in them.
func appendQuoted(b []byte, text string) []byte {
	b = append(b, '"')
	for i := range len(text) {
		if text[i] == '"' {
			b = append(b, '\\')
		}
		b = append(b, text[i])
	}
	return append(b, '"')
}

var crc = crc64.MakeTable(crc64.ECMA)

// Hash is over every value of the event, whatever text they were in.
func (e Event) Hash() uint64 {
	b := make([]byte, 0, 128)
	b = binary.LittleEndian.AppendUint32(b, uint32(e.Tenant))
	for _, v := range []int64{e.TimeMicros, e.ID, e.User} {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	b = append(b, e.Session[:]...)
	if e.HasValue {
		b = append(b, 1)
		b = binary.LittleEndian.AppendUint64(b, math.Float64bits(e.Value))
	}
	if e.HasURL {
		b = append(b, 2)
		b = append(b, e.URL...)
	}
	return crc64.Checksum(b, crc)
}

// mix is splitmix64's finaliser (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
