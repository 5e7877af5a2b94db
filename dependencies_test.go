package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
)

// docs/dependencies.md has a line for every module that the code imports, at the version of go.mod.
func TestDependenciesAreExplained(t *testing.T) {
	required := requirements(t, "go.mod")
	for name, version := range requirements(t, "tools/go.mod") {
		if _, ours := required[name]; !ours {
			required[name] = version
		}
	}
	text, err := os.ReadFile("docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	explained := map[string]bool{}
	for _, line := range regexp.MustCompile(`(?m)^\| ([a-z0-9.]+\.[a-z]+/\S+) \| (v\S+) \|`).FindAllStringSubmatch(string(text), -1) {
		explained[line[1]] = true
		if got := required[line[1]].version; got != line[2] {
			t.Errorf("docs/dependencies.md: %s %s, want %q as in go.mod", line[1], line[2], got)
		}
	}
	files, set := sourceFiles(t)
	for _, f := range files {
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			longest := ""
			for name := range required {
				if within(imported, name) && len(name) > len(longest) {
					longest = name
				}
			}
			if longest != "" && !explained[longest] {
				t.Errorf("%s: docs/dependencies.md does not say why we use %s", set.Position(spec.Pos()), longest)
			}
			if required[longest].indirect {
				t.Errorf("%s: go.mod says that we do not import %s: go mod tidy", set.Position(spec.Pos()), longest)
			}
		}
	}
}

type requirement struct {
	version  string
	indirect bool // go.mod says that only others import it
}

// requirements is the modules of a go.mod.
func requirements(t *testing.T, name string) map[string]requirement {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	list := map[string]requirement{}
	for _, line := range regexp.MustCompile(`(?m)^(?:\s+|require )(\S+\.\S+/\S+|\S+\.\S+) (v\S+)( // indirect)?`).FindAllStringSubmatch(string(b), -1) {
		list[line[1]] = requirement{line[2], line[3] != ""}
	}
	return list
}
