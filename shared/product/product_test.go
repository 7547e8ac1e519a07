package product_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/fault"
	"carillon/shared/product"
)

// validBody has every member of seed 003's request model, with the seed's sample values.
const validBody = `{
	"productSpecification": {"id": "disney-plus"},
	"@baseType": "product",
	"@type": "OTT",
	"@referredType": "DISNEY",
	"billingAccount": {
		"id": "8001234567",
		"contact": [{
			"contactType": "primary",
			"contactMedium": [{"characteristic": {"emailAddress": "abc@gmail.com"}}]
		}],
		"@baseType": "Account",
		"@type": "BillingAccount"
	}
}`

const (
	typeFault     = "Mandatory field @type is not specified or Incorrect value is received. The expected value is OTT"
	baseTypeFault = "Mandatory field @baseType is not specified or Incorrect value is received. The expected value " +
		"is product"
	emailMember = "billingAccount.contact[0].contactMedium[0].characteristic.emailAddress"
)

// changed returns validBody with the member of that path set to a JSON value, or removed if the value is "". The path's
// parts are names, and 0 for the first item of an array.
func changed(t *testing.T, value string, path ...string) string {
	t.Helper()
	var body any
	require.NoError(t, json.Unmarshal([]byte(validBody), &body))
	at := body
	for _, name := range path[:len(path)-1] {
		if items, ok := at.([]any); ok {
			at = items[0]
			continue
		}
		at = at.(map[string]any)[name]
	}
	last := path[len(path)-1]
	switch parent := at.(type) {
	case []any:
		parent[0] = json.RawMessage(value)
	case map[string]any:
		parent[last] = json.RawMessage(value)
		if value == "" {
			delete(parent, last)
		}
	}
	text, err := json.Marshal(body)
	require.NoError(t, err)
	return string(text)
}

// now is when the bodies are read.
var now = time.Date(2026, 11, 30, 10, 0, 0, 0, time.UTC)

var (
	contactPath        = []string{"billingAccount", "contact", "0"}
	mediumPath         = append(contactPath[:3:3], "contactMedium", "0")
	characteristicPath = append(mediumPath[:5:5], "characteristic")
	emailPath          = append(characteristicPath[:6:6], "emailAddress")
)

func TestDecodeProductReadsEveryMemberOfTheSeed(t *testing.T) {
	p, err := product.DecodeProduct(strings.NewReader(validBody), now)
	require.NoError(t, err)
	assert.Equal(t, product.Product{
		SpecificationID: "disney-plus",
		ReferredType:    "DISNEY",
		BillingAccount: product.BillingAccount{
			ID:       "8001234567",
			Contacts: []product.Contact{{Type: "primary", Emails: []string{"abc@gmail.com"}}},
			Email:    "abc@gmail.com",
			BaseType: "Account",
			Type:     "BillingAccount",
		},
	}, p)
	assert.Equal(t, "abc@gmail.com", p.Email())
}

func TestDecodeProductTakesWhatTheSeedLeavesOptional(t *testing.T) {
	const minimal = `"productSpecification":{"id":"p"},"@baseType":"product","@type":"OTT","@referredType":"DISNEY"`
	bodies := map[string]string{
		"absent": `{` + minimal + `,"billingAccount":{"id":"1","contact":[` +
			`{"contactMedium":[{"characteristic":{"emailAddress":"a@b.co"}}]}]}}`,
		"null": `{` + minimal +
			`,"billingAccount":{"id":"1","@type":null,"@baseType":null,"contact":[{"contactType":null,` +
			`"contactMedium":[{"characteristic":{"emailAddress":"a@b.co"}}]}]}}`,
		"blank": `{` + minimal +
			`,"billingAccount":{"id":"1","@type":"","@baseType":" ","contact":[{"contactType":"",` +
			`"contactMedium":[{"characteristic":{"emailAddress":"a@b.co"}}]}]}}`,
		"unknown": `{` + minimal +
			`,"name":{"a":[1e999]},"billingAccount":{"id":"1","contact":[{"x":1,` +
			`"contactMedium":[{"mediumType":"email","characteristic":{"emailAddress":"a@b.co","city":7}}]}]}}`,
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			p, err := product.DecodeProduct(strings.NewReader(body), now)
			require.NoError(t, err)
			assert.Equal(t, product.BillingAccount{
				ID: "1", Contacts: []product.Contact{{Emails: []string{"a@b.co"}}}, Email: "a@b.co",
			}, p.BillingAccount)
		})
	}
}

