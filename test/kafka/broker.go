package kafka

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"nyala/connector/child"
)

const (
	host = "127.0.0.1"
	// startWait bounds the wait for a broker that says nothing; a slow machine under load needs some 20 s.
	startWait = 2 * time.Minute
	// stopWait is how long a broker may take to end by itself.
	stopWait = 30 * time.Second
	// startTries bounds the starts over when somebody else takes a port between its choice and its use.
	startTries = 3
)

// errPortTaken is for Start, which tries other ports.
var errPortTaken = errors.New("port taken")

// Options of a broker. The zero value is one that serves well.
type Options struct {
	Libs      string            // the folder of Kafka's jars; "" means Fetch's
	Dir       string            // the folder of its data, kept by Close; "" means a temporary one
	HeapBytes int64             // 0 means 768 MiB
	Settings  map[string]string // server.properties that are added, or replace ours
}

// Broker is an Apache Kafka that runs, or ran. Not safe for concurrent use.
type Broker struct {
	options   Options
	libs, dir string
	broker    int // ports
	control   int
	process   *child.Process // nil when it does not run
	tail      *tail          // of what the process says
}

// Start fetches Kafka if need be, formats a folder and returns when the broker answers.
func Start(ctx context.Context, o Options) (*Broker, error) {
	if _, err := exec.LookPath("java"); err != nil {
		return nil, fmt.Errorf("kafka: it needs a JDK or JRE of 17 or later (apt-get install default-jre-headless): %w", err)
	}
	b := &Broker{options: o, dir: o.Dir}
	var err error
	if b.libs, err = Fetch(ctx, o.Libs); err != nil {
		return nil, err
	}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "nyala-kafka-"); err != nil {
			return nil, fmt.Errorf("kafka: %w", err)
		}
	}
	for range startTries {
		if err = b.begin(ctx); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// begin chooses ports, formats the folder unless it is, and runs.
func (b *Broker) begin(ctx context.Context) error {
	ports, err := FreePorts(2)
	if err != nil {
		return err
	}
	b.broker, b.control = ports[0], ports[1]
	if err := os.WriteFile(b.file("server.properties"), b.properties(), 0o644); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	if err := os.WriteFile(b.file("log4j2.properties"), []byte(logging), 0o644); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	format := exec.CommandContext(ctx, "java", b.java("kafka.tools.StorageTool", "format", "--ignore-formatted",
		"--cluster-id="+clusterID(), "--config", b.file("server.properties"))...)
	if _, err := os.Stat(filepath.Join(b.file("data"), "meta.properties")); err != nil { // a folder that was used before keeps its id
		if out, err := format.CombinedOutput(); err != nil {
			return fmt.Errorf("kafka: format %s: %w\n%s", b.dir, err, out)
		}
	}
	return b.Restart(ctx)
}

// Addr is where clients connect: host:port. It stays the same for the life of the Broker.
func (b *Broker) Addr() string { return fmt.Sprintf("%s:%d", host, b.broker) }

// Dir is the folder of its data and settings.
func (b *Broker) Dir() string { return b.dir }

// Restart runs a broker that was stopped or killed again, on the same address and data, and returns when it answers.
func (b *Broker) Restart(ctx context.Context) error {
	if b.process != nil {
		return errors.New("kafka: restart of a broker that runs")
	}
	log, err := os.OpenFile(b.file("broker.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	b.tail = &tail{log: log, started: make(chan struct{})}
	cmd := exec.Command("java", b.java("kafka.Kafka", b.file("server.properties"))...)
	cmd.Stdout, cmd.Stderr = b.tail, b.tail
	p, err := child.Start(cmd)
	if err != nil {
		return errors.Join(fmt.Errorf("kafka: %w", err), log.Close())
	}
	b.process = p
	if err := b.await(ctx); err != nil {
		return errors.Join(err, b.Kill())
	}
	return nil
}

// await returns when the broker has said that it has started and takes connections.
func (b *Broker) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startWait)
	defer cancel()
	select {
	case <-b.tail.started:
	case <-b.process.Done():
		out := b.tail.String()
		if strings.Contains(out, "Address already in use") {
			return fmt.Errorf("kafka: %s: %w", b.Addr(), errPortTaken)
		}
		return fmt.Errorf("kafka: the broker ended before it had started: %s\n%s", child.Cause(b.process.Wait()), out)
	case <-ctx.Done():
		return fmt.Errorf("kafka: the broker has not started: %w\n%s", ctx.Err(), b.tail.String())
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", b.Addr())
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	return conn.Close()
}

// Stop ends the broker as an operator would: it hands over, flushes and ends by itself. One that does not is killed. Data stay.
func (b *Broker) Stop() error {
	if b.process == nil {
		return nil
	}
	err := b.process.Stop(stopWait)
	b.process = nil
	if cerr := b.tail.log.Close(); cerr != nil {
		return fmt.Errorf("kafka: %w", cerr)
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) { // a JVM that is asked to end does so with 143
		return fmt.Errorf("kafka: broker: %w\n%s", err, b.tail)
	}
	return nil
}

// Kill ends the broker with SIGKILL, in the middle of whatever it does. Data stay.
func (b *Broker) Kill() error {
	if b.process == nil {
		return nil
	}
	b.process.Kill()
	b.process = nil
	return b.tail.log.Close()
}

// Freeze stops the broker's process, as a hung machine would; Thaw lets it go on.
func (b *Broker) Freeze() { b.process.Signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (b *Broker) Thaw() { b.process.Signal(syscall.SIGCONT) }

// Close kills the broker if it runs, and removes its data unless they are in Options.Dir.
func (b *Broker) Close() error {
	err := b.Kill()
	if b.options.Dir == "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

func (b *Broker) file(name string) string { return filepath.Join(b.dir, name) }

func (b *Broker) java(class string, args ...string) []string {
	heap := b.options.HeapBytes
	if heap == 0 {
		heap = 768 << 20
	}
	return append([]string{fmt.Sprintf("-Xmx%dm", heap>>20), "-XX:+UseSerialGC",
		"-Dlog4j2.configurationFile=" + b.file("log4j2.properties"), "-cp", filepath.Join(b.libs, "*"), class}, args...)
}

// properties is the content of server.properties: one node that is broker and controller, whose internal topics have one replica and few
// partitions. Topics are made by the tests and never by accident.
func (b *Broker) properties() []byte {
	set := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.voters":                         fmt.Sprintf("1@%s:%d", host, b.control),
		"listeners":                                        fmt.Sprintf("PLAINTEXT://%s:%d,CONTROLLER://%s:%d", host, b.broker, host, b.control),
		"advertised.listeners":                             fmt.Sprintf("PLAINTEXT://%s:%d", host, b.broker),
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                         b.file("data"),
		"auto.create.topics.enable":                        "false",
		"group.initial.rebalance.delay.ms":                 "0",
		"offsets.topic.num.partitions":                     "4",
		"offsets.topic.replication.factor":                 "1",
		"transaction.state.log.num.partitions":             "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"broker.session.timeout.ms":                        "4000", // a killed broker may come back only when its old self has timed out
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
	}
	for key, value := range b.options.Settings {
		set[key] = value
	}
	var lines []string
	for key, value := range set {
		lines = append(lines, key+"="+value+"\n")
	}
	slices.Sort(lines)
	return []byte(strings.Join(lines, ""))
}

// logging is quiet, but for the line that says that the broker has started (startedLine).
const logging = `status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{HH:mm:ss,SSS} %p %m (%c)%n
rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=info
`

// clusterID is in the form of Kafka's own ids: 16 bytes in URL-safe base64.
func clusterID() string {
	var id [16]byte
	rand.Read(id[:])
	return base64.RawURLEncoding.EncodeToString(id[:])
}
