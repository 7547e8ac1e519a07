package provision_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/provision"
)

func TestParseContentReadsTheExample(t *testing.T) {
	file, err := os.Open("../content.example.yaml")
	require.NoError(t, err)
	t.Cleanup(func() { _ = file.Close() })

	content, err := provision.ParseContent(file)

	require.NoError(t, err)
	require.Len(t, content.Tenants, 1)
	assert.Equal(t, "acme-calls", content.Tenants[0].ID)
	assert.Equal(t, []string{"+5014008029", "+5013509988"}, content.Tenants[0].ANumbers)
	assert.Equal(t, []provision.Group{{
		ID: "935b91a0-f2fb-4c43-b629-63fea6634512", Name: "Sales", ANumbers: []string{"+5014008029"},
	}}, content.Tenants[0].Groups)
	require.Len(t, content.Tenants[0].Programs, 1)
	program := content.Tenants[0].Programs[0]
	assert.True(t, program.Complete)
	assert.Equal(t, []string{"MY_VAR"}, program.Variables)
	assert.Equal(t, `{"headline":"Your order is on its way","body":"Hello {{MY_VAR}}",`+
		`"buttons":[{"label":"Track it","url":"https://example.com/track"}]}`, program.Content)
	assert.Equal(
		t,
		[]provision.Business{{ID: "PA", MerchantAccountKey: "acme-merchant-pa", Products: []provision.Product{{
			ReferredType: "DISNEY", ProductSpecification: "disney-plus",
			ProductKey: "DISNEY_PLUS_PA", OfferKey: "DISNEY_PLUS_PA_MONTHLY", Name: "Disney+",
		}}}},
		content.Businesses,
	)
}

// provider wraps members in the smallest valid provider.
func provider(members string) string {
	return "providers:\n  - {tenant: acme, aNumbers: [\"+5014008029\"], " + members + "}\n"
}

func program(members string) string {
	return provider(
		"programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: Demo, complete: true, " + members + "}]",
	)
}

func business(members string) string {
	return "businesses:\n  - {id: PA, merchantAccountKey: key, " + members + "}\n"
}

func TestParseContentAccepts(t *testing.T) {
	tests := map[string]string{
		"a provider with numbers alone":              provider(""),
		"an explicitly empty list":                   "providers: [{tenant: acme, aNumbers: []}]",
		"numbers without quotes":                     "providers: [{tenant: acme, aNumbers: [+5014008029]}]",
		"a business without products":                business(""),
		"JSON":                                       `{"businesses":[{"id":"NO","merchantAccountKey":"k","products":[]}]}`,
		"a country that YAML 1.1 reads as a boolean": "businesses: [{id: NO, merchantAccountKey: k}]",
		"an alias": "providers: [{tenant: acme, aNumbers: &n [\"+5014008029\"], " +
			"aNumberGroups: [{id: 935b91a0-f2fb-4c43-b629-63fea6634512, name: g, aNumbers: *n}]}]",
		"a null list": provider("programs: ~"),
		"a merchantAccountKey of a product": business("products: [{referredType: A, productSpecification: s, " +
			"merchantAccountKey: m, productKey: k, offerKey: o}]"),
		"the business's keys": business("productKey: k, offerKey: o, " +
			"products: [{referredType: A, productSpecification: s}]"),
		"the same number elsewhere":       provider("") + "  - {tenant: other, aNumbers: [\"+5014008029\"]}\n",
		"the shortest and longest number": "providers: [{tenant: a, aNumbers: [\"+1234567\", \"+123456789012345\"]}]",
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := provision.ParseContent(strings.NewReader(file))
			assert.NoError(t, err)
		})
	}
}