func TestDecodeProductNamesTheFaultyMember(t *testing.T) {
	long := func(n int) string { return `"` + strings.Repeat("ä", n) + `"` }
	tests := map[string]struct {
		value string
		path  []string
		want  []string
	}{
		"productSpecification missing": {"", []string{"productSpecification"},
			[]string{"productSpecification.id must be provided"}},
		"productSpecification null": {"null", []string{"productSpecification"},
			[]string{"productSpecification.id must be provided"}},
		"productSpecification empty": {"{}", []string{"productSpecification"},
			[]string{"productSpecification.id must be provided"}},
		"productSpecification a string": {`"p"`, []string{"productSpecification"},
			[]string{"productSpecification must be an object"}},
		"productSpecification an array": {`[{"id":"p"}]`, []string{"productSpecification"},
			[]string{"productSpecification must be an object"}},
		"productSpecification.id null": {"null", []string{"productSpecification", "id"},
			[]string{"productSpecification.id must be provided"}},
		"productSpecification.id blank": {`" "`, []string{"productSpecification", "id"},
			[]string{"productSpecification.id must be provided"}},
		"productSpecification.id a number": {"7", []string{"productSpecification", "id"},
			[]string{"productSpecification.id must be a string"}},
		"productSpecification.id too long": {long(257), []string{"productSpecification", "id"},
			[]string{"productSpecification.id must be at most 256 characters"}},
		"productSpecification.id with NUL": {`"a\u0000b"`, []string{"productSpecification", "id"},
			[]string{"productSpecification.id must not contain control characters"}},
		"@baseType missing":  {"", []string{"@baseType"}, []string{baseTypeFault}},
		"@baseType another":  {`"Product"`, []string{"@baseType"}, []string{baseTypeFault}},
		"@baseType a number": {"1", []string{"@baseType"}, []string{baseTypeFault}},
		"@type missing":      {"", []string{"@type"}, []string{typeFault}},
		"@type null":         {"null", []string{"@type"}, []string{typeFault}},
		"@type another":      {`"ott"`, []string{"@type"}, []string{typeFault}},
		"@type blank around": {`"OTT "`, []string{"@type"}, []string{typeFault}},
		"@type an object":    {`{"OTT":1}`, []string{"@type"}, []string{typeFault}},
		"@referredType missing": {"", []string{"@referredType"},
			[]string{"@referredType must be provided"}},
		"@referredType a boolean": {"true", []string{"@referredType"},
			[]string{"@referredType must be a string"}},
		"@referredType too long": {long(65), []string{"@referredType"},
			[]string{"@referredType must be at most 64 characters"}},
		"billingAccount missing": {"", []string{"billingAccount"},
			[]string{"billingAccount.id must be provided", emailMember + " must be provided"}},
		"billingAccount a string": {`"1"`, []string{"billingAccount"},
			[]string{"billingAccount must be an object"}},
		"billingAccount empty": {"{}", []string{"billingAccount"},
			[]string{"billingAccount.id must be provided", emailMember + " must be provided"}},
		"billingAccount.id missing": {"", []string{"billingAccount", "id"},
			[]string{"billingAccount.id must be provided"}},
		"billingAccount.id a number": {"8001234567", []string{"billingAccount", "id"},
			[]string{"billingAccount.id must be a string"}},
		"billingAccount.id too long": {long(257), []string{"billingAccount", "id"},
			[]string{"billingAccount.id must be at most 256 characters"}},
		"billingAccount.@type a number": {"1", []string{"billingAccount", "@type"},
			[]string{"billingAccount.@type must be a string"}},
		"billingAccount.@baseType an array": {"[]", []string{"billingAccount", "@baseType"},
			[]string{"billingAccount.@baseType must be a string"}},
		"billingAccount.@baseType too long": {long(65), []string{"billingAccount", "@baseType"},
			[]string{"billingAccount.@baseType must be at most 64 characters"}},
		"contact missing": {"", contactPath[:2], []string{emailMember + " must be provided"}},
		"contact empty":   {"[]", contactPath[:2], []string{emailMember + " must be provided"}},
		"contact an object": {"{}", contactPath[:2],
			[]string{"billingAccount.contact must be an array"}},
		"contact of a string": {`"x"`, contactPath,
			[]string{"billingAccount.contact[0] must be an object"}},
		"contact of null": {"null", contactPath, []string{emailMember + " must be provided"}},
		"eleven contacts": {"[" + strings.Repeat("{},", 10) + "{}]", contactPath[:2],
			[]string{"billingAccount.contact must have at most 10 items"}},
		"contactType a number": {"1", append(contactPath[:3:3], "contactType"),
			[]string{"billingAccount.contact[0].contactType must be a string"}},
		"contactMedium missing": {"", mediumPath[:4], []string{emailMember + " must be provided"}},
		"contactMedium empty":   {"[]", mediumPath[:4], []string{emailMember + " must be provided"}},
		"contactMedium a string": {`"x"`, mediumPath[:4],
			[]string{"billingAccount.contact[0].contactMedium must be an array"}},
		"contactMedium of a number": {"1", mediumPath,
			[]string{"billingAccount.contact[0].contactMedium[0] must be an object"}},
		"eleven contact media": {"[" + strings.Repeat("{},", 10) + "{}]", mediumPath[:4],
			[]string{"billingAccount.contact[0].contactMedium must have at most 10 items"}},
		"characteristic missing": {"", characteristicPath, []string{emailMember + " must be provided"}},
		"characteristic a string": {`"abc@gmail.com"`, characteristicPath,
			[]string{"billingAccount.contact[0].contactMedium[0].characteristic must be an object"}},
		"emailAddress missing":  {"", emailPath, []string{emailMember + " must be provided"}},
		"emailAddress blank":    {`""`, emailPath, []string{emailMember + " must be provided"}},
		"emailAddress a number": {"1", emailPath, []string{emailMember + " must be an email address"}},
		"emailAddress without a domain": {`"abc"`, emailPath,
			[]string{emailMember + " must be an email address"}},
		"emailAddress with an injected header": {`"abc@gmail.com\r\nBcc: all@gmail.com"`, emailPath,
			[]string{emailMember + " must be an email address"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := product.DecodeProduct(strings.NewReader(changed(t, test.value, test.path...)), now)
			assert.Equal(t, test.want, messages(t, err))
		})
	}
}

