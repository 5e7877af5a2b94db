package configs

import (
	"strings"
	"testing"
)

// checkPlaces checks that each scalar of a file that can be parsed is at its place: an unquoted one
// begins there with its first word, a quoted one with a quote.
func checkPlaces(t testing.TB, text string) (scalars int) {
	t.Helper()
	src, masked, faults := newSource("nyala.yaml", []byte(text))
	if len(faults) > 0 {
		return 0
	}
	root := parseYAML(src, masked, func(place, problem) {})
	if root == nil {
		return 0
	}
	var walk func(n *node)
	walk = func(n *node) {
		for _, item := range n.items {
			walk(item)
		}
		for _, e := range n.entries {
			walk(e.key)
			walk(e.value)
		}
		if n.kind > kindBool || strings.TrimSpace(n.text) == "" {
			return
		}
		scalars++
		rest := string(src.lines[n.at.line-1][n.at.column-1:])
		switch word := strings.Fields(n.text)[0]; {
		case n.quoted && !strings.ContainsAny(rest[:min(1, len(rest))], `"'|>`):
			t.Errorf("%q in quotes is placed at %d:%d: %q", n.text, n.at.line, n.at.column, rest)
		case !n.quoted && !strings.HasPrefix(rest, word):
			t.Errorf("%q is placed at %d:%d: %q", n.text, n.at.line, n.at.column, rest)
		}
	}
	walk(root)
	return scalars
}

func TestPlaces(t *testing.T) {
	text := `# a comment, é

first:   1   # spaces   
"quoted" : 'it''s'
é: {日本: [a, "b", 'c', ${env:X:-[,:#}], type: decimal(10, 2), x: -5, y: .5}
list:
- one
-   two   
- - nested
  - deeper: "with \"escapes\" \u00e9"   # comment
    next: plain text with spaces
-  |
   block
- >-
   folded
- "over  
  two lines"
- plain over
  two lines
key with spaces: http://host:80/path#fragment  	 
empty:
last: 2026-01-01T00:00:00Z
flow: {hosts: [kafka-1:9092, x:1], "a":1}`
	for _, text := range []string{text, "\ufeff" + text, strings.ReplaceAll(text, "\n", "\r\n"), strings.ReplaceAll(text, "\n", "\r"), "---\n" + text + "\n...\n"} {
		if n := checkPlaces(t, text); n != 39 {
			t.Errorf("got %d scalars, want 39, in %q", n, text)
		}
	}
}

// TestMask checks that masking moves nothing and can be undone.
func TestMask(t *testing.T) {
	for _, text := range []string{
		"{a: ${env:X}}", "${env:X:-a, [b]: {c} #d}", "$${x}", "decimal(10, 2)", "decimal (1,2), decimal(3,4)", "${", "{a:b:c, d: ::e}",
	} {
		masked := mask(text)
		if got := unmask(masked); got != text {
			t.Errorf("%q: unmasked %q", text, got)
		}
		if len([]rune(masked)) != len([]rune(text)) {
			t.Errorf("%q: masking moved something", text)
		}
	}
	if got := mask("no references: [1, {2, \"x\":3}]"); got != "no references: [1, {2, \"x\":3}]" {
		t.Errorf("masked %q", got)
	}
}
