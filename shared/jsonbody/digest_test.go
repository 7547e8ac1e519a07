package jsonbody_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

func digest(t require.TestingT, text string) [32]byte {
	sum, err := jsonbody.Digest(strings.NewReader(text))
	require.NoError(t, err, text)
	return sum
}

func TestDigestIsOfTheValue(t *testing.T) {
	t.Parallel()
	values := map[string][]string{ // each in other bytes, and each another value than all others
		"nothing":  {`{}`, ` { } `, "\ufeff{}", "\r\n{\t}\n"},
		"null":     {`{"a":null}`},
		"true":     {`{"a":true}`},
		"false":    {`{"a":false}`},
		"a text":   {`{"a":"b/é😀\n"}`, `{"\u0061":"\u0062\/\u00E9\ud83d\ude00\u000a"}`},
		"a number": {`{"a":3600}`, `{"a":3600.0}`, `{"a":3.6e3}`, `{"a":36E+2}`, `{"a":0.36e04}`, `{"a":36000000e-4}`},
		"its text": {`{"a":"3600"}`},
		"less":     {`{"a":-3600}`, `{"a":-3.6e3}`},
		"zero":     {`{"a":0}`, `{"a":-0}`, `{"a":0.000}`, `{"a":-0.0e5}`, `{"a":0e99999999999999999999}`},
		"one more": {`{"a":3601}`},
		"small":    {`{"a":0.001}`, `{"a":1e-3}`, `{"a":10.00e-4}`},
		"a long id": {
			`{"a":12345678901234567890}`, `{"a":12345678901234567890.0}`, `{"a":1.234567890123456789e19}`,
		},
		"its neighbour, the same double": {`{"a":12345678901234567891}`},
		"beyond doubles":                 {`{"a":1e400}`, `{"a":10e399}`, `{"a":0.1E401}`},
		"further":                        {`{"a":1e401}`},
		"far below":                      {`{"a":1e-400}`},
		"beyond counting":                {`{"a":1e1000000000000000000}`},
		"10 times that":                  {`{"a":1e1000000000000000001}`},
		"the last that is counted":       {`{"a":1e999999999999999999}`, `{"a":10e999999999999999998}`},
		"members":                        {`{"a":1,"b":2,"c":3}`, `{"c":3,"a":1,"b":2}`, `{"b":2e0 , "c":3,"a":1}`},
		"members the other way round":    {`{"a":2,"b":1,"c":3}`},
		"in capitals":                    {`{"A":1,"b":2,"c":3}`},
		"a list":                         {`{"a":[1,2]}`, `{"a": [ 1.0, 2 ] }`},
		"its order":                      {`{"a":[2,1]}`},
		"a list in it":                   {`{"a":[[1,2]]}`},
		"two lists in it":                {`{"a":[[1],[2]]}`},
		"a list beside it":               {`{"a":[1,[2]]}`},
		"one element":                    {`{"a":[12]}`},
		"an empty list":                  {`{"a":[]}`},
		"an empty object":                {`{"a":{}}`},
		"an empty text":                  {`{"a":""}`},
		"an empty name":                  {`{"":"a"}`},
		"both":                           {`{"":""}`},
		"a member of it":                 {`{"a":{"b":1}}`},
		"an object in a list":            {`{"a":[{"b":1}]}`},
		"members of two objects":         {`{"a":{"b":1},"c":{"d":2}}`, `{"c":{"d":2},"a":{"b":1}}`},
		"members that changed sides":     {`{"a":{"d":2},"c":{"b":1}}`},
		"names that run into texts":      {`{"ab":"c"}`},
		"names that run on":              {`{"a":"bc"}`},
		"a quote":                        {`{"a":"\""}`, `{"a":"\u0022"}`},
		"half a pair":                    {`{"a":"\ud800"}`, `{"a":"\uD800"}`},
		"another half":                   {`{"a":"\udfff"}`},
		"what a mark of it looks like":   {"{\"a\":\"\ufdd0\ue000\"}", `{"a":"\ufdd0\ue000"}`},
		"a replacement character":        {"{\"a\":\"\ufffd\"}"},
		"a byte order mark":              {"{\"a\":\"\ufeff\"}", `{"a":"\ufeff"}`},
		"nested as deep as JSON goes":    {`{"a":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`},
		"one level less":                 {`{"a":` + strings.Repeat("[", 8999) + strings.Repeat("]", 8999) + `}`},
	}
	names := map[[32]byte]string{}
	for name, texts := range values {
		want := digest(t, texts[0])
		assert.Empty(t, names[want], name)
		names[want] = name
		for _, text := range texts {
			assert.Equal(t, want, digest(t, text), "%s: %.200s", name, text)
			slow, err := jsonbody.Digest(iotest.OneByteReader(strings.NewReader(text)))
			require.NoError(t, err)
			assert.Equal(t, want, slow, "%s: %.200s", name, text)
		}
	}
}

func TestDigestOfWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, ` `, `{`, `{"a"`, `{"a":`, `{"a":}`, `{"a":1`, `{"a":[1`, `{"a":[1}`, `{1:2}`, `{"a":01}`, `{"a":"\x"}`, "{\"a\":\"\xff\"}",
		`{}{}`, `{}x`, `{"a":"\ud8zz"}`, `{"a":` + strings.Repeat("[", 100_000),
	} {
		_, err := jsonbody.Digest(strings.NewReader(text))
		assert.True(t, fault.Is(err, fault.Malformed), "%.100s: %v", text, err)
	}
	tooLarge := fault.New(fault.TooLarge, "too large")
	_, err := jsonbody.Digest(io.MultiReader(strings.NewReader(`{"a":[`), iotest.ErrReader(tooLarge)))
	assert.Same(t, tooLarge, err)
}

// node is a JSON value that can be written in many ways.
type node struct {
	kind     byte // n, t, f, ", 0, [ or {
	text     string
	digits   int64 // of a number: digits times ten to the power
	power    int
	names    []string // of an object, in ascending order
	children []*node
}

var (
	names     = rapid.StringOfN(rapid.RuneFrom([]rune(`ab"\/é😀`+"\n\x00")), 0, 4, -1)
	leafKinds = rapid.SampledFrom([]byte("ntf\"\"00"))
	kinds     = rapid.SampledFrom([]byte("ntf\"0[{{"))
)

func draw(t *rapid.T, depth int, kind byte) *node {
	n := &node{kind: kind}
	switch kind {
	case '"':
		n.text = names.Draw(t, "text")
	case '0':
		n.digits = rapid.OneOf(rapid.Int64Range(-20, 20), rapid.Int64()).Draw(t, "digits")
		n.power = rapid.IntRange(-400, 400).Draw(t, "power")
	case '{':
		n.names = rapid.SliceOfNDistinct(names, 0, 5, rapid.ID).Draw(t, "names")
		for range n.names {
			n.children = append(n.children, drawChild(t, depth+1))
		}
	case '[':
		for range rapid.IntRange(0, 4).Draw(t, "length") {
			n.children = append(n.children, drawChild(t, depth+1))
		}
	}
	return n
}

func drawChild(t *rapid.T, depth int) *node {
	if depth > 4 {
		return draw(t, depth, leafKinds.Draw(t, "kind"))
	}
	return draw(t, depth, kinds.Draw(t, "kind"))
}

// write writes a value in one of its ways.
func (n *node) write(random *rand.Rand) string {
	space := func() string { return []string{"", "", " ", "\n\t", "\r\n"}[random.IntN(5)] }
	var b strings.Builder
	b.WriteString(space())
	switch n.kind {
	case 'n':
		b.WriteString("null")
	case 't':
		b.WriteString("true")
	case 'f':
		b.WriteString("false")
	case '"':
		b.WriteString(quote(n.text, random))
	case '0':
		b.WriteString(writeNumber(n.digits, n.power, random))
	case '[':
		b.WriteString("[" + space())
		for i, child := range n.children {
			if i > 0 {
				b.WriteString(",")
			}
			b.WriteString(child.write(random))
		}
		b.WriteString("]")
	case '{':
		b.WriteString("{" + space())
		for i, at := range random.Perm(len(n.children)) {
			if i > 0 {
				b.WriteString("," + space())
			}
			b.WriteString(quote(n.names[at], random) + space() + ":" + n.children[at].write(random))
		}
		b.WriteString("}")
	}
	b.WriteString(space())
	return b.String()
}

