package decode

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// skipNumber checks the number at i against JSON's grammar and returns the position behind it.
func skipNumber(s []byte, i int) (next int, fault Reason) {
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	case i < len(s) && s[i] >= '1' && s[i] <= '9':
		i = digits(s, i)
	default:
		return 0, BadSyntax
	}
	if i < len(s) && s[i] == '.' {
		j := digits(s, i+1)
		if j == i+1 {
			return 0, BadSyntax
		}
		i = j
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		j := digits(s, i)
		if j == i {
			return 0, BadSyntax
		}
		i = j
	}
	return i, ""
}

func digits(s []byte, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}

// isNumber tells whether all of s is one JSON number.
func isNumber(s []byte) bool {
	next, fault := skipNumber(s, 0)
	return fault == "" && next == len(s)
}

// eightDigits counts the digits at the beginning of the eight bytes w and gives their value. It takes no branch for that: how many
// digits a number has is what a processor cannot guess.
func eightDigits(w uint64) (v uint64, n int) {
	t := w ^ ones*'0' // digits become 0 to 9
	m := (t&^uint64(highs) + ones*(0x80-10) | t) & highs
	z := bits.TrailingZeros64(m) // 64 when all are digits
	n = z >> 3
	t <<= uint(64-8*n) & 63 // what is no digit goes, and zeros come in front
	if n == 0 {
		return 0, 0
	}
	t = t*10 + t>>8
	return (t&0x000000FF000000FF*0x000F424000000064 + t>>16&0x000000FF000000FF*0x0000271000000001) >> 32, n
}

// fastInt reads a plain integer of at most 18 digits at i: no fraction, no exponent, no leading zero.
// ok is false for everything else, which the caller then reads with skipNumber and exact.
func fastInt(s []byte, i int) (v int64, next int, ok bool) {
	neg := i < len(s) && s[i] == '-'
	if neg {
		i++
	}
	start := i
	var u uint64
	for i+8 <= len(s) && i-start <= 16 {
		w, n := eightDigits(binary.LittleEndian.Uint64(s[i:]))
		u = u*uint64(powersInt[n]) + w
		if i += n; n < 8 {
			break
		}
	}
	for i < len(s) {
		d := s[i] - '0'
		if d > 9 {
			break
		}
		u = u*10 + uint64(d)
		i++
	}
	n := i - start
	if n == 0 || n > 18 || n > 1 && s[start] == '0' {
		return 0, 0, false
	}
	if i < len(s) && (s[i] == '.' || s[i]|0x20 == 'e') {
		return 0, 0, false
	}
	if neg {
		return -int64(u), i, true
	}
	return int64(u), i, true
}

// exact reads the number text, which isNumber holds of, as text * 10^scale. The result is exact or a fault:
// Inexact when decimal places remain, OutOfRange when it does not fit an int64.
func exact(text []byte, scale int) (int64, Reason) {
	neg := text[0] == '-'
	if neg {
		text = text[1:]
	}
	// mantissa: positions of its digits in text, the point apart; exponent: of its last digit.
	end, point := len(text), -1
	exponent := int64(scale)
	for i, c := range text {
		if c == '.' {
			point = i
		} else if c|0x20 == 'e' {
			end = i
			exponent += readExponent(text[i+1:])
			break
		}
	}
	if point >= 0 {
		exponent -= int64(end - point - 1)
	}
	// Trailing zeros belong to the exponent: 1.0 and 100e-2 are integers.
	for end > 0 && (text[end-1] == '0' || text[end-1] == '.') {
		if text[end-1] == '0' {
			exponent++
		}
		end--
	}
	if end == 0 {
		return 0, ""
	}
	if exponent < 0 {
		return 0, Inexact
	}
	var u uint64
	for _, c := range text[:end] {
		if c == '.' {
			continue
		}
		if u > math.MaxUint64/10-1 {
			return 0, OutOfRange
		}
		u = u*10 + uint64(c-'0')
	}
	for ; exponent > 0; exponent-- {
		if u > math.MaxUint64/10-1 {
			return 0, OutOfRange
		}
		u *= 10
	}
	switch {
	case neg && u <= 1<<63:
		return -int64(u), ""
	case !neg && u < 1<<63:
		return int64(u), ""
	}
	return 0, OutOfRange
}

// readExponent reads what follows the e. It saturates far beyond any number of digits that a record can
// hold, so that sums with it neither overflow nor change their meaning.
func readExponent(s []byte) int64 {
	neg := s[0] == '-'
	if neg || s[0] == '+' {
		s = s[1:]
	}
	var e int64
	for _, c := range s {
		e = min(e*10+int64(c-'0'), 1<<40)
	}
	if neg {
		return -e
	}
	return e
}

var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// fastFloat reads a plain decimal number of at most 15 digits at i. Mantissa and power of ten are then exact
// float64s and their quotient is correctly rounded (Clinger, How to Read Floating Point Numbers Accurately, 1990).
func fastFloat(s []byte, i int) (v float64, next int, ok bool) {
	neg := i < len(s) && s[i] == '-'
	if neg {
		i++
	}
	start := i
	u, i := wholeNumber(s, i)
	n := i - start
	if n == 0 || n > 15 || n > 1 && s[start] == '0' {
		return 0, 0, false
	}
	places := 0
	if i < len(s) && s[i] == '.' {
		point := i + 1
		var fraction uint64
		fraction, i = wholeNumber(s, point)
		places = i - point
		if places == 0 || n+places > 15 {
			return 0, 0, false
		}
		u = u*uint64(powersInt[places]) + fraction
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		return 0, 0, false
	}
	v = float64(u) / powers[places]
	if neg {
		v = -v
	}
	return v, i, true
}

// wholeNumber reads the digits at i; more than 19 make a value without a meaning.
func wholeNumber(s []byte, i int) (u uint64, next int) {
	if i+8 <= len(s) {
		var n int
		u, n = eightDigits(binary.LittleEndian.Uint64(s[i:]))
		if i += n; n < 8 {
			return u, i
		}
	}
	for i < len(s) && s[i]-'0' <= 9 {
		u = u*10 + uint64(s[i]-'0')
		i++
	}
	return u, i
}

// parseFloat reads the number text, which isNumber holds of, rounded to the nearest float of that size.
func parseFloat(text []byte, size int) (float64, Reason) {
	v, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(text), len(text)), size)
	if err != nil {
		return 0, OutOfRange
	}
	return v, ""
}

// namedFloat reads the names that Java's and Python's writers give in strings to floats JSON cannot write.
func namedFloat(text []byte) (float64, bool) {
	switch string(text) {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	return 0, false
}
