//go:build foreign

package rowset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"nyala/store/batch"
	"nyala/store/schema"
	"nyala/store/vfs"
)

// TestForeignReaders lets pyarrow and DuckDB read files of every type and compare each value with the model. It needs python3, and
// the network when it runs for the first time: go test -tags foreign -run ForeignReaders ./store/rowset
func TestForeignReaders(t *testing.T) {
	dir := t.TempDir()
	s := everyType()
	for name, n := range map[string]int{"one": 1, "few": 9, "some": 700, "many": 25_000} {
		rows := modelRows(t, seeded(uint64(n)), s, n)
		write(t, vfs.OS(), filepath.Join(dir, name), s, rows, Options{GroupRows: 9000})
		model(t, filepath.Join(dir, name+".json"), s, rows)
	}
	events := eventRows(t, 60_000, 2000)
	write(t, vfs.OS(), filepath.Join(dir, "events"), eventSchema(), events, Options{})
	model(t, filepath.Join(dir, "events.json"), eventSchema(), events)
	stream(t, filepath.Join(dir, "export"), s, modelRows(t, seeded(77), s, 5000))
	ls, long := longRows(t)
	write(t, vfs.OS(), filepath.Join(dir, "long"), ls, long, Options{})
	model(t, filepath.Join(dir, "long.json"), ls, long)

	out, err := check(t, dir)
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}

	other := t.TempDir() // a model that differs in one row must be told apart
	rows := modelRows(t, seeded(9), s, 9)
	write(t, vfs.OS(), filepath.Join(other, "few"), s, rows, Options{})
	rows.Refs[3] = rows.Refs[4]
	model(t, filepath.Join(other, "few.json"), s, rows)
	if out, err := check(t, other); err == nil || !bytes.Contains(out, []byte(" row 3: got ")) {
		t.Fatalf("a wrong row is not seen: %v\n%s", err, out)
	}
}

func check(t *testing.T, dir string) ([]byte, error) {
	return exec.Command(python(t), filepath.Join("testdata", "foreign", "check.py"), dir).CombinedOutput()
}

// stream writes an export, which is compressed harder.
func stream(t *testing.T, base string, s *schema.Schema, rows *Rows) {
	st, err := NewStream(vfs.OS(), base+ParquetSuffix, s, Options{Level: Default, GroupRows: 2000})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range cut(t, s, rows, 900).Batches {
		if err := st.Append(b, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := st.Finish(); err != nil {
		t.Fatal(err)
	}
	model(t, base+".json", s, rows)
}

// longRows has empty texts and texts of 1 MiB, alone and among others, and a column of nulls.
func longRows(t *testing.T) (*schema.Schema, *Rows) {
	s := &schema.Schema{Version: 1, Buckets: 1, Key: []int{0}, Columns: []schema.Column{
		{ID: 5, Name: "id", Type: schema.Type{Kind: schema.Int64}},
		{ID: 2, Name: "text", Type: schema.Type{Kind: schema.String}},
		{ID: 9, Name: "blob", Type: schema.Type{Kind: schema.Binary}, Nullable: true},
		{ID: 12, Name: "nothing", Type: schema.Type{Kind: schema.JSON}, Nullable: true}}}
	b := batch.NewBuilder(s.Columns, 100)
	for i := range 100 {
		b.Columns[0].AppendInt(int64(i))
		size := []int{0, 1, 1 << 20, 30}[i%4] * min(i/50, 1)
		b.Columns[1].AppendBytes(bytes.Repeat([]byte("ä"), size/2))
		b.Columns[2].AppendBytes(bytes.Repeat([]byte{0xff}, size))
		b.Columns[3].AppendNull()
	}
	v := b.View()
	rows := &Rows{Batches: []*batch.Batch{&v}, Births: [][]int64{{1}}}
	rows.Refs = sortRefs(s, rows.Batches)
	return s, rows
}

type modelColumn struct {
	ID        schema.ColumnID `json:"id"`
	Name      string          `json:"name"`
	Kind      string          `json:"kind"`
	Precision uint8           `json:"precision"`
	Scale     uint8           `json:"scale"`
	Nullable  bool            `json:"nullable"`
}

// model writes the rows as texts that lose nothing.
func model(t *testing.T, name string, s *schema.Schema, rows *Rows) {
	var out struct {
		Columns []modelColumn `json:"columns"`
		Rows    [][]*string   `json:"rows"`
	}
	for _, c := range s.Columns {
		out.Columns = append(out.Columns, modelColumn{c.ID, c.Name, c.Type.Kind.String(), c.Type.Precision, c.Type.Scale, c.Nullable})
	}
	for _, ref := range rows.Refs {
		row := make([]*string, len(s.Columns))
		for i := range s.Columns {
			row[i] = modelText(s.Columns[i].Type, rows.Batches[ref.Batch].Columns[i].Value(int(ref.Row)))
		}
		out.Rows = append(out.Rows, row)
	}
	data, err := json.Marshal(out)
	if err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func modelText(t schema.Type, v schema.Value) *string {
	text := ""
	switch {
	case v.Null:
		return nil
	case t.Integral():
		text = strconv.FormatInt(v.Int, 10)
	case v.Float != v.Float:
		text = "nan"
	case t.Kind == schema.Float32:
		text = fmt.Sprintf("%08x", math.Float32bits(float32(v.Float)))
	case t.Kind == schema.Float64:
		text = fmt.Sprintf("%016x", math.Float64bits(v.Float))
	default:
		text = hex.EncodeToString(v.Bytes)
	}
	return &text
}

// python makes, once, an environment that has the readers, and returns its interpreter.
func python(t *testing.T) string {
	requirements := filepath.Join("testdata", "foreign", "requirements.txt")
	want, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	env := filepath.Join(cache, "nyala", fmt.Sprintf("foreign-%x", sha256.Sum256(want))[:24])
	interpreter, done := filepath.Join(env, "bin", "python"), filepath.Join(env, "complete")
	if _, err := os.Stat(done); err == nil {
		return interpreter
	}
	for _, args := range [][]string{{"python3", "-m", "venv", "--clear", env}, {interpreter, "-m", "pip", "install", "--quiet", "-r", requirements}} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.WriteFile(done, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return interpreter
}
