//go:build kafka

package acceptance

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/test/kafka"
)

const (
	topic      = "app-events"
	partitions = 8
	perRound   = 100_000
	eachTxn    = 5_000
)

// events is how many committed events the test produces; NYALA_TEST_EVENTS makes it shorter by hand.
func events(t *testing.T) int {
	text := os.Getenv("NYALA_TEST_EVENTS")
	if text == "" {
		return 2_000_000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "nyala")
	cmd := exec.Command("go", "build", "-o", binary, "nyala")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// TestExactlyOnceWithRealKafka: three node processes, 8 partitions, a transactional producer with aborts among
// its transactions, kill -9 of a random node six times and of all three at once. Afterwards every committed
// record is one row with the right values, and nothing else is there.
func TestExactlyOnceWithRealKafka(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	broker, err := kafka.Start(ctx, kafka.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if err := kafka.CreateTopic(ctx, broker.Addr(), topic, partitions); err != nil {
		t.Fatal(err)
	}
	c, err := New(build(t), t.TempDir(), broker.Addr(), 3)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	defer func() {
		for _, p := range c.Nodes {
			if t.Failed() {
				t.Logf("%s:\n%s", p.ID, p.Tail())
			}
		}
	}()
	for _, p := range c.Nodes {
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
	}
	producer, err := kafka.NewProducer(broker.Addr(), topic, partitions, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer producer.Close()
	total := events(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	disturb(ctx, t, c, producer, total, rand.New(rand.NewPCG(seed, 0)))

	want := producer.Committed()
	t.Logf("%d events committed", want.Len())
	awaitLag(ctx, t, c)
	if got := count(ctx, t, c, 0); got != want.Len() {
		t.Errorf("scan --count: got %d rows, want %d", got, want.Len())
	}
	compareRows(ctx, t, c, want)
	compareOffsets(ctx, t, c, broker.Addr())
	stopAndCheck(ctx, t, c)
}

// disturb produces in rounds and kills nodes between and within them.
func disturb(ctx context.Context, t *testing.T, c *Cluster, producer *kafka.Producer, total int, rng *rand.Rand) {
	t.Helper()
	rounds := max(1, total/perRound)
	kills := map[int]bool{}
	for i := range 6 {
		kills[(i+1)*rounds/8] = true
	}
	for round := range rounds {
		produced := make(chan error, 1)
		go func() { produced <- producer.Produce(ctx, total/rounds, min(eachTxn, total/rounds), 4) }()
		switch {
		case round == rounds*7/8:
			t.Logf("round %d: all nodes are killed", round)
			for _, p := range c.Nodes {
				must(t, p.Signal(syscall.SIGKILL))
			}
			for _, p := range c.Nodes {
				must(t, p.Start())
			}
		case kills[round]:
			p := c.Nodes[rng.IntN(len(c.Nodes))]
			time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
			t.Logf("round %d: %s is killed", round, p.ID)
			must(t, p.Signal(syscall.SIGKILL))
			time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
			must(t, p.Start())
		}
		must(t, <-produced)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// awaitLag waits until the cluster is healthy and all partitions are read to their ends.
func awaitLag(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		s, err := c.AwaitHealthy(ctx, 0)
		if err != nil {
			for _, p := range c.Nodes {
				t.Logf("%s:\n%s", p.ID, p.Tail())
			}
			t.Fatal(err)
		}
		if k := s.Connectors[0]; k.LagRecords == 0 && len(k.Partitions) == partitions {
			return
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func count(ctx context.Context, t *testing.T, c *Cluster, node int) int {
	t.Helper()
	out, err := c.Run(ctx, node, "scan", "events", "--count")
	must(t, err)
	n, err := strconv.Atoi(strings.TrimSpace(string(out)))
	must(t, err)
	return n
}

// compareRows reads the whole table and holds every row against what was committed.
func compareRows(ctx context.Context, t *testing.T, c *Cluster, want *kafka.Committed) {
	t.Helper()
	cmd := exec.CommandContext(ctx, c.Binary, "scan", "events", "--format", "csv")
	cmd.Env = append(os.Environ(), "NYALA_SERVER="+c.Nodes[1].HTTP)
	var words bytes.Buffer
	cmd.Stderr = &words
	pipe, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	seen := make([]map[int64]bool, partitions)
	for p := range seen {
		seen[p] = make(map[int64]bool, want.Len()/partitions)
	}
	wrong := 0
	fault := func(format string, args ...any) {
		if wrong++; wrong <= 10 {
			t.Errorf(format, args...)
		}
	}
	in := csv.NewReader(bufio.NewReaderSize(pipe, 1<<20))
	in.ReuseRecord = true
	_, err = in.Read()
	must(t, err)
	for {
		row, err := in.Read()
		if err == io.EOF {
			break
		}
		must(t, err)
		e, partition, offset, err := parseRow(row)
		must(t, err)
		hash, ok := want.Hash(partition, offset)
		switch {
		case !ok:
			fault("partition %d offset %d is in the table and was never committed", partition, offset)
		case hash != e.Hash():
			fault("partition %d offset %d has other values: %+v", partition, offset, e)
		case seen[partition][offset]:
			fault("partition %d offset %d is there twice", partition, offset)
		}
		seen[partition][offset] = true
	}
	must(t, cmd.Wait())
	for p := range int32(partitions) {
		for _, r := range want.Partition(p) {
			if !seen[p][r.Offset] {
				fault("partition %d offset %d is missing", p, r.Offset)
			}
		}
	}
	if wrong > 0 {
		t.Fatalf("%d faults", wrong)
	}
}

func parseRow(row []string) (e kafka.Event, partition int32, offset int64, err error) {
	number := func(s string, bits int) int64 {
		v, perr := strconv.ParseInt(s, 10, bits)
		if perr != nil && err == nil {
			err = perr
		}
		return v
	}
	e.Tenant = int32(number(row[0], 32))
	at, terr := time.Parse(time.RFC3339Nano, row[1])
	if terr != nil {
		return e, 0, 0, terr
	}
	e.TimeMicros, e.ID, e.User = at.UnixMicro(), number(row[2], 64), number(row[3], 64)
	id, herr := hex.DecodeString(strings.ReplaceAll(row[4], "-", ""))
	if herr != nil || len(id) != 16 {
		return e, 0, 0, fmt.Errorf("session %q: %w", row[4], herr)
	}
	copy(e.Session[:], id)
	if e.HasURL = row[5] != ""; e.HasURL {
		e.URL = row[5]
	}
	if e.HasValue = row[6] != ""; e.HasValue {
		if e.Value, terr = strconv.ParseFloat(row[6], 64); terr != nil {
			return e, 0, 0, terr
		}
	}
	return e, int32(number(row[7], 32)), number(row[8], 64), err
}

// compareOffsets: checkpoint, Kafka commit and lag agree.
func compareOffsets(ctx context.Context, t *testing.T, c *Cluster, addr string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	must(t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	ends, err := admin.ListEndOffsets(ctx, topic)
	must(t, err)
	deadline := time.Now().Add(30 * time.Second)
	for {
		s, err := c.Status(ctx, 2)
		must(t, err)
		commits, err := admin.FetchOffsets(ctx, "nyala-app-events")
		must(t, err)
		var differ []string
		for _, p := range s.Connectors[0].Partitions {
			end, _ := ends.Lookup(topic, p.Partition)
			commit, _ := commits.Lookup(topic, p.Partition)
			if p.Checkpoint != end.Offset || commit.At != p.Checkpoint || p.LagRecords != 0 {
				differ = append(differ, fmt.Sprintf("partition %d: checkpoint %d, commit %d, end %d, lag %d", p.Partition, p.Checkpoint, commit.At, end.Offset, p.LagRecords))
			}
		}
		if len(differ) == 0 && len(s.Connectors[0].Partitions) == partitions {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("checkpoint, commit and lag differ:\n%s", strings.Join(differ, "\n"))
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// stopAndCheck: files of a tablet's replicas hash equal where they are durable to the same index; a graceful
// stop works; `nyala check` finds every data directory whole.
func stopAndCheck(ctx context.Context, t *testing.T, c *Cluster) {
	t.Helper()
	s, err := c.AwaitHealthy(ctx, 0)
	must(t, err)
	compared := 0
	for _, tablet := range s.Tablets {
		for _, a := range tablet.Replicas {
			for _, b := range tablet.Replicas {
				if a.DurableIndex == b.DurableIndex && a.DurableIndex > 0 && a.Node < b.Node {
					compared++
					if a.Hash != b.Hash {
						t.Errorf("tablet %s: %s and %s differ at durable index %d: %s, %s", tablet.ID, a.Node, b.Node, a.DurableIndex, a.Hash, b.Hash)
					}
				}
			}
		}
	}
	if compared == 0 {
		t.Error("no two replicas were durable to the same index")
	}
	for _, p := range c.Nodes {
		if !p.Running() {
			t.Errorf("%s ended by itself:\n%s", p.ID, p.Tail())
		}
		must(t, p.Signal(syscall.SIGTERM))
	}
	for _, p := range c.Nodes {
		out, err := c.Run(ctx, 0, "check", p.Data)
		if err != nil {
			t.Errorf("check %s: %v\n%s", p.ID, err, out)
		}
	}
}
