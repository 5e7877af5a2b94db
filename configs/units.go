package configs

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// unit is a name and how many of the base unit it is.
type unit struct {
	name   string
	factor int64
}

// Largest first, which is the order in which they are tried when a value is printed.
var (
	sizeUnits     = []unit{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
	durationUnits = []unit{
		{"d", int64(24 * time.Hour)}, {"h", int64(time.Hour)}, {"m", int64(time.Minute)}, {"s", int64(time.Second)},
		{"ms", int64(time.Millisecond)}, {"us", int64(time.Microsecond)},
	}
)

// unitMistakes maps units that people write to the ones that are meant.
var unitMistakes = map[string]string{
	"K": "KiB", "M": "MiB", "G": "GiB", "T": "TiB", "KB": "KiB", "MB": "MiB", "GB": "GiB", "TB": "TiB",
	"k": "KiB", "kb": "KiB", "kB": "KiB", "mb": "MiB", "g": "GiB", "gb": "GiB", "t": "TiB", "tb": "TiB",
	"Ki": "KiB", "Mi": "MiB", "Gi": "GiB", "Ti": "TiB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB",
	"D": "d", "day": "d", "days": "d", "H": "h", "hour": "h", "hours": "h", "hr": "h", "hrs": "h",
	"min": "m", "mins": "m", "minute": "m", "minutes": "m", "S": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"msec": "ms", "millis": "ms", "usec": "us", "micros": "us", "µs": "us",
}

// unitMultiples are units that people want and that are several of ours.
var unitMultiples = map[string]unit{"w": {"d", 7}, "week": {"d", 7}, "weeks": {"d", 7}}

func parseSize(v value) (int64, error) {
	return parseUnits(v, sizeUnits, "a size such as 256MiB or 4GiB", 1)
}

func parseDuration(v value) (time.Duration, error) {
	d, err := parseUnits(v, durationUnits, "a duration such as 90s, 1h or 30d", len(durationUnits))
	return time.Duration(d), err
}

// parseUnits adds up at most limit numbers that are each followed by a unit, without spaces.
// Anything near enough is answered with what it should have been.
func parseUnits(v value, units []unit, want string, limit int) (int64, error) {
	if joined := strings.ReplaceAll(v.text, " ", ""); joined != v.text {
		p := got(v, want)
		if fixed, _, ok := correctUnits(joined, units, limit); ok {
			p.hint = didYouMean(fixed)
		}
		return 0, p
	}
	fixed, total, ok := correctUnits(v.text, units, limit)
	switch {
	case !ok:
		return 0, got(v, want)
	case fixed != v.text:
		return 0, problem{got(v, want).message, didYouMean(fixed)}
	case total < 0:
		return 0, got(v, "a smaller value")
	}
	return total, nil
}

// correctUnits reads numbers that are each followed by a unit. It returns them with the units
// set right that people mistake, and their sum, or -1 when that is too large; ok is false when
// they make no sense.
func correctUnits(text string, units []unit, limit int) (fixed string, total int64, ok bool) {
	for rest, part := text, 0; rest != "" || part == 0; part++ {
		digits := prefix(rest, func(c byte) bool { return c >= '0' && c <= '9' })
		name := prefix(rest[len(digits):], func(c byte) bool { return c < '0' || c > '9' })
		rest = rest[len(digits)+len(name):]
		n, err := strconv.ParseInt(digits, 10, 64)
		if errors.Is(err, strconv.ErrRange) {
			total, err = -1, nil
		}
		if err != nil || part >= limit {
			return "", 0, false
		}
		if multiple, found := unitMultiples[name]; found && n < math.MaxInt64/multiple.factor {
			digits, name = strconv.FormatInt(n*multiple.factor, 10), multiple.name
		}
		if right := cmp.Or(unitMistakes[name], unitMistakes[strings.ToLower(name)]); right != "" {
			name = right
		}
		at := slices.IndexFunc(units, func(u unit) bool { return u.name == name })
		if at < 0 {
			return "", 0, false
		}
		fixed += digits + name
		if factor := units[at].factor; total >= 0 && n <= (math.MaxInt64-total)/factor {
			total += n * factor
		} else {
			total = -1
		}
	}
	return fixed, total, true
}

// prefix returns the longest start of text whose bytes all pass.
func prefix(text string, pass func(byte) bool) string {
	n := 0
	for n < len(text) && pass(text[n]) {
		n++
	}
	return text[:n]
}

func formatSize(bytes int64) string { return formatUnit(bytes, sizeUnits) }

func formatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	return formatUnit(int64(d), durationUnits)
}

// formatUnit prints n in the largest unit that divides it.
func formatUnit(n int64, units []unit) string {
	for _, u := range units {
		if n%u.factor == 0 {
			return strconv.FormatInt(n/u.factor, 10) + u.name
		}
	}
	must(false, "configs: %d is no multiple of %s", n, units[len(units)-1].name)
	return ""
}
