package configs

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The YAML parser takes time that grows with the square of nesting and of a line's length; no
// configuration comes near these.
const (
	maxFileBytes  = 1 << 20
	maxLineLength = 16 << 10 // characters
	maxNesting    = 64       // of [ and {
)

// excerptLength is how many characters of a long line are shown around the caret.
const excerptLength = 120

// place is a position in the file, or a flag. The zero line means that there is no line to show.
type place struct {
	file         string
	line, column int // from 1, in characters
	width        int // characters to underline, at least 1
}

// source is the text of the file, kept for excerpts.
type source struct {
	name  string
	lines [][]rune // without line ends
	shown []shownLine
}

// shownLine is a line as it may be seen: the characters [from, to) of the line were replaced by
// ***. Without a secret from and to are 0.
type shownLine struct {
	text     []rune
	from, to int
}

// newSource splits the file into lines. What comes back as text is for the YAML parser: without
// a byte order mark, with plain line ends, and masked. Its characters stand
// where they stand in the file. A file that is not readable text at all gives faults instead.
func newSource(name string, data []byte) (src *source, text string, faults []located[problem]) {
	src = &source{name: name}
	if len(data) > maxFileBytes {
		return src, "", []located[problem]{{at: place{file: name}, value: problem{
			message: fmt.Sprintf("got a file of %d bytes, want at most %s", len(data), formatSize(maxFileBytes))}}}
	}
	text = strings.TrimPrefix(string(data), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	depth := 0
	for i, line := range strings.Split(text, "\n") {
		src.lines = append(src.lines, []rune(strings.ToValidUTF8(line, "\ufffd")))
		column, p := judgeLine(line, src.lines[i], &depth)
		if p.message != "" {
			faults = append(faults, located[problem]{p, place{file: name, line: i + 1, column: column + 1, width: 1}})
		}
	}
	src.shown = hideSecrets(src.lines)
	return src, mask(text), faults
}

// judgeLine returns what keeps a line from being parsed at all, and its index in characters. Depth
// counts the open brackets of all lines so far, also those in quotes: it only has to be about right.
func judgeLine(line string, characters []rune, depth *int) (column int, p problem) {
	if len(characters) > maxLineLength {
		return maxLineLength, problem{fmt.Sprintf("got a line of %d characters, want at most %d", len(characters), maxLineLength), ""}
	}
	if fault, column := badCharacter(line); fault != "" {
		return column, problem{fault, ""}
	}
	if tab := tabPattern.FindStringIndex(line); tab != nil && !commentPattern.MatchString(line[:tab[1]]) {
		return utf8.RuneCountInString(line[:tab[0]]), problem{"got a tab, want spaces", `inside double quotes a tab is written \t`}
	}
	for column, r := range characters {
		switch r {
		case '[', '{':
			if *depth++; *depth == maxNesting+1 {
				return column, problem{fmt.Sprintf("got brackets %d deep inside each other, want at most %d", *depth, maxNesting), ""}
			}
		case ']', '}':
			*depth = max(0, *depth-1)
		}
	}
	return 0, problem{}
}

// A tab may stand behind everything in its line, or in a comment. Elsewhere YAML forbids it, or the
// parser loses it: it reads M<tab>M as MM.
var (
	tabPattern     = regexp.MustCompile(`\t[\t ]*[^\t #]`)
	commentPattern = regexp.MustCompile(`(^|\s)#`)
)

// badCharacter returns what is wrong with the first character of a line that may not be in a
// text file, and its index in characters.
func badCharacter(line string) (fault string, column int) {
	for len(line) > 0 {
		r, size := utf8.DecodeRuneInString(line)
		switch {
		case r == utf8.RuneError && size == 1:
			return fmt.Sprintf("got the byte 0x%02x, want a file in UTF-8", line[0]), column
		case r != '\t' && unicode.IsControl(r), r >= maskBase && r <= maskBase+unicode.MaxASCII, r == '\ufeff',
			r == '\u2028', r == '\u2029':
			return fmt.Sprintf("got the character U+%04X, want text; in double quotes it may be written as an escape", r), column
		}
		line = line[size:]
		column++
	}
	return "", 0
}

// maskBase is where the masked characters are, in the last private-use plane.
const maskBase = '\U0010FE00'

var (
	referencePattern = regexp.MustCompile(`\$\{[^}\n]*\}`)
	escapedPattern   = regexp.MustCompile(`\$\$\{|` + referencePattern.String()) // $${ begins no reference
	decimalPattern   = regexp.MustCompile(`decimal\s*\([^()\[\]{}\n]*\)`)
)

// mask replaces the characters in ${...} and decimal(p,s) that mean something to YAML by private
// ones, so that both need no quotes, also inside { } and [ ]. It does the same with a colon inside
// a word, as in kafka-1:9092, which the library takes for the end of a key inside { [ ] }, other
// than YAML does. Nothing moves: one character becomes one character. unmask undoes it.
//
// Replacing references before parsing would be simpler, and wrong: what a variable holds could
// then change the structure of the file, and every later position.
func mask(text string) string {
	masking := func(special string) func(string) string {
		return func(match string) string {
			return strings.Map(func(r rune) rune {
				if strings.ContainsRune(special, r) {
					return maskBase + r
				}
				return r
			}, match)
		}
	}
	hide := masking("{}[],:#")
	text = escapedPattern.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return match
		}
		return hide(match)
	})
	text = decimalPattern.ReplaceAllStringFunc(text, masking(","))
	const outside = " \t\n,[]{}"
	characters := []rune(text)
	for i := 1; i+1 < len(characters); i++ {
		if characters[i] == ':' && !strings.ContainsRune(outside+`"'`, characters[i-1]) && !strings.ContainsRune(outside, characters[i+1]) {
			characters[i] += maskBase
		}
	}
	return string(characters)
}

