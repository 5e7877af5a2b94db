package connector

import (
	"context"

	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
)

// The rooms below do not know each other: a tablet knows no log, and the log no tablet. These
// adapters are the seam; they translate entries and durable states and nothing else.

// catalogMachine is the catalog as raftlog's state machine.
type catalogMachine struct{ *catalog.Catalog }

// Apply implements raftlog.StateMachine.
func (m catalogMachine) Apply(entries []raftlog.Entry) [][]byte {
	out := make([]catalog.Entry, len(entries))
	for i, e := range entries {
		out[i] = catalog.Entry{Index: e.Index, Term: e.Term, Membership: e.Kind == raftlog.Membership, Data: e.Data}
	}
	return m.Catalog.Apply(out)
}

// Durable implements raftlog.StateMachine.
func (m catalogMachine) Durable() raftlog.Durable { return raftlog.Durable(m.Catalog.Durable()) }

// Manifest implements raftlog.StateMachine.
func (m catalogMachine) Manifest() (raftlog.Durable, []byte, error) {
	d, b, err := m.Catalog.Manifest()
	return raftlog.Durable(d), b, err
}

// Prepare implements raftlog.StateMachine: the catalog's manifest is the whole of it.
func (m catalogMachine) Prepare(ctx context.Context, manifest []byte, _ raftlog.Fetcher) error {
	return m.Catalog.Prepare(ctx, manifest)
}

// Restore implements raftlog.StateMachine.
func (m catalogMachine) Restore(d raftlog.Durable, manifest []byte) error {
	return m.Catalog.Restore(catalog.Durable(d), manifest)
}

// tabletMachine is a tablet as raftlog's state machine.
type tabletMachine struct{ *store.Tablet }

// Apply implements raftlog.StateMachine.
func (m tabletMachine) Apply(entries []raftlog.Entry) [][]byte {
	out := make([]store.Entry, len(entries))
	for i, e := range entries {
		out[i] = store.Entry{Index: e.Index, Term: e.Term, Membership: e.Kind == raftlog.Membership, Data: e.Data}
	}
	return m.Tablet.Apply(out)
}

// Durable implements raftlog.StateMachine.
func (m tabletMachine) Durable() raftlog.Durable { return raftlog.Durable(m.Tablet.Durable()) }

// Manifest implements raftlog.StateMachine.
func (m tabletMachine) Manifest() (raftlog.Durable, []byte, error) {
	d, b, err := m.Tablet.Manifest()
	return raftlog.Durable(d), b, err
}

// Prepare implements raftlog.StateMachine.
func (m tabletMachine) Prepare(ctx context.Context, manifest []byte, fetch raftlog.Fetcher) error {
	return m.Tablet.Prepare(ctx, manifest, store.Fetcher(fetch))
}

// Restore implements raftlog.StateMachine.
func (m tabletMachine) Restore(d raftlog.Durable, manifest []byte) error {
	return m.Tablet.Restore(store.Durable(d), manifest)
}
