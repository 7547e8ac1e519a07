package process

import (
	"bytes"
	"strings"
	"sync"
)

// maxLine is the longest line handed on in one piece, in bytes; Lambda cuts at 256 KB too.
const maxLine = 256 << 10

// Lines is a Writer that calls emit for every complete line, without its end. Flush hands on what is left.
type Lines struct {
	mu   sync.Mutex
	buf  []byte
	emit func(line string)
}

// NewLines makes a Lines; emit is called by one goroutine at a time.
func NewLines(emit func(line string)) *Lines { return &Lines{emit: emit} }

// Write never fails.
func (l *Lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	for {
		end := bytes.IndexByte(l.buf, '\n')
		switch {
		case end >= 0:
			l.emit(strings.TrimSuffix(string(l.buf[:end]), "\r"))
			l.buf = l.buf[end+1:]
		case len(l.buf) > maxLine:
			l.emit(string(l.buf))
			l.buf = nil
		default:
			return len(p), nil
		}
	}
}

// Flush hands on a last line that has no end.
func (l *Lines) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.buf) > 0 {
		l.emit(string(l.buf))
		l.buf = nil
	}
}

// Tail keeps the last lines that were added, to be shown when something goes wrong.
type Tail struct {
	mu    sync.Mutex
	limit int
	lines []string
}

// NewTail keeps at most limit lines.
func NewTail(limit int) *Tail { return &Tail{limit: limit} }

// Add appends a line and forgets the oldest beyond the limit.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
	if len(t.lines) > t.limit {
		t.lines = t.lines[1:]
	}
}

// String is the lines kept, oldest first.
func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}
