// Package rowset writes and reads DiskRowSets: an immutable set of rows in primary-key order, held
// in two files.
//
//   - N.parquet has the rows, in a form that every Parquet reader reads. It is written by a
//     column-chunk writer of our own over parquet-go's exported encodings, because a table's schema
//     is known at run time only; and it is read by typed pages, never row by row.
//   - N.keys has what Parquet cannot hold: a Bloom filter, the encoded primary keys for point
//     lookups, the birth of each row, and the checksums of the Parquet file.
//
// The bytes of both files depend on the rows alone: not on how they were cut into batches, not on
// the processor. So replicas that hold the same rows write the same files, and compare hashes.
//
// A Writer makes both files of a DiskRowSet from rows in memory; a Stream writes a Parquet file
// alone, of the same form, from batches that come in order (exports). Open gives a RowSet: Scan for
// columns, Lookup for keys, Births, Verify for everything.
//
// The package has no goroutines and no locks. A Writer and a Stream belong to one goroutine; a RowSet
// may be used by many, a Scan of it by one.
//
// # Use
//
//	w, err := NewWriter(schema, Options{})
//	written, err := w.Write(fsys, "dir/7", &Rows{Batches, Refs, Births}) // dir/7.parquet, dir/7.keys
//	err = written.Sync()                                                 // both files; then the caller syncs the directory
//
//	rs, err := Open(fsys, "dir/7")
//	hits, err := rs.LookupAll(keys, hashes, skip, hits)                  // hashes once: AppendHashes(nil, keys)
//	scan, err := rs.Scan(ScanOptions{Columns, Where, At, Mask})
//	for { chunk, err := scan.Next() }                                    // chunk.Batch, chunk.Rows (row numbers)
//
//	st, err := NewStream(fsys, "x.parquet", schema, Options{Level: Default, SHA256: true})
//	err = st.Append(batch, rows)                                         // in order; then info, err := st.Finish()
//
// # N.parquet
//
// Data pages of version 2 with CRCs, a column index and an offset index, field ids that are the column
// ids, codec ZSTD (a page that does not shrink is kept as it is). Encodings: uuid, floats and bool PLAIN,
// integers DELTA_BINARY_PACKED, text DELTA_LENGTH_BYTE_ARRAY, a dictionary for anything but an integer of
// the key where it pays. A chunk with a NaN has neither bounds nor a column index: a reader to which NaN is above
// all would prune its rows away. Footer keys: nyala.format, nyala.schema (JSON), and the caller's.
//
// # N.keys
//
// All integers are little endian.
//
//	 0     8  magic "NYKEYS1\n"
//	 8        sections, each on 8 bytes, zeros between: see below
//	 .        footer
//	 .     4  length of the footer in bytes
//	 .     4  CRC32C of the footer and its length
//	 .     8  magic "NYKEYS1\n"
//
//	footer, 168 bytes and the bounds
//	 0     4  version, 1
//	 4     4  rows
//	 8     8  least birth
//	16     8  greatest birth
//	24     8  size of the Parquet file
//	32     4  length of the least key     36     4  length of the greatest key
//	40     4  number of sections, 5       44     4  zero
//	48        sections: 8 offset, 8 length, 4 CRC32C of it and the zeros behind, 4 zero
//	 .        least key, greatest key
//
//	section 0, bloom: blocks of 32 bytes, split block Bloom filter of Parquet, xxHash64 of the encoded key
//	section 1, index: the first key and the place of each key block, see keysWriter.index
//	section 2, blocks: see keyBlock; each block carries its own CRC32C in the index
//	section 3, births: see births, appendBirths
//	section 4, pages: 8 bytes, where the pages of the Parquet file end; CRC32C of every page in its order; CRC32C of the rest
package rowset
