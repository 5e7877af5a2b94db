package connector

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"
	"testing/synctest"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/ingest"
	"nyala/store/batch"
	"nyala/store/schema"
)

// verification is what a client got.
type verification struct {
	steps       []string
	differences []api.Difference
	result      *api.Verification
}

// verify asks a node over HTTP to compare a table with its topics.
func (c *cluster) verify(id, table string) (*verification, error) {
	return c.verifyWithin(context.Background(), id, table)
}

func (c *cluster) verifyWithin(ctx context.Context, id, table string) (*verification, error) {
	client := api.Client{Server: id + ":7481", HTTP: c.nodes[id].http}
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/verify", url.Values{"values": {"true"}}, nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	v := &verification{}
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		var e api.VerifyEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, err
		}
		switch {
		case e.Progress != nil && (len(v.steps) == 0 || v.steps[len(v.steps)-1] != e.Progress.Step):
			v.steps = append(v.steps, e.Progress.Step)
		case e.Difference != nil:
			v.differences = append(v.differences, *e.Difference)
		case e.Result != nil:
			v.result = e.Result
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if text := res.Trailer.Get(api.ErrorTrailer); text != "" {
		return nil, errors.New(text)
	}
	if v.result == nil {
		return nil, errors.New("no result")
	}
	return v, nil
}

// wantExact verifies and wants everything to be checked and right.
func (c *cluster) wantExact(id, table string, rows int64) *verification {
	c.t.Helper()
	v, err := c.verify(id, table)
	if err != nil {
		c.t.Fatalf("verify: %v", err)
	}
	if r := v.result; !r.Exact || !r.Complete || r.Differences != 0 || r.Rows != rows {
		c.t.Fatalf("verify: %s, differences %s, want %d rows and no difference", text(v.result), text(v.differences), rows)
	}
	return v
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(b)
}

func TestVerifyExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 2000)
		c.await("n1", 2000)
		c.kill("n2", 0.5)
		c.produce(2000, 3000)
		c.await("n1", 3000)
		c.start("n2")
		c.awaitHealthy("n1")
		time.Sleep(2 * time.Second)
		for _, id := range []string{"n1", "n2", "n3"} {
			v := c.wantExact(id, "events", 3000)
			if v.result.Records != 3000 || len(v.result.Sources) != 4 || v.result.Open != 0 {
				t.Errorf("on %s: %s", id, text(v.result))
			}
		}
		c.stopAll()
	})
}

// write puts a row into the tablet where its key belongs, as a direct writer without a source would.
func (c *cluster) write(id, table string, op batch.Op, row ...schema.Value) {
	c.t.Helper()
	n := c.nodes[id]
	view, ok := n.catalog.Snapshot().Table(table)
	if !ok {
		c.t.Fatalf("no table %s", table)
	}
	rows := batch.NewBuilder(view.Schema.Columns, 1)
	for i, v := range row {
		rows.Columns[i].AppendValue(v)
	}
	b := rows.View()
	hash := make([]uint64, 1)
	batch.HashRows(view.Schema, &b, 0, 1, hash)
	p := view.Partitions[0]
	if r := view.Schema.Range; r != nil {
		if p, ok = view.Partition(b.Columns[r.Column].Int(0)); !ok {
			c.t.Fatalf("no range for %v", row)
		}
	}
	tablet := p.Tablets[schema.BucketOf(hash[0], len(p.Tablets))]
	c.writeTo(id, tablet, view.Schema.Version, op, b)
}

func (c *cluster) writeTo(id string, tablet catalog.TabletID, version uint32, op batch.Op, b batch.Batch) {
	c.t.Helper()
	entry := batch.AppendWrite(nil, &batch.Write{
		Header: batch.Header{Kind: batch.KindWrite, SchemaVersion: version}, Batches: []batch.Batch{b}, Refs: []batch.Ref{{}}, Op: op,
	})
	answer, err := c.nodes[id].writeRows(context.Background(), uint64(tablet), entry)
	if err != nil || answer.Status != ingest.Applied {
		c.t.Fatalf("write to tablet %d: %+v, %v", tablet, answer, err)
	}
}

