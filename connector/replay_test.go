package connector

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/store/batch"
	"nyala/store/schema"
)

// lettersOf writes dead letters of partition 0 of the topic, as if a nyala that could not read them had: value(offset) is
// what each record was.
func (c *cluster) lettersOf(id string, from, to int, value func(offset int) string) {
	c.t.Helper()
	rows := ingest.SystemRows(schema.DeadLetters())
	for at := from; at < to; at++ {
		for i, v := range []schema.Value{
			{Bytes: append([]byte{7}, make([]byte, 15)...)}, {}, {Int: int64(at)}, {Bytes: []byte("app")}, {Bytes: []byte("app")}, {Int: 5_000_000},
			schema.Null, {Bytes: []byte(value(at))}, schema.Null, {Bytes: []byte("decode")}, {Bytes: []byte("bad_type")}, {Int: 6_000_000},
		} {
			rows.Columns[i].AppendValue(v)
		}
	}
	w := ingest.TableWriter{Router: c.nodes[id].router, Write: c.nodes[id].writeRows}
	if err := w.WriteRows(context.Background(), schema.DeadLettersTable, rows, batch.Insert); err != nil {
		c.t.Fatal(err)
	}
}

// table reads all of a table as text, a line for each row.
func (c *cluster) table(id, table string, columns ...string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := c.nodes[id].read(ctx, table, query.Request{Columns: columns, Order: query.OrderKey})
	if err != nil {
		return nil, err
	}
	defer r.stream.Close()
	return tableRows(r.stream)
}

// tableRows reads rows as texts.
func tableRows(in query.Stream) (out []string, err error) {
	err = pour(in, func(b *batch.Batch) error {
		for row := range b.Rows {
			var cells []string
			for i := range b.Columns {
				cells = append(cells, string(schema.AppendText(nil, b.Columns[i].Type, b.Columns[i].Value(row))))
			}
			out = append(out, strings.Join(cells, "|"))
		}
		return nil
	})
	return out, err
}

