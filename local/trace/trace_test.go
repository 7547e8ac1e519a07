package trace_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"carillon/local/trace"
)

func TestParse(t *testing.T) {
	own := trace.Header{}.Invoked("f").Invoked("f").String() // with two invocations of f
	for name, c := range map[string]struct {
		text string
		want int
	}{
		"its own":             {own, 2},
		"nothing":             {"", 0},
		"no lineage":          {"Root=1-5759e988-bd862e3fe1be46a994272793;Parent=3995c3f42cd8ad8;Sampled=1", 0},
		"others":              {"Root=1-a-b;Lineage=00000001:7|00000002:9", 0},
		"spaces":              {" Root=1-a-b ; " + own[len(own)-len("Lineage=00000000:2"):], 2},
		"not a number":        {"Lineage=00000001:x|:3|=|", 0},
		"a count below one":   {"Lineage=00000001:-4", 0},
		"something else":      {"what is this", 0},
		"the higher of twice": {own + "|" + own[len(own)-len("00000000:2"):len(own)-1] + "5", 5},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, trace.Parse(c.text).Invocations("f"))
		})
	}
}

func TestATraceGoesOn(t *testing.T) {
	first := trace.Parse("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=3995c3f42cd8ad8;Sampled=1")
	assert.Regexp(t,
		`^Root=1-5759e988-bd862e3fe1be46a994272793;Parent=[0-9a-f]{16};Sampled=1;Lineage=[0-9a-f]{8}:1$`,
		first.Invoked("f").String())
	assert.Regexp(t,
		`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=[0-9a-f]{8}:1\|[0-9a-f]{8}:1$`,
		trace.Header{}.Invoked("f").Invoked("g").String(), "one that nobody began")
}

func TestContext(t *testing.T) {
	assert.Zero(t, trace.From(t.Context()))
	h := trace.Header{}.Invoked("f")
	assert.Equal(t, h, trace.From(trace.With(t.Context(), h)))
}

// Counts are those of the invocations, whatever their order, and survive a header's way.
func TestInvocationsAreCounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		invocations := rapid.SliceOf(rapid.SampledFrom([]string{"a", "b", "c"})).Draw(t, "invocations")
		want := map[string]int{}
		var h trace.Header
		for _, function := range invocations {
			before := h
			h = trace.Parse(h.Invoked(function).String())
			want[function]++
			assert.Equal(t, want[function]-1, before.Invocations(function), "a header is a value")
		}
		for _, function := range []string{"a", "b", "c"} {
			assert.Equal(t, want[function], h.Invocations(function))
		}
	})
}

// A batch has of each function the highest count of its messages.
func TestMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		counts := rapid.SliceOfN(rapid.IntRange(0, 20), 0, 5).Draw(t, "counts")
		highest := 0
		var headers []trace.Header
		for _, n := range counts {
			h := trace.Header{}.Invoked("other")
			for range n {
				h = h.Invoked("f")
			}
			headers, highest = append(headers, h), max(highest, n)
		}
		merged := trace.Merge(headers...)
		assert.Equal(t, highest, merged.Invocations("f"))
		assert.Equal(t, min(1, len(counts)), merged.Invocations("other"))
	})
}
