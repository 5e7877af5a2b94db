package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "nyala"

// below says which rooms a room may import; "" is main. Imports only go down:
// main -> connector -> ingest -> {raftlog, store} -> offsets, and configs is for connector and main alone.
// A sub-package is bound like its room, but for the leaves.
var below = map[string][]string{
	"":          {"connector", "ingest", "raftlog", "store", "offsets", "configs"},
	"connector": {"ingest", "raftlog", "store", "offsets", "configs"},
	"ingest":    {"raftlog", "store", "offsets"},
	"raftlog":   {"offsets"},
	"store":     {"offsets"},
	"offsets":   nil,
	"configs":   nil,
	"test":      {"connector", "ingest", "raftlog", "store", "offsets", "configs"},
}

// leaves are packages that import nothing of ours, and that the rooms named may import beyond the order above.
var leaves = map[string][]string{
	"store/vfs": {"raftlog"},
}

// outside says which rooms may import a package from elsewhere. The longest prefix of its path that stands here decides; what
// does not stand here may not be imported at all: a new one is a decision, and has its reason in docs/dependencies.md.
var outside = map[string][]string{
	"github.com/goccy/go-yaml":            {"configs"},
	"github.com/parquet-go/parquet-go":    {"store"},
	"github.com/hashicorp/raft":           {"raftlog"},
	"github.com/hashicorp/go-hclog":       {"raftlog"},
	"github.com/hashicorp/go-metrics":     {"raftlog"},
	"github.com/twmb/franz-go":            {"ingest"},
	"github.com/pierrec/lz4/v4":           {"ingest"},
	"github.com/spf13/cobra":              {"connector"},
	"github.com/spf13/pflag":              {"connector"},
	"github.com/prometheus/client_golang": {"connector"},
	"github.com/jedib0t/go-pretty/v6":     {"connector"},
	"github.com/schollz/progressbar/v3":   {"connector"},
	"github.com/mattn/go-isatty":          {"connector"},
	"golang.org/x/term":                   {"connector"},
	"net/http":                            {"connector"},
	"github.com/cenkalti/backoff/v4":      {"connector", "ingest", "raftlog", "store"},
	"github.com/klauspost/compress":       {"connector", "ingest", "raftlog", "store"},
	"github.com/cespare/xxhash/v2":        {"connector", "ingest", "raftlog", "store"},
	"golang.org/x/sync":                   {"connector", "ingest", "raftlog", "store"},
	"golang.org/x/sys":                    {"connector", "ingest", "raftlog", "store"},
}

// testsOnly may be imported by the tests of every room: an embedded broker and its clients, and the property tester.
var testsOnly = []string{"github.com/twmb/franz-go", "pgregory.net/rapid"}

// hidden are the packages whose types may not be seen in the exported API of a room, so that what it is built on stays its own.
var hidden = map[string][]string{
	"raftlog": {"github.com/hashicorp/"},
	"ingest":  {"github.com/twmb/franz-go"},
	"store":   {"github.com/parquet-go/"},
}

type sourceFile struct {
	name string // slash path from the root
	test bool
	*ast.File
}

func (f sourceFile) dir() string {
	if d := path.Dir(f.name); d != "." {
		return d
	}
	return ""
}

// room is the first element of the path of a package; "" for main.
func room(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// sourceFiles parses every Go file of this module; nested modules are not it.
func sourceFiles(t *testing.T) (files []sourceFile, set *token.FileSet) {
	t.Helper()
	set = token.NewFileSet()
	walk(t, false, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		f, err := parser.ParseFile(set, filepath.FromSlash(name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Errorf("%v", err)
			return
		}
		files = append(files, sourceFile{name, strings.HasSuffix(name, "_test.go"), f})
	})
	if len(files) == 0 {
		t.Fatal("no Go files found: the test runs in the wrong folder")
	}
	return files, set
}

// walk visits the files of the repository by slash path, those of nested modules if asked for, without what is built or produced
// here.
func walk(t *testing.T, nested bool, visit func(name string)) {
	t.Helper()
	produced := []string{".git", ".cache", "bin", "data", "exports", "nyala-demo"}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != "." && (slices.Contains(produced, name) || !nested && isModule(name)):
			return filepath.SkipDir
		case d.Type().IsRegular():
			visit(filepath.ToSlash(name))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isModule(dir string) bool {
	found, _ := filepath.Glob(filepath.Join(dir, "go.mod"))
	return len(found) > 0
}

func TestImportsOnlyGoDown(t *testing.T) {
	files, set := sourceFiles(t)
	for _, f := range files {
		if _, known := below[room(f.dir())]; !known {
			t.Errorf("%s: %q is not a room", f.name, room(f.dir()))
			continue
		}
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if fault := importFault(f, imported); fault != "" {
				t.Errorf("%s: imports %s: %s", set.Position(spec.Pos()), imported, fault)
			}
		}
	}
}

// importFault says why the file may not import a package, or nothing.
func importFault(f sourceFile, imported string) string {
	from := room(f.dir())
	if imported == module {
		return "nothing imports main"
	}
	if dir, ours := strings.CutPrefix(imported, module+"/"); ours {
		return ownImportFault(f.dir(), dir)
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") && imported != "net/http" || from == "test" {
		return "" // the standard library; and tests of the whole may use anything
	}
	if f.test && slices.ContainsFunc(testsOnly, func(p string) bool { return within(imported, p) }) {
		return ""
	}
	prefix, longest := "", -1
	for p := range outside {
		if within(imported, p) && len(p) > longest {
			prefix, longest = p, len(p)
		}
	}
	if longest < 0 {
		return "it is not in the table of this test, nor may it be in docs/dependencies.md"
	}
	if !slices.Contains(outside[prefix], from) {
		return "only these rooms may: " + strings.Join(outside[prefix], ", ")
	}
	return ""
}

func ownImportFault(from, to string) string {
	if _, leaf := leaves[from]; leaf {
		return "the package is a leaf"
	}
	if room(from) == room(to) {
		return ""
	}
	if slices.Contains(leaves[to], room(from)) || slices.Contains(below[room(from)], room(to)) {
		return ""
	}
	return "imports only go down"
}

// within reports whether a package is the one at prefix or below it.
func within(imported, prefix string) bool {
	return imported == prefix || strings.HasPrefix(imported, prefix+"/")
}

func TestExportedAPIsHideWhatTheyAreBuiltOn(t *testing.T) {
	files, set := sourceFiles(t)
	for _, f := range files {
		prefixes := hidden[room(f.dir())]
		if f.test || len(prefixes) == 0 {
			continue
		}
		names := map[string]string{} // of the hidden packages, as this file calls them
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(imported, p) }) {
				names[localName(spec, imported)] = imported
			}
		}
		for _, decl := range f.Decls {
			exportedTypes(decl, func(expr ast.Node) {
				ast.Inspect(expr, func(n ast.Node) bool {
					s, ok := n.(*ast.SelectorExpr)
					if !ok {
						return true
					}
					if x, ok := s.X.(*ast.Ident); ok && names[x.Name] != "" {
						t.Errorf("%s: %s.%s is seen in the exported API", set.Position(s.Pos()), names[x.Name], s.Sel.Name)
					}
					return true
				})
			})
		}
	}
}

