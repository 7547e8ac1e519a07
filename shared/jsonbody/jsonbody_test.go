package jsonbody_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

type inner struct {
	Value jsonbody.Value `json:"value"`
}

type body struct {
	Name  jsonbody.Value                         `json:"name"`
	Other jsonbody.Value                         `json:"other"`
	Inner jsonbody.Object[inner]                 `json:"inner"`
	List  jsonbody.Array[jsonbody.Value]         `json:"list"`
	Rows  jsonbody.Array[jsonbody.Object[inner]] `json:"rows"`
}

func TestDecodeRefusesWhatIsNotOneJSONObject(t *testing.T) {
	const deep = 100_000
	tests := map[string]struct{ text, message string }{
		"empty":                    {``, "the body is empty"},
		"blank":                    {" \r\n\t ", "the body is empty"},
		"text":                     {`hunter2`, "the body is not valid JSON at byte 0"},
		"HTML":                     {`<html>hunter2</html>`, "the body is not valid JSON at byte 0"},
		"form":                     {`name=hunter2`, "the body must be a JSON object"},
		"array":                    {`["hunter2"]`, "the body must be a JSON object"},
		"string":                   {`"hunter2"`, "the body must be a JSON object"},
		"number":                   {`12`, "the body must be a JSON object"},
		"null":                     {`null`, "the body must be a JSON object"},
		"true":                     {`true`, "the body must be a JSON object"},
		"open object":              {`{`, "the body is not valid JSON at byte 1"},
		"open string":              {`{"name":"hunter2`, "the body is not valid JSON at byte "},
		"no value":                 {`{"name":}`, "the body is not valid JSON at byte 8"},
		"no colon":                 {`{"name" "hunter2"}`, "the body is not valid JSON at byte 8"},
		"trailing comma":           {`{"name":"hunter2",}`, "the body is not valid JSON at byte "},
		"single quotes":            {`{'name':'hunter2'}`, "the body is not valid JSON at byte 1"},
		"comment":                  {`{/* hunter2 */}`, "the body is not valid JSON at byte 1"},
		"NaN":                      {`{"name":NaN}`, "the body is not valid JSON at byte 8"},
		"leading zero":             {`{"name":0123}`, "the body is not valid JSON at byte "},
		"leading plus":             {`{"name":+1}`, "the body is not valid JSON at byte 8"},
		"bad literal":              {`{"name":nulL}`, "the body is not valid JSON at byte "},
		"bad escape":               {`{"name":"\x"}`, "the body is not valid JSON at byte "},
		"half a surrogate":         {`{"name":"\ud800"}`, "the body is not valid JSON at byte "},
		"control character":        {"{\"name\":\"hunter2\n\"}", "the body is not valid JSON at byte "},
		"invalid UTF-8 in a value": {"{\"name\":\"hunter2\xff\"}", "the body is not valid JSON at byte "},
		"invalid UTF-8 in a name":  {"{\"hunter2\xff\":1}", "the body is not valid JSON at byte "},
		"invalid UTF-8 in a member nobody knows": {
			"{\"unknown\":[\"hunter2\xc3\"]}",
			"the body is not valid JSON at byte ",
		},
		"overlong UTF-8":                       {"{\"name\":\"\xc0\xaf\"}", "the body is not valid JSON at byte "},
		"broken member nobody knows":           {`{"unknown":[1,}`, "the body is not valid JSON at byte "},
		"broken member of a list":              {`{"list":[1,}`, "the body is not valid JSON at byte "},
		"open list":                            {`{"list":[1`, "the body is not valid JSON at byte "},
		"broken list that should be an object": {`{"inner":[1,}`, "the body is not valid JSON at byte "},
		"trailing object":                      {`{}{"hunter2":1}`, "unexpected data after the JSON object"},
		"trailing value":                       {`{} 12`, "unexpected data after the JSON object"},
		"trailing text":                        {`{} hunter2`, "the body is not valid JSON at byte 3"},
		"trailing comma behind the object":     {`{},`, "the body is not valid JSON at byte 2"},
		"trailing brace":                       {`{}}`, "the body is not valid JSON at byte 2"},
		"trailing NUL":                         {"{}\x00", "the body is not valid JSON at byte 2"},
		"duplicate member": {
			`{"name":"hunter2","name":"x"}`,
			"duplicate member in a JSON object",
		},
		"duplicate member, escaped": {
			`{"name":"hunter2","n\u0061me":"x"}`,
			"duplicate member in a JSON object",
		},
		"duplicate member nobody knows": {`{"hunter2":1,"hunter2":2}`, "duplicate member in a JSON object"},
		"duplicate member in an object": {
			`{"inner":{"value":1,"value":2}}`,
			"duplicate member in a JSON object",
		},
		"duplicate member in a list's object": {
			`{"rows":[{"value":1,"value":2}]}`,
			"duplicate member in a JSON object",
		},
		"duplicate member in what is skipped": {
			`{"unknown":[{"hunter2":1,"hunter2":2}]}`,
			"duplicate member in a JSON object",
		},
		"duplicate member under a value": {
			`{"name":{"hunter2":1,"hunter2":2}}`,
			"duplicate member in a JSON object",
		},
		"deep arrays in a member nobody knows": {
			`{"unknown":` + strings.Repeat("[", deep),
			"the body is not valid JSON at byte ",
		},
		"deep objects in a member nobody knows": {
			`{"unknown":` + strings.Repeat(`{"a":`, deep),
			"the body is not valid JSON at byte ",
		},
		"deep arrays in a value": {
			`{"name":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + "}",
			"the body is not valid JSON at byte ",
		},
		"deep arrays in a list": {
			`{"list":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + "}",
			"the body is not valid JSON at byte ",
		},
		"deep objects in an object": {
			`{"inner":` + strings.Repeat(`{"value":`, deep) + "1" + strings.Repeat("}", deep) + "}",
			"the body is not valid JSON at byte ",
		},
		"deep arrays instead of an object": {strings.Repeat("[", deep), "the body must be a JSON object"},
		"deep arrays where an object should have": {
			`{"inner":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + "}",
			"the body is not valid JSON at byte ",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, reader := range []io.Reader{
				strings.NewReader(test.text),
				iotest.OneByteReader(strings.NewReader(test.text)),
				iotest.DataErrReader(strings.NewReader(test.text)),
			} {
				var b body
				err := jsonbody.Decode(reader, &b)
				var failure *fault.Error
				require.ErrorAs(t, err, &failure)
				assert.Equal(t, fault.Malformed, failure.Code)
				assert.Empty(t, failure.Violations)
				if strings.HasSuffix(test.message, "byte ") {
					assert.Regexp(t, `^the body is not valid JSON at byte [0-9]+$`, failure.Message)
				} else {
					assert.Equal(t, test.message, failure.Message)
				}
				assertTellsNothing(t, failure.Message)
			}
		})
	}
}

// assertTellsNothing holds a message for the caller to its promise: nothing of the body and nothing of the libraries.
func assertTellsNothing(t *testing.T, message string) {
	t.Helper()
	for _, inside := range []string{"hunter2", "json:", "jsontext", "jsonbody", "Go ", "carillon", "EOF"} {
		assert.NotContains(t, message, inside)
	}
}

func TestDecodeTakesWhatIsOneJSONObject(t *testing.T) {
	tests := map[string]string{
		"empty object":                  `{}`,
		"white space around it":         " \r\n\t{ } \n",
		"unknown members":               `{"unknown":{"a":[1,{"b":null}]},"Name":1}`,
		"same name in different levels": `{"name":1,"inner":{"name":1},"unknown":{"name":1}}`,
		"nested as deep as JSON goes":   `{"unknown":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`,
		"huge numbers":                  `{"unknown":1e400,"name":-1e-999999,"other":` + strings.Repeat("9", 400) + `}`,
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			var b body
			assert.NoError(t, jsonbody.Decode(strings.NewReader(text), &b))
		})
	}
}

func TestDecodeReturnsTheReadersFault(t *testing.T) {
	tooLarge := fault.New(fault.TooLarge, "too large")
	for name, before := range map[string]string{
		"at the start": ``, "in a name": `{"na`, "in a value": `{"name":"x`, "in a member nobody knows": `{"unknown":[1,`,
		"behind the object": `{"name":"x"}`, "in white space": `   `,
	} {
		t.Run(name, func(t *testing.T) {
			var b body
			err := jsonbody.Decode(io.MultiReader(strings.NewReader(before), iotest.ErrReader(tooLarge)), &b)
			assert.Same(t, tooLarge, err)
		})
	}
}

func TestDecodeOfAReaderThatFails(t *testing.T) {
	var b body
	broken := errors.New("hunter2: broken pipe")
	err := jsonbody.Decode(io.MultiReader(strings.NewReader(`{"name":`), iotest.ErrReader(broken)), &b)
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	assert.Equal(t, fault.Malformed, failure.Code)
	assert.ErrorIs(t, err, broken, "the cause is for the log")
	assertTellsNothing(t, failure.Message)
}

func TestDecodeReadsToTheEnd(t *testing.T) {
	reader := strings.NewReader(`{"name":"x"}` + strings.Repeat(" ", 1<<20))
	var b body
	require.NoError(t, jsonbody.Decode(reader, &b))
	assert.Zero(t, reader.Len())
}

func TestAnyCase(t *testing.T) {
	const text = `{"NAME":"a","oTHER":"b","Inner":{"VALUE":"c"},"ROWS":[{"Value":"d"}],"List":["e"]}`
	t.Run("without it another case is another member", func(t *testing.T) {
		var b body
		require.NoError(t, jsonbody.Decode(strings.NewReader(text), &b))
		assert.Equal(t, body{}, b)
	})
	t.Run("with it members match, nested ones too", func(t *testing.T) {
		var b body
		require.NoError(t, jsonbody.Decode(strings.NewReader(text), &b, jsonbody.AnyCase))
		assert.Equal(t, "a", b.Name.Text)
		assert.Equal(t, "b", b.Other.Text)
		assert.Equal(t, "c", b.Inner.Value.Value.Text)
		require.Len(t, b.Rows.Items, 1)
		assert.Equal(t, "d", b.Rows.Items[0].Value.Value.Text)
		require.Len(t, b.List.Items, 1)
		assert.Equal(t, "e", b.List.Items[0].Text)
	})
	for name, text := range map[string]string{
		"at the top":         `{"name":1,"NAME":2}`,
		"in an object":       `{"inner":{"value":1,"Value":2}}`,
		"in a list's object": `{"rows":[{"value":1},{"value":1,"vaLue":2}]}`,
	} {
		t.Run("two cases of one member are a duplicate "+name, func(t *testing.T) {
			var b body
			err := jsonbody.Decode(strings.NewReader(text), &b, jsonbody.AnyCase)
			require.True(t, fault.Is(err, fault.Malformed), "%v", err)
			assert.Contains(t, err.Error(), "duplicate member in a JSON object")
		})
	}
}

// FuzzDecode holds Decode to its one kind of error, and to telling the caller nothing of the body.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		``, `{}`, `{"name":"x","other":1e400,"inner":{"value":true},"list":[1,null,"x",{}],"rows":[{"value":1},2]}`,
		`{"NAME":1,"name":2}`, `[`, `{"inner":[],"list":{},"rows":"x"}`, "{\"name\":\"\xff\"}", `{} {}`, `{"unknown":[[[[`,
	} {
		f.Add(seed, true)
		f.Add(seed, false)
	}
	f.Fuzz(func(t *testing.T, text string, anyCase bool) {
		var options []jsontext.Options
		if anyCase {
			options = append(options, jsonbody.AnyCase)
		}
		b := body{List: jsonbody.Array[jsonbody.Value]{Max: 2}}
		err := jsonbody.Decode(strings.NewReader(text), &b, options...)
		if err != nil {
			var failure *fault.Error
			require.ErrorAs(t, err, &failure)
			require.Equal(t, fault.Malformed, failure.Code)
			require.Regexp(
				t,
				`^(the body is empty|the body must be a JSON object|unexpected data after the JSON object|`+
					`duplicate member in a JSON object|the body is not valid JSON at byte [0-9]+)$`,
				failure.Message,
			)
			return
		}
		require.True(t, jsontext.Value(text).IsValid(), "accepted what is no JSON")
		require.LessOrEqual(t, len(b.List.Items), 2)
		require.LessOrEqual(t, len(b.List.Items), b.List.Count)
		require.LessOrEqual(t, len(b.Rows.Items), b.Rows.Count)
		for _, v := range []jsonbody.Value{b.Name, b.Other, b.Inner.Value.Value} {
			require.Contains(t, "\x00nft\"0{[", string(rune(v.Kind)))
			if v.Kind != '"' && v.Kind != '0' {
				require.Empty(t, v.Text)
			}
		}
		if b.Inner.Kind != '{' {
			require.Equal(t, inner{}, b.Inner.Value)
		}
	})
}
