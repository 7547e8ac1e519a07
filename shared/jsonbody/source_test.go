package jsonbody_test

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

const byteOrderMark = "\ufeff"

var readers = map[string]func(io.Reader) io.Reader{
	"at once":           func(r io.Reader) io.Reader { return r },
	"byte by byte":      iotest.OneByteReader,
	"by halves":         iotest.HalfReader,
	"the end with data": iotest.DataErrReader,
}

func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, name, message string }{
		"before an object":        {byteOrderMark + `{"name":"x"}`, "x", ""},
		"before white space":      {byteOrderMark + "\n{\"name\":\"x\"}\n", "x", ""},
		"in a text":               {`{"name":"` + byteOrderMark + `x"}`, byteOrderMark + "x", ""},
		"alone":                   {byteOrderMark, "", "the body is empty"},
		"twice":                   {byteOrderMark + byteOrderMark + "{}", "", "the body is not valid JSON at byte 3"},
		"behind white space":      {" " + byteOrderMark + "{}", "", "the body is not valid JSON at byte 1"},
		"behind the object":       {"{}" + byteOrderMark, "", "the body is not valid JSON at byte 2"},
		"a part of one":           {"\xef\xbb{}", "", "the body is not valid JSON at byte 0"},
		"a part and the end":      {"\xef\xbb", "", "the body is not valid JSON at byte 0"},
		"of UTF-16":               {"\xfe\xff{}", "", "the body is not valid JSON at byte 0"},
		"before what is no JSON":  {byteOrderMark + `{"name":nulL}`, "", "the body is not valid JSON at byte 14"},
		"before another value":    {byteOrderMark + `[]`, "", "the body must be a JSON object"},
		"none before two letters": {`{}`, "", ""},
	}
	for name, test := range tests {
		for how, reader := range readers {
			t.Run(name+", "+how, func(t *testing.T) {
				t.Parallel()
				var b body
				err := jsonbody.Decode(reader(strings.NewReader(test.text)), &b)
				if test.message == "" {
					require.NoError(t, err)
					assert.Equal(t, test.name, b.Name.Text)
					return
				}
				var failure *fault.Error
				require.ErrorAs(t, err, &failure)
				assert.Equal(t, test.message, failure.Message)
			})
		}
	}
	assert.Equal(t, "x", string(jsonbody.TrimMark([]byte(byteOrderMark+"x"))))
}

func TestErrorsBehindAByteOrderMark(t *testing.T) {
	t.Parallel()
	broken := fault.New(fault.TooLarge, "too large")
	for _, before := range []string{"", "{", byteOrderMark, byteOrderMark + "{}"} {
		var b body
		assert.Same(t, broken, jsonbody.Decode(io.MultiReader(strings.NewReader(before), iotest.ErrReader(broken)), &b))
	}
}

func TestDecodeHalvesCountsFromBehindTheMark(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"", byteOrderMark} {
		var b body
		offsets, err := jsonbody.DecodeHalves(strings.NewReader(mark+`{"name":"\ud800"}`), &b)
		require.NoError(t, err)
		assert.Equal(t, []int64{9}, offsets)
		assert.Equal(t, 1, jsonbody.CountHalves(b.Name.Text))
	}
}

// members is that many members, with a comma behind each.
func members(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `"m%d":0,`, i)
	}
	return b.String()
}

func TestMaxMembers(t *testing.T) {
	t.Parallel()
	const most = jsonbody.MaxMembers
	tests := map[string]func(most int) string{
		"of one object":     func(most int) string { return `{` + members(most-1) + `"z":0}` },
		"of an unknown one": func(most int) string { return `{"u":{` + members(most-2) + `"z":0}}` },
		"of a known value":  func(most int) string { return `{"name":{` + members(most-2) + `"z":0}}` },
		"of three in each other": func(most int) string {
			return `{` + members(100_000) + `"u":[{` + members(100_000) + `"v":{` + members(most-200_003) + `"z":0}}]}`
		},
		// A decoder keeps the names of both.
		"of two that follow, the second less deep": func(most int) string {
			return `{"u":{"v":{` + members(100_000) + `"z":0}},"w":{` + members(most-100_004) + `"z":0}}`
		},
		"and arrays in their places": func(most int) string {
			return `{"u":{"v":{` + members(100_000) + `"z":0}},"n":[[[0]]],"w":{` + members(most-100_005) + `"z":0}}`
		},
		"behind texts that look like members": func(most int) string {
			texts := `"{\"a\":1,\\", "\\\"{:{:", ":\\\\", "\"\"", "\u0022:", "", "}}]]::"`
			return `{"u":[` + strings.Repeat(texts+",", 2_000) + `{"{:\"":{}}],"w":{` + members(most-3) + `"z":0}}`
		},
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b body
			valid := text(most)
			// Reads end anywhere.
			reader := io.MultiReader(
				iotest.OneByteReader(
					strings.NewReader(valid[:50_000]),
				),
				iotest.HalfReader(strings.NewReader(valid[50_000:])),
			)
			require.NoError(t, jsonbody.Decode(reader, &b))
			err := jsonbody.Decode(strings.NewReader(text(most+1)), &b)
			require.True(t, fault.Is(err, fault.Malformed), "%v", err)
			assert.ErrorContains(t, err, "the body's objects have more than 250000 members")
		})
	}
}

func TestMaxMembersIsNotOfTheWholeBody(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"small objects":            `{"rows":[` + strings.Repeat(`{"value":1,"x":{"y":2}},`, 100_000) + `{}]}`,
		"large ones, one by one":   `{"rows":[` + strings.Repeat(`{`+members(100_000)+`"z":0},`, 3) + `{}]}`,
		"a value of many brackets": `{"u":[` + strings.Repeat(`[{}],`, 300_000) + `0]}`,
	} {
		var b body
		assert.NoError(t, jsonbody.Decode(strings.NewReader(text), &b), name)
	}
}
