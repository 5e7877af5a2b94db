package connector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"golang.org/x/sync/errgroup"

	"nyala/connector/catalog"
	"nyala/raftlog"
	"nyala/store"
)

// Checkpoint turns all rows that the replicas of this node have applied into files, and returns when that is
// durable here. It goes through the logs, so other replicas do the same.
func (n *Node) Checkpoint(ctx context.Context) error {
	n.mu.Lock()
	ids := make([]catalog.TabletID, 0, len(n.mu.replicas))
	for id := range n.mu.replicas {
		ids = append(ids, id)
	}
	n.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	for _, id := range ids {
		g.Go(func() error {
			err := retry(ctx, 50*time.Millisecond, time.Second, func() error {
				err := n.tablets.Checkpoint(ctx, store.ID(id))
				if errors.Is(err, raftlog.ErrUnavailable) || errors.Is(err, raftlog.ErrUnknown) {
					return err // who leads is changing; a Freeze that was proposed twice freezes nothing the second time
				}
				if err != nil {
					return backoff.Permanent(err)
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("connector: checkpoint of tablet %d: %w", id, err)
			}
			return nil
		})
	}
	return g.Wait()
}
