package rowset

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/delta"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// Level is how hard pages are compressed.
type Level uint8

// The levels: zstd's fastest for flushes, its default where files are written once and kept (exports).
const (
	Fastest Level = iota
	Default
	levelNone // for tests and figures only
)

// Pair is an entry of a Parquet footer.
type Pair struct{ Key, Value string }

// Options shape what is written. The zero value is right for DiskRowSets; replicas must agree on all of it.
type Options struct {
	Level      Level
	GroupRows  int                 // rows of a row group at most; 0 means 500,000
	GroupBytes int64               // bytes of rows, before encoding, that a Stream keeps for a row group; 0 means 128 MiB
	SHA256     bool                // compute FileInfo.SHA256 too
	Footer     []Pair              // keys must begin with "nyala."
	Written    func(suffix string) // told when a Writer has handed a file's bytes to the file system; nil: nobody asks
}

const (
	groupRows  = 500_000
	groupBytes = 128 << 20
)

func (o *Options) fill() error {
	if o.GroupRows == 0 {
		o.GroupRows = groupRows
	}
	if o.GroupBytes == 0 {
		o.GroupBytes = groupBytes
	}
	for _, p := range o.Footer {
		if !strings.HasPrefix(p.Key, "nyala.") {
			return fmt.Errorf("rowset: footer key %q does not begin with %q", p.Key, "nyala.")
		}
	}
	if o.GroupRows < 0 || o.GroupBytes < 0 {
		return fmt.Errorf("rowset: got row groups of %d rows and %d bytes", o.GroupRows, o.GroupBytes)
	}
	return nil
}

// parquetWriter writes a Parquet file column chunk by column chunk. Nothing is kept but the pages of one
// dictionary chunk; every buffer, table and zstd encoder is kept for the next file.
type parquetWriter struct {
	schema *schema.Schema
	plans  []columnPlan
	level  Level
	footer []Pair

	out    *output
	groups []format.RowGroup
	chunks []*chunk // all, group by group
	sums   []uint32
	rows   int64
	err    error

	src    source
	dict   dictionary
	ids    []int32
	valid  []byte
	levels []byte
	body   []byte
	packed []byte
	held   []byte

	header  bytes.Buffer
	encoder *thrift.Encoder
	zstd    [2]*zstd.Encoder // without and with entropy-coded literals

	deltaInts  delta.BinaryPackedEncoding
	deltaBytes delta.LengthByteArrayEncoding
}

const (
	parquetMagic = "PAR1"
	// parquetCreator has the form that parquet-java parses. It names the format, not the build: equal rows, equal bytes.
	parquetCreator = "nyala version 1.0.0 (build 1)"
	formatVersion  = "1"
)

// zstdWindow is how far back zstd looks. Nearly all pages are smaller, and of the default, 4 MiB, each encoder of a node holds twice as much.
const zstdWindow = 1 << 20

// newParquetWriter makes one that needs a schema.
func newParquetWriter(level Level) (*parquetWriter, error) {
	w := &parquetWriter{level: level, out: newOutput()}
	w.encoder = thrift.NewEncoder(new(thrift.CompactProtocol).NewWriter(&w.header))
	speed := zstd.SpeedFastest
	if level == Default {
		speed = zstd.SpeedDefault
	}
	for i := range w.zstd {
		var err error
		w.zstd[i], err = zstd.NewWriter(nil, zstd.WithEncoderLevel(speed), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithZeroFrames(true), zstd.WithAllLitEntropyCompression(i == 1), zstd.WithWindowSize(zstdWindow))
		if err != nil {
			return nil, fmt.Errorf("rowset: zstd: %w", err)
		}
	}
	return w, nil
}

// setSchema is for the files that begin after it.
func (w *parquetWriter) setSchema(s *schema.Schema, footer []Pair) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("rowset: schema: %w", err)
	}
	w.schema, w.plans = s, planColumns(s)
	w.footer = append([]Pair{{"nyala.format", formatVersion}, {"nyala.schema", string(text)}}, footer...)
	return nil
}

func (w *parquetWriter) begin(f vfs.File, withSHA bool) {
	w.out.reset(f, withSHA)
	w.groups, w.chunks, w.sums, w.rows, w.err = nil, nil, w.sums[:0], 0, nil
	w.out.put([]byte(parquetMagic))
}

func (w *parquetWriter) codec() format.CompressionCodec {
	if w.level == levelNone {
		return format.Uncompressed
	}
	return format.Zstd
}

// compress returns b compressed; the result lives until the next call.
func (w *parquetWriter) compress(b []byte, literal bool) []byte {
	w.packed = w.zstd[oneIf(literal)].EncodeAll(b, w.packed[:0])
	return w.packed
}

// marshal encodes a thrift value; the result lives until the next call.
func (w *parquetWriter) marshal(v any) []byte {
	w.header.Reset()
	if err := w.encoder.Encode(v); err != nil && w.err == nil {
		w.err = fmt.Errorf("rowset: thrift: %w", err)
	}
	return w.header.Bytes()
}

