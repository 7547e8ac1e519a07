// Package trace reads and writes X-Ray's tracing headers as far as AWS Lambda's detection of recursive loops needs
// them: their Lineage counts how often each function was invoked in a chain of events. Lambda sets the header of an
// invocation, the SDK sends it with every call that the function makes, SQS keeps it with a message, and the mapping
// that hands the message on reads it there.
//
//   - https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
//   - https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html (tracing header)
package trace

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"
	"time"
)

// Header is a tracing header. The zero value is one that names neither a trace nor a function.
type Header struct {
	root, sampled string
	lineage       []ancestor // oldest first, each function once
}

// ancestor is a function of the chain.
type ancestor struct {
	function string // what its name is in a header
	times    int
}

// Parse reads a header such as Root=1-…;Parent=…;Sampled=0;Lineage=a87bd80c:1|68fd508a:5. What it cannot read it leaves
// out: a header comes from a sender, who may have written anything.
func Parse(text string) Header {
	var h Header
	for part := range strings.SplitSeq(text, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "Root":
			h.root = value
		case "Sampled":
			h.sampled = value
		case "Lineage":
			for link := range strings.SplitSeq(value, "|") {
				function, count, _ := strings.Cut(link, ":")
				if times, err := strconv.Atoi(count); err == nil && times > 0 && function != "" {
					h.raise(function, times)
				}
			}
		}
	}
	return h
}

// Merge returns the header of an invocation with several messages: the first one's trace, and for each function the
// highest count of them all. AWS does not say which count holds for a batch; this one stops a loop soonest.
func Merge(headers ...Header) Header {
	var merged Header
	for i, h := range headers {
		if i == 0 {
			merged.root, merged.sampled = h.root, h.sampled
		}
		for _, a := range h.lineage {
			merged.raise(a.function, a.times)
		}
	}
	return merged
}

// Invocations is how often the function of that name was invoked in the chain.
func (h Header) Invocations(function string) int {
	id := identify(function)
	for _, a := range h.lineage {
		if a.function == id {
			return a.times
		}
	}
	return 0
}

// Invoked returns the header of one more invocation of the function. It begins a trace if there is none yet.
func (h Header) Invoked(function string) Header {
	next := Merge(h)
	if next.root == "" {
		next.root = fmt.Sprintf("1-%08x-%s", time.Now().Unix(), randomHex(12))
	}
	next.raise(identify(function), h.Invocations(function)+1)
	return next
}

// raise makes a function's count times if it is less.
func (h *Header) raise(function string, times int) {
	for i, a := range h.lineage {
		if a.function == function {
			h.lineage[i].times = max(a.times, times)
			return
		}
	}
	h.lineage = append(h.lineage, ancestor{function, times})
}

// String is the header as it travels, with a Parent of its own each time. Nothing is sampled: there is no X-Ray here.
func (h Header) String() string {
	var b strings.Builder
	sampled := h.sampled
	if sampled == "" {
		sampled = "0"
	}
	fmt.Fprintf(&b, "Root=%s;Parent=%s;Sampled=%s", h.root, randomHex(8), sampled)
	separator := ";Lineage="
	for _, a := range h.lineage {
		fmt.Fprintf(&b, "%s%s:%d", separator, a.function, a.times)
		separator = "|"
	}
	return b.String()
}

// identify is what a function is called in a header: eight hexadecimal digits.
func identify(function string) string {
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE([]byte(function)))
}

func randomHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw) // never fails
	return hex.EncodeToString(raw)
}

type key struct{}

// With returns a context for an invocation that has come about by an event with this header.
func With(ctx context.Context, h Header) context.Context { return context.WithValue(ctx, key{}, h) }

// From returns the header of the event that an invocation has come about by, the zero value if there was none.
func From(ctx context.Context) Header {
	h, _ := ctx.Value(key{}).(Header)
	return h
}
