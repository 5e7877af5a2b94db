package connector

import (
	"context"
	"time"

	"nyala/connector/query"
	"nyala/store/batch"
)

// diskReadPatience is how long a read waits for this node's disk before it asks another replica: a disk that hangs must not
// take its readers with it.
const diskReadPatience = 3 * time.Second

// patient is a stream from this node's disk whose reader can stop waiting. What it waited for ends when the disk answers.
type patient struct {
	n    *Node
	ctx  context.Context
	from query.Stream
	next chan patientBatch // what is being read, if anything
}

type patientBatch struct {
	b   *batch.Batch
	err error
}

// read begins to read the next batch, unless that is under way.
func (p *patient) read() {
	if p.next != nil {
		return
	}
	next := make(chan patientBatch, 1)
	p.next = next
	p.n.goes(func(context.Context) {
		b, err := p.from.Next()
		next <- patientBatch{b, err}
	})
}

// begins tells whether the disk gives the first batch in time. Next returns it.
func (p *patient) begins(limit time.Duration) bool {
	p.read()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case r := <-p.next:
		p.next <- r
		return true
	case <-timer.C:
	case <-p.ctx.Done():
	}
	return false
}

// Next implements query.Stream. It ends with the context.
func (p *patient) Next() (*batch.Batch, error) {
	p.read()
	select {
	case r := <-p.next:
		p.next = nil
		return r.b, r.err
	case <-p.ctx.Done():
		return nil, context.Cause(p.ctx)
	}
}

// Close implements query.Stream. What still waits for the disk is closed when that answers.
func (p *patient) Close() error {
	if p.next == nil {
		return p.from.Close()
	}
	next := p.next
	p.n.goes(func(context.Context) {
		<-next
		if err := p.from.Close(); err != nil {
			p.n.log.Warn("read ended late", "err", err)
		}
	})
	return nil
}
