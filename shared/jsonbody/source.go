package jsonbody

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"carillon/shared/fault"
)

// MaxMembers is how many members the objects of a body may have that a decoder remembers at a time: those of an object
// and of all that are around it, and of each level of nesting those of the object that was read last. A decoder keeps
// the names, to find duplicates, and 32 MiB have room for four million.
const MaxMembers = 250_000

// byteOrderMark may come before a text in UTF-8, and is no part of it.
const byteOrderMark = "\ufeff"

// TrimMark returns a body without the UTF-8 byte order mark that may come before it, as Decode reads it.
func TrimMark(body []byte) []byte { return bytes.TrimPrefix(body, []byte(byteOrderMark)) }

// markSkipper is what a body holds behind a byte order mark.
type markSkipper struct {
	body    io.Reader
	begun   bool
	skipped int64 // bytes
	next    []byte
	err     error // behind next
}

// Read implements io.Reader.
func (s *markSkipper) Read(p []byte) (int, error) {
	if !s.begun {
		s.begin()
	}
	if len(s.next) > 0 {
		n := copy(p, s.next)
		s.next = s.next[n:]
		return n, nil
	}
	if s.err != nil {
		return 0, s.err
	}
	return s.body.Read(p)
}

func (s *markSkipper) begin() {
	s.begun = true
	s.next = make([]byte, len(byteOrderMark))
	n, err := io.ReadFull(s.body, s.next)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	s.next, s.err = s.next[:n], err
	if string(s.next) == byteOrderMark {
		s.next, s.skipped = nil, int64(n)
	}
}

// source is a body as every decoder of this package reads it: without a byte order mark, and with MaxMembers. It
// returns a fault Malformed behind the last member that it lets pass. What is no JSON it counts somehow.
type source struct {
	markSkipper

	nesting []byte // the { and [ that are open
	objects int    // how many of them are {
	members []int  // of the object that was read last, by how many are around it
	total   int    // of members

	inText, escaped bool // what comes next is within quotes, or behind a backslash there
}

func newSource(body io.Reader) *source { return &source{markSkipper: markSkipper{body: body}} }

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.markSkipper.Read(p)
	for next := p[:n]; len(next) > 0; {
		if s.inText {
			next = s.text(next)
		} else {
			next = s.structure(next)
		}
		if s.total > MaxMembers {
			return 0, fault.New(
				fault.Malformed,
				fmt.Sprintf("the body's objects have more than %d members", MaxMembers),
			)
		}
	}
	return n, err
}

// text returns what comes behind a text.
func (s *source) text(next []byte) []byte {
	if s.escaped {
		s.escaped = false
		return next[1:]
	}
	quote := bytes.IndexByte(next, '"')
	end := quote
	if quote < 0 {
		end = len(next)
	}
	for i := 0; ; {
		backslash := bytes.IndexByte(next[i:end], '\\')
		if backslash < 0 {
			break
		}
		if i += backslash + 2; i > end { // the quote is escaped, or whatever the next read begins with
			s.escaped = quote < 0
			return next[min(i, len(next)):]
		}
	}
	if quote < 0 {
		return nil
	}
	s.inText = false
	return next[quote+1:]
}

// structure counts up to the next text, and returns what comes in it.
func (s *source) structure(next []byte) []byte {
	for i, c := range next {
		switch c {
		case '"':
			s.inText = true
			return next[i+1:]
		case '{':
			if s.objects == len(s.members) {
				s.members = append(s.members, 0)
			}
			s.total -= s.members[s.objects]
			s.members[s.objects] = 0
			s.objects++
			s.nesting = append(s.nesting, c)
		case '[':
			s.nesting = append(s.nesting, c)
		case '}', ']':
			if last := len(s.nesting) - 1; last >= 0 {
				if s.nesting[last] == '{' {
					s.objects--
				}
				s.nesting = s.nesting[:last]
			}
		case ':':
			if s.objects > 0 {
				s.members[s.objects-1]++
				s.total++
			}
		}
	}
	return nil
}
