package connector

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"nyala/connector/api"
)

// postReplay replays dead letters and streams how far it is. What fails after the first line is in the last one.
func (n *Node) postReplay(w http.ResponseWriter, req *http.Request) error {
	request, err := parseReplay(req.URL.Query())
	if err != nil {
		return coded(http.StatusBadRequest, "bad_request", "%v", err)
	}
	out := json.NewEncoder(w)
	r, err := n.newReplay(request, func(p api.Replay) error {
		if err := out.Encode(p); err != nil {
			return fmt.Errorf("connector: the one who asked for the replay is gone: %w", err)
		}
		return http.NewResponseController(w).Flush()
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	last := r.runAll(req.Context())
	if err := out.Encode(last); err != nil {
		n.log.Warn("replay ended, and who asked for it is gone", "run", last.Run, "replayed", last.Replayed)
	}
	return nil
}

// runAll replays, and returns the last that is to be said.
func (r *replay) runAll(ctx context.Context) api.Replay {
	log := r.n.log.With("run", r.progress.Run)
	log.Info("replay begins", "where", strings.Join(r.request.where, " and "), "dry", r.request.dry)
	err := r.all(ctx)
	last := r.progress
	last.Sample = r.sample
	if last.Done = err == nil; !last.Done {
		last.Error = err.Error()
		log.Warn("replay ended with an error; the next one finishes it", "letters", last.Letters, "replayed", last.Replayed, "error", err)
		return last
	}
	log.Info("replay done", "letters", last.Letters, "replayed", last.Replayed, "finished", last.Finished)
	return last
}

// parseReplay reads the selection out of a URL.
func parseReplay(q url.Values) (r replayRequest, err error) {
	number := func(key string, bits int) (int64, bool) {
		text := q.Get(key)
		if text == "" || err != nil {
			return 0, false
		}
		v, e := strconv.ParseInt(text, 10, bits)
		if e != nil || v < 0 {
			err = fmt.Errorf("%s %q: want a number of 0 or more", key, text)
		}
		return v, err == nil
	}
	where := func(column, op string, v int64) {
		r.where = append(r.where, fmt.Sprintf("%s %s %d", column, op, v))
	}
	for _, column := range []string{"connector", "topic"} {
		if text := q.Get(column); text != "" {
			r.where = append(r.where, column+" = '"+strings.ReplaceAll(text, "'", "''")+"'")
		}
	}
	if q.Get("connector") != "" {
		r.ours = r.where[:1:1]
	}
	if v, ok := number("partition", 32); ok {
		where("partition", "=", v)
	}
	if v, ok := number("from", 64); ok {
		where("offset", ">=", v)
	}
	if v, ok := number("to", 64); ok {
		where("offset", "<", v)
	}
	r.limit, _ = number("limit", 64)
	if text := q.Get("dry_run"); text != "" && err == nil {
		if r.dry, err = strconv.ParseBool(text); err != nil {
			err = fmt.Errorf("dry_run %q: want true or false", text)
		}
	}
	return r, err
}
