package demo

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"nyala/connector/api"
	"nyala/connector/child"
	"nyala/ingest/broker"
)

const (
	startLimit = time.Minute      // for three nodes to become one healthy cluster
	idleLimit  = 90 * time.Second // without a row more, the rest is not waited for any longer
	stopLimit  = 35 * time.Second // for a node to drain
	showEvery  = time.Second

	// recordsMax ends the show by itself: the broker keeps every record in memory, and the proof a hash of each.
	recordsMax = 20_000_000
)

// errStopped ends everything at once: the second Ctrl-C.
var errStopped = errors.New("demo: interrupted before the proof: nothing was compared")

// demo is one show.
type demo struct {
	options options
	screen  *screen
	cluster *cluster
	watch   *watch
	tally   *tally
	began   time.Time // of the producer

	mu struct {
		sync.Mutex
		producer *broker.Producer // nil before the show
		kills    int
		deaths   int           // of nodes by themselves
		slowest  time.Duration // from a kill to a healthy cluster
	}
}

// run is the whole command.
func run(ctx context.Context, o options, s *screen, signals <-chan os.Signal) (err error) {
	// The process's own context may end with the first signal; the proof comes after it.
	ctx, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	dir, temporary, err := directory(o.dir)
	if err != nil {
		return err
	}
	d := &demo{options: o, screen: s, tally: newTally(partitions)}
	if d.cluster, err = prepare(dir); err != nil {
		return errors.Join(err, os.RemoveAll(dirIf(temporary, dir)))
	}
	d.watch = newWatch(d.cluster)
	end := make(chan struct{}) // closed at the first signal
	over := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { heed(signals, end, over, abort) })
	watching, enough := context.WithCancel(ctx)
	wg.Go(func() { d.watch.run(watching) })
	defer func() {
		enough()
		close(over)
		wg.Wait()
		s.clear()
		err = errors.Join(err, d.cluster.close())
		err = errors.Join(err, d.farewell(dir, temporary, err))
	}()
	return d.show(ctx, end, temporary)
}

// heed turns the first signal into the end of the show, and the second into the end of all.
func heed(signals <-chan os.Signal, end chan<- struct{}, over <-chan struct{}, abort context.CancelCauseFunc) {
	select {
	case <-signals:
		close(end)
	case <-over:
		return
	}
	select {
	case <-signals:
		abort(errStopped)
	case <-over:
	}
}

// directory is where all data go. One that has something in it is refused: the broker begins anew, and rows of
// an earlier show would be in the table that none of its records explains.
func directory(wanted string) (dir string, temporary bool, err error) {
	if wanted == "" {
		dir, err = os.MkdirTemp("", "nyala-demo-")
		if err != nil {
			return "", false, fmt.Errorf("demo: %w", err)
		}
		return dir, true, nil
	}
	if dir, err = filepath.Abs(wanted); err != nil {
		return "", false, fmt.Errorf("demo: --dir %s: %w", wanted, err)
	}
	switch names, err := os.ReadDir(dir); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", false, fmt.Errorf("demo: --dir: %w", err)
	case len(names) > 0:
		return "", false, fmt.Errorf("demo: --dir %s is not empty, it has %s: give a new one, every demo begins with empty tables", wanted, names[0].Name())
	}
	return dir, false, nil
}

func dirIf(temporary bool, dir string) string {
	if temporary {
		return dir
	}
	return ""
}

// show is everything between the first word and the last.
func (d *demo) show(ctx context.Context, end <-chan struct{}, temporary bool) error {
	d.banner(temporary)
	for _, n := range d.cluster.nodes {
		if err := d.cluster.start(n); err != nil {
			return err
		}
	}
	if err := d.await(ctx, end); err != nil {
		return err
	}
	ctx, abort := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.revive(ctx, abort) })
	defer wg.Wait()
	defer abort(nil)
	if err := d.produce(ctx, end); err != nil {
		return err
	}
	if err := d.drain(ctx); err != nil {
		return err
	}
	if err := d.prove(ctx); err != nil {
		return err
	}
	return d.stop()
}

// stop lets the nodes drain.
func (d *demo) stop() error {
	began := time.Now()
	d.screen.show("stopping the nodes")
	err := d.cluster.stop(stopLimit)
	d.screen.clear()
	if err != nil {
		return d.failed(err, d.cluster.nodes...)
	}
	d.screen.say("\nthe nodes stopped by themselves in %s", seconds(time.Since(began)))
	return nil
}