func unmask(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= maskBase && r <= maskBase+unicode.MaxASCII {
			return r - maskBase
		}
		return r
	}, text)
}

// passwordPattern finds what looks like the key of a password, also misspelt. The name of a file
// with one is no secret.
var passwordPattern = regexp.MustCompile(`(?i)\b(pa?s+(w?o?r?d|phrase|w)?|sasl_password|secret|credentials?)["']?\s*:(\s+|$)`)

// hideSecrets returns the lines as excerpts may show them. It works on the text and not on the
// parsed file, so that it also works for a file that cannot be parsed; where it is in doubt it
// hides too much. A value that is a reference and nothing else is no secret: what it names is
// needed to mend it. Its default would be one.
func hideSecrets(lines [][]rune) []shownLine {
	shown := make([]shownLine, len(lines))
	below := -1   // lines indented deeper than this belong to a password
	next := false // the password is on the next line
	for i, line := range lines {
		text := string(line)
		indent := len(text) - len(strings.TrimLeft(text, " "))
		blank := strings.TrimSpace(text) == ""
		shown[i] = shownLine{text: line}
		switch {
		case blank:
			continue
		case next || below >= 0 && indent > below:
			next = false
			shown[i] = hideRange(line, indent, len(line))
			continue
		}
		below = -1
		match := passwordPattern.FindStringIndex(text)
		if match == nil {
			continue
		}
		from := utf8.RuneCountInString(text[:match[1]])
		end, whole := secretEnd(text[match[1]:], strings.Contains(text[:match[0]], "{"))
		next = strings.TrimSpace(text[match[1]:]) == ""
		if whole {
			below = indent
		}
		if end > 0 {
			shown[i] = hideRange(line, from, from+end)
		}
	}
	return shown
}

var onlyReference = regexp.MustCompile(`^["']?` + referencePattern.String() + `["']?(\s*$|\s*[,}]|\s+#)`)

// secretEnd returns how many characters of text, which follows a password's key, are the
// password, and whether it may go on in the lines below. Flow says that the key is inside { }.
func secretEnd(text string, flow bool) (characters int, whole bool) {
	if match := onlyReference.FindString(text); match != "" && !strings.Contains(match, ":-") {
		return 0, false
	}
	if !flow {
		return utf8.RuneCountInString(strings.TrimRight(text, " ")), true
	}
	if quote := prefix(text, func(c byte) bool { return c == '"' || c == '\'' }); quote != "" {
		// Up to the last quote of the line: an escaped quote must not end it early.
		if end := strings.LastIndexByte(text, quote[0]); end > 0 {
			return utf8.RuneCountInString(text[:end+1]), false
		}
		return utf8.RuneCountInString(text), true
	}
	if end := strings.IndexAny(text, ",}"); end >= 0 {
		return utf8.RuneCountInString(text[:end]), false
	}
	return utf8.RuneCountInString(text), true
}

func hideRange(line []rune, from, to int) shownLine {
	text := append([]rune{}, line[:from]...)
	text = append(text, []rune(hidden)...)
	text = append(text, line[to:]...)
	return shownLine{text: text, from: from, to: to}
}

// column returns where a column of the line, from 0, is in what is shown.
func (s shownLine) column(column int) int {
	switch {
	case column <= s.from:
		return column
	case column < s.to:
		return s.from
	default:
		return column - (s.to - s.from) + s.hiddenLength()
	}
}

func (s shownLine) hiddenLength() int {
	if s.to == 0 {
		return 0
	}
	return len(hidden)
}

// excerpt returns the line of the place and below it a line with the caret.
func (s *source) excerpt(at place) string {
	if at.line < 1 || at.line > len(s.lines) {
		return ""
	}
	line := s.shown[at.line-1]
	first := min(line.column(at.column-1), len(line.text))
	last := min(line.column(at.column-1+at.width), len(line.text))
	if first < line.from+line.hiddenLength() && first >= line.from && line.to > 0 {
		last = line.from + line.hiddenLength()
	}
	from, to, before, after := 0, len(line.text), "", ""
	if to > excerptLength {
		from = max(0, min(first-excerptLength/3, to-excerptLength))
		to = min(len(line.text), from+excerptLength)
		if from > 0 {
			before = "…"
		}
		if to < len(line.text) {
			after = "…"
		}
	}
	var text, caret strings.Builder
	for i := from; i < to; i++ {
		r := line.text[i]
		if r != '\t' && !unicode.IsPrint(r) {
			r = '\ufffd' // such as a character that turns the direction of text
		}
		text.WriteRune(r)
		if i < first && r == '\t' {
			caret.WriteRune(r)
		} else if i < first {
			caret.WriteByte(' ')
		}
	}
	number := fmt.Sprintf("%5d | ", at.line)
	margin := strings.Repeat(" ", len(number)-2) + "| "
	underline := "^" + strings.Repeat("~", max(0, min(last, to)-first-1))
	return number + before + text.String() + after + "\n" +
		margin + strings.Repeat(" ", utf8.RuneCountInString(before)) + caret.String() + underline
}
