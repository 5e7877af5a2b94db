package schema

import (
	"math"
	"slices"
	"strings"
	"testing"
)

func versioned() *Schema {
	return &Schema{Version: 1, Key: []int{0}, Buckets: 1, Columns: []Column{
		{ID: 1, Name: "k", Type: Type{Kind: Int64}}, {ID: 2, Name: "v", Type: Type{Kind: String}, Nullable: true},
	}}
}

func with(s *Schema, columns ...Column) *Schema {
	out := *s
	out.Version++
	for i := range columns {
		columns[i].Since = out.Version
	}
	out.Columns = append(slices.Clip(s.Columns), columns...)
	return &out
}

func TestVersions(t *testing.T) {
	one := versioned()
	two := with(one, Column{ID: 3, Name: "n", Type: Type{Kind: Int32}, Nullable: true}, Column{ID: 4, Name: "d", Type: Type{Kind: Float64}, Default: &Value{Float: 0.5}})
	three := with(two, Column{ID: 9, Name: "e", Type: Type{Kind: String}, Default: &Value{Bytes: []byte("x")}})
	for _, p := range [][2]*Schema{{one, two}, {two, three}} {
		if err := p[1].Follows(p[0]); err != nil {
			t.Error(err)
		}
	}
	for v, want := range map[uint32]*Schema{1: one, 2: two, 3: three, 8: three} {
		if got := three.At(v); !got.Equal(want) {
			t.Errorf("version %d: got %s, want %s", v, got.Text(), want.Text())
		}
	}
	if got, err := ParseSchema(three.Text()); err != nil || !got.Equal(three) {
		t.Errorf("got %v %v", got, err)
	}
	for _, text := range []string{"", "{}", string(three.Text()) + " ", strings.Replace(string(three.Text()), `"since":3`, `"since":4`, 1)} {
		if _, err := ParseSchema([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestFollows: nothing may change but that columns come behind.
func TestFollows(t *testing.T) {
	next := func(change func(*Schema)) *Schema {
		s := with(versioned(), Column{ID: 3, Name: "n", Type: Type{Kind: Int32}, Nullable: true})
		change(s)
		return s
	}
	for want, s := range map[string]*Schema{
		"got version 3":                   next(func(s *Schema) { s.Version, s.Columns[2].Since = 3, 3 }),
		"changes more":                    next(func(s *Schema) { s.Columns[1].Name = "w" }),
		"version 2 changes":               next(func(s *Schema) { s.Buckets, s.Hash = 2, []int{0} }),
		"has no new column":               next(func(s *Schema) { s.Columns = s.Columns[:2] }),
		"got id 2":                        next(func(s *Schema) { s.Columns[1].ID, s.Columns[2].ID = 3, 2 }),
		"is neither nullable":             next(func(s *Schema) { s.Columns[2].Nullable = false }),
		"with the default null":           next(func(s *Schema) { s.Columns[2].Nullable, s.Columns[2].Default = false, &Value{Null: true} }),
		"cannot be in the primary key":    next(func(s *Schema) { s.Columns[2].Nullable, s.Columns[2].Default, s.Key = false, &Value{}, []int{0, 2} }),
		"want 16":                         next(func(s *Schema) { s.Columns[2].Type.Kind, s.Columns[2].Default = UUID, &Value{Bytes: []byte("x")} }),
		"want a finite number":            next(func(s *Schema) { s.Columns[2].Type.Kind, s.Columns[2].Default = Float64, &Value{Float: math.NaN()} }),
		"is of version 0, behind one of ": next(func(s *Schema) { s.Columns[1].Since, s.Columns[2].Since = 2, 0 }),
	} {
		old := versioned()
		if want == "got id 2" {
			old.Columns[1].ID = 3
		}
		if err := s.Follows(old); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
