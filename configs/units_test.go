package configs

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestUnits(t *testing.T) {
	for text, want := range map[string]int64{"0B": 0, "1KiB": 1 << 10, "256MiB": 256 << 20, "4GiB": 4 << 30, "16TiB": 16 << 40, "8388607TiB": 8388607 << 40} {
		if got, err := parseSize(value{text: text}); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for text, want := range map[string]time.Duration{"0s": 0, "90s": 90 * time.Second, "1h": time.Hour, "30d": 720 * time.Hour, "1d12h30m": 36*time.Hour + 30*time.Minute, "5ms": 5 * time.Millisecond, "7us": 7 * time.Microsecond} {
		if got, err := parseDuration(value{text: text}); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", text, got, err, want)
		}
	}
	for text, hint := range map[string]string{
		"4GB": "4GiB", "4G": "4GiB", "512mb": "512MiB", "4 GiB": "4GiB", "4 gb": "4GiB", "": "", "GiB": "", "4": "", "-1GiB": "", "1.5GiB": "", "1GiB1MiB": "", "1h": "", "4XB": "",
	} {
		_, err := parseSize(value{text: text})
		checkUnitHint(t, text, err, hint)
	}
	for text, hint := range map[string]string{
		"1 day": "1d", "2weeks": "14d", "1w": "7d", "3 hours": "3h", "10min": "10m", "1H30Min": "1h30m", "1ns": "", "1GiB": "", "1y": "", "h": "", "1h 30": "",
	} {
		_, err := parseDuration(value{text: text})
		checkUnitHint(t, text, err, hint)
	}
	for _, text := range []string{"8388608TiB", "99999999999999999999B"} {
		if _, err := parseSize(value{text: text}); err == nil || !strings.Contains(err.Error(), "smaller") {
			t.Errorf("%s: got %v", text, err)
		}
	}
	for _, text := range []string{"106752d", "106751d24h", "9999999999999999999999d"} {
		if _, err := parseDuration(value{text: text}); err == nil || !strings.Contains(err.Error(), "smaller") {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func checkUnitHint(t *testing.T, text string, err error, hint string) {
	t.Helper()
	if p, ok := err.(problem); !ok || hint == "" && p.hint != "" || hint != "" && p.hint != didYouMean(hint) {
		t.Errorf("%q: got %v, want a problem with the hint %q", text, err, hint)
	}
}

func TestUnitsPrintAgain(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Min(0).Draw(rt, "size")
		if got, err := parseSize(value{text: formatSize(size)}); err != nil || got != size {
			rt.Fatalf("%d prints as %s: %d, %v", size, formatSize(size), got, err)
		}
		d := time.Duration(rapid.Int64Range(0, 1<<53).Draw(rt, "microseconds")) * time.Microsecond
		if got, err := parseDuration(value{text: formatDuration(d)}); err != nil || got != d {
			rt.Fatalf("%s prints as %s: %s, %v", d, formatDuration(d), got, err)
		}
	})
}
