package connector

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"nyala/connector/catalog"
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
			if err := n.tablets.Checkpoint(ctx, store.ID(id)); err != nil {
				return fmt.Errorf("connector: checkpoint of tablet %d: %w", id, err)
			}
			return nil
		})
	}
	return g.Wait()
}