func (c *cluster) awaitTables(id string) {
	c.t.Helper()
	for range 600 {
		if n := c.nodes[id]; n != nil {
			if l, err := n.router.Layout("events"); err == nil && len(l.Ranges) > 0 {
				if _, err := n.router.Layout(schema.ReplaysTable); err == nil && n.notReady() == "" {
					return
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("node %s has no tables", id)
}

// replayOn replays on a node, with a limit of the bubble's time, and returns the last that it said.
func (c *cluster) replayOn(id string, request replayRequest) (api.Replay, error) {
	return c.replayOf(c.nodes[id], request)
}

func (c *cluster) replayOf(n *Node, request replayRequest) (api.Replay, error) {
	r, err := n.newReplay(request, func(api.Replay) error { return nil })
	if err != nil {
		return api.Replay{}, err
	}
	return r.runWithin(time.Minute)
}

// runWithin replays until its end, that of its node, or the limit. Hooks find the function that cancels it at cancelKey.
func (r *replay) runWithin(limit time.Duration) (api.Replay, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ctx = context.WithValue(ctx, cancelKey{}, cancel)
	stop := context.AfterFunc(r.n.ctx, cancel) // as the HTTP server has it
	defer stop()
	last := r.runAll(ctx)
	if last.Error != "" {
		return last, errors.New(last.Error)
	}
	return last, nil
}

func goodEvent(at int) string {
	return fmt.Sprintf(`{"tenant":%d,"id":%d,"text":"letter %d"}`, at%3, at, at)
}

// mixedEvent is what can be a row, but every fifth.
func mixedEvent(at int) string {
	if at%5 == 4 {
		return fmt.Sprintf(`{"tenant":"none","id":%d}`, at)
	}
	return goodEvent(at)
}

func TestReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.awaitTables("n1")
		c.lettersOf("n1", 0, 100, mixedEvent)
		dry, err := c.replayOn("n1", replayRequest{dry: true})
		if err != nil || dry.Letters != 100 || dry.Replayed != 80 || len(dry.Sample) != 100 || len(dry.Refused) != 1 {
			t.Errorf("dry run: got %+v, %v", dry, err)
		}
		if rows, err := c.table("n1", schema.ReplaysTable); err != nil || len(rows) > 0 {
			t.Errorf("a dry run wrote %q, %v", rows, err)
		}
		got, err := c.replayOn("n1", replayRequest{where: []string{"offset >= 10", "offset < 30"}})
		if err != nil || got.Letters != 20 || got.Replayed != 16 || got.Refused[0].Letters != 4 || got.Refused[0].Code != "bad_type" {
			t.Errorf("part: got %+v, %v", got, err)
		}
		if got, err = c.replayOn("n1", replayRequest{limit: 5}); err != nil || got.Letters != 5 || got.Replayed != 4 {
			t.Errorf("limited: got %+v, %v", got, err)
		}
		if got, err = c.replayOn("n1", replayRequest{}); err != nil || got.Letters != 80 || got.Replayed != 60 {
			t.Errorf("rest: got %+v, %v", got, err)
		}
		if got, err = c.replayOn("n1", replayRequest{}); err != nil || got.Letters != 20 || got.Replayed != 0 || got.Finished != 0 {
			t.Errorf("again: got %+v, %v", got, err)
		}
		rows, err := c.table("n1", "events")
		if err != nil || len(rows) != 80 || rows[0] != "0|0|letter 0|0|0" {
			t.Errorf("got %d rows, %q, %v", len(rows), rows[:1], err)
		}
		marks, err := c.table("n1", schema.ReplaysTable, "offset", "operation", "row", "note", "sequence", "connector", "topic", "table")
		if err != nil || len(marks) != 80 || marks[0] != "0|upsert|NULL|NULL|0|app|app|events" {
			t.Errorf("got %d marks, %q, %v", len(marks), marks[:1], err)
		}
		c.stopAll()
	})
}

var errInterrupted = errors.New("interrupted by the test")

// replaySeeds are few, as each has four power cuts; -replay.seeds runs more.
var (
	replaySeeds = flag.Int("replay.seeds", 10, "seeds of TestReplayInterrupted")
	replaySeed  = flag.Int("replay.seed", 0, "the first of them")
)

// TestReplayInterrupted replays from two nodes at once, again and again, interrupted at random steps, while nodes lose their
// power. In between rows of replayed letters are overwritten: a letter that was applied twice would bring the old one back.
func TestReplayInterrupted(t *testing.T) {
	var mu sync.Mutex
	all := map[string]int{}
	for seed := *replaySeed; seed < *replaySeed+*replaySeeds; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := &replayTest{t: t, rng: rand.New(rand.NewPCG(uint64(seed), 9)), steps: map[string]int{}, newer: map[string]bool{}}
				i.run(uint64(seed))
				mu.Lock()
				defer mu.Unlock()
				for step, n := range i.steps {
					all[step] += n
				}
			})
		})
	}
	for _, step := range []string{"judged", "claimed", "entry", "put", "marked"} {
		if *replaySeeds >= 10 && all[step] == 0 {
			t.Errorf("no replay was interrupted after %q: %v", step, all)
		}
	}
	t.Logf("interrupted after %v", all)
}

type replayTest struct {
	t     *testing.T
	c     *cluster
	newer map[string]bool // ids of rows that were overwritten

	sync.Mutex
	rng   *rand.Rand
	calm  bool
	steps map[string]int // at which replays were interrupted
}

type cancelKey struct{}

// after lets one in eight steps be the last, all after a time in which others go on.
func (i *replayTest) after(ctx context.Context, step string) error {
	i.Lock()
	wait, end, calm := time.Duration(i.rng.IntN(500))*time.Millisecond, i.rng.IntN(8) == 0, i.calm
	i.Unlock()
	if calm {
		return nil
	}
	sleep(ctx, wait)
	if end && ctx.Err() == nil {
		i.Lock()
		i.steps[step]++
		i.Unlock()
		return interrupt(ctx)
	}
	return ctx.Err()
}

// interrupt ends a replay from a hook. The error alone would be tried again where an entry is written.
func interrupt(ctx context.Context) error {
	ctx.Value(cancelKey{}).(context.CancelFunc)()
	return errInterrupted
}

const replayedLetters = 300

