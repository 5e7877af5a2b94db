package decode

import "encoding/binary"

// Times and UUIDs as text. The parsers are our own because time.Parse rounds silently beyond nanoseconds,
// accepts what RFC 3339 does not, and costs ten times as much.

// parseTimestamp reads an RFC 3339 time as microseconds since 1970 UTC. The T may be a space or lower case.
// Digits behind the microseconds must be zeros; a leap second is refused, no clock here could tell it apart.
func parseTimestamp(s []byte) (int64, Reason) {
	if len(s) < 20 || s[10]|0x20 != 't' && s[10] != ' ' || s[13] != ':' || s[16] != ':' {
		return 0, BadType
	}
	days, fault := parseDate(s[:10])
	hour, ok1 := twoDigits(s, 11)
	minute, ok2 := twoDigits(s, 14)
	second, ok3 := twoDigits(s, 17)
	if fault != "" || !ok1 || !ok2 || !ok3 || hour > 23 || minute > 59 || second > 59 {
		return 0, BadType
	}
	i := 19
	var micros int64
	if s[i] == '.' {
		start := i + 1
		i = digits(s, start)
		if i == start {
			return 0, BadType
		}
		for j := range 6 {
			micros *= 10
			if start+j < i {
				micros += int64(s[start+j] - '0')
			}
		}
		for j := start + 6; j < i; j++ {
			if s[j] != '0' {
				return 0, Inexact
			}
		}
	}
	offset, fault := parseZone(s[i:])
	if fault != "" {
		return 0, fault
	}
	return (days*86400+hour*3600+minute*60+second-offset)*1e6 + micros, ""
}

// parseZone reads Z or ±hh:mm as seconds east of UTC.
func parseZone(s []byte) (int64, Reason) {
	if len(s) == 1 && s[0]|0x20 == 'z' {
		return 0, ""
	}
	if len(s) != 6 || s[0] != '+' && s[0] != '-' || s[3] != ':' {
		return 0, BadType
	}
	hours, ok1 := twoDigits(s, 1)
	minutes, ok2 := twoDigits(s, 4)
	if !ok1 || !ok2 || hours > 23 || minutes > 59 {
		return 0, BadType
	}
	offset := hours*3600 + minutes*60
	if s[0] == '-' {
		offset = -offset
	}
	return offset, ""
}

// parseDate reads 2006-01-02 as days since 1970-01-01 in the proleptic Gregorian calendar.
func parseDate(s []byte) (int64, Reason) {
	if len(s) != 10 || s[4] != '-' || s[7] != '-' {
		return 0, BadType
	}
	century, ok1 := twoDigits(s, 0)
	year, ok2 := twoDigits(s, 2)
	month, ok3 := twoDigits(s, 5)
	day, ok4 := twoDigits(s, 8)
	year += century * 100
	if !ok1 || !ok2 || !ok3 || !ok4 || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return 0, BadType
	}
	return civilDays(year, month, day), ""
}

func twoDigits(s []byte, i int) (int64, bool) {
	a, b := s[i]-'0', s[i+1]-'0'
	return int64(a)*10 + int64(b), a <= 9 && b <= 9
}

func daysIn(year, month int64) int64 {
	if month == 2 {
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 30 + (month+month>>3)&1
}

// civilDays is days_from_civil of Howard Hinnant's chrono-compatible date algorithms, for years >= 0.
func civilDays(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	era := year / 400
	if year < 0 {
		era = -1
	}
	yearOfEra := year - era*400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return era*146097 + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - 719468
}

// parseUUID reads 32 hexadecimal digits, with dashes in the usual places or without any.
func parseUUID(dst *[16]byte, s []byte) bool {
	var a, b, c, d uint64 // eight digits each
	switch {
	case len(s) == 36 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		a, d = binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[28:])
		b = uint64(binary.LittleEndian.Uint32(s[9:])) | uint64(binary.LittleEndian.Uint32(s[14:]))<<32
		c = uint64(binary.LittleEndian.Uint32(s[19:])) | uint64(binary.LittleEndian.Uint32(s[24:]))<<32
	case len(s) == 32:
		a, b = binary.LittleEndian.Uint64(s), binary.LittleEndian.Uint64(s[8:])
		c, d = binary.LittleEndian.Uint64(s[16:]), binary.LittleEndian.Uint64(s[24:])
	default:
		return false
	}
	if isHex(a)&isHex(b)&isHex(c)&isHex(d) != highs {
		return false
	}
	binary.LittleEndian.PutUint32(dst[:], fromHex(a))
	binary.LittleEndian.PutUint32(dst[4:], fromHex(b))
	binary.LittleEndian.PutUint32(dst[8:], fromHex(c))
	binary.LittleEndian.PutUint32(dst[12:], fromHex(d))
	return true
}

// isHex sets the high bit of every byte of w that is a hexadecimal digit, and no other bit.
func isHex(w uint64) uint64 {
	v := w &^ highs
	lower := v | ones*0x20 // A to F become a to f, and nothing else does
	digit := (v + ones*(0x80-'0')) &^ (v + ones*(0x7f-'9'))
	letter := (lower + ones*(0x80-'a')) &^ (lower + ones*(0x7f-'f'))
	return (digit | letter) &^ w & highs
}

// fromHex is the four bytes that eight hexadecimal digits stand for.
func fromHex(w uint64) uint32 {
	v := w&(ones*0x0f) + w>>6&ones*9
	v = (v<<4 | v>>8) & 0x00ff00ff00ff00ff
	v = (v | v>>8) & 0x0000ffff0000ffff
	return uint32(v | v>>16)
}
