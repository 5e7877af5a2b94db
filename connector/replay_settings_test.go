package connector

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"nyala/configs"
	"nyala/store/schema"
)

// changeTo restarts all nodes with another configuration and waits until its settings are in force.
func (c *cluster) changeTo(config *configs.Config, version uint32) {
	c.t.Helper()
	c.config = config
	for _, id := range []string{"n1", "n2", "n3"} {
		if err := c.nodes[id].Stop(context.Background()); err != nil {
			c.t.Fatal(err)
		}
		c.start(id)
		c.awaitTables(id)
	}
	for range 1000 {
		in := 0
		for _, n := range c.nodes {
			if k, ok := n.catalog.Snapshot().Connector("app"); ok && k.Change == nil && k.Decision().Version == version {
				in++
			}
		}
		if in == len(c.nodes) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("decision version %d does not come into force", version)
}

// naming is a configuration where the text comes from another field.
func naming(c *configs.Config, path string) *configs.Config {
	out := refusing(c, false)
	out.Connectors[0].Fields = []configs.Field{{Column: "text", Path: path}}
	return out
}

// TestReplayAfterChange has records with a field that the settings refuse. They become rows once the settings take them, by a
// replay that is interrupted behind its claims; then the settings change again, and the replay that finishes it still writes what
// was claimed. Letters that nobody had claimed are decided on anew.
func TestReplayAfterChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.config = refusing(c.config, true)
		c.replays = replayBreaks{letters: 30, after: func(_ context.Context, step string) error {
			if step == "claimed" && c.config.Connectors[0].Fields == nil {
				return errInterrupted
			}
			return nil
		}}
		c.startAll()
		c.produceExtra(100)
		c.await("n1", 0)
		c.awaitLetters("n1", 100)
		if got, err := c.replayOn("n2", replayRequest{}); err != nil || got.Replayed != 0 || got.Refused[0].Code != "unknown_field" {
			t.Fatalf("before the change: got %+v, %v", got, err)
		}
		c.changeTo(refusing(c.config, false), 2)
		if got, err := c.replayOn("n2", replayRequest{}); err == nil || !strings.Contains(err.Error(), errInterrupted.Error()) {
			t.Fatalf("a replay that is interrupted: got %+v, %v", got, err)
		}
		c.await("n1", 0)
		c.changeTo(naming(c.config, "extra"), 3)
		got, err := c.replayOn("n3", replayRequest{})
		if err != nil || got.Finished != 30 || got.Replayed != 70 {
			t.Fatalf("after the second change: got %+v, %v", got, err)
		}
		rows, err := c.table("n1", "events", "id", "text")
		if err != nil || len(rows) != 100 {
			t.Fatalf("got %d rows, %v", len(rows), err)
		}
		texts, extras := 0, 0
		for _, r := range rows {
			id, text, _ := strings.Cut(r, "|")
			texts += strings.Count(text, "text "+id)
			extras += strings.Count(text, "extra "+id)
		}
		if texts != 30 || extras != 70 {
			t.Errorf("%d rows are by the settings at their claim, want 30; %d by the newest, want 70", texts, extras)
		}
		c.stopAll()
	})
}

func (c *cluster) awaitLetters(id string, want int) {
	c.t.Helper()
	for range 600 {
		if rows, err := c.table(id, schema.DeadLettersTable, "offset"); err == nil && len(rows) == want {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("no %d letters", want)
}

// produceExtra produces records with a field that no column takes.
func (c *cluster) produceExtra(n int) {
	c.t.Helper()
	var values []string
	for i := range n {
		values = append(values, fmt.Sprintf(`{"tenant":1,"id":%d,"text":"text %d","extra":"extra %d"}`, i, i, i))
	}
	c.produceValues(values...)
}