func TestParseContentRefuses(t *testing.T) {
	tests := map[string]struct{ file, want string }{
		"nothing":           {"", "must be one YAML document: no documents in stream"},
		"a comment alone":   {"# later\n", "must be one YAML document"},
		"null":              {"~\n", "must be a mapping of providers, businesses"},
		"no YAML":           {"providers: [a,\n b: }", "line 2: must be one YAML document"},
		"invalid UTF-8":     {"providers: \xff", "must be one YAML document"},
		"two documents":     {"providers: []\n---\nproviders: []\n", "must be one YAML document"},
		"a list":            {"- providers\n", "line 1: must be a mapping of providers, businesses"},
		"an empty mapping":  {"{}", "must hold providers or businesses"},
		"an unknown member": {"provider: []\n", "line 1: provider is not known; known here: providers, businesses"},
		"another case":      {"\nproviders: [{Tenant: acme}]\n", "line 2: providers[0].Tenant is not known"},
		"a member twice":    {"providers: []\nproviders: []\n", "line 2: providers is given twice"},
		"a complex key":     {"? [providers]\n: []\n", "is not known"},
		"no list":           {"providers: {tenant: acme}\n", "line 1: providers must be a list"},
		"no mapping": {
			"providers: [acme]\n",
			"providers[0] must be a mapping of tenant, aNumbers, aNumberGroups, programs",
		},
		"no tenant":     {"providers: [{aNumbers: []}]", "providers[0].tenant is required"},
		"a null tenant": {"providers: [{tenant: ~, aNumbers: []}]", "providers[0].tenant is required"},
		"an odd tenant": {
			"providers: [{tenant: a#b, aNumbers: []}]",
			"providers[0].tenant must be 1 to 64 letters",
		},
		"a tenant twice": {
			provider("") + "  - {tenant: acme, aNumbers: []}\n",
			"line 3: providers[1].tenant is the same as providers[0].tenant",
		},
		"no aNumbers": {"providers: [{tenant: acme}]", "providers[0].aNumbers is required, [] for none"},
		"a number without +": {
			"providers: [{tenant: a, aNumbers: [\"5014008029\"]}]",
			"providers[0].aNumbers[0] must be an E.164 number",
		},
		"a leading zero": {
			"providers: [{tenant: a, aNumbers: [\"+0501400802\"]}]",
			"aNumbers[0] must be an E.164 number",
		},
		"too short": {
			"providers: [{tenant: a, aNumbers: [\"+123456\"]}]",
			"aNumbers[0] must be an E.164 number",
		},
		"too long": {
			"providers: [{tenant: a, aNumbers: [\"+1234567890123456\"]}]",
			"aNumbers[0] must be an E.164 number",
		},
		"a number twice": {
			"providers: [{tenant: a, aNumbers: [\"+1234567\", \"+1234567\"]}]",
			"aNumbers[1] +1234567 is given twice",
		},
		"a number as mapping": {"providers: [{tenant: a, aNumbers: [{}]}]", "aNumbers[0] must be text"},
		"an empty number":     {"providers: [{tenant: a, aNumbers: [\"\"]}]", "aNumbers[0] must not be empty"},
		"a foreign number": {
			provider(
				"aNumberGroups: [{id: 935b91a0-f2fb-4c43-b629-63fea6634512, name: g, aNumbers: [\"+5013509988\"]}]",
			),
			"providers[0].aNumberGroups[0].aNumbers[0] +5013509988 is not one of the provider's own aNumbers",
		},
		"an empty group": {
			provider("aNumberGroups: [{id: 935b91a0-f2fb-4c43-b629-63fea6634512, name: g, aNumbers: []}]"),
			"aNumberGroups[0].aNumbers must list at least one number",
		},
		"a group id": {
			provider("aNumberGroups: [{id: sales, name: g, aNumbers: [\"+5014008029\"]}]"),
			"aNumberGroups[0].id must be a UUID",
		},
		"a UUID in braces": {
			provider(
				"aNumberGroups: [{id: \"{935b91a0-f2fb-4c43-b629-63fea6634512}\", name: g, aNumbers: [\"+5014008029\"]}]",
			),
			"id must be a UUID",
		},
		"complete missing": {
			provider("programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: n, content: {}}]"),
			"programs[0].complete is required",
		},
		"complete as text": {
			provider(
				"programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: n, complete: \"true\", content: {}}]",
			),
			"programs[0].complete must be true or false",
		},
		"content missing":      {program(""), "programs[0].content is required"},
		"content as text":      {program("content: hello"), "programs[0].content must be a mapping"},
		"content with merge":   {program("content: {<<: {a: 1}}"), "must not use <<"},
		"content key twice":    {program("content: {a: 1, a: 2}"), "programs[0].content.a is given twice"},
		"content not a number": {program("content: {a: [.inf]}"), "programs[0].content.a[0] .inf is no number in JSON"},
		"content in hex":       {program("content: {a: 0x10}"), "content.a 0x10 is no number in JSON"},
		"content tagged":       {program("content: {a: !!binary aGk=}"), "content.a cannot be written as JSON"},
		"content too large": {
			program("content: {a: \"" + strings.Repeat("x", provision.MaxProgramContent) + "\"}"),
			"programs[0].content must be at most 65536 bytes",
		},
		"content in itself": {program("content: &c {a: *c}"), "nested deeper than 32"},
		"a bad variable": {
			program("content: {}, variables: [1ST]"),
			"programs[0].variables[0] must be a letter or _",
		},
		"a variable twice": {
			program("content: {}, variables: [A, A]"),
			"programs[0].variables[1] \"A\" is given twice",
		},
		"a name with a tab": {
			provider(
				"programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: \"a\\tb\", complete: true, content: {}}]",
			),
			"name must not hold control characters",
		},
		"a long name": {
			provider(
				"programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: " + strings.Repeat(
					"n",
					257,
				) + ", complete: true, content: {}}]",
			),
			"name must be at most 256 characters",
		},
		"a country": {
			"businesses: [{id: pa, merchantAccountKey: k}]",
			"businesses[0].id must be a country, two capital letters",
		},
		"no merchant": {"businesses: [{id: PA}]", "businesses[0].merchantAccountKey is required"},
		"a # in referredType": {
			business("products: [{referredType: \"A#B\", productSpecification: s, productKey: k, offerKey: o}]"),
			"products[0].referredType must be",
		},
		"no offer key": {
			business("products: [{referredType: A, productSpecification: s, productKey: k}]"),
			"businesses[0].products[0].offerKey is required",
		},
		"no productKey beside the business's offerKey": {
			business("offerKey: o, products: [{referredType: A, productSpecification: s}]"),
			"businesses[0].products[0].productKey is required",
		},
		"an empty merchantAccountKey of a product": {
			business("products: [{referredType: A, productSpecification: s, merchantAccountKey: \"\", productKey: k, " +
				"offerKey: o}]"),
			"businesses[0].products[0].merchantAccountKey must not be empty",
		},
		"an empty offerKey of a business": {
			business("offerKey: \"\""), "businesses[0].offerKey must not be empty",
		},
		"an empty service": {
			business("products: [{referredType: A, productSpecification: s, productKey: k, offerKey: o, name: \"\"}]"),
			"businesses[0].products[0].name must not be empty",
		},
		"a service's newline": {
			business(
				"products: [{referredType: A, productSpecification: s, productKey: k, offerKey: o, name: \"A\\nB\"}]",
			),
			"businesses[0].products[0].name must not hold control characters",
		},
		"a product twice": {
			business("products: [{referredType: A, productSpecification: s, productKey: k, offerKey: o}, " +
				"{referredType: A, productSpecification: s, productKey: l, offerKey: p}]"),
			"businesses[0].products[1] A \"s\" is given twice",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := provision.ParseContent(strings.NewReader(test.file))
			require.ErrorAs(t, err, new(provision.Faults))
			assert.ErrorContains(t, err, test.want)
		})
	}
}

