package ingest

import (
	"context"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// watchPartitions looks from time to time whether the group leaves a partition to nobody, and has it balanced again.
//
// That the leader of a group sees new partitions and rejoins is not enough: a static member that comes back is given
// its old share without a new assignment, and a leader that was away does not know what the old one was made for. So
// a partition that is added shortly before all members start again would be read by nobody until somebody joins or
// leaves. Who is not the leader asks in vain, and that does no harm.
func (s *session) watchPartitions() {
	var before []place
	for pause(s.pollCtx, metadataAge) {
		now, err := s.unassigned(s.pollCtx)
		if err != nil {
			s.options.Logger.Debug("assignments not known", "error", err)
			continue
		}
		lasting := slices.ContainsFunc(now, func(p place) bool { return slices.Contains(before, p) })
		before = now
		if lasting {
			s.options.Logger.Warn("partitions are assigned to nobody", "partitions", fmt.Sprint(now))
			s.client.ForceRebalance()
		}
	}
}

// unassigned lists the partitions of our topics that a stable group has given to nobody.
func (s *session) unassigned(ctx context.Context) ([]place, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	admin := kadm.NewClient(s.client)
	groups, err := admin.DescribeGroups(ctx, s.options.Group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("ingest: group %s: %w", s.options.Group, err)
	}
	group := groups[s.options.Group]
	if group.State != "Stable" {
		return nil, nil
	}
	topics, err := admin.ListTopics(ctx, s.client.GetConsumeTopics()...)
	if err != nil {
		return nil, fmt.Errorf("ingest: topics of group %s: %w", s.options.Group, err)
	}
	assigned := group.AssignedPartitions()
	var missing []place
	topics.EachPartition(func(p kadm.PartitionDetail) {
		if p.Err == nil && !assigned.Lookup(p.Topic, p.Partition) {
			missing = append(missing, place{p.Topic, p.Partition})
		}
	})
	return missing, nil
}