func quote(text string, random *rand.Rand) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r > 0xffff:
			if random.IntN(2) == 0 {
				r -= 0x10000
				fmt.Fprintf(&b, `\u%04x\u%04X`, 0xd800+r>>10, 0xdc00+r&0x3ff)
				continue
			}
			b.WriteRune(r)
		case r < ' ' || r == '"' || r == '\\' || random.IntN(2) == 0:
			if short := strings.IndexRune(`"\/`, r); short >= 0 && random.IntN(2) == 0 {
				b.WriteString(`\` + string(r))
				continue
			}
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

func writeNumber(digits int64, power int, random *rand.Rand) string {
	text := strconv.FormatInt(digits, 10)
	zeros := random.IntN(4)
	text += strings.Repeat("0", zeros)
	power -= zeros
	if digits == 0 {
		text = []string{"0", "-0"}[random.IntN(2)]
	}
	sign := ""
	if text[0] == '-' {
		sign, text = "-", text[1:]
	}
	if cut := random.IntN(len(text)); cut > 0 {
		power += len(text) - cut
		text = text[:cut] + "." + text[cut:]
	} else if random.IntN(3) == 0 && text != "0" {
		power += len(text)
		text = "0." + text
	}
	if power == 0 && random.IntN(2) == 0 {
		return sign + text
	}
	exponent := fmt.Sprintf("%d", power)
	if power >= 0 {
		exponent = []string{"", "+", "0", "+00"}[random.IntN(4)] + exponent
	}
	return sign + text + []string{"e", "E"}[random.IntN(2)] + exponent
}

// change changes one value of a tree, which it returns in other words.
func (n *node) change(t *rapid.T) string {
	at := n
	for len(at.children) > 0 && (at == n || rapid.Bool().Draw(t, "deeper")) {
		at = rapid.SampledFrom(at.children).Draw(t, "child")
	}
	switch at.kind {
	case '"':
		at.text += "b"
		return "a longer text"
	case '0':
		if at.digits == 0 {
			at.digits, at.power = 1, 0
			return "no zero"
		}
		at.power++
		return "ten times as much"
	case '[':
		at.children = append(at.children, &node{kind: 'n'})
		return "an element more"
	case '{':
		at.names = append(at.names, "another name")
		at.children = append(at.children, &node{kind: 'n'})
		return "a member more"
	default:
		at.kind = '0'
		return "a zero"
	}
}

func TestDigestProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		value := draw(t, 0, '{')
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		first, second := value.write(random), value.write(random)
		require.True(t, jsontext.Value(first).IsValid(), first)
		want := digest(t, first)
		require.Equal(t, want, digest(t, second), "%s\n%s", first, second)
		how := value.change(t)
		require.NotEqual(t, want, digest(t, value.write(random)), how)
	})
}

// RFC 8785 has doubles, which tell numbers of up to 15 digits apart as decimals do.
func FuzzDigestOfNumbers(f *testing.F) {
	for _, pair := range [][2]string{
		{`3600`, `3.6e3`}, {`0`, `-0.0`}, {`1e21`, `1000000000000000000000`}, {`0.000001`, `1e-6`}, {`1`, `2`}, {`-1`, `1`},
		{`123456789012345`, `1.23456789012345E14`}, {`1e-7`, `0.0000001`}, {`1.0`, `10e-1`}, {`4.35`, `43.5e-1`},
	} {
		f.Add(pair[0], pair[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if !isDouble(a) || !isDouble(b) {
			t.Skip()
		}
		canonicalA, canonicalB := jsontext.Value(a), jsontext.Value(b)
		require.NoError(t, canonicalA.Canonicalize())
		require.NoError(t, canonicalB.Canonicalize())
		same := digest(t, `{"n":`+a+`}`) == digest(t, `{"n":`+b+`}`)
		require.Equal(t, string(canonicalA) == string(canonicalB), same, "%s and %s", a, b)
	})
}

// isDouble reports whether a text is a number that a double holds to 15 digits.
func isDouble(text string) bool {
	if value := jsontext.Value(text); !value.IsValid() || value.Kind() != '0' || len(text) > 300 {
		return false
	}
	mantissa, exponent, _ := strings.Cut(strings.ToLower(strings.TrimSpace(text)), "e")
	digits := strings.Trim(strings.NewReplacer("-", "", ".", "").Replace(mantissa), "0")
	if n, err := strconv.Atoi(exponent); exponent != "" && (err != nil || n < -300 || n > 300) {
		return false
	}
	number, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return err == nil && len(digits) <= 15 && (len(digits) == 0 || number > 1e-300 || number < -1e-300)
}

// The whole of a value's canonical form, but for its numbers, which stay as they are.
func FuzzDigestOfCanonicalForms(f *testing.F) {
	for _, text := range []string{
		`{"b":[1,2,{"c":null}],"a":"\u20ac"}`, `{"":{"":[]}}`, `{"a":"\ud83d\ude00","é":true}`, `{"\u0061":-0}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		canonical := jsontext.Value(text)
		if canonical.Kind() != '{' || canonical.Canonicalize(
			jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false),
		) != nil {
			t.Skip() // no JSON, or a member twice
		}
		require.Equal(t, digest(t, text), digest(t, string(canonical)), text)
	})
}
