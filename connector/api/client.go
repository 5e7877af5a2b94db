package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// TimestampHeader carries the snapshot that an answer shows, microseconds since 1970.
const TimestampHeader = "Nyala-Timestamp"

// ErrorTrailer ends a stream of rows that failed after its first byte.
const ErrorTrailer = "Nyala-Error"

// Client talks to the HTTP address of one node.
type Client struct {
	Server string // host:port
	HTTP   *http.Client
}

// RemoteError is an error that a node answered with.
type RemoteError struct {
	Status int
	ErrorBody
}

func (e *RemoteError) Error() string { return e.Message }

// Do sends a request and returns the answer of a success; the caller closes its body. body may be nil.
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(text)
	}
	u := url.URL{Scheme: "http", Host: c.Server, Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), in)
	if err != nil {
		return nil, fmt.Errorf("api: server %q: %w", c.Server, err)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("api: %s answered %s: %w", c.Server, res.Status, err)
	}
	var e Error
	if json.Unmarshal(text, &e) != nil || e.Error.Message == "" {
		return nil, fmt.Errorf("api: %s answered %s: %s: is this the `http` address of a nyala node?", c.Server, res.Status, strings.TrimSpace(string(text)))
	}
	return nil, &RemoteError{res.StatusCode, e.Error}
}

// UnreachableError says that nobody listens at a node's address.
type UnreachableError struct {
	Server string
	Err    error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no nyala node answers at %s: %v", e.Server, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

func (c *Client) explain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return &UnreachableError{c.Server, op.Err}
	}
	return fmt.Errorf("api: %s: %w", c.Server, err)
}

// Get reads a JSON answer into out.
func (c *Client) Get(ctx context.Context, path string, query url.Values, out any) error {
	res, err := c.Do(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(out); err != nil {
		return fmt.Errorf("api: %s: answer of %s: %w", c.Server, path, err)
	}
	return nil
}
