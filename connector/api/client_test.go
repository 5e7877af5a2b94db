package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestClientErrors(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/good", func(w http.ResponseWriter, r *http.Request) { w.Write([]byte(`{"cluster":"c"}`)) })
	mux.HandleFunc("/gone", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(404)
		w.Write([]byte(`{"error":{"code":"table_not_found","message":"no table x"}}`))
	})
	mux.HandleFunc("/odd", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "teapot", http.StatusTeapot) })
	server := httptest.NewServer(mux)
	defer server.Close()
	c := &Client{Server: strings.TrimPrefix(server.URL, "http://"), HTTP: server.Client()}
	var s Status
	if err := c.Get(context.Background(), "/good", nil, &s); err != nil || s.Cluster != "c" {
		t.Fatalf("got %+v, %v", s, err)
	}
	var remote *RemoteError
	if err := c.Get(context.Background(), "/gone", nil, &s); !errors.As(err, &remote) || remote.Code != "table_not_found" || remote.Status != 404 {
		t.Fatalf("got %v", err)
	}
	if err := c.Get(context.Background(), "/odd", nil, &s); err == nil || !strings.Contains(err.Error(), "teapot") {
		t.Fatalf("got %v", err)
	}
	server.Close()
	if err := c.Get(context.Background(), "/good", nil, &s); err == nil || !strings.Contains(err.Error(), "no nyala node answers") {
		t.Fatalf("got %v", err)
	}
}
