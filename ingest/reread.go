package ingest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"nyala/offsets"
	"nyala/store/schema"
)

// RereadOptions say what a Rereader reads. Those without a default must be set.
type RereadOptions struct {
	Connector  Options        // how Kafka is reached, and what becomes of a record; nothing else of it is used
	Schema     *schema.Schema // of the table
	Sources    []RereadSource // all of this connector
	FetchBytes int            // memory for what is fetched and not decoded; 0 means 16 MiB
	Patience   time.Duration  // how long Kafka may give nothing; 0 means 30 s
}

// RereadSource is the part of a source to read again. A Rereader fills in all but the first two.
type RereadSource struct {
	Source offsets.Source
	Wanted offsets.Range

	Topic     string        // empty: Kafka has no topic of this id any more
	Found     offsets.Range // what there is of Wanted
	Compacted bool          // Kafka deletes records in the middle of it, as far as it lets us know
}

// Rereader reads records again that were ingested before, and decides on them as ingest does. It is no member of the
// consumer group, commits nothing, and has a client of its own: ingest does not notice it.
type Rereader struct {
	options RereadOptions
	sources []RereadSource
	client  *kgo.Client
	inflate *inflater
	trouble connectTrouble
	reread  rereadChunk

	places map[place]int // position in sources of what is being read
	next   []int64       // next offset of each
	left   int           // sources that are not through
	assign map[string]map[int32]kgo.Offset
}

// requestPatience is how long Kafka may take to say what topics there are, and where they begin and end.
const requestPatience = 10 * time.Second

// pollPause is between two polls of which the first brought nothing.
const pollPause = 50 * time.Millisecond

// OpenReread asks Kafka what there still is. The error names the brokers when they cannot be reached. Close it in the end.
func OpenReread(ctx context.Context, o RereadOptions) (*Rereader, error) {
	o.Connector = o.Connector.withDefaults()
	setDefault(&o.FetchBytes, fetchBytesMax)
	setDefault(&o.Patience, 30*time.Second)
	r := &Rereader{options: o, sources: slices.Clone(o.Sources), places: map[place]int{}}
	var err error
	if err = r.reread.init(&r.options); err != nil {
		return nil, err
	}
	if r.inflate, err = newInflater(newRecordPool(2*int64(o.FetchBytes)), math.MaxInt64); err != nil {
		return nil, err
	}
	r.reread.pool = r.inflate.pool
	if r.client, err = kgo.NewClient(r.clientOptions()...); err != nil {
		return nil, fmt.Errorf("ingest: connector %s: %w", o.Connector.Name, err)
	}
	if err := r.find(ctx); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Rereader) clientOptions() []kgo.Opt {
	k := r.options.Connector.Kafka
	k.ClientID += "-verify"
	return append(k.clientOptions(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), // a partition whose last record was aborted still comes to its end
		kgo.FetchMaxBytes(int32(r.options.FetchBytes)),
		kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.FetchMaxWait(fetchWait),
		kgo.MaxConcurrentFetches(2),
		kgo.WithDecompressor(r.inflate),
		kgo.WithPools(r.inflate.pool),
		kgo.WithHooks(&r.trouble),
		kgo.WithLogger(clientLogger{r.options.Connector.Logger}),
	)
}

// Close ends the client.
func (r *Rereader) Close() { r.client.Close() }

// Settings are the versions of the settings that decide on the records, oldest first.
func (r *Rereader) Settings() (all []Settings) {
	for _, d := range r.reread.decisions.Each {
		all = append(all, d.Settings)
	}
	return all
}

// Sources are those of the options with what Kafka has of them now.
func (r *Rereader) Sources() []RereadSource { return r.sources }

// find fills in topics and ranges.
func (r *Rereader) find(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	names, err := r.topicNames(ctx)
	if err != nil {
		return r.explain(err)
	}
	var topics []string
	for i := range r.sources {
		s := &r.sources[i]
		if s.Topic = names[s.Source.Topic]; s.Topic != "" && !slices.Contains(topics, s.Topic) {
			topics = append(topics, s.Topic)
		}
	}
	if len(topics) == 0 {
		return nil
	}
	admin := kadm.NewClient(r.client)
	for {
		starts, err := admin.ListStartOffsets(ctx, topics...)
		if err != nil {
			return r.explain(err)
		}
		ends, err := admin.ListCommittedOffsets(ctx, topics...)
		if err != nil {
			return r.explain(err)
		}
		// A partition's new leader may know for a moment of less than the one before it had told.
		if err = r.begin(starts, ends); err == nil {
			break
		}
		if !errors.Is(err, errEndsEarly) || !pause(ctx, time.Second) {
			return err
		}
	}
	r.findPolicies(ctx, admin, topics)
	return nil
}

