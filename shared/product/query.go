package product

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"carillon/shared/fault"
)

// MaxPage is how many products an answer of GET /dxp-ux/v1/{businessId}/product has at most, whatever limit says.
const MaxPage = 1000

const maxQuotedName = 64 // characters of a parameter's name that an error repeats

// query is what a read asks for, as TMF630 has it: which products, which of those that match, and which of their members.
type query struct {
	offset  int  // how many of those that match precede the answer
	limit   int  // how many the answer has at most; 0 asks for the counts alone
	paged   bool // offset or limit was given
	fields  fieldSet
	filters []filter
}

// fieldSet has the names of the first-level members that are asked for; nil is all of them.
type fieldSet map[string]bool

// has reports whether a member is to be shown. id and href always are: they say which product it is.
func (f fieldSet) has(name string) bool { return f == nil || f[name] || name == "id" || name == "href" }

// filter asks for products that have one of some texts at a path.
type filter struct {
	path  string
	texts map[string]bool
}

// matches reports whether a product passes every filter.
func (q query) matches(p *readJSON) bool {
	for _, f := range q.filters {
		leaf := leaves[f.path] // the zero leaf, without texts, for what TMF637 has and the model lacks
		if leaf.texts == nil || !slices.ContainsFunc(leaf.texts(p), func(text string) bool { return text != "" && f.texts[text] }) {
			return false
		}
	}
	return true
}

// leaf is a text of a product that a filter can name.
type leaf struct {
	texts  func(p *readJSON) []string // empty ones are members that the product lacks
	column string                     // the attribute of the item with that text, if there is one
}

// leaves are the texts of the model by their paths. An array is passed through: it matches if one of its items does.
var leaves = map[string]leaf{
	"id":                      {texts: func(p *readJSON) []string { return []string{p.ID} }},
	"href":                    {texts: func(p *readJSON) []string { return []string{p.Href} }},
	"status":                  {texts: func(p *readJSON) []string { return []string{p.Status} }, column: "status"},
	"productSpecification.id": {texts: func(p *readJSON) []string { return []string{p.ProductSpecification.ID} }, column: "productSpecificationId"},
	"@baseType":               {texts: func(p *readJSON) []string { return []string{p.BaseType} }},
	"@type":                   {texts: func(p *readJSON) []string { return []string{p.Type} }},
	"@referredType":           {texts: func(p *readJSON) []string { return []string{p.ReferredType} }, column: "referredType"},
	"billingAccount.id":       {texts: func(p *readJSON) []string { return []string{p.BillingAccount.ID} }, column: "billingAccountId"},
	"billingAccount.@baseType": {
		texts: func(p *readJSON) []string { return []string{p.BillingAccount.BaseType} }, column: "billingAccountBaseType",
	},
	"billingAccount.@type": {texts: func(p *readJSON) []string { return []string{p.BillingAccount.Type} }, column: "billingAccountType"},
	"billingAccount.contact.contactType": {texts: func(p *readJSON) (texts []string) {
		for _, contact := range p.BillingAccount.Contact {
			texts = append(texts, contact.ContactType)
		}
		return texts
	}},
	"billingAccount.contact.contactMedium.characteristic.emailAddress": {texts: func(p *readJSON) (texts []string) {
		for _, contact := range p.BillingAccount.Contact {
			for _, medium := range contact.ContactMedium {
				texts = append(texts, medium.Characteristic.EmailAddress)
			}
		}
		return texts
	}},
	"productCharacteristic.name":      {texts: characteristics(func(c characteristicOfProduct) string { return c.Name })},
	"productCharacteristic.valueType": {texts: characteristics(func(c characteristicOfProduct) string { return c.ValueType })},
	"productCharacteristic.value":     {texts: characteristics(func(c characteristicOfProduct) string { return c.Value })},
}

func characteristics(text func(characteristicOfProduct) string) func(*readJSON) []string {
	return func(p *readJSON) (texts []string) {
		for _, c := range p.ProductCharacteristic {
			texts = append(texts, text(c))
		}
		return texts
	}
}