func TestParseContentReportsAllFaultsAtOnce(t *testing.T) {
	const file = `providers:
  - tenant: acme calls
    aNumbers: ["+5014008029", "501"]
    programs:
      - {uuid: x, nam: Demo, complete: 1, content: []}
businesses:
  - {id: Panama, merchantAccountKey: k}
`
	_, err := provision.ParseContent(strings.NewReader(file))

	var faults provision.Faults
	require.ErrorAs(t, err, &faults)
	var got []string
	for _, fault := range faults {
		got = append(got, fmt.Sprintf("%d %s", fault.Line, fault.Path))
	}
	assert.Equal(t, []string{
		"2 providers[0].tenant", "3 providers[0].aNumbers[1]", "5 providers[0].programs[0].nam",
		"5 providers[0].programs[0].uuid", "5 providers[0].programs[0].name", "5 providers[0].programs[0].complete",
		"5 providers[0].programs[0].content", "7 businesses[0].id",
	}, got)
	assert.Len(t, strings.Split(err.Error(), "\n"), len(faults), "one line each")
}

func TestParseContentKeepsIdsApartOverTheWholeFile(t *testing.T) {
	const upper, lower = "3E1B9B27-D1F9-4C8D-800F-BB534D6928D6", "3e1b9b27-d1f9-4c8d-800f-bb534d6928d6"
	file := fmt.Sprintf(`providers:
  - {tenant: a, aNumbers: [], programs: [{uuid: %s, name: n, complete: false, content: {}}]}
  - {tenant: b, aNumbers: [], programs: [{uuid: %s, name: n, complete: false, content: {}}]}
`, upper, lower)

	_, err := provision.ParseContent(strings.NewReader(file))

	assert.EqualError(t, err, "line 3: providers[1].programs[0].uuid is the same as providers[0].programs[0].uuid")
}

