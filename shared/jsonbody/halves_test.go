package jsonbody_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/jsonbody"
)

func TestHalfReaderFindsHalvesOfPairs(t *testing.T) {
	tests := map[string]struct {
		text string
		want []int64
	}{
		"none":                           {`{"a":"b"}`, nil},
		"nothing":                        {``, nil},
		"a pair":                         {`"\ud83d\ude00"`, nil},
		"a pair in capitals":             {`"\uD83D\uDE00"`, nil},
		"the outermost pairs":            {`"\ud800\udc00\udbff\udfff"`, nil},
		"around the halves":              {`"\ud7ff\ue000"`, nil},
		"a first half":                   {`"\ud800"`, []int64{1}},
		"a second half":                  {`"\udfff"`, []int64{1}},
		"a half in capitals":             {`"\uDBFF"`, []int64{1}},
		"the wrong way round":            {`"\ude00\ud83d"`, []int64{1, 7}},
		"two first halves":               {`"\ud83d\ud83d"`, []int64{1, 7}},
		"a first half before a pair":     {`"\ud800\ud83d\ude00"`, []int64{1}},
		"a second half behind a pair":    {`"\ud83d\ude00\ude00"`, []int64{13}},
		"a first half, another escape":   {`"\ud83d\n\ude00"`, []int64{1, 9}},
		"a first half, a character":      {`"\ud83dx\ude00"`, []int64{1, 8}},
		"a first half, a letter escaped": {`"\ud83d\u0041"`, []int64{1}},
		"an escaped backslash":           {`"\\ud800"`, nil},
		"a backslash and a half":         {`"\\\ud800"`, []int64{3}},
		"two backslashes":                {`"\\\\ud800"`, nil},
		"in a name and in a value":       {`{"\ud800":["\udc00"]}`, []int64{2, 12}},
		"no hexadecimal digits":          {`"\ud8zz\ud800"`, []int64{7}},
		"a half at the end":              {`\ud800`, []int64{0}},
		"cut off behind a half":          {`\ud800\ude0`, []int64{0}},
		"cut off behind a backslash":     {`\ud800\`, []int64{0}},
		"cut off within an escape":       {`\ud80`, nil},
		"cut off behind one backslash":   {`\`, nil},
		"across the buffer's end":        {strings.Repeat("x", 16<<10-3) + `\ud800`, []int64{16<<10 - 3}},
		"a pair across the buffer's end": {strings.Repeat("x", 16<<10-8) + `\ud83d\ude00`, nil},
	}
	readers := map[string]func(io.Reader) io.Reader{
		"at once":           func(r io.Reader) io.Reader { return r },
		"byte by byte":      iotest.OneByteReader,
		"by halves":         iotest.HalfReader,
		"the end with data": iotest.DataErrReader,
	}
	for name, test := range tests {
		for how, reader := range readers {
			t.Run(name+", "+how, func(t *testing.T) {
				halves := jsonbody.NewHalfReader(reader(strings.NewReader(test.text)))
				marked, err := io.ReadAll(iotest.OneByteReader(halves))
				require.NoError(t, err)
				assert.Equal(t, test.want, halves.Offsets())
				require.Len(t, string(marked), len(test.text))
				assert.Equal(t, len(test.want), jsonbody.CountHalves(string(marked)))
				kept := []byte(test.text)
				for _, at := range test.want {
					copy(kept[at:], marked[at:at+6])
				}
				assert.Equal(t, string(kept), string(marked), "all else is as it was")
			})
		}
	}
}

// What jsontext alone says of a text, and what it says of the marked one, differ where there are halves, and only
// there.
func TestHalfReaderMakesValidWhatIsInvalidForHalvesAlone(t *testing.T) {
	pieces := []string{
		`\ud800`,
		`\udbff`,
		`\udc00`,
		`\uDFFF`,
		`\ud83d\ude00`,
		`\\`,
		`\n`,
		`\u0041`,
		`\ud7ff`,
		`x`,
		`é`,
		`😀`,
		`u`,
		`d800`,
	}
	rapid.Check(t, func(t *rapid.T) {
		text := `"` + strings.Join(rapid.SliceOf(rapid.SampledFrom(pieces)).Draw(t, "pieces"), "") + `"`
		halves := jsonbody.NewHalfReader(strings.NewReader(text))
		marked, err := io.ReadAll(halves)
		require.NoError(t, err)
		require.True(t, jsontext.Value(marked).IsValid(), "%s", marked)
		require.Equal(t, jsontext.Value(text).IsValid(), len(halves.Offsets()) == 0)
	})
}

func TestReplaceHalvesIsForShowing(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":""}`:                             "",
		`{"name":"a \ue000 \ufdd1"}`:              "a \ue000 \ufdd1",
		`{"name":"\ud800"}`:                       "\ufffd",
		`{"name":"a\udfffb\ud800\ud800c\ud83dd"}`: "a\ufffdb\ufffd\ufffdc\ufffdd",
		`{"name":"\ufdd0"}`:                       "\ufffd", // which none but the sender of it would see
	} {
		var b body
		require.NoError(t, jsonbody.Decode(jsonbody.NewHalfReader(strings.NewReader(text)), &b))
		assert.Equal(t, want, jsonbody.ReplaceHalves(b.Name.Text), text)
	}
}

func TestHalfReaderTellsHalvesApart(t *testing.T) {
	text := `{"\ud800":1,"\udfff":2,"\ud801":3}`
	var b body
	require.NoError(t, jsonbody.Decode(jsonbody.NewHalfReader(strings.NewReader(text)), &b), "names are not the same")
}

func TestHalfReaderStops(t *testing.T) {
	const most = 100_000
	for count, valid := range map[int]bool{most: true, most + 1: false} {
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			halves := jsonbody.NewHalfReader(strings.NewReader(`{"name":"` + strings.Repeat(`\ud800`, count) + `"}`))
			var b body
			err := jsonbody.Decode(halves, &b)
			assert.Equal(t, valid, err == nil, "%v", err)
			assert.Len(t, halves.Offsets(), most)
		})
	}
}

func TestHalfReaderPassesErrorsOn(t *testing.T) {
	broken := errors.New("the connection broke")
	halves := jsonbody.NewHalfReader(io.MultiReader(strings.NewReader(`"\ud800\u`), iotest.ErrReader(broken)))
	marked, err := io.ReadAll(halves)
	require.ErrorIs(t, err, broken)
	assert.Len(t, marked, 9, "what came before is read")
	assert.Equal(t, []int64{1}, halves.Offsets())
}
