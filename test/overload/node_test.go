//go:build linux && overload

package overload

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"syscall"
	"time"

	"nyala/configs"
	"nyala/connector"

	"nyala/store/vfs"
)

// serveNode is a node's process: what `nyala run` does, on a slow disk if asked for. SIGUSR1 writes a heap profile.
func serveNode(args []string) error {
	flags := flag.NewFlagSet("node", flag.ContinueOnError)
	file := flags.String("config", "", "")
	id := flags.String("node", "", "")
	rate := flags.Int64("rate", 0, "bytes a second that the disk takes; 0: as fast as it is")
	sync := flags.Duration("sync", 0, "how long an fsync takes at least")
	heap := flags.String("heap", "", "where heap profiles go")
	if err := flags.Parse(args); err != nil {
		return err
	}
	config, err := configs.Load(*file)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(4)
	debug.SetMemoryLimit(connector.MemoryLimit(config.Node.MemoryBytes))
	runtime.MemProfileRate = 64 << 10
	disk := vfs.OS()
	if *rate > 0 || *sync > 0 {
		disk = vfs.NewSlow(disk, *rate, *sync)
	}
	node, err := connector.Start(connector.Options{
		Config: config, Node: *id, FS: disk, Logger: slog.New(slog.NewTextHandler(os.Stdout, nil)), Version: "overload", Entropy: rand.Reader,
		Listen: func(addr string) (net.Listener, error) { return net.Listen("tcp", addr) },
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		},
	})
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1)
	for n := 0; ; {
		select {
		case s := <-signals:
			if s == syscall.SIGTERM {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				return node.Stop(ctx)
			}
			n++
			if err := writeHeap(fmt.Sprintf("%s-%02d", *heap, n)); err != nil {
				return err
			}
		case <-node.Done():
			return fmt.Errorf("node %s ended by itself: %w", *id, node.Close())
		}
	}
}

func writeHeap(name string) error {
	f, err := os.Create(name + ".pprof")
	if err != nil {
		return err
	}
	defer f.Close()
	if err := pprof.Lookup("heap").WriteTo(f, 0); err != nil {
		return err
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return os.WriteFile(name+".txt", fmt.Appendf(nil, "%+v\n", struct {
		HeapAlloc, HeapSys, HeapIdle, HeapReleased, HeapInuse, StackInuse, MSpanSys, GCSys, OtherSys, Sys, NextGC uint64
		GCs                                                                                                       uint32
		GCCPU                                                                                                     float64
	}{m.HeapAlloc, m.HeapSys, m.HeapIdle, m.HeapReleased, m.HeapInuse, m.StackInuse, m.MSpanSys, m.GCSys, m.OtherSys, m.Sys, m.NextGC, m.NumGC, m.GCCPUFraction}), 0o644)
}

// nodeProcess is a running node.
type nodeProcess struct {
	id, http string
	cmd      *exec.Cmd
	done     chan struct{} // closed when it has ended
	err      error         // valid then
}

func startNode(dir, id, http string, args ...string) (*nodeProcess, error) {
	log, err := os.Create(filepath.Join(dir, id+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd, err := again("node", append([]string{"-config", filepath.Join(dir, "nyala.yaml"), "-node", id, "-heap", filepath.Join(dir, id)}, args...)...)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &nodeProcess{id: id, http: http, cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the process at once.
func (p *nodeProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}
