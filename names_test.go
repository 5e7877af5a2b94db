package main

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// foreign is what no file here may name: folders of the machine that it was written on, and hosts of package registries,
// which are the business of whoever builds it. The expressions are written so that they do not match themselves.
var foreign = regexp.MustCompile(`(?m)(^|[^\w.-])/wor[k]\b(/|\W|$)|\.\./share[d]\b|\bprototype[s]/` +
	`|\b(proxy|sum)\.golan[g]\.org|\brepo1?\.maven\.(org|apach[e]\.org)|\bregistry\.npmj[s]\.|\bpyp[i]\.org|\bfiles\.pythonhoste[d]\.org`)

func TestNoFileNamesForeignPlaces(t *testing.T) {
	text := []string{".go", ".md", ".mod", ".yaml", ".yml", ".json", ".sh", ".py", ".xml", ".toml", ".txt", ".properties", ".golden"}
	plain := []string{"Makefile", ".ci/run", ".gitignore", "LICENSE"}
	walk(t, true, func(name string) {
		if !slices.Contains(text, path.Ext(name)) && !slices.Contains(plain, name) {
			return
		}
		b, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Error(err)
			return
		}
		for _, at := range foreign.FindAllIndex(b, -1) {
			line := 1
			for _, c := range b[:at[0]] {
				if c == '\n' {
					line++
				}
			}
			t.Errorf("%s:%d: names %q", name, line, b[at[0]:at[1]])
		}
	})
}

func TestForeignPlaces(t *testing.T) {
	for text, want := range map[string]bool{
		"see " + "/wor" + "k/main":                  true,
		"in .." + "/share" + "d/x":                  true,
		"proto" + "types/h":                         true,
		"https://repo." + "maven.apache.org/maven2": true,
		"http://maven.apache.org/POM/4.0.0":         false,
		"flush/workers":                             false,
		"a prototype":                               false,
		"network/work":                              false,
	} {
		if got := foreign.MatchString(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
