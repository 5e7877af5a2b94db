package decode

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// depthMax bounds how deep objects and arrays may nest. The scanner recurses, so this bounds its stack
// too; no real record comes near, and a record of a megabyte of brackets is a bad record, not a crash.
const depthMax = 512

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// stringEnds marks the bytes of v that end the plain run of a string. Only the lowest mark is certain, because a borrow may
// mark the bytes above it; no other may be used.
func stringEnds(v uint64) uint64 {
	q := v ^ (ones * '"')
	b := v ^ (ones * '\\')
	c := v & (ones * 0xE0) // a zero byte where v has a control character
	return ((q-ones)&^q | (b-ones)&^b | (c-ones)&^c) & highs
}

// firstByte is the position of the lowest mark.
func firstByte(marks uint64) uint { return uint(bits.TrailingZeros64(marks)) >> 3 }

// scanString looks from i, the first byte behind an opening quote, for the byte that ends the plain run of
// a string: its closing quote, a backslash or a control character. It reads eight bytes at a time (the
// "has zero byte" trick of Hacker's Delight, 6-1). end is -1 when the input ends before; high tells
// whether a byte above 0x7f was passed, that is, whether UTF-8 needs checking.
func scanString(s []byte, i int) (end int, high bool) {
	var seen uint64
	for i+8 <= len(s) {
		v := binary.LittleEndian.Uint64(s[i:])
		m := stringEnds(v)
		if m == 0 {
			seen |= v
			i += 8
			continue
		}
		k := firstByte(m)
		seen |= v & (1<<(8*k) - 1)
		return i + int(k), seen&highs != 0
	}
	for ; i < len(s); i++ {
		ch := s[i]
		if ch == '"' || ch == '\\' || ch < 0x20 {
			return i, seen&highs != 0
		}
		seen |= uint64(ch)
	}
	return -1, true
}

func space(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// rawString finds the end of the string whose opening quote is at i. raw is what lies between the quotes,
// escapes not yet resolved (escaped says whether there are any); next is behind the closing quote. The
// text is checked: no control characters, only escapes that exist, valid UTF-8.
func rawString(s []byte, i int) (raw []byte, escaped bool, next int, fault Reason) {
	start := i + 1
	end, high := scanString(s, start)
	if end >= 0 && s[end] == '"' {
		if high && !utf8.Valid(s[start:end]) {
			return nil, false, 0, BadUTF8
		}
		return s[start:end], false, end + 1, ""
	}
	for end >= 0 && s[end] == '\\' {
		n := escapeLength(s, end)
		if n == 0 {
			return nil, false, 0, BadSyntax
		}
		var h bool
		end, h = scanString(s, end+n)
		high = high || h
	}
	if end < 0 || s[end] != '"' {
		return nil, false, 0, BadSyntax
	}
	if high && !utf8.Valid(s[start:end]) {
		return nil, false, 0, BadUTF8
	}
	return s[start:end], true, end + 1, ""
}

// escapeLength is the length of the escape at i, or 0 when it is none that JSON has.
func escapeLength(s []byte, i int) int {
	if i+1 >= len(s) {
		return 0
	}
	switch s[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s, i+2); ok {
			return 6
		}
	}
	return 0
}

func hex4(s []byte, i int) (rune, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	var r rune
	for _, c := range s[i : i+4] {
		d := hexDigits[c]
		if d < 0 {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	return r, true
}

var hexDigits = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range 10 {
		t['0'+i] = int8(i)
	}
	for i := range 6 {
		t['a'+i], t['A'+i] = int8(10+i), int8(10+i)
	}
	return t
}()

var shortEscapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// appendUnescaped resolves the escapes of raw, which rawString has checked. It refuses a surrogate without
// its other half: such text is no Unicode and has no UTF-8, and encoding/json's replacement character
// would change a user's data silently.
func appendUnescaped(dst, raw []byte) ([]byte, bool) {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			j := i + 1
			for j < len(raw) && raw[j] != '\\' {
				j++
			}
			dst = append(dst, raw[i:j]...)
			i = j
			continue
		}
		if raw[i+1] != 'u' {
			dst = append(dst, shortEscapes[raw[i+1]])
			i += 2
			continue
		}
		r, _ := hex4(raw, i+2)
		i += 6
		if r >= 0xDC00 && r < 0xE000 {
			return dst, false
		}
		if r >= 0xD800 && r < 0xDC00 {
			if i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
				return dst, false
			}
			low, _ := hex4(raw, i+2)
			if low < 0xDC00 || low >= 0xE000 {
				return dst, false
			}
			r = (r-0xD800)<<10 | (low - 0xDC00) + 0x10000
			i += 6
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, true
}

// skipValue checks the value at i completely and returns the position behind it. depth is how many objects
// and arrays it lies in.
func skipValue(s []byte, i, depth int) (next int, fault Reason) {
	if i >= len(s) {
		return 0, BadSyntax
	}
	switch c := s[i]; {
	case c == '"':
		raw, escaped, next, fault := rawString(s, i)
		if escaped && fault == "" && !surrogatesPaired(raw) {
			return 0, BadUTF8
		}
		return next, fault
	case c == '{' || c == '[':
		if depth >= depthMax {
			return 0, TooDeep
		}
		return skipContainer(s, i, depth+1)
	case c == '-' || c >= '0' && c <= '9':
		return skipNumber(s, i)
	}
	if n := literalLength(s, i); n > 0 {
		return i + n, ""
	}
	return 0, BadSyntax
}

func skipContainer(s []byte, i, depth int) (next int, fault Reason) {
	object := s[i] == '{'
	closer := byte(']')
	if object {
		closer = '}'
	}
	i = space(s, i+1)
	if i < len(s) && s[i] == closer {
		return i + 1, ""
	}
	for {
		if object {
			if i >= len(s) || s[i] != '"' {
				return 0, BadSyntax
			}
			if i, fault = skipValue(s, i, depth); fault != "" {
				return 0, fault
			}
			if i = space(s, i); i >= len(s) || s[i] != ':' {
				return 0, BadSyntax
			}
			i = space(s, i+1)
		}
		if i, fault = skipValue(s, i, depth); fault != "" {
			return 0, fault
		}
		if i = space(s, i); i >= len(s) {
			return 0, BadSyntax
		}
		if s[i] == closer {
			return i + 1, ""
		}
		if s[i] != ',' {
			return 0, BadSyntax
		}
		i = space(s, i+1)
	}
}

// literalLength is the length of true, false or null at i, or 0.
func literalLength(s []byte, i int) int {
	rest := s[i:]
	switch {
	case len(rest) >= 4 && (string(rest[:4]) == "true" || string(rest[:4]) == "null"):
		return 4
	case len(rest) >= 5 && string(rest[:5]) == "false":
		return 5
	}
	return 0
}

func surrogatesPaired(raw []byte) bool {
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			i++
			continue
		}
		if raw[i+1] != 'u' {
			i += 2
			continue
		}
		r, _ := hex4(raw, i+2)
		i += 6
		if r < 0xD800 || r >= 0xE000 {
			continue
		}
		if r >= 0xDC00 || i+6 > len(raw) || raw[i] != '\\' || raw[i+1] != 'u' {
			return false
		}
		if low, _ := hex4(raw, i+2); low < 0xDC00 || low >= 0xE000 {
			return false
		}
		i += 6
	}
	return true
}
