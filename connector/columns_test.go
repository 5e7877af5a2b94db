package connector

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/configs"
	"nyala/connector/query"
)

// extended is a configuration with two more columns: one that records have a field for, and one with a default.
func extended(c *configs.Config) *configs.Config {
	out := *c
	out.Tables = slices.Clone(c.Tables)
	out.Tables[0].Columns = append(slices.Clip(out.Tables[0].Columns),
		configs.Column{Name: "extra", Type: configs.Type{Kind: "string"}, Nullable: true},
		configs.Column{Name: "level", Type: configs.Type{Kind: "int32"}, Default: int64(3)})
	return &out
}

// produceLevels produces records with fields of the columns that come.
func (c *cluster) produceLevels(from, to int) {
	c.t.Helper()
	var values []string
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf(`{"tenant":1,"id":%d,"text":"text %d","extra":"extra %d","level":%d}`, i, i, i, 10+i%5))
	}
	c.produceValues(values...)
}

// checkLevels reads the columns that came, at a time or now, and wants them to be what the decision on each record made of it. It
// returns how many rows have values there.
func (c *cluster) checkLevels(id string, at int64, want int) (fresh int) {
	c.t.Helper()
	s := &simulation{cluster: c}
	in, _, err := s.readAt(id, "events", at, []string{"id", "extra", "level", "kafka_partition", "kafka_offset"}, 20*time.Second)
	if err != nil {
		c.t.Fatalf("%s at %d: %v", id, at, err)
	}
	defer in.Close()
	rows, err := tableRows(in)
	if err != nil || len(rows) != want {
		c.t.Fatalf("%s at %d: %d rows, %v, want %d", id, at, len(rows), err, want)
	}
	k, _ := c.nodes[id].catalog.Snapshot().Connector("app")
	topic := c.broker.TopicInfo("app").TopicID
	for _, r := range rows {
		cells := strings.Split(r, "|")
		n, _ := strconv.Atoi(cells[0])
		partition, _ := strconv.Atoi(cells[3])
		offset, _ := strconv.ParseInt(cells[4], 10, 64)
		extra, level := "NULL", "3"
		for _, p := range k.Decision().From {
			if p.Topic == topic && int(p.Partition) == partition && offset >= p.Next {
				extra, level = fmt.Sprint("extra ", n), fmt.Sprint(10+n%5)
				fresh++
			}
		}
		if cells[1] != extra || cells[2] != level {
			c.t.Fatalf("%s at %d: row %s, want %q and %s", id, at, r, extra, level)
		}
	}
	return fresh
}

// TestColumnsAppended restarts nodes one after the other with two more columns in their files, while records come in that have
// fields for them all the time. Nothing changes before the last one has them; then one offset of each partition divides rows without
// from rows with values, in files of before and after and in memory, on every node, at every time that is read.
func TestColumnsAppended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.flush = FlushOptions{Bytes: 64 << 10, Age: 2 * time.Second}
		c.startAll()
		c.produceLevels(0, 300)
		c.await("n1", 300)
		time.Sleep(5 * time.Second) // all is in files
		before := time.Now().UnixMicro()
		c.config = extended(c.config)
		for i, id := range []string{"n1", "n2", "n3"} {
			if i > 0 {
				c.wantWarning("n3", "waiting for "+strings.Join([]string{"n1", "n2", "n3"}[i:], ", ")+" to be restarted")
				if table, _ := c.nodes["n1"].catalog.Snapshot().Table("events"); table.Newest().Version != 1 {
					t.Fatalf("the columns came before %s was restarted", id)
				}
			}
			if err := c.nodes[id].Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
			c.start(id)
			c.awaitTables(id)
			c.produceLevels(300+50*i, 350+50*i)
		}
		c.changeTo(c.config, 2)
		c.produceLevels(450, 600)
		c.await("n1", 600)
		for _, id := range []string{"n1", "n2", "n3"} {
			if fresh := c.checkLevels(id, 0, 600); fresh < 150 || fresh > 300 {
				t.Errorf("%s: %d of 600 rows have values", id, fresh)
			}
			if fresh := c.checkLevels(id, before, 300); fresh != 0 {
				t.Errorf("%s: %d rows had values before there were columns", id, fresh)
			}
		}
		time.Sleep(5 * time.Second)
		fresh := c.checkLevels("n2", 0, 600)
		where := func(condition string) int {
			in, err := c.nodes["n3"].read(context.Background(), "events", query.Request{Columns: []string{"level"}, Where: []string{condition}})
			if err != nil {
				t.Fatal(err)
			}
			defer in.stream.Close()
			rows, err := tableRows(in.stream)
			if err != nil {
				t.Fatal(err)
			}
			return len(rows)
		}
		if null, low := where("extra is null"), where("level = 3"); null != 600-fresh || low != 600-fresh {
			t.Errorf("%d rows have values; of 600 the conditions find %d without, and %d with the default", fresh, null, low)
		}
		s, err := c.nodes["n1"].snapshot(context.Background(), "events", 0)
		if err != nil || s.Schema.Version != 2 || len(s.Schema.Columns) != 7 {
			t.Errorf("an export has %+v, %v", s.Schema, err)
		}
		table, _ := c.nodes["n2"].catalog.Snapshot().Table("events")
		if d := tableDetail(table).Schema.Columns; len(d) != 7 || d[5].Name != "extra" {
			t.Errorf("columns as listed: %v", d)
		}
		c.wantExact("n2", "events", 600)
		c.stopAll()
	})
}

