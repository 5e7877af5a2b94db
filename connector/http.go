package connector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"nyala/connector/api"
	"nyala/connector/catalog"
	"nyala/connector/query"
	"nyala/store"
	"nyala/store/batch"
)

const (
	headerLimit = 10 * time.Second // for a client to send a request's header
	afterLimit  = 10 * time.Second // the default of timeout= with after=
)

// serveHTTP starts the HTTP server on a listener.
func (n *Node) serveHTTP(l net.Listener) {
	mux := http.NewServeMux()
	handle := func(pattern string, h func(http.ResponseWriter, *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				n.writeError(w, r, err)
			}
		})
	}
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "alive\n") })
	handle("GET /ready", n.getReady)
	handle("GET /api/v1/status", n.getStatus)
	handle("GET /api/v1/offsets", n.getOffsets)
	handle("GET /api/v1/tables", n.getTables)
	handle("GET /api/v1/tables/{table}", n.getTable)
	handle("GET /api/v1/tables/{table}/rows", n.getRows)
	handle("GET /api/v1/tables/{table}/snapshot", n.getSnapshot)
	handle("GET /api/v1/tables/{table}/verify", n.getVerification)
	handle("GET /api/v1/tablets/{tablet}", n.getTablet)
	handle("POST /api/v1/dead-letters/replay", n.postReplay)
	handle("GET /internal/v1/local", n.getLocal)
	handle("GET /internal/v1/tablets/{tablet}/rows", n.getTabletRows)
	handle("GET /internal/v1/tablets/{tablet}/ledger", n.getTabletLedger)
	mux.Handle("GET /metrics", n.metrics.handler())
	handle("/", func(_ http.ResponseWriter, r *http.Request) error {
		return coded(http.StatusNotFound, "not_found", "there is nothing at %s %s", r.Method, r.URL.Path)
	})
	n.server = &http.Server{Handler: n.onceOpened(mux), ReadHeaderTimeout: headerLimit, BaseContext: func(net.Listener) context.Context { return n.ctx }}
	n.work.Go(func() {
		if err := n.server.Serve(l); !errors.Is(err, http.ErrServerClosed) && n.ctx.Err() == nil {
			n.log.Error("http server stopped", "error", err)
		}
	})
	// Serve's connections end with the node's context; Close of the server then waits for nothing.
	n.work.Go(func() {
		<-n.ctx.Done()
		n.server.Close()
	})
}

// onceOpened answers for a node that is still opening its files, which may take a while after a crash: it is
// alive, and nothing else can be asked yet.
func (n *Node) onceOpened(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-n.opened:
			h.ServeHTTP(w, r)
		default:
			if r.URL.Path == "/health" {
				h.ServeHTTP(w, r)
				return
			}
			n.writeError(w, r, coded(http.StatusServiceUnavailable, "not_ready", "the node is opening its files"))
		}
	})
}

func (n *Node) writeError(w http.ResponseWriter, r *http.Request, err error) {
	status, code := http.StatusInternalServerError, "internal"
	var c *codedError
	switch {
	case errors.As(err, &c):
		status, code = c.status, c.code
	case errors.Is(err, store.ErrTooOld):
		status, code = http.StatusBadRequest, "history_too_old"
	case errors.Is(err, context.Canceled):
		status, code = http.StatusServiceUnavailable, "stopping"
	}
	if status == http.StatusInternalServerError {
		n.log.Error("request failed", "path", r.URL.Path, "error", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(api.Error{Error: api.ErrorBody{Code: code, Message: err.Error()}})
}

func writeJSON(w http.ResponseWriter, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	_, err = w.Write(append(text, '\n'))
	if err != nil {
		return nil // the client is gone; nobody is left to tell
	}
	return nil
}

func (n *Node) getReady(w http.ResponseWriter, _ *http.Request) error {
	if reason := n.notReady(); reason != "" {
		return coded(http.StatusServiceUnavailable, "not_ready", "%s", reason)
	}
	io.WriteString(w, "ready\n")
	return nil
}

func (n *Node) getStatus(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, n.status(r.Context()))
}

func (n *Node) getLocal(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, n.local())
}

func (n *Node) getOffsets(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, n.offsets(r.Context()))
}

func (n *Node) getTables(w http.ResponseWriter, r *http.Request) error {
	return writeJSON(w, n.status(r.Context()).Tables)
}

func (n *Node) getTable(w http.ResponseWriter, r *http.Request) error {
	t, ok := n.catalog.Snapshot().Table(r.PathValue("table"))
	if !ok {
		return coded(http.StatusNotFound, "table_not_found", "there is no table %q; `nyala status` lists them", r.PathValue("table"))
	}
	return writeJSON(w, tableDetail(t))
}

func (n *Node) getTablet(w http.ResponseWriter, r *http.Request) error {
	tablets := n.status(r.Context()).Tablets
	i := slices.IndexFunc(tablets, func(t api.Tablet) bool { return t.ID == r.PathValue("tablet") })
	if i < 0 {
		return coded(http.StatusNotFound, "tablet_not_found", "there is no tablet %q", r.PathValue("tablet"))
	}
	return writeJSON(w, tablets[i])
}