// findPolicies asks which topics are compacted. Who may not ask is not told: then a topic counts as not compacted.
func (r *Rereader) findPolicies(ctx context.Context, admin *kadm.Client, topics []string) {
	all, err := admin.DescribeTopicConfigs(ctx, topics...)
	if err != nil {
		r.options.Connector.Logger.Warn("settings of topics not read", "error", err)
		return
	}
	for _, t := range all {
		for _, c := range t.Configs {
			if c.Key != "cleanup.policy" || !strings.Contains(c.MaybeValue(), "compact") {
				continue
			}
			for i := range r.sources {
				r.sources[i].Compacted = r.sources[i].Compacted || r.sources[i].Topic == t.Name
			}
		}
	}
}

// errEndsEarly says that Kafka has less than was read of it once.
var errEndsEarly = errors.New("records were lost at its end (unclean leader election)")

// begin compares what is wanted with what there is.
func (r *Rereader) begin(starts, ends kadm.ListedOffsets) error {
	assign := map[string]map[int32]kgo.Offset{}
	r.next, r.left = make([]int64, len(r.sources)), 0
	for i := range r.sources {
		s := &r.sources[i]
		if s.Topic == "" {
			continue
		}
		first, ok := starts.Lookup(s.Topic, s.Source.Partition)
		end, ok2 := ends.Lookup(s.Topic, s.Source.Partition)
		if err := errors.Join(first.Err, end.Err); !ok || !ok2 || err != nil {
			return fmt.Errorf("ingest: offsets of %s/%d: %w", s.Topic, s.Source.Partition, errorOr(err))
		}
		if end.Offset < s.Wanted.Next {
			return fmt.Errorf("ingest: %s/%d ends at %d, but was read up to %d: %w", s.Topic, s.Source.Partition, end.Offset, s.Wanted.Next, errEndsEarly)
		}
		s.Found = offsets.Range{First: max(s.Wanted.First, first.Offset), Next: s.Wanted.Next}
		if s.Found.Empty() {
			s.Found.First = s.Found.Next
			continue
		}
		r.next[i] = s.Found.First
		r.places[place{s.Topic, s.Source.Partition}] = i
		r.left++
		if assign[s.Topic] == nil {
			assign[s.Topic] = map[int32]kgo.Offset{}
		}
		assign[s.Topic][s.Source.Partition] = kgo.NewOffset().At(s.Found.First)
	}
	r.assign = assign
	return nil
}

// topicNames asks for the names of the connector's topics by id.
func (r *Rereader) topicNames(ctx context.Context) (map[offsets.TopicID]string, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range r.options.Connector.Topics {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, r.client)
	if err != nil {
		return nil, err
	}
	names := map[offsets.TopicID]string{}
	for _, t := range resp.Topics {
		err := kerr.ErrorForCode(t.ErrorCode)
		if errors.Is(err, kerr.UnknownTopicOrPartition) || t.Topic == nil {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("ingest: topic %s: %w", *t.Topic, err)
		}
		names[t.TopicID] = *t.Topic
	}
	return names, nil
}

// explain names the brokers, and why they could not be reached where that is known.
func (r *Rereader) explain(err error) error {
	brokers := strings.Join(r.options.Connector.Kafka.Brokers, ", ")
	if last := r.trouble.last(); last != nil {
		return fmt.Errorf("ingest: kafka at %s does not answer: %w", brokers, last)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("ingest: kafka at %s has not answered within %s", brokers, requestPatience)
	}
	return fmt.Errorf("ingest: kafka at %s: %w", brokers, err)
}

// connectTrouble remembers the last failure to connect, until a connection is made.
type connectTrouble struct {
	mu sync.Mutex
	by error
}

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (t *connectTrouble) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.by = err
}

func (t *connectTrouble) last() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.by
}

// Run reads all sources to the end of what is wanted, several at once, each in the order of its offsets. What visit is
// given is valid until it returns; an error of it ends Run.
func (r *Rereader) Run(ctx context.Context, visit func(*Reread) error) error {
	if r.left > 0 {
		r.client.AddConsumePartitions(r.assign)
	}
	moved := time.Now()
	for r.left > 0 {
		poll, cancel := context.WithTimeout(ctx, time.Second)
		fetches := r.client.PollFetches(poll)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		progress := false
		for i := range fetches {
			for j := range fetches[i].Topics {
				t := &fetches[i].Topics[j]
				for k := range t.Partitions {
					n, err := r.fetched(ctx, t, &t.Partitions[k], visit)
					if err != nil {
						return err
					}
					progress = progress || n > 0
				}
			}
		}
		if progress {
			moved = time.Now()
			continue
		}
		if time.Since(moved) > r.options.Patience {
			return r.stuck()
		}
		pause(ctx, pollPause) // errors may come back at once
	}
	return nil
}

