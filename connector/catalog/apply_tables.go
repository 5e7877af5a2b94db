package catalog

import (
	"cmp"
	"math"
	"slices"
	"strings"
)

func tabletID(t *Tablet) TabletID { return t.ID }
func tableID(t *Table) TableID    { return t.ID }

func (cmd CreateTable) apply(c *change) Result {
	if err := cmd.Spec.Validate(); err != nil {
		return refuse(Malformed, "%v", err)
	}
	if old, ok := c.view().Table(cmd.Spec.Name); ok {
		d := differences(cmd.Spec, old.TableSpec)
		for _, n := range appended(cmd.Spec, old.TableSpec) {
			d = append(d, "new column "+n.Name)
		}
		if len(d) > 0 {
			return refuse(TableExists, "table %s exists, and differs in %s", old.Name, strings.Join(d, ", "))
		}
		r := c.unchanged()
		r.Table = old.ID
		return r
	}
	t := &Table{ID: c.view().NextTable, Created: c.now, TableSpec: cmd.Spec, Partitions: []Partition{}, Floor: math.MinInt64}
	if cmd.Spec.Schema.Range == nil {
		if r, ok := c.makePartition(t, 0, 0); !ok {
			return r
		}
	}
	s := c.edit()
	s.NextTable++
	s.Tables = put(s.Tables, t, tableID)
	r := c.done()
	r.Table = t.ID
	return r
}

// makePartition puts the partition into t, which no view has yet, and its tablets into the state. When
// it refuses, nothing has changed.
func (c *change) makePartition(t *Table, low, high int64) (refusal Result, ok bool) {
	placed, err := Place(c.view().Nodes, t.Replicas, t.Schema.Buckets, c.view().Tablets)
	if err != nil {
		return refuse(TooFewNodes, "table %s: %v", t.Name, err), false
	}
	s := c.edit()
	p := Partition{Low: low, High: high, Created: c.now}
	for bucket, where := range placed {
		tablet := &Tablet{
			ID: s.NextTablet, Table: t.ID, Bucket: bucket, Low: low, High: high,
			Bootstrap: where.Replicas, Leader: where.Leader, Fences: s.fences(t.Name),
			Schema: t.Newest().Version,
		}
		for _, m := range where.Replicas {
			tablet.Replicas = append(tablet.Replicas, Replica{Member: m, Voter: true})
		}
		s.NextTablet++
		s.Tablets = put(s.Tablets, tablet, tabletID)
		p.Tablets = append(p.Tablets, tablet.ID)
	}
	i, _ := slices.BinarySearchFunc(t.Partitions, low, func(p Partition, low int64) int { return cmp.Compare(p.Low, low) })
	t.Partitions = slices.Insert(slices.Clone(t.Partitions), i, p)
	return Result{}, true
}

func (cmd EnsureRange) apply(c *change) Result {
	t, ok := c.view().Table(cmd.Table)
	if !ok {
		return refuse(TableNotFound, "there is no table %s", cmd.Table)
	}
	if p, ok := t.Partition(cmd.Value); ok {
		return partitionResult(c.unchanged(), t, p)
	}
	low := t.Schema.Range.RangeOf(cmd.Value)
	high := low + t.Schema.Range.Every
	_, refused := slices.BinarySearch(t.Refused, low)
	switch {
	case low > cmd.Value || high <= low: // one of them wrapped around
		return refuse(OutOfBounds, "table %s: the range of %d has no bounds", t.Name, cmd.Value)
	case low < t.Floor:
		return refuse(BelowFloor, "table %s: the range of %d is below %d, where rows are no longer kept", t.Name, cmd.Value, t.Floor)
	case refused:
		return refuse(TooManyRanges, "table %s: the range from %d was refused when the table had %d ranges", t.Name, low, t.RangesMax)
	case len(t.Partitions) >= t.RangesMax && !cmd.Scheduled:
		return c.refuseRange(t, low)
	}
	next := *t
	if r, ok := c.makePartition(&next, low, high); !ok {
		return r
	}
	s := c.edit()
	s.Tables = put(s.Tables, &next, tableID)
	p, ok := next.Partition(cmd.Value)
	must(ok, "table %s: no range for %d after it was made", t.Name, cmd.Value)
	return partitionResult(c.done(), t, p)
}