func number(v int64) schema.Value    { return schema.Value{Int: v} }
func words(text string) schema.Value { return schema.Value{Bytes: []byte(text)} }

// eventAt is the row of the table events that a record makes.
func eventAt(id int64, text string, partition, offset int64) []schema.Value {
	return []schema.Value{number(id % 7), number(id), words(text), number(partition), number(offset)}
}

// where finds a record of produce: partition and offset of an id.
func (c *cluster) where(id string, event int64) (partition, offset int64) {
	c.t.Helper()
	r, err := c.nodes[id].read(context.Background(), "events", query.Request{
		Columns: []string{"kafka_partition", "kafka_offset"}, Where: []string{fmt.Sprintf("id = %d", event)}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.stream.Close()
	b, err := r.stream.Next()
	if err != nil || b.Rows != 1 {
		c.t.Fatalf("event %d: %v", event, err)
	}
	return b.Columns[0].Int(0), b.Columns[1].Int(0)
}

// TestVerifyNamesDifferences changes, removes, adds and misplaces rows behind the back of ingest.
func TestVerifyNamesDifferences(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 500)
		c.await("n1", 500)
		time.Sleep(2 * time.Second)
		p1, o1 := c.where("n1", 100)
		p2, o2 := c.where("n1", 200)
		c.write("n1", "events", batch.Upsert, eventAt(100, "forged", p1, o1)...)
		c.write("n2", "events", batch.Delete, eventAt(200, "", 0, 0)...)
		c.write("n3", "events", batch.Insert, eventAt(1000, "of nobody", 1, 7)...)
		v, err := c.verify("n2", "events")
		if err != nil {
			t.Fatal(err)
		}
		if r := v.result; r.Exact || r.Complete || r.Differences != 3 || r.Rows != 500 || r.NotCheckable != 0 {
			t.Errorf("result %s", text(r))
		}
		got := map[string]string{}
		for _, d := range v.differences {
			at := "nowhere"
			if d.Partition != nil {
				at = fmt.Sprintf("%s %d/%d", d.Topic, *d.Partition, *d.Offset)
			}
			got[d.Kind] = fmt.Sprintf("%s at %s, columns %v, record %q, row %q", d.Key, at, d.Columns, d.Record["text"], d.Row["text"])
		}
		for kind, want := range map[string]string{
			api.OtherRow:   fmt.Sprintf(`tenant=2, id=100 at app %d/%d, columns [text], record "event 100", row "forged"`, p1, o1),
			api.MissingRow: fmt.Sprintf(`tenant=4, id=200 at app %d/%d, columns [], record "event 200", row ""`, p2, o2),
			api.ExtraRow:   `tenant=6, id=1000 at nowhere, columns [], record "", row "of nobody"`,
		} {
			if got[kind] != want {
				t.Errorf("%s: got %s, want %s", kind, got[kind], want)
			}
		}
		c.stopAll()
	})
}

// verifySome compares a table with its topic in the middle of it all, if that is possible, and never finds a difference.
func (s *simulation) verifySome(step int) {
	st, id := s.streams[step%len(s.streams)], s.ids()[step%len(s.ids())]
	if s.nodes[id] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	v, err := s.verifyWithin(ctx, id, st.name)
	if err != nil {
		s.note("verify %s on %s: %v", st.name, id, err)
		return
	}
	s.note("verify %s on %s: %s", st.name, id, text(v.result))
	if !v.result.Exact {
		s.t.Fatalf("verify %s on %s: %s, differences %s", st.name, id, text(v.result), text(v.differences))
	}
}

// verifyAll wants every table to be exact; only what Kafka has deleted may be beyond proof.
func (s *simulation) verifyAll(id string) {
	s.t.Helper()
	for _, st := range s.streams {
		v, err := s.cluster.verify(id, st.name)
		if err != nil {
			s.t.Fatalf("verify %s: %v", st.name, err)
		}
		gone := int64(0)
		for _, source := range v.result.Sources {
			gone += source.Gone + source.Gaps
		}
		if r := v.result; !r.Exact || r.Open > 0 || r.NotCheckable > 0 && gone == 0 {
			s.t.Fatalf("verify %s: %s, differences %s", st.name, text(r), text(v.differences))
		}
	}
}
