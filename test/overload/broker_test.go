//go:build linux && overload

package overload

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"nyala/ingest/broker"
)

const topic = "events"

// flood is what one request produces.
type flood struct {
	Records int64  // in all
	First   int64  // id of the first one
	Size    int    // bytes of a value, about
	Run     int    // consecutive records to the same partition
	Hot     int    // of 100 records so many are of tenant 0
	Large   int    // bytes of the one large record, which goes to partition 0 before the others; 0: none
	Rate    int64  // records a second; 0: as fast as it goes
	Codec   string // "", or "lz4"
}

// order is one line to the broker's process: the first one starts it.
type order struct {
	Partitions int   `json:",omitempty"`
	Flood      flood `json:",omitzero"`
}

// report answers an order.
type report struct {
	Address string
	Error   string
}

// serveBroker is the broker's process. It ends with its input.
func serveBroker(r io.Reader, w io.Writer) error {
	in, out := json.NewDecoder(bufio.NewReader(r)), json.NewEncoder(w)
	var b *broker.Broker
	var partitions int
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a report
		var err error
		if b == nil {
			partitions = o.Partitions
			if b, err = broker.Start(broker.Options{Topics: []string{topic}, Partitions: partitions}); err == nil {
				defer b.Close()
				a.Address = b.Addresses()[0]
			}
		} else {
			err = produce(b.Addresses(), partitions, o.Flood)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

// produce produces a flood and waits until all of it is acknowledged.
func produce(brokers []string, partitions int, f flood) error {
	codec := kgo.NoCompression()
	if f.Codec == "lz4" {
		codec = kgo.Lz4Compression()
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerBatchCompression(codec), kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(50_000), kgo.DisableClientMetrics(),
		kgo.ProducerBatchMaxBytes(batchMax), kgo.MaxBufferedBytes(batchMax*2))
	if err != nil {
		return err
	}
	defer client.Close()
	var failed atomic.Pointer[error]
	random := rand.New(rand.NewPCG(uint64(f.First), 1))
	begin := time.Now()
	ctx := context.Background()
	for i := range f.Records {
		for f.Rate > 0 && float64(i) > time.Since(begin).Seconds()*float64(f.Rate) {
			time.Sleep(time.Millisecond)
		}
		id, size := f.First+i, f.Size
		if i == 0 && f.Large > 0 {
			size = f.Large
		}
		tenant := int64(0)
		if random.IntN(100) >= f.Hot {
			tenant = 1 + random.Int64N(4096)
		}
		client.Produce(ctx, &kgo.Record{Partition: int32(i / int64(max(f.Run, 1)) % int64(partitions)), Value: value(random, tenant, id, size)}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// batchMax lets the client send the largest record.
const batchMax = 64 << 20

// value is a record's value of about size bytes, which do not compress much.
func value(random *rand.Rand, tenant, id int64, size int) []byte {
	b := make([]byte, 0, size+64)
	b = append(b, `{"tenant":`...)
	b = strconv.AppendInt(b, tenant, 10)
	b = append(b, `,"id":`...)
	b = strconv.AppendInt(b, id, 10)
	b = append(b, `,"payload":"`...)
	noise := make([]byte, max(0, size-len(b)-2)/2)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	b = hex.AppendEncode(b, noise)
	return append(b, `"}`...)
}

// brokerProcess is the other end.
type brokerProcess struct {
	address string
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
}

func startBroker(partitions int) (*brokerProcess, error) {
	cmd, err := again("broker")
	if err != nil {
		return nil, err
	}
	b := &brokerProcess{cmd: cmd}
	if b.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	b.out = json.NewDecoder(out)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	a, err := b.ask(order{Partitions: partitions})
	b.address = a.Address
	return b, err
}

func (b *brokerProcess) ask(o order) (a report, err error) {
	if err := json.NewEncoder(b.in).Encode(o); err != nil {
		return a, fmt.Errorf("the broker's process is gone: %w", err)
	}
	if err := b.out.Decode(&a); err != nil {
		return a, fmt.Errorf("the broker's process is gone: %w", err)
	}
	if a.Error != "" {
		return a, fmt.Errorf("broker: %s", a.Error)
	}
	return a, nil
}

func (b *brokerProcess) close() {
	_ = b.in.Close()
	_ = b.cmd.Wait()
}