func partitionResult(r Result, t *Table, p Partition) Result {
	r.Table, r.Low, r.High, r.Tablets = t.ID, p.Low, p.High, p.Tablets
	return r
}

// refuseRange remembers the refusal, so that it holds for ever.
func (c *change) refuseRange(t *Table, low int64) Result {
	if len(t.Refused) >= refusedMax {
		return refuse(RangesFull, "table %s has its limit of %d ranges, and refused %d others", t.Name, t.RangesMax, refusedMax)
	}
	next := *t
	i, _ := slices.BinarySearch(t.Refused, low)
	next.Refused = slices.Insert(slices.Clone(t.Refused), i, low)
	s := c.edit()
	s.Tables = put(s.Tables, &next, tableID)
	r := refuse(TooManyRanges, "table %s has its limit of %d ranges", t.Name, t.RangesMax)
	r.Generation = s.Generation
	return r
}

func (cmd DropRanges) apply(c *change) Result {
	t, ok := c.view().Table(cmd.Table)
	switch {
	case !ok:
		return refuse(TableNotFound, "there is no table %s", cmd.Table)
	case t.Schema.Range == nil || t.Schema.Range.RangeOf(cmd.Below) != cmd.Below:
		return refuse(Malformed, "table %s: no range begins at %d", t.Name, cmd.Below)
	case cmd.Below <= t.Floor:
		return c.unchanged()
	}
	next := *t
	next.Floor = cmd.Below
	kept, _ := slices.BinarySearchFunc(t.Partitions, cmd.Below, func(p Partition, v int64) int { return cmp.Compare(p.Low, v) })
	next.Partitions = slices.Clone(t.Partitions[kept:])
	above, _ := slices.BinarySearch(t.Refused, cmd.Below)
	next.Refused = slices.Clone(t.Refused[above:])
	s := c.edit()
	for _, p := range t.Partitions[:kept] {
		s.dropTablets(p.Tablets)
	}
	s.Tables = put(s.Tables, &next, tableID)
	return c.done()
}

// dropTablets works on a copy that edit gave.
func (s *Snapshot) dropTablets(ids []TabletID) {
	for _, id := range ids {
		i, ok := search(s.Tablets, id, tabletID)
		must(ok, "tablet %d of a partition is not listed", id)
		s.Tablets = slices.Delete(s.Tablets, i, i+1)
	}
}

func (cmd DropTable) apply(c *change) Result {
	t, ok := c.view().Table(cmd.Table)
	if !ok {
		return refuse(TableNotFound, "there is no table %s", cmd.Table)
	}
	if strings.HasPrefix(t.Name, systemPrefix) {
		return refuse(TableInUse, "table %s belongs to the system", t.Name)
	}
	if t.Change != nil {
		return refuse(TableInUse, "the columns of table %s are being changed", t.Name)
	}
	for _, o := range c.view().Connectors {
		if o.Table == t.Name && o.Desired == Running {
			return refuse(TableInUse, "table %s is written by the running connector %s", t.Name, o.Name)
		}
	}
	s := c.edit()
	for _, p := range t.Partitions {
		s.dropTablets(p.Tablets)
	}
	i, _ := search(s.Tables, t.ID, tableID)
	s.Tables = slices.Delete(s.Tables, i, i+1)
	for _, k := range s.writers(t.Name) {
		s.Connectors = put(s.Connectors, k.withoutTable(), connectorName)
	}
	r := c.done()
	r.Table = t.ID
	return r
}
