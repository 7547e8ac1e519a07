package jsonbody_test

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/jsonbody"
)

func decode(t require.TestingT, text string) body {
	var b body
	require.NoError(t, jsonbody.Decode(strings.NewReader(text), &b))
	return b
}

func TestValue(t *testing.T) {
	digits := strings.Repeat("1234567890", 40)
	tests := map[string]struct {
		text     string
		kind     jsontext.Kind
		value    string
		missing  bool
		isString bool
	}{
		"absent":                  {`{}`, 0, "", true, false},
		"null":                    {`{"name":null}`, 'n', "", true, false},
		"empty string":            {`{"name":""}`, '"', "", true, true},
		"blank string":            {`{"name":" \t\r\n\u00a0\u2003"}`, '"', " \t\r\n\u00a0\u2003", true, true},
		"string":                  {`{"name":" a \u00e9\n\"\ud83d\ude00 "}`, '"', " a é\n\"😀 ", false, true},
		"string with NUL":         {`{"name":"\u0000"}`, '"', "\x00", false, true},
		"string of digits":        {`{"name":"0012"}`, '"', "0012", false, true},
		"true":                    {`{"name":true}`, 't', "", false, false},
		"false":                   {`{"name":false}`, 'f', "", false, false},
		"zero":                    {`{"name":0}`, '0', "0", false, false},
		"negative number":         {`{"name":-1}`, '0', "-1", false, false},
		"fraction":                {`{"name":1.0}`, '0', "1.0", false, false},
		"id beyond a float64":     {`{"name":9007199254740993}`, '0', "9007199254740993", false, false},
		"number beyond a float64": {`{"name":1e400}`, '0', "1e400", false, false},
		"400 digits":              {`{"name":` + digits + `}`, '0', digits, false, false},
		"object":                  {`{"name":{"a":"b"}}`, '{', "", false, false},
		"empty object":            {`{"name":{}}`, '{', "", false, false},
		"array":                   {`{"name":["a"]}`, '[', "", false, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := decode(t, test.text).Name
			assert.Equal(t, jsonbody.Value{Kind: test.kind, Text: test.value}, v)
			assert.Equal(t, test.missing, v.Missing(), "Missing")
			assert.Equal(t, test.isString, v.IsString(), "IsString")
		})
	}
}

func TestValueKeepsEveryString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		quoted, err := jsontext.AppendQuote(nil, text)
		if err != nil {
			t.Skip("no UTF-8")
		}
		assert.Equal(t, text, decode(t, `{"name":`+string(quoted)+`}`).Name.Text)
	})
}

func TestObject(t *testing.T) {
	tests := map[string]struct {
		text              string
		kind              jsontext.Kind
		missing, isObject bool
		value             jsonbody.Value
	}{
		"absent": {`{}`, 0, true, false, jsonbody.Value{}},
		"null":   {`{"inner":null}`, 'n', true, false, jsonbody.Value{}},
		"empty":  {`{"inner":{}}`, '{', false, true, jsonbody.Value{}},
		"filled": {
			`{"inner":{"value":"x","unknown":1}}`,
			'{',
			false,
			true,
			jsonbody.Value{Kind: '"', Text: "x"},
		},
		"wrong inside":   {`{"inner":{"value":[1]}}`, '{', false, true, jsonbody.Value{Kind: '['}},
		"string instead": {`{"inner":"{\"value\":1}"}`, '"', false, false, jsonbody.Value{}},
		"number instead": {`{"inner":1}`, '0', false, false, jsonbody.Value{}},
		"true instead":   {`{"inner":true}`, 't', false, false, jsonbody.Value{}},
		"false instead":  {`{"inner":false}`, 'f', false, false, jsonbody.Value{}},
		"array instead":  {`{"inner":[{"value":1}]}`, '[', false, false, jsonbody.Value{}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := decode(t, test.text).Inner
			assert.Equal(t, test.kind, o.Kind)
			assert.Equal(t, test.missing, o.Missing(), "Missing")
			assert.Equal(t, test.isObject, o.IsObject(), "IsObject")
			assert.Equal(t, test.value, o.Value.Value)
		})
	}
}