// stuck says where nothing came any more.
func (r *Rereader) stuck() error {
	for at, i := range r.places {
		if r.next[i] < r.sources[i].Wanted.Next {
			err := fmt.Errorf("nothing came of %s/%d from offset %d on for %s, want all below %d",
				at.topic, at.partition, r.next[i], r.options.Patience, r.sources[i].Wanted.Next)
			return r.explain(err)
		}
	}
	return nil
}

// fetched deals with what came of one partition, and tells how many records that were.
func (r *Rereader) fetched(ctx context.Context, t *kgo.FetchTopic, p *kgo.FetchPartition, visit func(*Reread) error) (int, error) {
	i, ours := r.places[place{t.Topic, p.Partition}]
	if !ours || r.next[i] >= r.sources[i].Wanted.Next {
		r.inflate.pool.takeBack(p.Records, len(p.Records))
		return 0, nil
	}
	s := &r.sources[i]
	if t.TopicID != [16]byte{} && offsets.TopicID(t.TopicID) != s.Source.Topic {
		return 0, fmt.Errorf("ingest: topic %s was deleted and made again while it was read", t.Topic)
	}
	n := len(p.Records)
	if n > 0 {
		if err := r.reread.take(s, i, r.next[i], p.Records, visit); err != nil {
			return n, err
		}
		r.moveTo(i, r.reread.out.Span.Next)
	}
	if p.Err == nil {
		return n, nil
	}
	if errors.Is(p.Err, kerr.OffsetOutOfRange) && r.next[i] < s.Wanted.Next {
		return n, r.overtaken(ctx, i, visit)
	}
	var large *kgo.ErrDecompressTooLarge
	if errors.As(p.Err, &large) && r.next[i] < s.Wanted.Next {
		return n, r.skip(i, large, visit)
	}
	if kerr.IsRetriable(p.Err) || errors.Is(p.Err, context.DeadlineExceeded) {
		return n, nil
	}
	return n, fmt.Errorf("ingest: %s/%d at offset %d: %w", t.Topic, p.Partition, r.next[i], p.Err)
}

func (r *Rereader) moveTo(i int, next int64) {
	s := &r.sources[i]
	if r.next[i] = next; next >= s.Wanted.Next {
		r.left--
		r.client.PauseFetchPartitions(map[string][]int32{s.Topic: {s.Source.Partition}})
	}
}

// skip leaves out a batch that is too large for ingest, too.
func (r *Rereader) skip(i int, large *kgo.ErrDecompressTooLarge, visit func(*Reread) error) error {
	s := &r.sources[i]
	span := offsets.Range{First: r.next[i], Next: min(large.NextOffset, s.Wanted.Next)}
	if err := visit(&Reread{Source: i, Span: span, TooLarge: true}); err != nil {
		return err
	}
	r.seek(i, large.NextOffset)
	r.moveTo(i, span.Next)
	return nil
}

// seek makes the client fetch from an offset on.
func (r *Rereader) seek(i int, next int64) {
	s := &r.sources[i]
	r.client.SetOffsets(map[string]map[int32]kgo.EpochOffset{s.Topic: {s.Source.Partition: {Epoch: -1, Offset: next}}})
}

// overtaken goes on where the log begins now: retention deleted records that were about to be read.
func (r *Rereader) overtaken(ctx context.Context, i int, visit func(*Reread) error) error {
	s := &r.sources[i]
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	starts, err := kadm.NewClient(r.client).ListStartOffsets(ctx, s.Topic)
	if err != nil {
		return r.explain(err)
	}
	first, ok := starts.Lookup(s.Topic, s.Source.Partition)
	if !ok || first.Err != nil {
		return fmt.Errorf("ingest: start offset of %s/%d: %w", s.Topic, s.Source.Partition, errorOr(first.Err))
	}
	if first.Offset <= r.next[i] {
		return fmt.Errorf("ingest: %s/%d: offset %d is out of range, but the log begins at %d", s.Topic, s.Source.Partition, r.next[i], first.Offset)
	}
	lost := offsets.Range{First: r.next[i], Next: min(first.Offset, s.Wanted.Next)}
	if err := visit(&Reread{Source: i, Span: lost, Gone: true}); err != nil {
		return err
	}
	r.seek(i, first.Offset)
	r.moveTo(i, lost.Next)
	return nil
}
