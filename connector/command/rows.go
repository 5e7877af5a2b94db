package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"nyala/connector/api"
	"nyala/connector/query"
	"nyala/store/batch"
	"nyala/store/schema"
)

// remoteTable is a table as the cluster describes it.
type remoteTable struct {
	name   string
	client *api.Client
	schema *schema.Schema // columns and key; partitions are the cluster's business
}

func openTable(ctx context.Context, client *api.Client, name string) (*remoteTable, error) {
	var d api.TableDetail
	if err := client.Get(ctx, "/api/v1/tables/"+name, nil, &d); err != nil {
		return nil, err
	}
	t := &remoteTable{name: name, client: client, schema: &schema.Schema{Version: d.Schema.Version, Buckets: 1}}
	for _, c := range d.Schema.Columns {
		kind, err := schema.ParseType(c.Type)
		if err != nil {
			return nil, fmt.Errorf("table %s: column %s: %w: is the cluster's nyala newer than this one?", name, c.Name, err)
		}
		t.schema.Columns = append(t.schema.Columns, schema.Column{ID: schema.ColumnID(c.ID), Name: c.Name, Type: kind, Nullable: c.Nullable})
	}
	for _, k := range d.Schema.PrimaryKey {
		i := t.schema.Position(k)
		if i < 0 {
			return nil, fmt.Errorf("table %s: no column %q of the primary key", name, k)
		}
		t.schema.Key = append(t.schema.Key, i)
	}
	return t, nil
}

// answer is the rows of a read. Its columns are those asked for, in that order.
type answer struct {
	*query.StreamReader
	io.Closer
	columns   []schema.Column
	timestamp int64
}

// read asks for rows. Names and conditions are bound here first, so that a mistake is told before
// anything is sent; the columns are always named, so that what comes is what the writer expects.
func (t *remoteTable) read(ctx context.Context, r query.Request) (*answer, error) {
	plan, err := t.bind(r)
	if err != nil {
		return nil, err
	}
	r.Columns = nil
	for _, c := range plan.Columns {
		r.Columns = append(r.Columns, c.Name)
	}
	return openRows(ctx, t.client, t.name, r, plan.Columns)
}

func (t *remoteTable) bind(r query.Request) (*query.Plan, error) {
	plan, err := query.Bind(t.name, t.schema, r)
	if err != nil {
		return nil, &exitError{exitWrongUse, errors.New(strings.TrimPrefix(err.Error(), "query: "))}
	}
	return plan, nil
}

func openRows(ctx context.Context, client *api.Client, table string, r query.Request, columns []schema.Column) (*answer, error) {
	res, err := client.Do(ctx, http.MethodGet, "/api/v1/tables/"+table+"/rows", rowsQuery(r, "batches"), nil)
	if err != nil {
		return nil, err
	}
	at, err := strconv.ParseInt(res.Header.Get(api.TimestampHeader), 10, 64)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("answer of %s: header %s: %w", client.Server, api.TimestampHeader, err), res.Body.Close())
	}
	in := query.NewStreamReader(bufio.NewReaderSize(res.Body, 256<<10))
	return &answer{StreamReader: in, Closer: res.Body, columns: columns, timestamp: at}, nil
}

// rowsQuery is a read as a URL's query.
func rowsQuery(r query.Request, format string) url.Values {
	v := r.Values()
	v.Set("format", format)
	return v
}

// Next implements query.Stream. Rows of other columns than those asked for would be printed under
// wrong names: they are refused.
func (a *answer) Next() (*batch.Batch, error) {
	b, err := a.StreamReader.Next()
	if err != nil {
		return nil, err
	}
	same := slices.EqualFunc(b.Columns, a.columns, func(got batch.Column, want schema.Column) bool {
		return got.ID == want.ID && got.Type == want.Type
	})
	if !same {
		return nil, fmt.Errorf("the %d columns that came are not the %d asked for: was the table changed meanwhile?", len(b.Columns), len(a.columns))
	}
	return b, nil
}

// count asks for a number of rows only.
func (t *remoteTable) count(ctx context.Context, r query.Request) (string, error) {
	if _, err := t.bind(r); err != nil {
		return "", err
	}
	r.Count = true
	res, err := t.client.Do(ctx, http.MethodGet, "/api/v1/tables/"+t.name+"/rows", rowsQuery(r, "ndjson"), nil)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64))
	if err != nil {
		return "", fmt.Errorf("answer of %s: %w", t.client.Server, err)
	}
	number := strings.TrimSpace(string(text))
	if _, err := strconv.ParseInt(number, 10, 64); err != nil {
		return "", fmt.Errorf("answer of %s: %q, want a number", t.client.Server, number)
	}
	return number, nil
}

// pour gives every batch of a stream to write and returns the number of rows.
func pour(s query.Stream, write func(*batch.Batch) error) (rows int64, err error) {
	for {
		b, err := s.Next()
		if err == io.EOF {
			return rows, nil
		}
		if err == nil {
			rows += int64(b.Rows)
			err = write(b)
		}
		if err != nil {
			return rows, err
		}
	}
}