func TestArray(t *testing.T) {
	tests := map[string]struct {
		text             string
		kind             jsontext.Kind
		missing, isArray bool
		count            int
		items            []jsonbody.Value
	}{
		"absent": {`{}`, 0, true, false, 0, nil},
		"null":   {`{"list":null}`, 'n', true, false, 0, nil},
		"empty":  {`{"list":[]}`, '[', false, true, 0, nil},
		"one":    {`{"list":["x"]}`, '[', false, true, 1, []jsonbody.Value{{Kind: '"', Text: "x"}}},
		"of every kind": {
			`{"list":[null,1,{"a":1},[2]]}`,
			'[',
			false,
			true,
			4,
			[]jsonbody.Value{{Kind: 'n'}, {Kind: '0', Text: "1"}, {Kind: '{'}, {Kind: '['}},
		},
		"object instead": {`{"list":{"0":"x"}}`, '{', false, false, 0, nil},
		"string instead": {`{"list":"x"}`, '"', false, false, 0, nil},
		"number instead": {`{"list":1}`, '0', false, false, 0, nil},
		"true instead":   {`{"list":true}`, 't', false, false, 0, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := decode(t, test.text).List
			assert.Equal(t, test.kind, a.Kind)
			assert.Equal(t, test.missing, a.Missing(), "Missing")
			assert.Equal(t, test.isArray, a.IsArray(), "IsArray")
			assert.Equal(t, test.count, a.Count)
			assert.Equal(t, test.items, a.Items)
		})
	}
}

func TestArrayOfObjectsKeepsWrongItems(t *testing.T) {
	rows := decode(t, `{"rows":[{"value":"a"},null,"b",{"value":["c"]}]}`).Rows
	require.Len(t, rows.Items, 4)
	assert.Equal(t, 4, rows.Count)
	assert.Equal(t, "a", rows.Items[0].Value.Value.Text)
	assert.True(t, rows.Items[1].Missing())
	assert.False(t, rows.Items[2].IsObject())
	assert.Equal(t, jsontext.Kind('['), rows.Items[3].Value.Value.Kind)
}

func TestArrayMax(t *testing.T) {
	tests := map[string]struct{ limit, sent, kept int }{
		"fewer":               {3, 2, 2},
		"as many":             {3, 3, 3},
		"one more":            {3, 4, 3},
		"as many as default":  {0, 1000, 1000},
		"more than default":   {0, 1001, 1000},
		"many more":           {5, 100_000, 5},
		"default, none":       {0, 0, 0},
		"above the default":   {25_000, 25_000, 25_000},
		"one above the above": {25_000, 25_001, 25_000},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := body{List: jsonbody.Array[jsonbody.Value]{Max: test.limit}}
			text := `{"list":[` + strings.TrimSuffix(strings.Repeat("7,", test.sent), ",") + `]}`
			require.NoError(t, jsonbody.Decode(strings.NewReader(text), &b))
			assert.Equal(t, test.sent, b.List.Count)
			assert.Len(t, b.List.Items, test.kept)
			assert.Equal(t, test.limit, b.List.Max)
		})
	}
}

// An array of 300,000 items is read in the memory of its first thousand.
func TestArrayOfNothingButBracketsCostsNoMemory(t *testing.T) {
	const items = 300_000
	text := `{"rows":[` + strings.Repeat("{},", items-1) + `{}]}`
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b := decode(t, text)
	runtime.ReadMemStats(&after)
	assert.Equal(t, items, b.Rows.Count)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(4<<20), "bytes allocated")
}

// An object's second use must not show what its first one held: decoding replaces.
func TestArrayIsReplaced(t *testing.T) {
	a := body{List: jsonbody.Array[jsonbody.Value]{Kind: '[', Count: 7, Items: make([]jsonbody.Value, 7)}}
	require.NoError(t, jsonbody.Decode(strings.NewReader(`{"list":["x"]}`), &a))
	assert.Equal(t, 1, a.List.Count)
	assert.Len(t, a.List.Items, 1)
}

func TestManyMembersAreReadInLinearTime(t *testing.T) {
	var text strings.Builder
	text.WriteString(`{"name":"x"`)
	for i := range 100_000 {
		text.WriteString(`,"` + strconv.Itoa(i) + `":0`)
	}
	text.WriteString(`}`)
	assert.Equal(t, "x", decode(t, text.String()).Name.Text)
}
