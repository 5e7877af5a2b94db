package broker

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"encoding/binary"
)

// Event is one record of the app-event pipeline that demo and perf produce: 11 fields, about 274 bytes of
// JSON. The primary key is (tenant, event_time, event_id).
type Event struct {
	Tenant     int32
	EventTime  int64 // microseconds since 1970
	EventID    int64
	UserID     string // 16 hex digits
	Session    string // a UUID
	EventName  string
	URL        string
	Country    string
	DurationMs int64
	Value      float64
	OK         bool
}

var eventNames = func() []string {
	names := make([]string, 50)
	for i := range names {
		object := []string{"page", "click", "cart", "login", "video"}[i%5]
		verb := []string{"view", "open", "done"}[i%3]
		names[i] = fmt.Sprintf("%s_%s_%02d", object, verb, i)
	}
	return names
}()

var countries = []string{
	"CN", "IN", "ID", "US", "DE", "FR", "ES", "BR", "RU", "VN", "TH", "PH", "MX", "GB", "IT", "PL", "JP", "KR", "TR", "EG",
}

// Generator makes events that look like an application's: 64 tenants interleaved, event times that advance
// with a jitter of some 200 ms, ids that never repeat. The same seed and start give the same events.
type Generator struct {
	random *rand.Rand
	time   int64
	id     int64
	step   int64
}

// NewGenerator starts at the given time (microseconds since 1970) and advances by step microseconds an
// event on average; ids count from firstID+1.
func NewGenerator(seed uint64, startMicros, stepMicros, firstID int64) *Generator {
	return &Generator{random: rand.New(rand.NewPCG(seed, 7)), time: startMicros, step: max(stepMicros, 1), id: firstID}
}

// SetTime moves the clock of the events to t (microseconds since 1970), so that a live producer's events carry
// the present.
func (g *Generator) SetTime(t int64) { g.time = t }

// Next fills e with the next event.
func (g *Generator) Next(e *Event) {
	r := g.random
	g.time += r.Int64N(2*g.step + 1)
	g.id++
	e.Tenant = int32(r.IntN(64))
	e.EventTime = g.time - int64(r.ExpFloat64()*200_000)
	e.EventID = g.id
	user := r.Uint64N(1_000_000) * 0x9E3779B97F4A7C15
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], user)
	e.UserID = hex.EncodeToString(b[:8])
	binary.BigEndian.PutUint64(b[:8], user^0xdeadbeef)
	binary.BigEndian.PutUint64(b[8:], r.Uint64N(20)+user)
	h := hex.EncodeToString(b[:])
	e.Session = h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	e.EventName = eventNames[int(math.Abs(r.NormFloat64())*12)%len(eventNames)]
	e.URL = "https://app.example.com/p/" + strconv.Itoa(r.IntN(20000)+10000) + "?ref=home" + strconv.Itoa(r.IntN(10))
	e.Country = countries[int(math.Abs(r.NormFloat64())*6)%len(countries)]
	e.DurationMs = int64(r.ExpFloat64() * 800)
	e.Value = math.Round(r.Float64()*10000) / 100
	e.OK = r.IntN(100) > 3
}

// AppendJSON appends e as a JSON object; event_time is a number of microseconds.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"tenant":`...)
	b = strconv.AppendInt(b, int64(e.Tenant), 10)
	b = append(b, `,"event_time":`...)
	b = strconv.AppendInt(b, e.EventTime, 10)
	b = append(b, `,"event_id":`...)
	b = strconv.AppendInt(b, e.EventID, 10)
	b = append(b, `,"user_id":"`...)
	b = append(b, e.UserID...)
	b = append(b, `","session":"`...)
	b = append(b, e.Session...)
	b = append(b, `","event_name":"`...)
	b = append(b, e.EventName...)
	b = append(b, `","url":"`...)
	b = append(b, e.URL...)
	b = append(b, `","country":"`...)
	b = append(b, e.Country...)
	b = append(b, `","duration_ms":`...)
	b = strconv.AppendInt(b, e.DurationMs, 10)
	b = append(b, `,"value":`...)
	b = strconv.AppendFloat(b, e.Value, 'f', -1, 64)
	b = append(b, `,"ok":`...)
	b = strconv.AppendBool(b, e.OK)
	return append(b, '}')
}
