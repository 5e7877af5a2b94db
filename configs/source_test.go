package configs

import (
	"strings"
	"testing"
)

// TestHideSecrets checks what excerpts show of lines with and around a password.
func TestHideSecrets(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"password: hunter2", "password: ***"},
		{"  password: 'hunter2, }'  ", "  password: ***  "},
		{"sasl: {password: hunter2, username: u}", "sasl: {password: ***, username: u}"},
		{`sasl: {"password": "hunter2, }", username: u}`, `sasl: {"password": ***, username: u}`},
		{`sasl: {password: "hunt\"er2", username: "u"}`, `sasl: {password: ***}`},
		{"sasl: {username: u, PASSWORD: hunter2}", "sasl: {username: u, PASSWORD: ***}"},
		{"sasl: {username: u, password:\n  hunter2}", "sasl: {username: u, password:\n  ***"},
		{"password: |\n  hunter2\n\n  more\nnext: 1", "password: ***\n  ***\n\n  ***\nnext: 1"},
		{"password:\nhunter2\nnext: 1", "password:\n***\nnext: 1"},
		{`password: "hunter2` + "\n  and more\"\nnext: 1", "password: ***\n  ***\nnext: 1"},
		{"pasword: hunter2", "pasword: ***"},
		{"passwd: hunter2", "passwd: ***"},
		{"secret: hunter2", "secret: ***"},
		{"password_file: secret", "password_file: secret"},
		{"password: ${env:PASSWORD}", "password: ${env:PASSWORD}"},
		{"{password: '${file:secret}', a: b}", "{password: '${file:secret}', a: b}"},
		{"password: ${env:PASSWORD}hunter2", "password: ***"},
		{"password: ${env:PASSWORD:-hunter2}", "password: ***"},
		{"password: $${hunter2}", "password: ***"},
		{"passport: 1", "passport: 1"},
	} {
		src, _, _ := newSource("nyala.yaml", []byte(c.file))
		var got []string
		for _, line := range src.shown {
			got = append(got, string(line.text))
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%q: got %q, want %q", c.file, text, c.want)
		}
		if text := strings.Join(got, "\n"); strings.Contains(text, "hunter2") {
			t.Errorf("%q: the password shows: %q", c.file, text)
		}
	}
}

// TestExcerpt checks where the caret stands.
func TestExcerpt(t *testing.T) {
	long := strings.Repeat("a", 300)
	for _, c := range []struct {
		line          string
		column, width int
		want          string
	}{
		{"key: value", 6, 5, "    1 | key: value\n      |      ^~~~~"},
		{"key: value", 11, 1, "    1 | key: value\n      |           ^"},
		{"key: é日x", 7, 2, "    1 | key: é日x\n      |       ^~"},
		{"\tkey", 2, 3, "    1 | \tkey\n      | \t^~~"},
		{"{password: secret, x: y}", 20, 1, "    1 | {password: ***, x: y}\n      |                 ^"},
		{"{password: secret, x: y}", 12, 6, "    1 | {password: ***, x: y}\n      |            ^~~"},
		{"a\u202eb", 3, 1, "    1 | a\ufffdb\n      |   ^"},
		{long, 150, 500, "    1 | …" + strings.Repeat("a", excerptLength) + "…\n      | " + strings.Repeat(" ", 41) + "^" + strings.Repeat("~", 79)},
		{long, 1, 1, "    1 | " + strings.Repeat("a", excerptLength) + "…\n      | ^"},
		{long, 301, 1, "    1 | …" + strings.Repeat("a", excerptLength) + "\n      | " + strings.Repeat(" ", 121) + "^"},
	} {
		src, _, _ := newSource("nyala.yaml", []byte(c.line))
		if got := src.excerpt(place{line: 1, column: c.column, width: c.width}); got != c.want {
			t.Errorf("%q at %d: got\n%s\nwant\n%s", c.line, c.column, got, c.want)
		}
	}
	src, _, _ := newSource("nyala.yaml", nil)
	if got := src.excerpt(place{}); got != "" {
		t.Errorf("no position: got %q", got)
	}
}
