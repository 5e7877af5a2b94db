package main

import (
	"os"
	"path"
	"regexp"
	"strings"
	"testing"
)

// docs/architecture.md has a map with a line for every Go file that is no test, so that a reader finds the file for a concept,
// and it stays true: a file without a line fails here, and so does a line without a file, or one that says nothing.
func TestMapHasEveryFile(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	mapped, faults := readMap(string(text))
	for _, f := range faults {
		t.Errorf("docs/architecture.md: %s", f)
	}
	files, _ := sourceFiles(t)
	exists := map[string]bool{}
	for _, f := range files {
		if f.test {
			continue
		}
		exists[f.name] = true
		if !mapped[f.name] {
			t.Errorf("docs/architecture.md: %s has no line in the map", f.name)
		}
	}
	for name := range mapped {
		if !exists[name] {
			t.Errorf("docs/architecture.md: the map names %s, which does not exist", name)
		}
	}
}

var (
	mapHeading = regexp.MustCompile(`^### (\S+)$`)
	mapLine    = regexp.MustCompile("^\\| ((?:`[^`]+\\.go`(?:, )?)+) \\| (.*) \\|$")
	mapName    = regexp.MustCompile("`([^`]+)`")
)

// readMap finds the files of the map: in the part under "## The map", a heading ### for each folder, and below it the lines of
// a table. Build-tag twins may share a line.
func readMap(text string) (files map[string]bool, faults []string) {
	_, text, found := strings.Cut(text, "\n## The map\n")
	if !found {
		return nil, []string{"there is no part ## The map"}
	}
	files = map[string]bool{}
	dir := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := mapHeading.FindStringSubmatch(line); m != nil {
			dir = m[1]
			continue
		}
		m := mapLine.FindStringSubmatch(line)
		switch {
		case m == nil && strings.Contains(line, ".go`") && strings.HasPrefix(line, "|"):
			faults = append(faults, "this line is not one of the map: "+line)
		case m == nil:
		case strings.TrimSpace(m[2]) == "":
			faults = append(faults, m[1]+" has a line that says nothing")
		default:
			for _, name := range mapName.FindAllStringSubmatch(m[1], -1) {
				file := path.Join(dir, name[1])
				if files[file] {
					faults = append(faults, file+" has two lines")
				}
				files[file] = true
			}
		}
	}
	return files, faults
}

// The map's reader is tested itself: one that finds nothing would find no fault.
func TestReadMap(t *testing.T) {
	files, faults := readMap("\n## The map\n### .\n| `main.go` | starts |\n\n### a/b\n\n| file | what it is |\n|---|---|\n| `x.go`, `y.go` | twins |\n| `z.go` |  |\n| `x.go` | again |\n| `w.go` broken |\n")
	for _, name := range []string{"main.go", "a/b/x.go", "a/b/y.go"} {
		if !files[name] {
			t.Errorf("%s is not found in %v", name, files)
		}
	}
	if len(files) != 3 || len(faults) != 3 {
		t.Errorf("got %v with the faults %q, want 3 files and 3 faults", files, faults)
	}
}
