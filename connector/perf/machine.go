package perf

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
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

	// Of one minute: above the number of cores others were there, too, or this measurement was.
	LoadBegin float64 `json:"load_begin"`
	LoadEnd   float64 `json:"load_end"`
}

func thisMachine(dir string) machine {
	m := machine{Cores: runtime.NumCPU(), GoMaxProcs: runtime.GOMAXPROCS(0), LoadBegin: loadAverage(), OS: runtime.GOOS, Arch: runtime.GOARCH, Go: runtime.Version()}
	// What a system does not tell is left out.
	m.CPU = field("/proc/cpuinfo", "model name")
	m.Memory = kilobytes("/proc/meminfo", "MemTotal")
	m.FileSystem = fileSystem(dir)
	return m
}

// facts writes them for people.
func (m *machine) facts() []string {
	facts := []string{fmt.Sprintf("%d cores", m.Cores), fmt.Sprintf("GOMAXPROCS %d", m.GoMaxProcs), m.OS + "/" + m.Arch, m.Go}
	if m.CPU != "" {
		facts = append([]string{m.CPU}, facts...)
	}
	if m.Memory > 0 {
		facts = append(facts, fmt.Sprintf("%.0f GiB", float64(m.Memory)/(1<<30)))
	}
	if m.FileSystem != "" {
		facts = append(facts, m.FileSystem)
	}
	if m.LoadBegin+m.LoadEnd > 0 {
		facts = append(facts, fmt.Sprintf("load %.1f at the begin and %.1f at the end", m.LoadBegin, m.LoadEnd))
	}
	return facts
}

// loadAverage is that of the last minute; 0 where the system does not tell.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	load, _ := strconv.ParseFloat(first, 64)
	return load
}

// memoryAvailable is what this machine has to give; 0 where the system does not tell.
func memoryAvailable() int64 { return kilobytes("/proc/meminfo", "MemAvailable") }

// residentMax is the most memory that this process has had, and resident what it has; 0 where the system does not tell.
func residentMax() int64 { return kilobytes("/proc/self/status", "VmHWM") }
func resident() int64    { return kilobytes("/proc/self/status", "VmRSS") }

// kilobytes finds "name : n kB" in a file of /proc, in bytes.
func kilobytes(file, name string) int64 {
	n, _ := strconv.ParseInt(strings.TrimSuffix(field(file, name), " kB"), 10, 64)
	return n << 10
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

// size is what is below a folder.
type size struct {
	files int
	bytes int64
}

// sizeOf walks a folder. A file that is gone meanwhile counts for nothing.
func sizeOf(dir string) (n size) {
	_ = filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && !d.IsDir() {
			n.files, n.bytes = n.files+1, n.bytes+info.Size()
		}
		return nil
	})
	return n
}
