package ingest

import (
	"context"
	"sync"

	"nyala/store/schema"
)

// Connector consumes topics into a table, on this node, as one of the members of its consumer group. All methods
// are safe for concurrent use.
type Connector struct {
	options  Options
	counters counters
	stop     chan struct{} // closed by Close
	done     chan struct{} // closed when the supervisor has returned
	restart  chan struct{} // room for one
	closing  sync.Once

	mu struct {
		sync.Mutex
		session  *session
		pool     *decodedPool
		paused   bool
		started  bool // partitions were assigned once
		closed   bool
		failure  string // no client could be made
		reason   string // what stands in the way just now
		broker   string // the last failure to connect, since cleared by a success
		closeCtx context.Context
	}
}

// New starts a connector; that the brokers cannot be reached is no error. Close it in the end.
func New(o Options) (*Connector, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Connector{options: o, stop: make(chan struct{}), done: make(chan struct{}), restart: make(chan struct{}, 1)}
	go c.supervise()
	return c, nil
}

// Close drains, checkpoints, commits and leaves the group until ctx is done, and waits for every goroutine. With a
// ctx that is done already it only ends, as a crash would: nothing is published.
func (c *Connector) Close(ctx context.Context) {
	c.closing.Do(func() {
		c.mu.Lock()
		c.mu.closeCtx = ctx
		c.mu.closed = true
		c.mu.Unlock()
		close(c.stop)
	})
	<-c.done
}

// Restart closes the client and makes a new one, which joins the group and begins at the checkpoints. It is the way
// out of every failed partition. It returns at once.
func (c *Connector) Restart() {
	select {
	case c.restart <- struct{}{}:
	default:
	}
}

// Pause stops fetching; the partitions stay assigned.
func (c *Connector) Pause() { c.setPaused(true) }

// Resume goes on after Pause.
func (c *Connector) Resume() { c.setPaused(false) }

func (c *Connector) setPaused(paused bool) {
	c.mu.Lock()
	c.mu.paused = paused
	s := c.mu.session
	c.mu.Unlock()
	if s == nil {
		return
	}
	topics := map[string]bool{}
	for _, o := range s.all() {
		topics[o.topic] = true
	}
	for topic := range topics {
		if paused {
			s.client.PauseFetchTopics(topic)
		} else {
			s.client.ResumeFetchTopics(topic)
		}
	}
}

func (c *Connector) isPaused() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.paused
}

// supervise makes one session after the other until Close. It owns them.
func (c *Connector) supervise() {
	defer close(c.done)
	for {
		again := c.runSession()
		if !again {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			select {
			case <-c.stop:
				cancel()
			case <-ctx.Done():
			}
		}()
		pause(ctx, c.options.RestartDelay)
		cancel()
		<-stopped
	}
}

// runSession runs a session to its end and tells whether there shall be another one.
func (c *Connector) runSession() bool {
	select {
	case <-c.stop:
		return false
	default:
	}
	s, err := newSession(c)
	c.mu.Lock()
	c.mu.session, c.mu.failure, c.mu.reason = s, "", ""
	if err != nil {
		c.mu.failure = err.Error()
	}
	c.mu.Unlock()
	if err != nil {
		select {
		case <-c.restart:
			return true
		case <-c.stop:
			return false
		}
	}
	go s.poll()
	s.spawn(s.checkpointer)
	s.spawn(s.watchPartitions)
	ctx, again := context.Background(), true
	select {
	case <-c.stop:
		again = false
		c.mu.Lock()
		ctx = c.mu.closeCtx
		c.mu.Unlock()
	case <-c.restart:
	case <-s.ended:
		s.mu.Lock()
		c.options.Logger.Error("session ended", "error", s.mu.err)
		s.mu.Unlock()
	}
	if again {
		bounded, cancel := context.WithTimeout(ctx, c.options.DrainTimeout)
		defer cancel()
		ctx = bounded
	}
	s.close(ctx)
	c.mu.Lock()
	c.mu.session = nil
	c.mu.Unlock()
	return again
}

// chunks is the pool of chunks for the table's present schema; workers that still use another one keep it.
func (c *Connector) chunks(s *schema.Schema) *decodedPool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.pool == nil || !sameSchema(c.mu.pool.schema, s) {
		c.mu.pool = newDecodedPool(s, c.options.SessionBytes/chunkPoolShare)
	}
	return c.mu.pool
}

func (c *Connector) setReason(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.reason = reason
}

func (c *Connector) setBroker(failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.broker = failure
}

// assigned notes that partitions were assigned without trouble.
func (c *Connector) assigned() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.started = true
	c.mu.reason = ""
}
