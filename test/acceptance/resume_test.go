//go:build kafka

package acceptance

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"nyala/connector/api"
)

// resumes are the times from kills until every partition that the killed read moved again: checkpointed further, or to what was its
// end. They are information; nothing is asserted of them.
type resumes struct {
	mu struct {
		sync.Mutex
		one, all []time.Duration
		none     int // not seen within a minute, as something else happened meanwhile
	}
}

const (
	resumeEvery = 50 * time.Millisecond
	resumeLimit = time.Minute
)

// watchResume notes where the partitions of a node stand ("" for all nodes). What it returns is called when the node is dead.
func (r *trial) watchResume(node string) func() {
	wanted := map[int32]api.Offset{}
	for i := range r.cluster.Nodes {
		at, err := r.cluster.Offsets(r.ctx, i)
		if err != nil {
			continue
		}
		for _, o := range at {
			if o.Node != "" && (node == "" || o.Node == node) {
				wanted[o.Partition] = o
			}
		}
		break
	}
	return func() {
		if len(wanted) == 0 {
			return // it read nothing
		}
		killed := time.Now()
		r.watching.Go(func() {
			took := r.awaitResume(wanted, killed)
			r.resumes.mu.Lock()
			defer r.resumes.mu.Unlock()
			if took == 0 {
				r.resumes.mu.none++
				return
			}
			r.say("all that %s read moves again %s after the kill", cmp.Or(node, "the nodes"), took.Round(10*time.Millisecond))
			if node == "" {
				r.resumes.mu.all = append(r.resumes.mu.all, took)
			} else {
				r.resumes.mu.one = append(r.resumes.mu.one, took)
			}
		})
	}
}

func (r *trial) awaitResume(wanted map[int32]api.Offset, killed time.Time) time.Duration {
	for time.Since(killed) < resumeLimit && r.ctx.Err() == nil {
		for i := range r.cluster.Nodes {
			now, err := r.cluster.Offsets(r.ctx, i)
			if err != nil {
				continue
			}
			moved := 0
			for _, o := range now {
				w, ok := wanted[o.Partition]
				if ok && o.TopicID == w.TopicID && (o.Watermark > w.Watermark || o.Watermark >= w.End) {
					moved++
				}
			}
			if moved == len(wanted) {
				return time.Since(killed)
			}
			break
		}
		time.Sleep(resumeEvery)
	}
	return 0
}

// sayResumes prints the distribution.
func (r *trial) sayResumes() {
	r.watching.Wait()
	r.resumes.mu.Lock()
	defer r.resumes.mu.Unlock()
	for name, took := range map[string][]time.Duration{"a node": r.resumes.mu.one, "all nodes": r.resumes.mu.all} {
		if len(took) == 0 {
			continue
		}
		slices.SortFunc(took, cmp.Compare)
		at := func(share float64) time.Duration {
			return took[int(share*float64(len(took)-1))].Round(10 * time.Millisecond)
		}
		r.say("all partitions moved again after a kill of %s: %d times, median %s, 90 %% %s, longest %s", name, len(took), at(0.5), at(0.9), at(1))
	}
	if n := r.resumes.mu.none; n > 0 {
		r.say("%d kills had the next fault before all partitions moved", n)
	}
}
