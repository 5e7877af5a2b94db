package connector

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	simWorkers  = flag.Int("sim.workers", 0, "how many processes simulate at a time; 0 means one for each processor")
	simInside   = flag.Bool("sim.inside", false, "simulate in this process, whatever the number of seeds")
	simFailures = flag.Int("sim.failures", 5, "no more seeds are begun after so many failed")
)

const (
	seedsInside  = 4                // so few are not worth a process
	seedsChunk   = 20               // of one process: what it holds at its end is given back
	seedPatience = 10 * time.Minute // without a line from a process; a seed takes a second of CPU, and others may want the processors, too
)

// runner spreads seeds over processes. One processor each costs less than sharing all of them among the goroutines of a
// bubble, no memory is kept from seed to seed, and a seed that ends in a panic ends its own process only.
type runner struct {
	t     *testing.T
	began time.Time
	mu    struct {
		sync.Mutex
		next, end    uint64 // seeds that nobody took
		done, failed int
		cpu          time.Duration
	}
}

func spread(t *testing.T, first uint64, count int) {
	r := &runner{t: t, began: time.Now()}
	r.mu.next, r.mu.end = first, first+uint64(count)
	workers := *simWorkers
	if workers == 0 {
		workers = runtime.NumCPU()
	}
	var wg sync.WaitGroup
	for range workers {
		wg.Go(r.work)
	}
	stop := make(chan struct{})
	go r.report(stop)
	wg.Wait()
	close(stop)
	r.print()
}

// take returns the next seeds to run; none are left when from is to.
func (r *runner) take() (from, to uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.failed >= *simFailures {
		return 0, 0
	}
	from = r.mu.next
	r.mu.next = min(r.mu.end, from+seedsChunk)
	return from, r.mu.next
}

func (r *runner) work() {
	for {
		from, to := r.take()
		if from == to {
			return
		}
		for from < to {
			from = r.run(from, to)
		}
	}
}

// report prints how far it is now and then: a soak takes an hour.
func (r *runner) report(stop <-chan struct{}) {
	tick := time.NewTicker(20 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.print()
		case <-stop:
			return
		}
	}
}

func (r *runner) print() {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(os.Stderr, "simulation: %d seeds, %d failed, begun below %d, %.1f seeds/s, %.2f s of CPU a seed\n", r.mu.done, r.mu.failed,
		r.mu.next, float64(r.mu.done)/time.Since(r.began).Seconds(), r.mu.cpu.Seconds()/float64(max(r.mu.done, 1)))
}

// run simulates the seeds from, up to to, in one process, and returns the first that it did not come to: a panic ends it.
func (r *runner) run(from, to uint64) (next uint64) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestSimulation$", "-test.v", "-test.timeout=0", "-sim.inside",
		fmt.Sprint("-sim.seed=", from), fmt.Sprint("-sim.seeds=", to-from))
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=300")
	pipe, err := cmd.StdoutPipe()
	cmd.Stderr = cmd.Stdout
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.t.Error(err)
		return to
	}
	next = r.read(cmd, pipe, from, to)
	_ = cmd.Wait() // what failed is in its output
	r.mu.Lock()
	r.mu.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	r.mu.Unlock()
	return next
}

// verdict is what a process says after each seed; go test prints its own at the end only.
const verdict = "simulated: seed %d, passed: %t\n"

// read follows what a process says, seed by seed. One that ends without a verdict on its last seed ended by a panic; one
// that says nothing for long is asked where it is, which ends it.
func (r *runner) read(cmd *exec.Cmd, out io.Reader, from, to uint64) (next uint64) {
	watchdog := time.AfterFunc(seedPatience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) })
	defer watchdog.Stop()
	var said strings.Builder
	lines := bufio.NewReader(out)
	for next = from; ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			break
		}
		watchdog.Reset(seedPatience)
		var seed uint64
		var passed bool
		if n, _ := fmt.Sscanf(line, verdict, &seed, &passed); n == 2 {
			r.ended(seed, passed, said.String())
			said.Reset()
			next = seed + 1
			continue
		}
		said.WriteString(line)
	}
	if next < to {
		r.ended(next, false, said.String())
		next++
	}
	return next
}

func (r *runner) ended(seed uint64, passed bool, said string) {
	r.mu.Lock()
	r.mu.done++
	if !passed {
		r.mu.failed++
	}
	r.mu.Unlock()
	if passed {
		return
	}
	fmt.Fprintf(os.Stderr, "seed %d failed; again: go test -tags invariants -run '^TestSimulation$' ./connector -sim.seed %d\n%s\n",
		seed, seed, said[:min(len(said), 40_000)]) // now, for whoever is watching
	r.t.Errorf("seed %d failed, see above", seed)
}