func TestParseContentLimitsNumbers(t *testing.T) {
	var most strings.Builder
	most.WriteString("providers:\n- tenant: acme\n  aNumbers:\n")
	for i := range provision.MaxANumbers {
		_, _ = fmt.Fprintf(&most, "  - +5071%06d\n", i)
	}

	_, err := provision.ParseContent(strings.NewReader(most.String()))
	require.NoError(t, err)

	_, err = provision.ParseContent(strings.NewReader(most.String() + "  - +1234567\n"))
	assert.ErrorContains(t, err, "providers[0].aNumbers must be at most 20000, not 20001")
}

func TestParseContentStopsAtAnAliasBomb(t *testing.T) {
	file := "content: {a: &a0 [x, x, x, x, x, x, x, x]"
	for i := 1; i < 20; i++ {
		file += fmt.Sprintf(
			", a%d: &a%d [%s]",
			i,
			i,
			strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 8), ", "),
		)
	}
	_, err := provision.ParseContent(strings.NewReader(program(file + "}")))
	assert.ErrorAs(t, err, new(provision.Faults))
}

func TestParseContentKeepsNumbersDigitForDigit(t *testing.T) {
	content, err := provision.ParseContent(strings.NewReader(program(
		"content: {id: 12345678901234567890123, price: 1.50, on: 2026-01-02, none: ~, yes: true, text: \"a\\\"b\"}")))
	require.NoError(t, err)
	assert.Equal(
		t,
		`{"id":12345678901234567890123,"price":1.50,"on":"2026-01-02","none":null,"yes":true,"text":"a\"b"}`,
		content.Tenants[0].Programs[0].Content,
	)
}

func TestParseContentPassesOnAReadError(t *testing.T) {
	_, err := provision.ParseContent(iotest.ErrReader(os.ErrClosed))
	assert.ErrorIs(t, err, os.ErrClosed)
}

// Any JSON object is content, and comes back as the same JSON.
func TestParseContentTakesAnyJSONAsContent(t *testing.T) {
	text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ09 :#-&*!|>'\"%@`{}[],?~é漢\n\t\\")), 0, 12, -1)
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		leaves := []*rapid.Generator[any]{
			text.AsAny(),
			rapid.Int64().AsAny(),
			rapid.Bool().AsAny(),
			rapid.Just[any](nil),
		}
		if depth > 0 {
			leaves = append(
				leaves,
				rapid.SliceOfN(rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3).AsAny(),
				rapid.MapOfN(text, rapid.Deferred(func() *rapid.Generator[any] { return value(depth - 1) }), 0, 3).
					AsAny(),
			)
		}
		return rapid.OneOf(leaves...)
	}
	rapid.Check(t, func(t *rapid.T) {
		want, err := json.Marshal(rapid.MapOfN(text, value(3), 0, 4).Draw(t, "content"))
		require.NoError(t, err)

		content, err := provision.ParseContent(strings.NewReader(program("content: " + string(want))))

		require.NoError(t, err)
		assert.JSONEq(t, string(want), content.Tenants[0].Programs[0].Content)
	})
}

func FuzzParseContent(f *testing.F) {
	for _, seed := range []string{"", provider(""), program("content: &c {a: *c}"), business("products: []"), "? [a]\n: !!set {b}\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file string) {
		content, err := provision.ParseContent(strings.NewReader(file))
		if err != nil {
			require.ErrorAs(t, err, new(provision.Faults))
			return
		}
		for _, p := range content.Tenants {
			for _, program := range p.Programs {
				require.True(t, json.Valid([]byte(program.Content)))
			}
		}
	})
}
