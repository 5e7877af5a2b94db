package query

import (
	"slices"

	"nyala/store/batch"
	"nyala/store/schema"
)

// Cursor steps through a stream that is ordered by primary key, row by row, and knows each row's key.
type Cursor struct {
	Rows *batch.Batch // that the row is in
	At   int          // which of them it is
	in   Stream
	keys *batch.Keys
	err  error // that ended it
}

// NewCursor stands before the first row of a stream whose columns are columns, the key's of s among them.
func NewCursor(s *schema.Schema, columns []schema.Column, in Stream) *Cursor {
	key := &schema.Schema{Columns: columns}
	for _, k := range s.Key {
		id := s.Columns[k].ID
		key.Key = append(key.Key, slices.IndexFunc(columns, func(c schema.Column) bool { return c.ID == id }))
	}
	return &Cursor{in: in, keys: batch.NewKeys(key)}
}

// Next goes to the next row; the error, from the first one on, is io.EOF behind the last.
func (c *Cursor) Next() error {
	if c.At++; c.Rows != nil && c.At < c.Rows.Rows {
		return nil
	}
	c.At, c.Rows = 0, nil
	for c.err == nil && (c.Rows == nil || c.Rows.Rows == 0) {
		c.Rows, c.err = c.in.Next()
	}
	if c.err != nil {
		return c.err
	}
	c.keys.Reset()
	c.keys.Append(c.Rows, 0, c.Rows.Rows)
	return nil
}

// Key is the row's encoded primary key.
func (c *Cursor) Key() []byte { return c.keys.At(c.At) }

// Value is the row's value in column i of the stream.
func (c *Cursor) Value(i int) schema.Value { return c.Rows.Columns[i].Value(c.At) }