// TestColumnsAndReplay interrupts a replay of dead letters behind its claims. Columns come; the replay that finishes it writes what was
// claimed, without values there, and the letters that nobody had claimed are rows under the newest columns.
func TestColumnsAndReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.config = refusing(c.config, true)
		interrupt := true
		c.replays = replayBreaks{letters: 30, after: func(_ context.Context, step string) error {
			if step == "claimed" && interrupt {
				return errInterrupted
			}
			return nil
		}}
		c.startAll()
		c.produceExtra(100)
		c.await("n1", 0)
		c.awaitLetters("n1", 100)
		c.changeTo(refusing(c.config, false), 2)
		if _, err := c.replayOn("n2", replayRequest{}); err == nil {
			t.Fatal("the replay was not interrupted")
		}
		interrupt = false
		c.changeTo(extended(c.config), 3)
		got, err := c.replayOn("n3", replayRequest{})
		if err != nil || got.Finished != 30 || got.Replayed != 70 {
			t.Fatalf("after the change: got %+v, %v", got, err)
		}
		rows, err := c.table("n1", "events", "extra", "level")
		if err != nil || len(rows) != 100 {
			t.Fatalf("got %d rows, %v", len(rows), err)
		}
		without := 0
		for _, r := range rows {
			if r == "NULL|3" {
				without++
			}
		}
		if without != 30 {
			t.Errorf("%d rows are as they were claimed, want 30", without)
		}
		if v, err := c.verify("n1", "events"); err != nil || v.result.Differences != 0 || v.result.Rows != 100 {
			t.Errorf("verify: %+v, %v", v, err)
		}
		c.stopAll()
	})
}

// TestColumnsRefused gives a node definitions that no table can be changed to: they are named, and the table stays what it is.
func TestColumnsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.awaitTables("n1")
		first := c.config
		for want, change := range map[string]func(columns []configs.Column) []configs.Column{
			"column text is gone": func(l []configs.Column) []configs.Column { return slices.Delete(l, 2, 3) },
			"column text binary nullable (it has text string nullable)": func(l []configs.Column) []configs.Column {
				l[2].Type.Kind = "binary"
				return l
			},
			"new column extra, which is not behind all others": func(l []configs.Column) []configs.Column {
				return slices.Insert(l, 2, configs.Column{Name: "extra", Type: configs.Type{Kind: "string"}, Nullable: true})
			},
			"column extra was added and is neither nullable nor has it a default": func(l []configs.Column) []configs.Column {
				return append(l, configs.Column{Name: "extra", Type: configs.Type{Kind: "string"}})
			},
		} {
			next := *first
			next.Tables = slices.Clone(first.Tables)
			next.Tables[0].Columns = change(slices.Clone(first.Tables[0].Columns))
			c.kill("n1", 1)
			c.config = &next
			c.start("n1")
			found := false
			for range 200 {
				if found = strings.Contains(c.nodes["n1"].faultOf("configuration"), want); found {
					break
				}
				time.Sleep(100 * time.Millisecond)
			}
			if table, _ := c.nodes["n1"].catalog.Snapshot().Table("events"); !found || table.Newest().Version != 1 {
				t.Errorf("got %q, want %q; schema version %d", c.nodes["n1"].faultOf("configuration"), want, table.Newest().Version)
			}
		}
		c.stopAll()
	})
}

func (c *cluster) wantWarning(id, words string) {
	c.t.Helper()
	var warnings []string
	for range 100 {
		warnings = c.nodes[id].status(context.Background()).Warnings
		if slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, words) }) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Errorf("warnings %q, want %q", warnings, words)
}