func (i *replayTest) run(seed uint64) {
	i.c = newCluster(i.t, 3, 3, seed)
	c := i.c
	c.replays = replayBreaks{letters: 60, entryRows: 11, after: i.after}
	c.startAll()
	c.awaitTables("n1")
	c.lettersOf("n1", 0, replayedLetters, mixedEvent)
	for range 4 {
		i.round()
	}
	i.Lock()
	i.calm = true
	i.Unlock()
	for _, id := range []string{"n3", "n1"} {
		if got, err := c.replayOn(id, replayRequest{}); err != nil || id == "n1" && (got.Replayed != 0 || got.Finished != 0) {
			i.t.Fatalf("the last replay on %s: got %+v, %v", id, got, err)
		}
	}
	i.check()
	c.stopAll()
}

// round is two replays at once, and a power cut in the middle of them.
func (i *replayTest) round() {
	c := i.c
	var wg sync.WaitGroup
	for _, id := range []string{"n1", "n2"} {
		n := c.nodes[id]
		wg.Go(func() {
			for range 3 {
				_, _ = c.replayOf(n, replayRequest{})
			}
		})
	}
	i.overwriteFor("n3", 1+c.rng.IntN(10))
	victim := []string{"n1", "n2", "n3"}[c.rng.IntN(3)]
	c.kill(victim, c.rng.Float64())
	i.overwriteFor("n"+string(victim[1]%3+'1'), 1+c.rng.IntN(5))
	wg.Wait()
	c.start(victim)
	c.awaitTables("n1")
	c.awaitTables("n2")
	c.awaitTables("n3")
}

func (i *replayTest) overwriteFor(id string, times int) {
	i.t.Helper()
	for range times {
		time.Sleep(time.Duration(i.c.rng.IntN(500)) * time.Millisecond)
		i.overwrite(id)
	}
}

// overwrite gives some rows of replayed letters a newer version.
func (i *replayTest) overwrite(id string) {
	i.t.Helper()
	old := i.texts(id)
	n := i.c.nodes[id]
	l, err := n.router.Layout("events")
	if err != nil {
		i.t.Fatal(err)
	}
	rows := ingest.SystemRows(l.Schema)
	for at := range replayedLetters {
		name := fmt.Sprint(at)
		if strings.HasPrefix(old[name], "letter") && i.c.rng.IntN(3) == 0 {
			i.newer[name] = true
			for k, v := range []schema.Value{{Int: int64(at % 3)}, {Int: int64(at)}, {Bytes: []byte("newer")}, {}, {}} {
				rows.Columns[k].AppendValue(v)
			}
		}
	}
	if rows.Rows() == 0 {
		return
	}
	w := ingest.TableWriter{Router: n.router, Write: n.writeRows}
	if err := w.WriteRows(context.Background(), "events", rows, batch.Upsert); err != nil {
		i.t.Fatal(err)
	}
}

// texts is what each row's text is, by id, on a node once it answers.
func (i *replayTest) texts(id string) map[string]string {
	i.t.Helper()
	var rows []string
	var err error
	for range 100 {
		if rows, err = i.c.table(id, "events", "id", "text"); err == nil {
			break
		}
	}
	if err != nil {
		i.t.Fatal(err)
	}
	out := map[string]string{}
	for _, r := range rows {
		name, text, _ := strings.Cut(r, "|")
		out[name] = text
	}
	return out
}

func (i *replayTest) check() {
	i.t.Helper()
	rows, want := i.texts("n2"), 0
	for at := range replayedLetters {
		text, name := "letter "+fmt.Sprint(at), fmt.Sprint(at)
		if i.newer[name] {
			text = "newer"
		}
		if at%5 == 4 {
			text = ""
		} else {
			want++
		}
		if rows[name] != text {
			i.t.Errorf("row %d: got %q, want %q", at, rows[name], text)
		}
	}
	marks, err := i.c.table("n2", schema.ReplaysTable, "offset", "row", "replayed")
	if err != nil || len(marks) != want {
		i.t.Fatalf("got %d marks, %v, want %d", len(marks), err, want)
	}
	for _, m := range marks {
		if cells := strings.Split(m, "|"); cells[1] != "NULL" || cells[2] == "NULL" {
			i.t.Errorf("letter %s is not marked: %q", cells[0], m)
		}
	}
}
