package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"nyala/offsets"
)

const (
	imageMagic   = "NYALACAT"
	imageVersion = 1
	imageHeader  = 56
)

// image is a whole state as the file and the manifest have it; doc.go has the byte table.
type image struct {
	durable     Durable
	state       *Snapshot
	checkpoints *offsets.Checkpoints
}

// encode gives the same bytes for the same state on every replica.
func (m image) encode() ([]byte, error) {
	state, err := json.Marshal(m.state)
	if err != nil {
		return nil, fmt.Errorf("catalog: state at %d: %w", m.durable.Index, err)
	}
	checkpoints := m.checkpoints.AppendTo(nil)
	b := make([]byte, 0, imageHeader+len(m.durable.Members)+len(state)+len(checkpoints))
	b = append(b, imageMagic...)
	b = le.AppendUint32(b, imageVersion)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, m.durable.Index)
	b = le.AppendUint64(b, m.durable.Term)
	b = le.AppendUint64(b, m.durable.MembersIndex)
	b = le.AppendUint32(b, uint32(len(m.durable.Members)))
	b = le.AppendUint32(b, uint32(len(state)))
	b = le.AppendUint32(b, uint32(len(checkpoints)))
	b = le.AppendUint32(b, 0)
	b = append(b, m.durable.Members...)
	b = append(b, state...)
	b = append(b, checkpoints...)
	le.PutUint32(b[12:], imageSum(b))
	return b, nil
}

func imageSum(b []byte) uint32 { return crc32.Checksum(b[16:], castagnoli) }

// parseImage reads what encode wrote. The error is ErrCorrupt.
func parseImage(b []byte) (image, error) {
	m, err := readImage(b)
	if err != nil {
		return image{}, fmt.Errorf("at 0 of %d bytes: %w: %w", len(b), err, ErrCorrupt)
	}
	return m, nil
}

func readImage(b []byte) (image, error) {
	if len(b) < imageHeader || string(b[:8]) != imageMagic {
		return image{}, errors.New("no header")
	}
	if v := le.Uint32(b[8:]); v != imageVersion {
		return image{}, fmt.Errorf("version %d, want %d", v, imageVersion)
	}
	if got, want := imageSum(b), le.Uint32(b[12:]); got != want {
		return image{}, fmt.Errorf("crc %08x, want %08x", got, want)
	}
	members, state, checkpoints := int64(le.Uint32(b[40:])), int64(le.Uint32(b[44:])), int64(le.Uint32(b[48:]))
	if want := imageHeader + members + state + checkpoints; int64(len(b)) != want {
		return image{}, fmt.Errorf("want %d bytes", want)
	}
	m := image{durable: Durable{Index: le.Uint64(b[16:]), Term: le.Uint64(b[24:]), MembersIndex: le.Uint64(b[32:])}}
	body := b[imageHeader:]
	if members > 0 {
		m.durable.Members = bytes.Clone(body[:members])
	}
	var err error
	if m.state, err = parseState(body[members : members+state]); err != nil {
		return image{}, fmt.Errorf("state: %w", err)
	}
	if m.checkpoints, err = offsets.ParseCheckpoints(body[members+state:]); err != nil {
		return image{}, err
	}
	if m.durable.MembersIndex > m.durable.Index || m.state.Generation > m.durable.Index {
		return image{}, fmt.Errorf("index %d is below its members' %d or its state's %d", m.durable.Index, m.durable.MembersIndex, m.state.Generation)
	}
	return m, nil
}

func parseState(b []byte) (*Snapshot, error) {
	s := &Snapshot{superseded: make(chan struct{})}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows it")
	}
	return s, errors.Join(s.Check()...)
}