// banner says what runs where.
func (d *demo) banner(temporary bool) {
	s, c := d.screen, d.cluster
	what := "three nodes, a Kafka broker and a producer on this machine"
	if d.options.chaos {
		what += "; a node is killed again and again"
	}
	s.say("\n%s: %s\n", s.in(bold, "nyala demo"), what)
	for _, n := range c.nodes {
		s.say("  node %s    http://%s    log %s", n.id, n.http, n.log)
	}
	s.say("  kafka      %s, topic %s, %d partitions", c.kafka.Addresses()[0], topic, partitions)
	kept := "kept"
	if temporary {
		kept = "removed at the end if the proof holds; --dir DIR keeps it"
	}
	s.say("  data       %s (%s)", c.dir, kept)
	s.say("\nin another terminal:")
	server := ""
	if c.nodes[0].http != "127.0.0.1:7481" {
		server = " --server " + c.nodes[0].http
	}
	for _, line := range []string{"status%s", "scan events%s --limit 5", "scan events%s --where 'tenant = 7' --count", "offsets%s"} {
		s.say("  %s", s.in(bold, os.Args[0]+" "+fmt.Sprintf(line, server)))
	}
	s.say("")
}

// await waits until the cluster is healthy. A node that ends, as one that refuses to start does, shows why.
func (d *demo) await(ctx context.Context, end <-chan struct{}) error {
	began := time.Now()
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, errors.New("too slow"))
	defer cancel()
	healthy := make(chan error, 1)
	go func() { healthy <- d.watch.await(ctx, func(v view) bool { return v.status.Healthy }) }()
	defer func() { cancel(); <-healthy }()
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	last := ""
	for {
		select {
		case err := <-healthy:
			healthy <- err // for the deferred wait
			if err == nil {
				d.screen.clear()
				d.screen.say("healthy after %s: %s tablets, %d replicas of each\n", seconds(time.Since(began)), d.tablets(), nodes)
				return nil
			}
			if errors.Is(err, errStopped) {
				return err
			}
			v, _ := d.watch.now()
			return d.failed(fmt.Errorf("demo: the cluster is not healthy after %s: %s", startLimit, v.reason()), d.cluster.nodes...)
		case n := <-d.cluster.deaths:
			return d.died(n)
		case <-end:
			return errors.New("demo: interrupted before the first record")
		case <-ticker.C:
			v, _ := d.watch.now()
			if line := "starting: " + v.reason(); line != last && v.reason() != "" {
				last = line
				d.screen.show(line)
			}
		}
	}
}

func (d *demo) tablets() string {
	v, _ := d.watch.now()
	n := 0
	for _, t := range v.status.Tablets {
		if t.Table == table {
			n++
		}
	}
	return strconv.Itoa(n)
}

// died is the error of a node that ended by itself.
func (d *demo) died(n *node) error {
	n.mu.Lock()
	p := n.mu.process
	n.mu.Unlock()
	return d.failed(fmt.Errorf("demo: node %s ended by itself: %s", n.id, child.Cause(p.Wait())), n)
}

// lifeMin is how long a node must have lived to be started again after it ended by itself.
const lifeMin = 5 * time.Second

// revive starts nodes again that ended by themselves, as a service manager would, and says so: a node gives up
// when its disk or its machine stalls, and the cluster is made to bear it. One that ends soon after its start
// ends the show.
func (d *demo) revive(ctx context.Context, abort context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case n := <-d.cluster.deaths:
			err := d.died(n)
			if n.lived() < lifeMin {
				abort(err)
				return
			}
			d.screen.say("%s; it is started again", d.screen.in(red, strings.TrimPrefix(err.Error(), "demo: ")))
			d.mu.Lock()
			d.mu.deaths++
			d.mu.Unlock()
			if err := d.cluster.start(n); err != nil {
				abort(err)
				return
			}
		}
	}
}

// tailLines is how much of a log is shown.
const tailLines = 12

// failed shows the ends of logs before an error.
func (d *demo) failed(err error, show ...*node) error {
	d.screen.clear()
	for _, n := range show {
		d.screen.say("%s\n%s\n", d.screen.in(red, "the end of "+n.log), child.Tail(n.log, tailLines))
	}
	return err
}

// produce is the show itself.
func (d *demo) produce(ctx context.Context, end <-chan struct{}) error {
	p, err := broker.NewProducer(broker.ProducerOptions{
		Brokers: d.cluster.kafka.Addresses(), Topic: topic, Partitions: partitions, Seed: uint64(time.Now().UnixNano()), Acked: d.tally.add,
	})
	if err != nil {
		return err
	}
	defer p.Close()
	d.mu.Lock()
	d.mu.producer = p
	d.mu.Unlock()
	producing, stop := context.WithCancel(ctx)
	defer stop()
	d.began = time.Now()
	produced, chaos := make(chan error, 1), make(chan error, 1)
	go func() { produced <- p.Run(producing, recordsMax, int64(d.options.rate)) }()
	go func() { chaos <- d.chaos(ctx, producing) }()
	err = d.look(ctx, producing, end, produced)
	stop()
	err = errors.Join(err, <-produced, <-chaos)
	d.screen.keep()
	if err == nil {
		d.screen.say("the producer stops: %s records acknowledged by Kafka", count(p.Acked()))
	}
	return err
}

