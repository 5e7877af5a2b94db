package ingest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/store/schema"
)

// TestChaos lets nodes come, go and crash, leaders move, answers get lost, tablets refuse, the system group fall
// silent and the network break, all at random, while records are produced, garbage and transactions among them.
// In the end every record is there once. NYALA_SEED replays one seed, NYALA_SEEDS runs more of them.
func TestChaos(t *testing.T) {
	seeds := 10
	if n, err := strconv.Atoi(os.Getenv("NYALA_SEEDS")); err == nil {
		seeds = n
	}
	first := 0
	if n, err := strconv.Atoi(os.Getenv("NYALA_SEED")); err == nil {
		first, seeds = n, 1
	}
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { newChaos(t, uint64(seed)).run() })
		})
	}
}

const chaosPartitions = 5

type chaos struct {
	*world
	random *rand.Rand
	nodes  []*node
	want   map[int32][]int // by partition and offset: the id, or -1
	id     int
	bad    int // dead letters to come
}

func newChaos(t *testing.T, seed uint64) *chaos {
	c := &chaos{world: newWorld(t, map[string]int32{"app": chaosPartitions}), random: rand.New(rand.NewPCG(seed, 99)), want: map[int32][]int{}}
	if seed%2 == 1 {
		c.addTable("events", rangeTable(), 0, 0)
	}
	return c
}

func (c *chaos) run() {
	for step := range 40 {
		c.faults()
		c.move(step)
		for range c.random.IntN(4) {
			c.produceSome()
		}
		if c.random.IntN(4) == 0 {
			c.transaction()
		}
		time.Sleep(time.Duration(c.random.IntN(12_000)) * time.Millisecond)
	}
	c.setWrite(nil)
	c.setStuck(false)
	c.setDown(false)
	if len(c.nodes) == 0 {
		c.start()
	}
	ends := map[int32]int64{}
	for p := range int32(chaosPartitions) {
		if n := len(c.want[p]); n > 0 {
			ends[p] = int64(n)
		}
	}
	defer func() {
		if c.t.Failed() {
			for i, n := range c.nodes {
				c.t.Logf("node %d: %+v", i, n.Status())
			}
			c.t.Logf("group: %+v", c.cluster.GroupInfo("nyala-app"))
		}
	}()
	time.Sleep(time.Minute)
	c.evict()
	c.checkpointed(ends)
	c.exactlyOnce(c.want)
	if n := len(c.rows(schema.DeadLettersTable)); n != c.bad {
		c.t.Errorf("%d dead letters, want %d", n, c.bad)
	}
	for _, n := range c.nodes {
		n.stop()
	}
	if c.mu.held != 0 {
		c.t.Errorf("%d bytes are still acquired", c.mu.held)
	}
}

// faults sets the weather of the next step.
func (c *chaos) faults() {
	bad := []int{0, 10, 60}[c.random.IntN(3)] // per cent
	holes := c.random.IntN(4) == 0
	random := rand.New(rand.NewPCG(c.random.Uint64(), 1))
	c.setWrite(func(uint64, int) writeFault {
		if holes && random.IntN(20) == 0 {
			return writeHole
		}
		if random.IntN(100) < bad {
			return writeFault(1 + random.IntN(2))
		}
		return writeWorks
	})
	c.setStuck(c.random.IntN(6) == 0)
	c.setDown(c.random.IntN(8) == 0)
}

// move changes the cluster.
func (c *chaos) move(step int) {
	switch k := c.random.IntN(8); {
	case len(c.nodes) == 0 || k == 0 && len(c.nodes) < 4:
		c.start()
	case k == 1:
		n := c.random.IntN(len(c.nodes))
		c.nodes[n].stop()
		c.nodes = append(c.nodes[:n], c.nodes[n+1:]...)
	case k == 2 || k == 3:
		n := c.random.IntN(len(c.nodes))
		c.nodes[n].crash()
		c.nodes = append(c.nodes[:n], c.nodes[n+1:]...)
	case k == 4:
		if err := c.cluster.MoveTopicPartition("app", int32(c.random.IntN(chaosPartitions)), int32(c.random.IntN(3))); err != nil {
			c.t.Fatal(err)
		}
	case k == 5:
		c.nodes[c.random.IntN(len(c.nodes))].Restart()
	case k == 6 && step < 0:
		c.cluster.RehashCoordinators()
	}
}

// evict removes members of the group that are no node of ours. A broker does that by their session timeout, but the
// fake one never starts that clock for a member whose connection broke while it waited for its assignment.
func (c *chaos) evict() {
	alive := map[string]bool{}
	for _, n := range c.nodes {
		n.mu.Lock()
		id, _ := n.mu.session.client.GroupMetadata()
		n.mu.Unlock()
		alive[id] = true
	}
	info := c.cluster.GroupInfo("nyala-app")
	if info == nil || info.State != "Stable" {
		return
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = "nyala-app"
	for _, m := range info.Members {
		if !alive[m.MemberID] {
			x := kmsg.NewLeaveGroupRequestMember()
			x.MemberID = m.MemberID
			req.Members = append(req.Members, x)
		}
	}
	if len(req.Members) == 0 {
		return
	}
	if _, err := req.RequestWith(c.t.Context(), c.admin); err != nil {
		c.t.Fatal(err)
	}
}

func (c *chaos) start() {
	c.nodes = append(c.nodes, c.connector(func(o *Options) {
		o.ChunkRows = 1 + c.random.IntN(100)
		o.BlockTablets = 1 + c.random.IntN(4)
		o.PartitionBytes = 5000
		o.DrainTimeout = time.Duration(1+c.random.IntN(3000)) * time.Millisecond
	}))
}

func (c *chaos) produceSome() {
	p := int32(c.random.IntN(chaosPartitions))
	var records []*kgo.Record
	for range c.random.IntN(150) {
		r := &kgo.Record{Topic: "app", Partition: p, Value: event(p, c.id)}
		if c.random.IntN(30) == 0 {
			r.Value = []byte("{")
			c.want[p] = append(c.want[p], -1)
			c.bad++
		} else {
			c.want[p] = append(c.want[p], c.id)
		}
		c.id++
		records = append(records, r)
	}
	c.produceRecords(records...)
}

func (c *chaos) transaction() {
	p := int32(c.random.IntN(chaosPartitions))
	client, err := kgo.NewClient(kgo.SeedBrokers(c.cluster.ListenAddrs()...), kgo.Dialer(c.net.DialContext),
		kgo.TransactionalID("x"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		c.t.Fatal(err)
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		c.t.Fatal(err)
	}
	commit := c.random.IntN(2) == 0
	for range 1 + c.random.IntN(20) {
		if err := client.ProduceSync(c.t.Context(), &kgo.Record{Topic: "app", Partition: p, Value: event(p, c.id)}).FirstErr(); err != nil {
			c.t.Fatal(err)
		}
		if commit {
			c.want[p] = append(c.want[p], c.id)
		} else {
			c.want[p] = append(c.want[p], -1)
		}
		c.id++
	}
	c.want[p] = append(c.want[p], -1)
	if err := client.EndTransaction(c.t.Context(), kgo.TransactionEndTry(commit)); err != nil {
		c.t.Fatal(err)
	}
}
