package perf

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"syscall"
	"time"
)

// machine is what a figure means nothing without.
type machine struct {
	CPU        string `json:"cpu,omitempty"`
	Cores      int    `json:"cores"`
	GoMaxProcs int    `json:"gomaxprocs"`
	Memory     int64  `json:"memory_bytes,omitempty"`
	OS         string `json:"os"`
	Arch       string `json:"arch"`
	Go         string `json:"go"`
	FileSystem string `json:"file_system,omitempty"` // of the data
}

func thisMachine(dir string) machine {
	m := machine{Cores: runtime.NumCPU(), GoMaxProcs: runtime.GOMAXPROCS(0), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	// What a system does not tell is left out.
	m.CPU = field("/proc/cpuinfo", "model name")
	if text := field("/proc/meminfo", "MemTotal"); text != "" {
		for _, d := range strings.TrimSuffix(text, " kB") {
			m.Memory = m.Memory*10 + int64(d-'0')
		}
		m.Memory *= 1024
	}
	m.FileSystem = fileSystem(dir)
	return m
}

// field finds "name : value" in a file of /proc.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystem finds what a directory is on: of all mounts that hold it, the one with the longest path.
func fileSystem(dir string) string {
	text, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return ""
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	best, longest := "", -1
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 3 || len(f[1]) < longest {
			continue
		}
		if below, err := filepath.Rel(f[1], dir); err == nil && below != ".." && !strings.HasPrefix(below, "../") {
			best, longest = f[2]+" on "+f[0], len(f[1])
		}
	}
	return best
}

// usage is what this process has used so far.
type usage struct {
	at        time.Time
	cpu       time.Duration // user and system
	allocated uint64        // bytes of the Go heap
}

func used() usage {
	u := usage{at: time.Now()}
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err == nil {
		u.cpu = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	u.allocated = sample[0].Value.Uint64()
	return u
}

// sizeOf is the bytes of all files below a directory. A file that is gone meanwhile counts for nothing.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			n += info.Size()
		}
		return nil
	})
	return n
}
