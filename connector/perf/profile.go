package perf

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The stages that CPU time is divided into.
const (
	stageKafka   = "kafka"   // fetching, decompressing
	stageDecode  = "decode"  // JSON into columns
	stageIngest  = "ingest"  // routing, batching, sending
	stageRaft    = "raft"    // consensus and its network
	stageWAL     = "wal"     // writing and syncing the log
	stageApply   = "apply"   // indexing keys, keeping rows
	stageFlush   = "flush"   // sorting, encoding and writing files
	stageGC      = "gc"      // collecting garbage in the background
	stageRuntime = "runtime" // scheduling and what no stage claims
	stageOther   = "other"   // the node around it, and this measurement
)

var stages = []string{stageKafka, stageDecode, stageIngest, stageRaft, stageWAL, stageApply, stageFlush, stageGC, stageRuntime, stageOther}

// claims say to which stage a function belongs, by the beginning of its name. The innermost function of a stack
// that one claims decides: what is not here, as a codec or a memmove, counts for its caller.
var claims = []struct{ prefix, stage string }{
	{"github.com/twmb/franz-go/", stageKafka},
	{"nyala/ingest/decode.", stageDecode},
	{"nyala/ingest.", stageIngest},
	{"nyala/raftlog/wal.", stageWAL},
	{"nyala/raftlog.", stageRaft},
	{"github.com/hashicorp/raft.", stageRaft},
	{"nyala/store/rowset.", stageFlush},
	{"nyala/store.", stageFlush}, // unless it is Apply's
	{"nyala/connector", stageOther},
	{"runtime.gcBgMarkWorker", stageGC},
	{"runtime.bgsweep", stageGC},
	{"runtime.bgscavenge", stageGC},
}

const applies = "nyala/store.(*Tablet).Apply"

// stageOf finds the stage of a stack, innermost function first.
func stageOf(stack []string) string {
	for _, name := range stack {
		for _, c := range claims {
			if !strings.HasPrefix(name, c.prefix) {
				continue
			}
			if c.stage == stageFlush && appliedBy(stack) {
				return stageApply
			}
			return c.stage
		}
	}
	if len(stack) > 0 && !strings.HasPrefix(stack[len(stack)-1], "runtime.") {
		return stageOther
	}
	return stageRuntime
}

func appliedBy(stack []string) bool {
	for _, name := range stack {
		if strings.HasPrefix(name, applies) {
			return true
		}
	}
	return false
}

// byStage sums the CPU nanoseconds of a profile, as runtime/pprof writes it, by stage.
func byStage(profile []byte) (map[string]int64, error) {
	z, err := gzip.NewReader(bytes.NewReader(profile))
	if err != nil {
		return nil, fmt.Errorf("perf: profile: %w", err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("perf: profile: %w", err)
	}
	p := parsedProfile{locations: map[uint64][]uint64{}, functions: map[uint64]uint64{}}
	if err := p.parse(raw); err != nil {
		return nil, fmt.Errorf("perf: profile: %w", err)
	}
	sums := map[string]int64{}
	for _, s := range p.samples {
		var stack []string
		for _, l := range s.locations {
			for _, f := range p.locations[l] {
				if name := p.functions[f]; name < uint64(len(p.strings)) {
					stack = append(stack, p.strings[name])
				}
			}
		}
		sums[stageOf(stack)] += s.nanos
	}
	return sums, nil
}

// parsedProfile is what is needed of a profile.proto message (github.com/google/pprof/proto): its numbers of
// fields are those of that file.
type parsedProfile struct {
	samples   []sample
	locations map[uint64][]uint64 // functions, innermost first
	functions map[uint64]uint64   // index of the name
	strings   []string
}

type sample struct {
	locations []uint64
	nanos     int64
}

func (p *parsedProfile) parse(b []byte) error {
	return fields(b, func(field int, v uint64, body []byte) error {
		switch field {
		case 2:
			return p.sample(body)
		case 4:
			return p.location(body)
		case 5:
			var id, name uint64
			err := fields(body, func(field int, v uint64, _ []byte) error {
				switch field {
				case 1:
					id = v
				case 2:
					name = v
				}
				return nil
			})
			p.functions[id] = name
			return err
		case 6:
			p.strings = append(p.strings, string(body))
		}
		return nil
	})
}

func (p *parsedProfile) sample(b []byte) error {
	var s sample
	var values []uint64
	err := fields(b, func(field int, v uint64, body []byte) error {
		switch field {
		case 1:
			s.locations = appendVarints(s.locations, v, body)
		case 2:
			values = appendVarints(values, v, body)
		}
		return nil
	})
	if len(values) > 0 {
		s.nanos = int64(values[len(values)-1]) // a CPU profile has counts, then nanoseconds
	}
	p.samples = append(p.samples, s)
	return err
}

func (p *parsedProfile) location(b []byte) error {
	var id uint64
	var functions []uint64
	err := fields(b, func(field int, v uint64, body []byte) error {
		switch field {
		case 1:
			id = v
		case 4:
			return fields(body, func(field int, v uint64, _ []byte) error {
				if field == 1 {
					functions = append(functions, v)
				}
				return nil
			})
		}
		return nil
	})
	p.locations[id] = functions
	return err
}

// appendVarints appends a repeated field: one number, or many packed into a body.
func appendVarints(out []uint64, v uint64, body []byte) []uint64 {
	if body == nil {
		return append(out, v)
	}
	for len(body) > 0 {
		v, n := binary.Uvarint(body)
		if n <= 0 {
			return out
		}
		out, body = append(out, v), body[n:]
	}
	return out
}

var errMessage = errors.New("not a protobuf message")

// fields visits the fields of a protobuf message: numbers with a nil body, the others with theirs.
func fields(b []byte, visit func(field int, v uint64, body []byte) error) error {
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		if n <= 0 {
			return errMessage
		}
		b = b[n:]
		var v uint64
		var body []byte
		switch tag & 7 {
		case 0:
			if v, n = binary.Uvarint(b); n <= 0 {
				return errMessage
			}
			b = b[n:]
		case 2:
			size, n := binary.Uvarint(b)
			if n <= 0 || size > uint64(len(b)-n) {
				return errMessage
			}
			body, b = b[n:n+int(size):n+int(size)], b[n+int(size):]
		case 1, 5:
			size := map[uint64]int{1: 8, 5: 4}[tag&7]
			if len(b) < size {
				return errMessage
			}
			b = b[size:]
			continue
		default:
			return errMessage
		}
		if err := visit(int(tag>>3), v, body); err != nil {
			return err
		}
	}
	return nil
}
