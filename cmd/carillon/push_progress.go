package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how far something has come: a bar on a terminal, otherwise a line for each change.
type progress struct {
	out   io.Writer
	what  string                   // is counted
	bar   *progressbar.ProgressBar // nil where out is no terminal
	last  string
	drawn bool
}

// newProgress shows progress on out. What says what is counted, as in "dead letters moved".
func newProgress(out io.Writer, what string) *progress {
	p := &progress{out: out, what: what}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return p
	}
	p.bar = progressbar.NewOptions(1,
		progressbar.OptionSetWriter(out),
		progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(false),
		progressbar.OptionSetElapsedTime(false),
	)
	return p
}

// show says that done of total are done. A line that says the same as the one before is left out.
func (p *progress) show(done, total int, text string) {
	line := fmt.Sprintf("%s: %d of %d %s", text, done, total, p.what)
	if line == p.last {
		return
	}
	p.last = line
	if p.bar == nil {
		_, _ = fmt.Fprintf(p.out, "%s %s\n", time.Now().UTC().Format("15:04:05Z"), line)
		return
	}
	p.drawn = true
	total = max(total, 1)
	if total != p.bar.GetMax() {
		p.bar.ChangeMax(total)
	}
	p.bar.Describe(text)
	_ = p.bar.Set(min(done, total)) // fails only beyond total
}

// end leaves the line of the bar, so that what follows begins a new one.
func (p *progress) end() {
	if p.drawn {
		_, _ = fmt.Fprintln(p.out)
		p.drawn = false
	}
}
