package configs

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files anew")

// world is the environment and the files that the tests' configurations refer to.
type world struct {
	env   map[string]string
	files map[string]string
}

func (w world) lookup(name string) (string, bool) {
	text, ok := w.env[name]
	return text, ok
}

func (w world) read(name string) ([]byte, error) {
	if text, ok := w.files[filepath.ToSlash(name)]; ok {
		return []byte(text), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: errors.New("no such file or directory")}
}

func (w world) parse(t testing.TB, name, text string, options ...Option) (*Config, Faults) {
	t.Helper()
	c, err := Parse(name, []byte(text), w.lookup, w.read, options...)
	if err == nil {
		return c, nil
	}
	faults := Faults{}
	if !errors.As(err, &faults) || len(faults) == 0 || c != nil {
		t.Fatalf("got config %v and error %T %v, want no config and Faults", c, err, err)
	}
	checkFaults(t, name, text, faults)
	return nil, faults
}

// checkFaults checks what holds of all faults of any file.
func checkFaults(t testing.TB, name, text string, faults Faults) {
	t.Helper()
	lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text), "\n")
	for i, f := range faults {
		switch {
		case f.Message == "" || f.File == "":
			t.Errorf("fault without words: %+v", f)
		case f.Line == 0 && (f.Column != 0 || f.Excerpt != ""):
			t.Errorf("fault with half a position: %+v", f)
		case f.Line > 0 && (f.File != name || f.Line > len(lines) || f.Column < 1 || f.Column > utf8.RuneCountInString(lines[f.Line-1])+1):
			t.Errorf("fault outside the file: %+v", f)
		case f.Line > 0 && strings.Count(f.Excerpt, "\n") != 1:
			t.Errorf("excerpt is not two lines: %q", f.Excerpt)
		case i > 0 && (f.Line < faults[i-1].Line || f.Line == faults[i-1].Line && f.Column < faults[i-1].Column):
			t.Errorf("faults are out of order: %+v", f)
		case i > 0 && f == faults[i-1]:
			t.Errorf("fault comes twice: %+v", f)
		}
	}
}

// TestMalformed compares what a user reads over each malformed file with its golden file.
func TestMalformed(t *testing.T) {
	files, err := filepath.Glob("testdata/malformed/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 50 {
		t.Fatalf("got %d malformed files, want at least 50", len(files))
	}
	certificate, _ := certificateAndKey(t)
	w := world{
		env:   map[string]string{"TEXT": "some text"},
		files: map[string]string{"not-a-certificate.pem": "hello\n", "ca.pem": certificate, "secret": "hunter2\n"},
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, faults := w.parse(t, "nyala.yaml", string(data))
			if faults == nil {
				t.Fatal("got no fault")
			}
			got := faults.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the faults show the password:\n%s", got)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// TestGoldenFilesHaveTheirInput finds golden files that nothing checks.
func TestGoldenFilesHaveTheirInput(t *testing.T) {
	files, err := filepath.Glob("testdata/malformed/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if _, err := os.Stat(strings.TrimSuffix(file, ".golden") + ".yaml"); err != nil {
			t.Error(fmt.Errorf("%s: %w", file, err))
		}
	}
}
