package configs

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse reads anything. Nothing may panic; every fault must have its place in the file; a
// password must not show; and what is accepted must print as what it is.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"examples/*.yaml", "testdata/malformed/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	certificate, key := certificateAndKey(f)
	w := world{
		env:   map[string]string{"TEXT": "some text", "NYALA_KAFKA_PASSWORD": "hunter2", "MEMORY": "2GiB"},
		files: map[string]string{"ca.pem": certificate, "client.key": key, "secret": "hunter2"},
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkPlaces(t, text)
		c, _ := w.parse(t, "nyala.yaml", text)
		if c != nil {
			checkPrintsAgain(t, w, "nyala.yaml", c)
		}
	})
}