// getRows streams a table's rows. An error after the first byte is in the trailer.
func (n *Node) getRows(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	req, err := query.ParseRequest(q)
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	if err := n.awaitAfter(r.Context(), q.Get("after"), q.Get("timeout")); err != nil {
		return err
	}
	format := q.Get("format")
	if format == "" {
		format = "ndjson"
	}
	if format != "batches" && (format == "table" || !slices.Contains(query.Formats, format)) {
		return coded(http.StatusBadRequest, "bad_request", "format %q is unknown, want ndjson or csv", format)
	}
	out, err := n.read(r.Context(), r.PathValue("table"), req)
	if err != nil {
		return err
	}
	defer out.stream.Close()
	w.Header().Set(api.TimestampHeader, strconv.FormatInt(out.timestamp, 10))
	if req.Count {
		return n.writeCount(w, out.stream)
	}
	if format == "batches" {
		return n.writeBatches(w, out.stream)
	}
	w.Header().Set("Trailer", api.ErrorTrailer)
	w.Header().Set("Content-Type", map[string]string{"csv": "text/csv; charset=utf-8", "ndjson": "application/x-ndjson"}[format])
	rows, err := query.NewRowWriter(format, out.columns, w)
	if err == nil {
		err = pour(out.stream, rows.Write)
	}
	if err == nil {
		err = rows.Close()
	}
	if err != nil {
		n.log.Warn("stream of rows ended with an error", "table", r.PathValue("table"), "error", err)
		w.Header().Set(api.ErrorTrailer, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	return nil
}

// pour gives every batch of a stream to write.
func pour(s query.Stream, write func(*batch.Batch) error) error {
	for {
		b, err := s.Next()
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = write(b)
		}
		if err != nil {
			return err
		}
	}
}

func (n *Node) writeCount(w http.ResponseWriter, s query.Stream) error {
	total := int64(0)
	if err := pour(s, func(b *batch.Batch) error { total += int64(b.Rows); return nil }); err != nil {
		return err
	}
	fmt.Fprintln(w, total)
	return nil
}

// writeBatches streams frames; an error is a frame of its own.
func (n *Node) writeBatches(w http.ResponseWriter, s query.Stream) error {
	w.Header().Set("Content-Type", "application/x-nyala-batches")
	out := query.NewStreamWriter(w)
	if err := pour(s, out.Write); err != nil {
		n.log.Warn("stream of batches ended with an error", "error", err)
		out.Fail(err)
		return nil
	}
	out.End()
	return nil
}

// getTabletRows serves one tablet's replica on this node to another node, which has settled the timestamp.
func (n *Node) getTabletRows(w http.ResponseWriter, r *http.Request) error {
	req, err := query.ParseRequest(r.URL.Query())
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	id, err := strconv.ParseUint(r.PathValue("tablet"), 10, 64)
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "tablet %q: want a number", r.PathValue("tablet"))
	}
	replica := n.replica(catalog.TabletID(id))
	view := n.catalog.Snapshot()
	tablet, ok := view.Tablet(catalog.TabletID(id))
	if replica == nil || !ok || !n.awaitLocal(r.Context(), replica, req.At, time.Now().Add(localPatience)) {
		return coded(http.StatusServiceUnavailable, "replica_behind", "tablet %d is not here, or not there yet", id)
	}
	var version uint64 // of the schema that the asker knows
	if text := r.URL.Query().Get("schema"); text != "" {
		if version, err = strconv.ParseUint(text, 10, 32); err != nil {
			return coded(http.StatusBadRequest, "bad_request", "schema %q: want a number", text)
		}
	}
	table, ok := n.awaitSchema(r.Context(), tablet.Table, uint32(version))
	if !ok {
		return coded(http.StatusServiceUnavailable, "catalog_behind", "table %d is not here, or not with schema version %d yet", tablet.Table, version)
	}
	plan, err := query.Bind(table.Name, table.Schema, req)
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	plan.Fetch = plan.Columns // the asker names all that it needs
	s, err := n.scan(r.Context(), replica, plan, req.At, req.Order == query.OrderKey)
	if err != nil {
		return err
	}
	defer s.Close()
	if !s.begins(diskReadPatience) {
		return coded(http.StatusServiceUnavailable, "disk_hangs", "the disk of %s does not answer", n.options.Node)
	}
	return n.writeBatches(w, s)
}

// awaitAfter waits until what `after` names is readable: a timestamp of an earlier answer, which every
// read reaches by itself, or topic:partition:offset of a record.
func (n *Node) awaitAfter(ctx context.Context, after, timeout string) error {
	parts := strings.Split(after, ":")
	if after == "" || len(parts) == 1 {
		return nil
	}
	limit := afterLimit
	if timeout != "" {
		var err error
		if limit, err = time.ParseDuration(timeout); err != nil {
			return coded(http.StatusBadRequest, "bad_request", "timeout %q: want a duration, as 10s", timeout)
		}
	}
	last := len(parts) - 1
	partition, err1 := strconv.ParseInt(parts[max(0, last-1)], 10, 32)
	offset, err2 := strconv.ParseInt(parts[last], 10, 64)
	if last < 2 || err1 != nil || err2 != nil {
		return coded(http.StatusBadRequest, "bad_request", "after %q: want a timestamp or topic:partition:offset", after)
	}
	topic := strings.Join(parts[:last-1], ":")
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		for _, o := range n.offsets(ctx) {
			if o.Topic == topic && int64(o.Partition) == partition && max(o.Checkpoint, o.Watermark) > offset {
				return nil
			}
		}
		if ctx.Err() != nil {
			return coded(http.StatusGatewayTimeout, "not_in_yet", "%s is not in after %s", after, limit)
		}
		sleep(ctx, 20*time.Millisecond)
	}
}
