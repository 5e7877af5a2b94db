// Package batch is the unit that a record travels in: a set of rows laid out column by column as
// Arrow does (validity bitmap, values, int32 offsets and bytes; little endian; buffers on 8 bytes).
// The same bytes are the Raft entry, the record in the write-ahead log, the rows of a MemRowSet and
// the answer of a scan, so a row is decoded once in its life.
//
// A Builder makes columns row by row (the decoders do). AppendWrite gathers rows from such columns,
// in primary-key order, into a log entry; ParseWrite views an entry in place, without a copy.
//
// # Entry
//
// All integers are little endian; offsets count from the start of the body. The header is stamped
// by the leader (timestamp, header CRC); the body never changes once made.
//
//	header, 40 bytes
//	 0  4  magic "NYE1"
//	 4  1  kind (Write, Freeze, ...)
//	 5  1  format version, 1
//	 6  2  zero
//	 8  8  timestamp, microseconds since 1970
//	16  4  schema version
//	20  4  zero
//	24  4  body length in bytes
//	28  4  CRC32C of the body
//	32  4  CRC32C of bytes 0 to 32
//	36  4  zero
//
//	body of a Write
//	 0  4  rows
//	 4  4  columns
//	 8  4  segments
//	12  1  operation of all rows, or 255: one byte a row
//	13  1  1: rows have origins (segment and offset); 2: they have none, and segments say how far their sources have come; 0: neither
//	14  2  zero
//	16     segments, each: 8 start, 8 first, 8 next, 16 topic id, 4 partition, 4 decision version, 4 zero, 4 name length, name, zeros to 8 bytes
//	 .     if rows have origins: 2 bytes a row, the segment; then 4 bytes a row, offset less the segment's first
//	 .     if operations differ: 1 byte a row
//	 .     column directory, 32 bytes a column:
//	         4 column id, 1 kind, 1 precision, 1 scale, 1 zero,
//	         4 null count, 4 validity bitmap's offset (0: no nulls), 4 values' offset, 4 values' length,
//	         4 offsets' offset (0: none), 4 zero
//	 .     buffers
//	 .     64 zero bytes, so that word-wise readers may run over the end
//
// Every part starts on 8 bytes.
package batch