// withoutText are the other attributes of a TMF637 v4 Product: objects and arrays, and what the model lacks. A filter may
// name them, and matches nothing. Beneath one that ends in .* every name is taken for an attribute.
var withoutText = []string{
	"description", "isBundle", "isCustomerVisible", "name", "orderDate", "productSerialNumber", "startDate", "terminationDate", "@schemaLocation",
	"agreement.*", "place.*", "product.*", "productOffering.*", "productOrderItem.*", "productPrice.*", "productRelationship.*", "productTerm.*",
	"realizingResource.*", "realizingService.*", "relatedParty.*",
	"billingAccount", "billingAccount.href", "billingAccount.name", "billingAccount.@schemaLocation", "billingAccount.@referredType",
	"billingAccount.contact", "billingAccount.contact.contactMedium", "billingAccount.contact.contactMedium.characteristic",
	"productSpecification", "productSpecification.href", "productSpecification.name", "productSpecification.version",
	"productSpecification.targetProductSchema.*", "productSpecification.@baseType", "productSpecification.@schemaLocation",
	"productSpecification.@type", "productSpecification.@referredType",
	"productCharacteristic", "productCharacteristic.@baseType", "productCharacteristic.@schemaLocation", "productCharacteristic.@type",
}

// isAttribute reports whether a dotted path is one of a TMF637 v4 Product with the members that seed 003 adds to it.
func isAttribute(path string) bool {
	if _, ok := leaves[path]; ok {
		return true
	}
	return slices.ContainsFunc(withoutText, func(known string) bool {
		base, open := strings.CutSuffix(known, ".*")
		return path == base || open && strings.HasPrefix(path, base+".")
	})
}

// decodeQuery reads the parameters of a list. It adds every fault, in the order of the parameters' names, after those of
// offset, limit and fields.
func decodeQuery(parameters url.Values, faults *fault.Violations) query {
	q := query{
		offset: natural(parameters, "offset", 0, faults),
		limit:  min(natural(parameters, "limit", MaxPage, faults), MaxPage),
		paged:  parameters.Has("offset") || parameters.Has("limit"),
		fields: decodeFields(parameters, faults),
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case name == "offset" || name == "limit" || name == "fields":
		case !isAttribute(name):
			faults.Add(fault.BadValue, "%s is not an attribute of a product", quoted(name))
		default:
			q.filters = append(q.filters, filter{path: name, texts: alternatives(parameters[name])})
		}
	}
	return q
}

// natural reads a parameter that counts products.
func natural(parameters url.Values, name string, absent int, faults *fault.Violations) int {
	values, ok := parameters[name]
	if !ok {
		return absent
	}
	n, err := strconv.ParseUint(values[0], 10, 31)
	if err != nil || len(values) > 1 {
		faults.Add(fault.BadValue, "%s must be one integer from 0 to %d", name, 1<<31-1)
		return absent
	}
	return int(n)
}

// decodeFields reads fields: names of first-level attributes, or none, which adds nothing to id and href.
func decodeFields(parameters url.Values, faults *fault.Violations) fieldSet {
	var fields fieldSet
	for _, list := range parameters["fields"] {
		for name := range strings.SplitSeq(list, ",") {
			name = strings.TrimSpace(name)
			switch {
			case name == "":
				continue
			case name != "none" && (strings.Contains(name, ".") || !isAttribute(name)):
				faults.Add(fault.BadValue, "fields: %s is not a first-level attribute of a product", quoted(name))
			}
			if fields == nil {
				fields = fieldSet{}
			}
			fields[name] = true
		}
	}
	return fields
}

// alternatives returns the texts that a filter's values ask for: what the commas part, and each value as a whole, for a
// text may have a comma of its own.
func alternatives(values []string) map[string]bool {
	texts := map[string]bool{}
	for _, value := range values {
		texts[value] = true
		for text := range strings.SplitSeq(value, ",") {
			texts[text] = true
		}
	}
	return texts
}

// quoted returns what an error repeats of a name that a caller made up.
func quoted(name string) string {
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	if characters := []rune(printable); len(characters) > maxQuotedName {
		printable = string(characters[:maxQuotedName]) + "…"
	}
	return fmt.Sprintf("%q", printable)
}
