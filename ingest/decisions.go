package ingest

import (
	"errors"
	"fmt"
	"math"

	"nyala/ingest/decode"
	"nyala/offsets"
	"nyala/store/batch"
	"nyala/store/schema"
)

// Settings decide what becomes of a record: which row it is, and whether it is one at all.
type Settings struct {
	Fields              map[string]string
	Add                 map[string]string
	TimestampUnit       decode.Unit
	RefuseUnknownFields bool // a field no column takes makes a dead letter
	Op                  batch.Op
	Changes             bool
}

// Decisions is what decides about a connector's records: its settings, and those before them for as long as records are left
// that they decide. A decision on a record never changes, so each version begins in each source behind
// everything that was decided before it (docs/exactly-once.md).
//
// An owner keeps the Decisions that it began with. It could not take up others on its way: what it has decided and not
// delivered may lie behind the place where they begin, and a tablet that it sent nothing of that would never hear of it.
type Decisions struct {
	Version uint32     // of the last one: what is decided under it says so
	Each    []Decision // oldest first, at least one
}

// Decision is one version of the settings.
type Decision struct {
	Settings Settings
	Schema   *schema.Schema           // of the table, under which records are decoded; nil: the layout's
	From     map[offsets.Source]int64 // where it begins; with the first record of a source that is not listed
}

// schema is what records are decoded under. Where a row goes is the same under all of a table's schemas.
func (d *Decision) schema(l *Layout) *schema.Schema {
	if d.Schema != nil {
		return d.Schema
	}
	return l.Schema
}

// at is the position of the decision that holds for an offset, and where the next one begins. It is -1 for an offset so old
// that its settings are forgotten: every record there was decided long ago.
func (d *Decisions) at(s offsets.Source, offset int64) (i int, until int64) {
	until = math.MaxInt64
	for i = len(d.Each) - 1; i >= 0; i-- {
		from := d.Each[i].From[s]
		if from <= offset {
			return i, until
		}
		until = from
	}
	return -1, until
}

// ErrChanging is what Options.Decisions answers while the settings are being changed: the owners wait.
var ErrChanging = errors.New("the settings are being changed")

// errRefused ends the waiting of an owner that has to begin again.
var errRefused = errors.New("ingest: the owner must begin again")

// decisions is what holds now.
func (o *Options) decisions() (*Decisions, error) {
	if o.Decisions == nil {
		return &Decisions{Each: []Decision{{Settings: o.Settings}}}, nil
	}
	return o.Decisions()
}

// decide gets ready to decode the record at an offset. The first call takes the decisions that the owner keeps; an owner whose
// decisions no longer hold is refused.
func (w *worker) decide(l *Layout, offset int64) error {
	now, err := w.session.options.decisions()
	if err != nil {
		return err
	}
	if w.decisions == nil {
		w.decisions = now
	}
	i, until := w.decisions.at(w.source, offset)
	switch {
	case now.Version != w.decisions.Version:
		w.refused(fmt.Sprintf("the settings have the decision version %d now, had %d", now.Version, w.decisions.Version))
		return errRefused
	case i < 0:
		w.refused(fmt.Sprintf("offset %d was decided before the checkpoint of today", offset))
		return errRefused
	}
	w.until = until
	s := w.decisions.Each[i].schema(l)
	if w.decider != nil && i == w.decision && sameSchema(w.schema, s) {
		return nil
	}
	d, err := newDecider(&w.decisions.Each[i].Settings, s)
	if err != nil {
		return err
	}
	w.decider, w.decision, w.schema, w.pool = d, i, s, w.session.connector.chunks(s)
	return nil
}
