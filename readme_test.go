package main

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nyala/configs"
)

// What the README shows as a configuration is one: who copies it must not find the first mistake in it.
func TestREADMEsConfigurationIsAccepted(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := codeBlocks(string(text), "yaml")
	if len(blocks) == 0 {
		t.Fatal("README.md shows no configuration")
	}
	for i, block := range blocks {
		// It stands alone: no environment, no other files.
		noEnvironment := func(string) (string, bool) { return "", false }
		noFiles := func(name string) ([]byte, error) { return nil, fmt.Errorf("%s: %w", name, os.ErrNotExist) }
		c, err := configs.Parse(fmt.Sprintf("README.md, block %d", i+1), []byte(block), noEnvironment, noFiles)
		if err != nil {
			t.Error(err)
			continue
		}
		if len(c.Tables) == 0 || len(c.Connectors) == 0 || len(c.Cluster.Nodes) < 3 {
			t.Errorf("block %d: %d nodes, %d tables, %d connectors: not one of each kind", i+1, len(c.Cluster.Nodes), len(c.Tables), len(c.Connectors))
		}
	}
}

// codeBlocks are the fenced blocks of a language.
func codeBlocks(text, language string) (blocks []string) {
	inside := false
	var block strings.Builder
	for line := range strings.Lines(text) {
		switch fence := strings.TrimSpace(line); {
		case !inside && fence == "```"+language:
			inside = true
			block.Reset()
		case inside && fence == "```":
			inside = false
			blocks = append(blocks, block.String())
		case inside:
			block.WriteString(line)
		}
	}
	return blocks
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile("(?m)^#+ (.+)$")
)

// Links between the documents lead to files, and to headings, that exist.
func TestLinksLeadSomewhere(t *testing.T) {
	walk(t, false, func(name string) {
		if path.Ext(name) != ".md" {
			return
		}
		text, err := os.ReadFile(filepath.FromSlash(name))
		if err != nil {
			t.Error(err)
			return
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if u, err := url.Parse(m[1]); err != nil || u.Scheme != "" {
				continue // another site's
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			target := name
			if file != "" {
				target = path.Join(path.Dir(name), file)
			}
			content, err := os.ReadFile(filepath.FromSlash(target))
			if info, serr := os.Stat(filepath.FromSlash(target)); serr == nil && info.IsDir() {
				continue
			}
			if err != nil {
				t.Errorf("%s: links to %s, which does not exist", name, m[1])
			} else if anchor != "" && !hasHeading(string(content), anchor) {
				t.Errorf("%s: links to %s: there is no such heading", name, m[1])
			}
		}
	})
}

// hasHeading finds a heading by the anchor that web pages of repositories give it.
func hasHeading(text, anchor string) bool {
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z':
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		if slug == anchor {
			return true
		}
	}
	return false
}