// localName is what a file calls a package that it imports: its alias, or the last element of its path that is not a version.
func localName(spec *ast.ImportSpec, imported string) string {
	if spec.Name != nil {
		return spec.Name.Name
	}
	base := path.Base(imported)
	if len(base) > 1 && base[0] == 'v' && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(imported))
	}
	return strings.TrimPrefix(base, "go-")
}

// exportedTypes visits the type expressions of a declaration that another package can see.
func exportedTypes(decl ast.Decl, visit func(ast.Node)) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type))) {
			visit(d.Type)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					visitType(s.Type, visit)
				}
			case *ast.ValueSpec:
				if s.Type != nil && slices.ContainsFunc(s.Names, (*ast.Ident).IsExported) {
					visit(s.Type)
				}
			}
		}
	}
}

// visitType leaves out the fields of a struct that are not exported; embedded ones are.
func visitType(expr ast.Expr, visit func(ast.Node)) {
	s, ok := expr.(*ast.StructType)
	if !ok {
		visit(expr)
		return
	}
	for _, field := range s.Fields.List {
		if len(field.Names) == 0 || slices.ContainsFunc(field.Names, (*ast.Ident).IsExported) {
			visitType(field.Type, visit)
		}
	}
}

// receiver is the name of the type that a method belongs to.
func receiver(expr ast.Expr) string {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// The rules are tested themselves: a rule that never fires is no rule.
func TestImportRules(t *testing.T) {
	for _, c := range []struct {
		file, imported string
		allowed        bool
	}{
		{"main.go", "nyala/connector", true},
		{"connector/run.go", "nyala/configs", true},
		{"ingest/run.go", "nyala/configs", false},
		{"ingest/run.go", "nyala/store/batch", true},
		{"ingest/run.go", "nyala/connector", false},
		{"store/tablet.go", "nyala/raftlog", false},
		{"raftlog/wal/wal.go", "nyala/store/vfs", true},
		{"raftlog/wal/wal.go", "nyala/store", false},
		{"raftlog/log.go", "nyala/store/batch", false},
		{"store/vfs/os.go", "nyala/offsets", false},
		{"store/vfs/os.go", "nyala/store/schema", false},
		{"offsets/ledger.go", "nyala/store/vfs", false},
		{"configs/file.go", "github.com/goccy/go-yaml/ast", true},
		{"connector/file.go", "github.com/goccy/go-yaml", false},
		{"store/rowset/file.go", "github.com/parquet-go/parquet-go/encoding", true},
		{"connector/export.go", "github.com/parquet-go/parquet-go", false},
		{"raftlog/log.go", "github.com/hashicorp/raft", true},
		{"connector/log.go", "github.com/hashicorp/raft", false},
		{"connector/sim.go", "github.com/twmb/franz-go/pkg/kfake", false},
		{"connector/sim_test.go", "github.com/twmb/franz-go/pkg/kfake", true},
		{"test/kafka/produce.go", "github.com/twmb/franz-go/pkg/kgo", true},
		{"ingest/poll.go", "net/http", false},
		{"connector/page.go", "net/http", true},
		{"offsets/model.go", "pgregory.net/rapid", false},
		{"offsets/model_test.go", "pgregory.net/rapid", true},
		{"store/x.go", "github.com/somebody/something", false},
		{"store/x.go", "encoding/json", true},
	} {
		f := sourceFile{name: c.file, test: strings.HasSuffix(c.file, "_test.go")}
		if fault := importFault(f, c.imported); (fault == "") != c.allowed {
			t.Errorf("%s imports %s: %q, want allowed %v", c.file, c.imported, fault, c.allowed)
		}
	}
}
