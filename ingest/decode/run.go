package decode

import (
	"encoding/binary"
	"unicode/utf8"

	"nyala/store/batch"
	"nyala/store/schema"
)

// place is where run left off.
type place uint8

const (
	atKey        place = iota // in front of a key that it does not take
	behindValue               // behind a value, with something else than a comma or } next
	behindObject              // behind the closing brace
)

// run decodes the object's pairs from the key at i on as long as they are what most records consist of: the predicted key, and a plain
// value of the type of its column. It never finds a fault: where anything is unusual it stops in front of that pair, which is
// then as if it had not been looked at, and the careful path of pair and cell decides.
//
// This is the same decoding a second time, for speed: all that happens to most values is in this one loop, where the kind of
// the column, the place in the text and the number of columns filled stay in registers. The careful path alone takes a third
// longer. FuzzJSON and TestRunAgrees hold the two against encoding/json and against each other.
func (d *JSON) run(s []byte, i int, n *node, last int) (next, field int, at place) {
	columns, base, filled := d.rows.Columns, d.base, d.filled
	if len(n.fields) == 0 || d.careful {
		return i, last, atKey
	}
	for {
		f := int(n.after[last])
		p := &n.patterns[f]
		if p.leaf < 0 || i+8 > len(s) || binary.LittleEndian.Uint64(s[i:])&p.mask != p.head || p.size > 8 && !p.endsAt(s, i) {
			break
		}
		k := &columns[p.leaf]
		if k.Rows() != base || p.size == 0 {
			break // the field comes again
		}
		j := i + p.size
		if j < len(s) && s[j] == ' ' {
			j++
		}
		if j = d.plain(s, j, k, p.kind); j == 0 {
			break
		}
		filled++
		last = f
		if i = j; i >= len(s) {
			d.filled = filled
			return i, last, behindValue
		}
		switch s[i] {
		case ',':
			if i++; i < len(s) && s[i] == ' ' {
				i++
			}
		case '}':
			d.filled = filled
			return i + 1, last, behindObject
		default:
			d.filled = filled
			return i, last, behindValue
		}
	}
	d.filled = filled
	return i, last, atKey
}

// endsAt compares what of the pattern lies behind its first eight bytes, which stand at i.
func (p *pattern) endsAt(s []byte, i int) bool {
	if i+p.size > len(s) {
		return false
	}
	if p.size <= 16 {
		return binary.LittleEndian.Uint64(s[i+p.size-8:]) == p.tail
	}
	return string(s[i+8:i+p.size]) == p.text[8:]
}

// plain appends the value at i to a column of that kind, if it is of the usual form. It returns the position behind it, or
// 0, and then nothing has changed.
func (d *JSON) plain(s []byte, i int, k *batch.ColumnBuilder, kind schema.Kind) (next int) {
	switch kind {
	case schema.String:
		return plainText(s, i, k)
	case schema.Int64:
		if v, next, ok := fastInt(s, i); ok {
			k.AppendInt64(v)
			return next
		}
	case schema.Timestamp:
		if v, next, ok := fastInt(s, i); ok {
			if v, ok = d.micros(v); ok {
				k.AppendInt64(v)
				return next
			}
		}
	case schema.Int32:
		if v, next, ok := fastInt(s, i); ok && v == int64(int32(v)) {
			k.AppendInt32(int32(v))
			return next
		}
	case schema.Int8, schema.Int16:
		if v, next, ok := fastInt(s, i); ok && fits(kind, v) {
			k.AppendInt(v)
			return next
		}
	case schema.Float64:
		if v, next, ok := fastFloat(s, i); ok {
			k.AppendFloat(v)
			return next
		}
	case schema.Bool:
		if i+5 <= len(s) && string(s[i:i+4]) == "true" {
			k.AppendBool(true)
			return i + 4
		}
		if i+5 <= len(s) && string(s[i:i+5]) == "false" {
			k.AppendBool(false)
			return i + 5
		}
	case schema.UUID:
		var u [16]byte
		if i+38 <= len(s) && s[i] == '"' && s[i+37] == '"' && parseUUID(&u, s[i+1:i+37]) {
			k.AppendFixed16(u)
			return i + 38
		}
	}
	return 0
}

// plainText appends the string at i, if it has no escapes. The text is copied into the column's spare room while its end is
// searched, eight bytes at a time, and kept if it turns out to be good.
func plainText(s []byte, i int, k *batch.ColumnBuilder) (next int) {
	if i >= len(s) || s[i] != '"' {
		return 0
	}
	start := i + 1
	tail := k.Scratch()
	room := tail[len(tail):cap(tail)]
	var seen uint64
	in, n := s[start:], 0
	for n+8 <= len(in) && n+8 <= len(room) {
		v := binary.LittleEndian.Uint64(in[n:])
		binary.LittleEndian.PutUint64(room[n:], v)
		m := stringEnds(v)
		if m == 0 {
			seen |= v
			n += 8
			continue
		}
		b := firstByte(m)
		seen |= v & (1<<(8*b) - 1)
		if n += int(b); in[n] != '"' || seen&highs != 0 && !utf8.Valid(in[:n]) {
			return 0
		}
		k.AppendScratch(tail[:len(tail)+n])
		return start + n + 1
	}
	end, high := scanString(s, start)
	if end < 0 || s[end] != '"' || high && !utf8.Valid(s[start:end]) {
		return 0
	}
	k.AppendBytes(s[start:end])
	return end + 1
}
