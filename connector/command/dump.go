package command

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"nyala/connector"
	"nyala/connector/catalog"
	"nyala/store"
	"nyala/store/rowset"
	"nyala/store/vfs"
)

func (p *program) dumpCommand() *cobra.Command {
	files := vfs.OS()
	return onlyCommands(&cobra.Command{Use: "dump", Short: "Print a file's content for a person"},
		p.dumpOne("wal DIR...", "the log of a node, record by record",
			`Prints the log in a node's data directory, or in its directory wal: segments, drains, and every record with its place.`,
			func(name string, w io.Writer) error { return connector.DumpLog(files, name, w) }),
		p.dumpOne("manifest PATH...", "what a tablet, or the catalog, consists of",
			`Prints a tablet's manifest (its directory or the file in it): durable index, ledger, rowsets with their sizes, hashes and
numbers of dead rows. Of a directory catalog: nodes, tables, tablets and checkpoints. Of a node's data directory: all of these.`,
			func(name string, w io.Writer) error { return connector.DumpManifest(files, name, w) }),
		p.dumpOne("rowset FILE...", "what a DiskRowSet, or an exported file, is made of",
			`Prints the layout of a DiskRowSet, given its .parquet or its .keys file, or of one exported Parquet file: row groups, columns with
encodings, sizes and bounds, and the footer.`,
			func(name string, w io.Writer) error { return dumpRowSet(files, name, w) }),
		p.dumpOne("entry FILE...", "one entry of a log",
			`Prints what a log entry is: a batch of rows with the offsets that it holds, or a command of the tablet engine or of the catalog.
Each file holds one entry as it was proposed; - is standard input.`,
			p.dumpEntry),
	)
}

func (p *program) dumpOne(use, short, long string, dump func(name string, w io.Writer) error) *cobra.Command {
	kind, _, _ := strings.Cut(use, " ")
	return &cobra.Command{
		Use: use, Short: "Print " + short, Long: long,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return wrongUse("nyala dump %s needs a path", kind)
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			for _, name := range args {
				if name != "-" {
					name = filepath.ToSlash(filepath.Clean(name))
				}
				if err := dump(name, p.stdout); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// dumpRowSet prints a DiskRowSet if both of its files are there, else a Parquet file alone.
func dumpRowSet(files vfs.FS, name string, w io.Writer) error {
	base := strings.TrimSuffix(strings.TrimSuffix(name, rowset.ParquetSuffix), rowset.KeysSuffix)
	_, err := files.Stat(base + rowset.KeysSuffix)
	if err == nil {
		r, err := rowset.Open(files, base)
		if err != nil {
			return err
		}
		return errors.Join(r.Dump(w), r.Close())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := rowset.OpenFile(files, name)
	if err != nil {
		return err
	}
	return errors.Join(f.Dump(w), f.Close())
}

// dumpEntry prints an entry of a tablet's log, or of the system group's.
func (p *program) dumpEntry(name string, w io.Writer) (err error) {
	var entry []byte
	if name == "-" {
		entry, err = io.ReadAll(p.stdin)
	} else {
		entry, err = vfs.ReadFile(vfs.OS(), name)
	}
	if err != nil {
		return err
	}
	err = store.Validate(entry)
	if err == nil {
		_, err = fmt.Fprintln(w, store.DumpEntry(entry))
		return err
	}
	var text bytes.Buffer
	if catalog.DumpCommand(entry, &text) == nil {
		_, err = w.Write(text.Bytes())
		return err
	}
	return fmt.Errorf("%s: neither an entry of a tablet nor one of the catalog: %w", name, err)
}
