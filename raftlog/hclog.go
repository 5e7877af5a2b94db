package raftlog

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hcLogger lets hashicorp/raft log through slog, one level lower than it asks for: what it calls an error, a
// heartbeat that failed, is the daily life of a cluster.
type hcLogger struct {
	l    *slog.Logger
	name string
	args []any
}

func newHCLogger(l *slog.Logger) hclog.Logger { return &hcLogger{l: l} }

func (h *hcLogger) Log(level hclog.Level, msg string, args ...any) {
	to := slogLevel(level)
	if !h.l.Enabled(context.Background(), to) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(format, f[1:]...)
			}
		}
	}
	h.l.Log(context.Background(), to, "raft: "+msg, args...)
}

// slogLevel puts raft's own words down: it warns of every heartbeat that a peer which is down does not get,
// for each group. What a person must know of is said by peers, groups and the log themselves.
func slogLevel(level hclog.Level) slog.Level {
	if level == hclog.Error {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

func (h *hcLogger) enabled(level hclog.Level) bool {
	return h.l.Enabled(context.Background(), slogLevel(level))
}

func (h *hcLogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hcLogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hcLogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hcLogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hcLogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }
func (h *hcLogger) IsTrace() bool                 { return h.enabled(hclog.Trace) }
func (h *hcLogger) IsDebug() bool                 { return h.enabled(hclog.Debug) }
func (h *hcLogger) IsInfo() bool                  { return h.enabled(hclog.Info) }
func (h *hcLogger) IsWarn() bool                  { return h.enabled(hclog.Warn) }
func (h *hcLogger) IsError() bool                 { return h.enabled(hclog.Error) }
func (h *hcLogger) ImpliedArgs() []any            { return h.args }
func (h *hcLogger) Name() string                  { return h.name }
func (h *hcLogger) SetLevel(hclog.Level)          {} // slog's handler decides
func (h *hcLogger) GetLevel() hclog.Level         { return hclog.Info }

func (h *hcLogger) With(args ...any) hclog.Logger {
	return &hcLogger{h.l.With(args...), h.name, append(append([]any(nil), h.args...), args...)}
}
func (h *hcLogger) Named(name string) hclog.Logger { return &hcLogger{h.l, h.name + name, h.args} }
func (h *hcLogger) ResetNamed(name string) hclog.Logger {
	return &hcLogger{h.l, name, h.args}
}
func (h *hcLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(h.l.Handler(), slog.LevelInfo)
}
func (h *hcLogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return h.StandardLogger(o).Writer()
}
