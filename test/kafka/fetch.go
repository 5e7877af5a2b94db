package kafka

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Version is the Kafka of pom.xml.
const Version = "4.3.1"

//go:embed pom.xml
var pom []byte

// Fetch returns a folder with Kafka's jars. They are copied there by mvn the first time, 44 MB; later nothing is asked of the
// network. dir is the folder; "" means nyala-test/kafka-<version> in the user's cache folder (XDG_CACHE_HOME).
func Fetch(ctx context.Context, dir string) (string, error) {
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kafka: cache folder: %w", err)
		}
		dir = filepath.Join(cache, "nyala-test", "kafka-"+Version)
	}
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if _, err := exec.LookPath("mvn"); err != nil {
		return "", fmt.Errorf("kafka: fetching Apache Kafka %s needs mvn (apt-get install maven, or brew install maven): %w", Version, err)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	// All jars or none: they come into a folder beside it, which gets its name when they are there.
	partial, err := os.MkdirTemp(filepath.Dir(dir), filepath.Base(dir)+".partial-")
	if err != nil {
		return "", fmt.Errorf("kafka: %w", err)
	}
	defer os.RemoveAll(partial)
	if err := copyJars(ctx, partial); err != nil {
		return "", err
	}
	if err := os.Rename(filepath.Join(partial, "libs"), dir); err != nil {
		if _, there := os.Stat(dir); there != nil { // otherwise another process was faster
			return "", fmt.Errorf("kafka: %w", err)
		}
	}
	return dir, nil
}

func copyJars(ctx context.Context, dir string) error {
	file := filepath.Join(dir, "pom.xml")
	if err := os.WriteFile(file, pom, 0o644); err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	mvn := exec.CommandContext(ctx, "mvn", "--batch-mode", "--quiet", "--file", file, "dependency:copy-dependencies",
		"-DincludeScope=runtime", "-DoutputDirectory="+filepath.Join(dir, "libs"))
	if out, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka: mvn could not fetch Apache Kafka %s: %w\n%s", Version, err, out)
	}
	return nil
}
