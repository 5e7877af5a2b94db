package rowset

import (
	"errors"
	"testing"

	"nyala/store/schema"
	"nyala/store/vfs"
)

// small is a rowset of a few KiB with nulls, dictionaries, text and two row groups.
func small(t testing.TB, fsys vfs.FS, base string) {
	s := &schema.Schema{Version: 1, Buckets: 1, Key: []int{0}, Columns: []schema.Column{
		{ID: 1, Name: "key_string", Type: schema.Type{Kind: schema.String}},
		{ID: 2, Name: "number_null", Type: schema.Type{Kind: schema.Int64}, Nullable: true},
		{ID: 3, Name: "name_few", Type: schema.Type{Kind: schema.String}},
		{ID: 4, Name: "ratio", Type: schema.Type{Kind: schema.Float64}, Nullable: true},
	}}
	write(t, fsys, base, s, modelRows(t, seeded(9), s, 300), Options{GroupRows: 200})
}

// put replaces a file's content.
func put(t testing.TB, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	f, err := fsys.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFlippedBits flips a bit of every byte of both files: Verify must find each.
func TestFlippedBits(t *testing.T) {
	fsys := vfs.NewMem()
	small(t, fsys, "1")
	for _, suffix := range []string{ParquetSuffix, KeysSuffix} {
		data, err := vfs.ReadFile(fsys, "1"+suffix)
		if err != nil {
			t.Fatal(err)
		}
		for i := range data {
			data[i] ^= 1 << (i % 8)
			put(t, fsys, "1"+suffix, data)
			if err := Verify(fsys, "1"); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s: bit %d of byte %d of %d is not found: %v", suffix, i%8, i, len(data), err)
			}
			data[i] ^= 1 << (i % 8)
		}
		put(t, fsys, "1"+suffix, data)
	}
	if err := Verify(fsys, "1"); err != nil {
		t.Fatal(err)
	}
}

// TestCutFiles shortens and lengthens each file: Open must refuse.
func TestCutFiles(t *testing.T) {
	fsys := vfs.NewMem()
	small(t, fsys, "1")
	for _, suffix := range []string{ParquetSuffix, KeysSuffix} {
		data, err := vfs.ReadFile(fsys, "1"+suffix)
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n < len(data); n += 1 + n/50 {
			put(t, fsys, "1"+suffix, data[:n])
			if r, err := Open(fsys, "1"); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s cut to %d of %d bytes: %v %v", suffix, n, len(data), r, err)
			}
		}
		put(t, fsys, "1"+suffix, append(data, 0))
		if _, err := Open(fsys, "1"); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s with a byte more: %v", suffix, err)
		}
		put(t, fsys, "1"+suffix, data)
	}
}

// TestSwappedFiles opens one rowset's Parquet file with another's keys.
func TestSwappedFiles(t *testing.T) {
	fsys := vfs.NewMem()
	s := eventSchema()
	rows := eventRows(t, 500, 100)
	write(t, fsys, "1", s, rows, Options{})
	rows.Batches[2].Columns[8].Values[16] ^= 1 // another duration
	write(t, fsys, "2", s, rows, Options{})
	keys, err := vfs.ReadFile(fsys, "2"+KeysSuffix)
	if err != nil {
		t.Fatal(err)
	}
	put(t, fsys, "1"+KeysSuffix, keys)
	if err := Verify(fsys, "1"); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestDiskErrors returns the disk's error at every call, from writing and from reading.
func TestDiskErrors(t *testing.T) {
	s, rows := eventSchema(), eventRows(t, 3000, 1000)
	for i := range 40 {
		broken := errors.New("broken")
		calls := 0
		fsys := failing{FS: vfs.NewMem(), fail: func() error {
			if calls++; calls == i+1 {
				return broken
			}
			return nil
		}}
		w, err := NewWriter(s, Options{})
		if err != nil {
			t.Fatal(err)
		}
		err = func() error {
			out, err := w.Write(fsys, "1", rows)
			if err != nil {
				return err
			}
			if err := out.Sync(); err != nil {
				return err
			}
			return Verify(fsys, "1")
		}()
		if calls > i && !errors.Is(err, broken) {
			t.Fatalf("call %d failed, got %v", i+1, err)
		}
		if calls <= i && err != nil {
			t.Fatal(err)
		}
	}
}

// failing is a file system whose calls fail by rule; vfs.Faulty has more, this counts reads and writes alike.
type failing struct {
	vfs.FS
	fail func() error
}

type failingFile struct {
	vfs.File
	fail func() error
}

func (f failing) Create(name string) (vfs.File, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return failingFile{file, f.fail}, err
}

func (f failing) Open(name string) (vfs.File, error) {
	if err := f.fail(); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(name)
	return failingFile{file, f.fail}, err
}

func (f failingFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

func (f failingFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fail(); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f failingFile) Sync() error {
	if err := f.fail(); err != nil {
		return err
	}
	return f.File.Sync()
}

// FuzzOpen reads hostile bytes as both files: no panic, no endless loop.
func FuzzOpen(f *testing.F) {
	fsys := vfs.NewMem()
	small(f, fsys, "1")
	parquet, _ := vfs.ReadFile(fsys, "1"+ParquetSuffix)
	keys, _ := vfs.ReadFile(fsys, "1"+KeysSuffix)
	f.Add(parquet, keys)
	f.Fuzz(func(t *testing.T, parquet, keys []byte) {
		fsys := vfs.NewMem()
		put(t, fsys, "1"+ParquetSuffix, parquet)
		put(t, fsys, "1"+KeysSuffix, keys)
		_ = Verify(fsys, "1")
		if err := VerifyFile(fsys, "1"+ParquetSuffix); err == nil {
			file, err := OpenFile(fsys, "1"+ParquetSuffix)
			if err != nil {
				t.Fatal(err)
			}
			_ = file.Dump(discard{})
		}
	})
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
