package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/configs"
	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/raftlog"
	"nyala/raftlog/simnet"
	"nyala/store/batch"
	"nyala/store/vfs"
)

// cluster is whole nodes, a broker, a network and disks, all in memory and in one bubble.
type cluster struct {
	t      *testing.T
	config *configs.Config
	given  map[string]*configs.Config // a node's own file, where it is another one
	net    *simnet.Network
	kafka  kfake.VirtualNetwork
	broker *kfake.Cluster
	disks  map[string]*disk
	nodes  map[string]*Node
	rng    *rand.Rand
	wires  map[string]*wire
	clocks map[string]*clock
	starts uint64
	seed   uint64
	broken broken
	entry  int // most rows of an entry; 0: the default
	traps  traps
	eyes   *witness

	flush   FlushOptions
	segment int64
	timings raftlog.Timings
	replays replayBreaks
}

// disk is a node's disk, with faults. The faults are of the machine: they go on until they are taken away, or
// until the power is cut.
type disk struct {
	*vfs.Mem
	faulty *vfs.Faulty
	hang   chan struct{} // of the calls that hang; nil: none
	rules  []func()      // each takes a rule away
}

func newDisk(m *vfs.Mem) *disk { return &disk{Mem: m, faulty: vfs.NewFaulty(m)} }

// release lets the calls that hang go on.
func (d *disk) release() {
	if d.hang != nil {
		close(d.hang)
		d.hang = nil
	}
}

const clusterConfig = `
cluster:
  name: test
  replicas: %d
  nodes:
%s
kafka:
  brokers: [%s]
tables:
  - name: events
    columns:
      - {name: tenant, type: int32}
      - {name: id, type: int64}
      - {name: text, type: string, nullable: true}
      - {name: kafka_partition, type: int32}
      - {name: kafka_offset, type: int64}
    primary_key: [tenant, id]
    hash: {columns: [id], buckets: 2}
connectors:
  - name: app
    topics: [app]
    table: events
    format: json
    add: {kafka_offset: offset, kafka_partition: partition}
`

func newCluster(t *testing.T, nodes, replicas int, seed uint64) *cluster {
	return newClusterOf(t, nodes, replicas, seed, clusterConfig, kfake.NumBrokers(1), kfake.Ports(9092), kfake.SeedTopics(4, "app"))
}

// newClusterOf makes a cluster from a configuration with places for replicas, nodes and brokers.
func newClusterOf(t *testing.T, nodes, replicas int, seed uint64, config string, kafka ...kfake.Opt) *cluster {
	c := &cluster{t: t, net: simnet.New(seed), disks: map[string]*disk{}, nodes: map[string]*Node{}, given: map[string]*configs.Config{},
		rng: rand.New(rand.NewPCG(seed, 1)), wires: map[string]*wire{}, clocks: map[string]*clock{}, seed: seed,
		eyes: newWitness(), flush: FlushOptions{Bytes: 64 << 10, Age: 10 * time.Second}}
	broker, err := kfake.NewCluster(append(kafka, kfake.ListenFn(c.kafka.Listen))...)
	if err != nil {
		t.Fatal(err)
	}
	c.broker = broker
	var list strings.Builder
	for i := range nodes {
		fmt.Fprintf(&list, "    - {id: n%d, peer: 'n%d:7401', http: 'n%d:7481', data: data/n%d}\n", i+1, i+1, i+1, i+1)
	}
	text := fmt.Sprintf(config, replicas, list.String(), strings.Join(broker.ListenAddrs(), ","))
	c.config, err = configs.Parse("test.yaml", []byte(text), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.config.Cluster.Nodes {
		c.disks[n.ID] = newDisk(vfs.NewMem())
		c.clocks[n.ID] = newClock()
		c.wires[n.ID] = &wire{conns: map[*wireConn]bool{}}
	}
	return c
}

// entropy is deterministic, and different for every start of every node.
type entropy struct{ rng *rand.Rand }

func (e entropy) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e.rng.Uint32())
	}
	return len(b), nil
}

func (c *cluster) entropy() io.Reader {
	if c.broken.node == incarnationKept {
		return entropy{rand.New(rand.NewPCG(c.seed, 0))}
	}
	return entropy{rand.New(rand.NewPCG(c.seed, c.starts))}
}

func (c *cluster) dial(id string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		if strings.HasPrefix(addr, "n") {
			return c.net.Host(id+addr[2:]).Dial(ctx, addr) // a host for each port
		}
		return c.wires[id].dial(ctx, &c.kafka, addr)
	}
}

