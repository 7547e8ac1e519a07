package jsonbody

import (
	"bytes"
	"encoding/hex"
	"io"
	"strings"
	"unicode/utf8"
)

// maxHalves is how many halves a HalfReader marks: as many as there are texts in a large request.
const maxHalves = 100_000

// escape is the length of \uXXXX, in bytes.
const escape = len(`\u0000`)

// The code units that are halves: the first ones of a pair, then the second ones.
const (
	firstHalf  = 0xd800
	secondHalf = 0xdc00
	afterHalf  = 0xe000
)

// A mark is a noncharacter, which is not for interchange, and a character for private use that tells halves apart. It
// is as long as the escape that it replaces, so that offsets stay what they are.
const (
	mark       = "\ufdd0"
	markedHalf = '\ue000' // stands for \ud800, the next one for \ud801
)

// HalfReader lets a decoder read on past halves of surrogate pairs, so that they can be reported as faults of the
// members that hold them: "\ud800" is in JSON's grammar, and no Unicode. It puts a mark in the place of each, of the
// same length. Everything else it leaves as it is. After 100,000 halves it marks no more, and the next one ends the
// decoding as it does without a HalfReader.
//
// A text may hold what looks like a mark though its sender wrote no half. So who looks for marks asks first whether
// there are Offsets.
type HalfReader struct {
	body    io.Reader
	offsets []int64

	buffer  [16 << 10]byte
	start   int   // what comes next in the buffer,
	decided int   // what of it can be read,
	end     int   // and what is in it: up to 11 bytes may be half of a pair
	offset  int64 // of the buffer, in the body
	err     error // the body's
}

// NewHalfReader returns a HalfReader of a body.
func NewHalfReader(body io.Reader) *HalfReader { return &HalfReader{body: body} }

// Offsets returns where in the body the halves stand, of all that was read so far: in bytes, in ascending order.
func (r *HalfReader) Offsets() []int64 { return r.offsets }

// Read implements io.Reader.
func (r *HalfReader) Read(p []byte) (int, error) {
	for r.start == r.decided {
		if r.err != nil {
			return 0, r.err
		}
		copy(r.buffer[:], r.buffer[r.start:r.end])
		r.offset += int64(r.start)
		r.start, r.end = 0, r.end-r.start
		var n int
		n, r.err = r.body.Read(r.buffer[r.end:])
		r.end += n
		r.decided = r.mark(r.buffer[:r.end])
	}
	n := copy(p, r.buffer[r.start:r.decided])
	r.start += n
	return n, nil
}

// mark marks the halves in what is next, and returns how much of it is decided: all of it, if no more comes.
func (r *HalfReader) mark(next []byte) int {
	for i := 0; ; {
		backslash := bytes.IndexByte(next[i:], '\\')
		if backslash < 0 {
			return len(next)
		}
		i += backslash
		unit, length := codeUnit(next[i:])
		cut := length == 0
		if isFirst := firstHalf <= unit && unit < secondHalf; isFirst {
			second, more := codeUnit(next[i+length:])
			if secondHalf <= second && second < afterHalf {
				unit, length = 0, length+more // a pair
			}
			cut = more == 0
		}
		if cut && r.err == nil {
			return i
		}
		if firstHalf <= unit && unit < afterHalf && len(r.offsets) < maxHalves {
			r.offsets = append(r.offsets, r.offset+int64(i))
			utf8.EncodeRune(next[i+copy(next[i:], mark):], markedHalf+unit-firstHalf)
		}
		i += max(length, 1)
	}
}

// codeUnit returns the code unit of the escape that a text begins with, and the length of that escape. It returns 0 for
// what is no \uXXXX, and a length of 0 for what is cut off.
func codeUnit(text []byte) (unit rune, length int) {
	switch {
	case len(text) < 2:
		return 0, 0
	case text[0] != '\\' || text[1] != 'u':
		return 0, 2 // an escape of two bytes, or none
	case len(text) < escape:
		return 0, 0
	}
	var code [2]byte
	if _, err := hex.Decode(code[:], text[2:escape]); err != nil {
		return 0, 2
	}
	return rune(code[0])<<8 | rune(code[1]), escape
}

// CountHalves returns how many marks of a HalfReader a text holds.
func CountHalves(text string) int { return strings.Count(text, mark) }

// ReplaceHalves returns a text with the replacement character U+FFFD for each mark of a HalfReader, to be shown.
func ReplaceHalves(text string) string {
	if !strings.Contains(text, mark) {
		return text
	}
	var shown strings.Builder
	for before, after, found := strings.Cut(text, mark); ; before, after, found = strings.Cut(after, mark) {
		shown.WriteString(before)
		if !found {
			return shown.String()
		}
		shown.WriteRune(utf8.RuneError)
		if half, size := utf8.DecodeRuneInString(after); markedHalf <= half && half < markedHalf+afterHalf-firstHalf {
			after = after[size:]
		}
	}
}