// Every fault of the body at once, in the order of seed 003's table.
func TestDecodeProductReportsEveryFaultAtOnce(t *testing.T) {
	_, err := product.DecodeProduct(strings.NewReader(`{}`), now)
	assert.Equal(t, []string{
		"productSpecification.id must be provided",
		baseTypeFault,
		typeFault,
		"@referredType must be provided",
		"billingAccount.id must be provided",
		emailMember + " must be provided",
	}, messages(t, err))

	_, err = product.DecodeProduct(strings.NewReader(`{
		"productSpecification": 1, "@baseType": "x", "@type": "x", "@referredType": 1,
		"billingAccount": {"id": 1, "@type": 1, "contact": [
			{"contactMedium": [{"characteristic": {"emailAddress": "x"}}, 2]}, {"contactMedium": [{}]}
		]}
	}`), now)
	assert.Equal(t, []string{
		"productSpecification must be an object",
		baseTypeFault,
		typeFault,
		"@referredType must be a string",
		"billingAccount.id must be a string",
		emailMember + " must be an email address",
		"billingAccount.contact[0].contactMedium[1] must be an object",
		"billingAccount.contact[1].contactMedium[0].characteristic.emailAddress must be provided",
		"billingAccount.@type must be a string",
	}, messages(t, err))
}

func TestDecodeProductRefusesWhatIsNoJSONObject(t *testing.T) {
	bodies := map[string]string{
		"empty":                "",
		"blank":                " \n",
		"not JSON":             "product=1",
		"truncated":            validBody[:len(validBody)-1],
		"an array":             "[" + validBody + "]",
		"a string":             `"x"`,
		"null":                 "null",
		"something behind":     validBody + "{}",
		"a member twice":       `{"@type":"OTT","@type":"OTT"}`,
		"a nested one twice":   `{"billingAccount":{"id":"1","id":"2"}}`,
		"an unknown one twice": `{"x":{"y":1,"y":2}}`,
		"invalid UTF-8":        "{\"@type\":\"\xff\"}",
		"a lone surrogate":     `{"@type":"\ud800"}`,
		"nested too deeply":    `{"x":` + strings.Repeat("[", 1_000_000),
	}
	for name, body := range bodies {
		t.Run(name, func(t *testing.T) {
			_, err := product.DecodeProduct(strings.NewReader(body), now)
			var failure *fault.Error
			require.ErrorAs(t, err, &failure)
			assert.Equal(t, fault.Malformed, failure.Code)
			assert.NotEmpty(t, failure.Message)
		})
	}
}