// logger is a node's: of errors alone, which the witness reads, or for whoever looks for a cause.
func (c *cluster) logger() *slog.Logger {
	if os.Getenv("NYALA_TEST_LOG") == "" {
		return slog.New(slog.NewTextHandler(c.eyes, &slog.HandlerOptions{Level: slog.LevelError}))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (c *cluster) start(id string) {
	c.t.Helper()
	if err := c.tryStart(id); err != nil {
		c.t.Fatalf("start %s: %v", id, err)
	}
}

func (c *cluster) tryStart(id string) error {
	c.starts++
	n, err := Start(Options{
		Config: cmp.Or(c.given[id], c.config), Node: id, FS: c.files(id), Dial: c.dial(id), Entropy: c.entropy(), Now: c.clocks[id].now, Logger: c.logger(),
		Listen: func(addr string) (net.Listener, error) { return c.net.Host(addr).Listen(), nil },
		Flush:  c.flush, Segment: c.segment, Timings: c.timings,
		broken: c.broken.node, breakRoom: c.broken.breakRoom, reached: c.reachedOn(id), rows: c.entry, replays: c.replays,
	})
	if err == nil {
		c.nodes[id] = n
		c.watch(id, n)
	} else if left := c.sprung(id); left != nil { // its power was cut meanwhile
		c.disks[id] = newDisk(left)
		return c.tryStart(id)
	}
	return err
}

func (c *cluster) startAll() {
	for _, n := range c.config.Cluster.Nodes {
		c.start(n.ID)
	}
}

// kill cuts a node's power: survive is the share of unsynced bytes that reach its disk.
func (c *cluster) kill(id string, survive float64) { c.killApart(id, survive, survive) }

// killApart is kill with a share for blocks of files, and one for entries of directories.
func (c *cluster) killApart(id string, blocks, entries float64) {
	old := c.disks[id]
	left := c.sprung(id)
	if left == nil {
		left = old.CrashApart(c.rng, blocks, entries)
	}
	c.disks[id] = newDisk(left)
	old.release()
	c.net.Host(id + ":7401").Crash()
	c.net.Host(id + ":7481").Crash()
	c.nodes[id].Close() // of a dead disk and network: it can only end
	delete(c.nodes, id)
}

// files is what a node sees of its disk.
func (c *cluster) files(id string) vfs.FS { return c.broken.node.files(c.disks[id].faulty) }

func (c *cluster) stopAll() {
	for id, n := range c.nodes {
		if err := n.Stop(context.Background()); err != nil && !errors.Is(err, net.ErrClosed) {
			c.t.Errorf("stop %s: %v", id, err)
		}
	}
	c.broker.Close()
}

func (c *cluster) produce(from, to int) {
	c.t.Helper()
	var values []string
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprintf(`{"tenant":%d,"id":%d,"text":"event %d"}`, i%7, i, i))
	}
	c.produceValues(values...)
}

func (c *cluster) produceValues(values ...string) {
	c.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(c.broker.ListenAddrs()...), kgo.DefaultProduceTopic("app"),
		kgo.Dialer(c.kafka.DialContext), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	for _, value := range values {
		client.Produce(context.Background(), &kgo.Record{Value: []byte(value)}, func(_ *kgo.Record, err error) {
			if err != nil {
				c.t.Errorf("produce: %v", err)
			}
		})
	}
	if err := client.Flush(context.Background()); err != nil {
		c.t.Fatal(err)
	}
}

// rows reads the whole table from one node.
func (c *cluster) rows(id string) (map[int64]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	r, err := c.nodes[id].read(ctx, "events", query.Request{Columns: []string{"kafka_partition", "kafka_offset", "text"}})
	if err != nil {
		return nil, err
	}
	defer r.stream.Close()
	out := map[int64]int{}
	err = pour(r.stream, func(b *batch.Batch) error {
		for i := range b.Rows {
			out[b.Columns[0].Int(i)<<40|b.Columns[1].Int(i)]++
		}
		return nil
	})
	return out, err
}

// await waits, in the bubble's time, until the table has want rows, each offset once.
func (c *cluster) await(id string, want int) {
	c.t.Helper()
	var got map[int64]int
	var err error
	for range 600 {
		if got, err = c.rows(id); err == nil && len(got) == want {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if err != nil || len(got) != want {
		c.t.Fatalf("node %s: got %d offsets, %v, want %d; status %+v", id, len(got), err, want, c.nodes[id].status(context.Background()).Reasons)
	}
	for at, times := range got {
		if times != 1 {
			c.t.Fatalf("partition %d offset %d is there %d times", at>>40, at&(1<<40-1), times)
		}
	}
}

// awaitHealthy waits until a node calls the cluster healthy.
func (c *cluster) awaitHealthy(id string) api.Status {
	c.t.Helper()
	var s api.Status
	for range 600 {
		if s = c.nodes[id].status(context.Background()); s.Healthy {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	c.t.Fatalf("not healthy: %v", s.Reasons)
	return s
}

func TestClusterOfThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 3, 1)
		c.startAll()
		c.produce(0, 2000)
		c.await("n1", 2000)
		c.awaitHealthy("n2")
		c.kill("n2", 0.5)
		c.produce(2000, 4000)
		c.await("n3", 4000)
		c.start("n2")
		c.await("n2", 4000)
		c.awaitHealthy("n1")
		for _, id := range []string{"n1", "n2", "n3"} {
			c.kill(id, 0)
		}
		c.startAll()
		c.await("n2", 4000)
		c.awaitHealthy("n3")
		c.stopAll()
	})
}

func TestClusterOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 1, 1)
		c.startAll()
		c.produce(0, 1000)
		c.await("n1", 1000)
		c.kill("n1", 0)
		c.start("n1")
		c.produce(1000, 1500)
		c.await("n1", 1500)
		c.stopAll()
	})
}

var _ io.Reader = entropy{}

// TestReadsFromElsewhere has tablets with one replica on three nodes: every node writes to and reads from
// tablets that it does not hold, rows and ledgers.
func TestReadsFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, 1)
		c.startAll()
		c.produce(0, 1000)
		for _, id := range []string{"n1", "n2", "n3"} {
			c.await(id, 1000)
			s, err := c.nodes[id].snapshot(context.Background(), "events", 0)
			if err != nil || len(s.Sources) != 4 {
				t.Fatalf("snapshot on %s: %+v, %v", id, s, err)
			}
			for _, source := range s.Sources {
				if source.NothingFrom < 250 {
					t.Errorf("on %s: nothing from %d of partition %d, want at least 250", id, source.NothingFrom, source.Partition)
				}
			}
		}
		c.stopAll()
	})
}