// look shows how it goes until the show ends. produced has an answer when the producer came to its own end; it
// is put back.
func (d *demo) look(ctx, producing context.Context, end <-chan struct{}, produced chan error) error {
	var over <-chan time.Time
	if d.options.length > 0 {
		timer := time.NewTimer(d.options.length)
		defer timer.Stop()
		over = timer.C
	}
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	line := newLine(d)
	for {
		select {
		case <-ticker.C:
			d.screen.show(line.next())
		case err := <-produced:
			produced <- err
			if err == nil {
				d.screen.keep()
				d.screen.say("the producer ends by itself: the broker keeps all records in memory, %s are enough", count(recordsMax))
			}
			return nil
		case <-over:
			return nil
		case <-end:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// line makes the lines that say how it goes.
type line struct {
	demo     *demo
	produced int64
	at       time.Time
}

func newLine(d *demo) *line { return &line{demo: d, at: d.began} }

func (l *line) next() string {
	d := l.demo
	now, produced := time.Now(), d.produced()
	v, _ := d.watch.now()
	rate := float64(produced-l.produced) / now.Sub(l.at).Seconds()
	l.produced, l.at = produced, now
	rows := min(v.rows(), produced) // the status is older than the count
	text := fmt.Sprintf("%6s  produced %-10s %6.1f k/s  readable %-10s lag %-8s", clock(now.Sub(d.began)), count(produced), rate/1000, count(rows), count(produced-rows))
	if !math.IsNaN(v.p50) {
		text += fmt.Sprintf(" fresh %s, p99 %s", short(v.p50), short(v.p99))
	}
	down := []string{}
	for _, n := range v.status.Nodes {
		if n.State != api.StateUp {
			down = append(down, n.ID+" "+n.State)
		}
	}
	if len(down) > 0 {
		text += "  " + strings.Join(down, ", ")
	}
	return strings.TrimRight(text, " ")
}

func short(s float64) string { return seconds(time.Duration(s * float64(time.Second))) }

func (d *demo) produced() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.producer == nil {
		return 0
	}
	return d.mu.producer.Acked()
}

// drain waits until all that was produced is readable and the cluster is healthy.
func (d *demo) drain(ctx context.Context) error {
	ticker := time.NewTicker(showEvery)
	defer ticker.Stop()
	want, err := d.tally.records()
	if err != nil {
		return err
	}
	began, moved, rows := time.Now(), time.Now(), int64(-1)
	for {
		v, changed := d.watch.now()
		lag := int64(0)
		for _, c := range v.status.Connectors {
			lag += c.LagRecords
		}
		if now := v.rows(); now != rows {
			moved, rows = time.Now(), now
		}
		if v.at.After(began) && rows >= want && lag == 0 && v.status.Healthy {
			d.screen.clear()
			d.screen.say("all of it is readable after %s", seconds(time.Since(began)))
			return nil
		}
		if time.Since(moved) > idleLimit {
			d.screen.clear()
			d.screen.say("%s", d.screen.in(red, fmt.Sprintf("no row came in %s: %s of %s rows are readable; %s", idleLimit, count(rows), count(want), v.reason())))
			return nil // the proof will say what is missing
		}
		select {
		case <-ticker.C:
			d.screen.show(strings.TrimSuffix(fmt.Sprintf("waiting for the rest: lag %s; %s", count(max(want-rows, lag)), v.reason()), "; "))
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// farewell stops the nodes and says what becomes of the data.
func (d *demo) farewell(dir string, temporary bool, err error) error {
	switch {
	case !temporary && err == nil:
		d.screen.say("kept: %s and %s", filepath.Join(dir, "exports", table), filepath.Join(dir, "nyala.yaml"))
	case !temporary:
		d.screen.say("kept: %s, logs in %s", dir, filepath.Join(dir, "logs"))
	case err == nil:
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("demo: removing the data: %w", err)
		}
		d.screen.say("removed: %s (--dir DIR keeps the data and the export)", dir)
	default:
		d.screen.say("kept, since the proof was not made or did not hold: %s", dir)
	}
	return nil
}