func TestDecodeProductKeepsNumbersAsTheyAre(t *testing.T) {
	_, err := product.DecodeProduct(
		strings.NewReader(changed(t, strings.Repeat("9", 100_000), "billingAccount", "id")),
		now,
	)
	assert.Equal(t, []string{"billingAccount.id must be a string"}, messages(t, err))
}

// What a refusal lists stays small however large the request is: Lambda answers at most 6 MB.
func TestDecodeProductBoundsItsFaults(t *testing.T) {
	media := `{"contactMedium":[` + strings.Repeat(`7,`, 500_000) + `7]}`
	_, err := product.DecodeProduct(strings.NewReader(changed(t, `[`+media+strings.Repeat(`,{}`, 500_000)+`]`,
		contactPath[:2]...)), now)
	assert.Equal(t, []string{"billingAccount.contact must have at most 10 items"}, messages(t, err))
}

func TestIDIsTheSameForTheSamePartsOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Few letters, so that shifting one from a part to the next is likely.
		text := rapid.StringOfN(rapid.RuneFrom([]rune("ab#ä")), 0, 4, -1)
		parts := rapid.SliceOfN(text, 5, 5)
		a, b := parts.Draw(t, "a"), parts.Draw(t, "b")
		assert.Equal(t, fmt.Sprintf("%q", a) == fmt.Sprintf("%q", b), idOf(a) == idOf(b))
		assert.Equal(t, idOf(a), idOf(slices.Clone(a)))
	})
}

// A changed id would make a second product of every one that is kept.
func TestIDNeverChanges(t *testing.T) {
	assert.Equal(t, "53c18a7a-f4ef-5e62-8061-9c179733ae32",
		idOf([]string{"demo-channel", "PA", "8001234567", "disney-plus", "DISNEY"}))
}

func idOf(parts []string) string {
	return product.ID(parts[0], parts[1], product.Product{
		BillingAccount:  product.BillingAccount{ID: parts[2]},
		SpecificationID: parts[3],
		ReferredType:    parts[4],
	})
}

func messages(t *testing.T, err error) []string {
	t.Helper()
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, fault.Invalid, failure.Code)
	var list []string
	for _, v := range failure.Violations {
		list = append(list, v.Message)
	}
	return list
}

func FuzzDecodeProduct(f *testing.F) {
	f.Add([]byte(validBody))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"billingAccount":{"contact":[{"contactMedium":[{"characteristic":{"emailAddress":"a@b.co"}},` +
		`null]},7]}}`))
	f.Add([]byte(withContacts(contact(primary+past, phone), contact("", mail("a", preferred+future), mail("b", "")))))
	f.Add([]byte(`{"@type":"OTT","@type":"OTT"}`))
	f.Add([]byte(`{"productSpecification":{"id":1e400},"@referredType":"\ud800"}`))
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := product.DecodeProduct(strings.NewReader(string(body)), now)
		if err != nil {
			var failure *fault.Error
			if !errors.As(err, &failure) || failure.Code != fault.Malformed &&
				(failure.Code != fault.Invalid || len(failure.Violations) == 0) {
				t.Fatalf("not a fault of the request: %v", err)
			}
			if p.SpecificationID != "" || p.BillingAccount.Contacts != nil {
				t.Fatalf("a product although the request is refused: %+v", p)
			}
			return
		}
		if p.SpecificationID == "" || p.ReferredType == "" || p.BillingAccount.ID == "" || p.Email() == "" {
			t.Fatalf("a mandatory member is empty: %+v", p)
		}
		meant := false
		for _, contact := range p.BillingAccount.Contacts {
			for _, email := range contact.Emails {
				meant = meant || email == p.Email()
				if strings.Count(email, "@") != 1 || strings.ContainsAny(email, "\r\n <>\"") {
					t.Fatalf("no address: %q", email)
				}
			}
			if len(contact.Emails) == 0 {
				t.Fatalf("a contact without an address: %+v", p)
			}
		}
		if !meant {
			t.Fatalf("an address of nobody: %+v", p)
		}
	})
}