// writeGroup writes rows as a row group; refs have been checked.
func (w *parquetWriter) writeGroup(batches []*batch.Batch, refs []Ref) error {
	defer w.src.forget()
	g := format.RowGroup{NumRows: int64(len(refs)), FileOffset: w.out.size(), Ordinal: int16(len(w.groups)), Columns: make(thrift.Slice[format.ColumnChunk], 0, len(w.plans))}
	for _, k := range w.schema.Key {
		g.SortingColumns = append(g.SortingColumns, format.SortingColumn{ColumnIdx: int32(k)})
	}
	for i := range w.plans {
		p := &w.plans[i]
		if err := w.src.reset(&p.column, batches, refs); err != nil {
			return err
		}
		c := w.writeChunk(p, len(refs))
		w.sums = append(w.sums, c.sums...)
		w.chunks = append(w.chunks, c)
		g.Columns = append(g.Columns, format.ColumnChunk{MetaData: c.meta})
		g.TotalByteSize += c.meta.TotalUncompressedSize
		g.TotalCompressedSize += c.meta.TotalCompressedSize
		if w.out.err != nil {
			return w.out.err
		}
	}
	w.groups = append(w.groups, g)
	w.rows += g.NumRows
	return w.err
}

// end writes the indexes and the footer. Afterwards w.sums has the sum of every page and of all behind the last one.
func (w *parquetWriter) end() (FileInfo, error) {
	tail := uint32(0)
	put := func(b []byte) {
		tail = crc32.Update(tail, castagnoli, b)
		w.out.put(b)
	}
	for i, c := range w.chunks {
		if c.noIndex {
			continue
		}
		k := &w.groups[i/len(w.plans)].Columns[i%len(w.plans)]
		k.ColumnIndexOffset = w.out.size()
		put(w.marshal(&c.cix))
		k.ColumnIndexLength = int32(w.out.size() - k.ColumnIndexOffset)
	}
	for i, c := range w.chunks {
		k := &w.groups[i/len(w.plans)].Columns[i%len(w.plans)]
		k.OffsetIndexOffset = w.out.size()
		put(w.marshal(&c.oix))
		k.OffsetIndexLength = int32(w.out.size() - k.OffsetIndexOffset)
	}
	footer := w.marshal(w.metadata())
	put(footer)
	put(append(binary.LittleEndian.AppendUint32(nil, uint32(len(footer))), parquetMagic...))
	w.sums = append(w.sums, tail)
	info, err := w.out.finish()
	if err == nil {
		err = w.err
	}
	return info, err
}

func (w *parquetWriter) metadata() *format.FileMetaData {
	m := &format.FileMetaData{Version: 2, NumRows: w.rows, RowGroups: w.groups, CreatedBy: parquetCreator}
	m.Schema = append(m.Schema, format.SchemaElement{Name: "schema", NumChildren: thrift.New(int32(len(w.plans)))})
	for i := range w.plans {
		m.Schema = append(m.Schema, schemaElement(&w.plans[i].column))
		m.ColumnOrders = append(m.ColumnOrders, format.ColumnOrder{Value: &format.TypeDefinedOrder{}})
	}
	for _, p := range w.footer {
		m.KeyValueMetadata = append(m.KeyValueMetadata, format.KeyValue{Key: p.Key, Value: p.Value})
	}
	return m
}

var physTypes = [...]format.Type{physBool: format.Boolean, physInt32: format.Int32, physInt64: format.Int64, physFloat: format.Float,
	physDouble: format.Double, physBytes: format.ByteArray, physFixed16: format.FixedLenByteArray}

// schemaElement says what a column is, in both ways that Parquet has had.
func schemaElement(c *schema.Column) format.SchemaElement {
	kind := physicalOf(c.Type)
	e := format.SchemaElement{Type: thrift.New(physTypes[kind]), Name: c.Name, FieldID: int32(c.ID), RepetitionType: thrift.New(format.Required)}
	if c.Nullable {
		e.RepetitionType = thrift.New(format.Optional)
	}
	logical := func(v format.LogicalTypeValue, old deprecated.ConvertedType) {
		e.LogicalType.Value, e.ConvertedType = v, thrift.New(old)
	}
	switch c.Type.Kind {
	case schema.Int8:
		logical(&format.IntType{BitWidth: 8, IsSigned: true}, deprecated.Int8)
	case schema.Int16:
		logical(&format.IntType{BitWidth: 16, IsSigned: true}, deprecated.Int16)
	case schema.Decimal:
		p, s := int32(c.Type.Precision), int32(c.Type.Scale)
		logical(&format.DecimalType{Precision: p, Scale: s}, deprecated.Decimal)
		e.Precision, e.Scale = thrift.New(p), thrift.New(s)
	case schema.String:
		logical(&format.StringType{}, deprecated.UTF8)
	case schema.JSON:
		logical(&format.JsonType{}, deprecated.Json)
	case schema.Date:
		logical(&format.DateType{}, deprecated.Date)
	case schema.Timestamp:
		logical(&format.TimestampType{IsAdjustedToUTC: true, Unit: format.TimeUnit{Value: &format.MicroSeconds{}}}, deprecated.TimestampMicros)
	case schema.UUID:
		e.LogicalType.Value, e.TypeLength = &format.UUIDType{}, thrift.New(int32(16))
	}
	return e
}
