package api

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"carillon/shared/fault"
	"carillon/shared/product"
)

// maxPage is how many products an answer of GET /dxp-ux/v1/{businessId}/product has at most, whatever limit says.
const maxPage = 1000

const maxQuotedName = 64 // characters of a parameter's name that an error repeats

// query is what a read asks for, as TMF630 has it: which products, which of those that match, and which of their
// members.
type query struct {
	offset  int  // how many of those that match precede the answer
	limit   int  // how many the answer has at most; 0 asks for the counts alone
	paged   bool // offset or limit was given
	fields  fieldSet
	filters []product.Filter
}

// fieldSet has the names of the first-level members that are asked for; nil is all of them.
type fieldSet map[string]bool

// has reports whether a member is to be shown. id and href always are: they say which product it is.
func (f fieldSet) has(name string) bool { return f == nil || f[name] || name == "id" || name == "href" }

// matches reports whether a product passes every filter.
func (q query) matches(p *shownJSON) bool {
	for _, f := range q.filters {
		wanted := func(text string) bool { return text != "" && f.Texts[text] }
		texts := leaves[f.Path] // nil for what TMF637 has and the model lacks
		if texts == nil || !slices.ContainsFunc(texts(p), wanted) {
			return false
		}
	}
	return true
}

// leaves are the texts of the model by their paths. Empty ones are members that the product lacks. An array is passed
// through: it matches if one of its items does.
var leaves = map[string]func(p *shownJSON) []string{
	"id":                       one(func(p *shownJSON) string { return p.ID }),
	"href":                     one(func(p *shownJSON) string { return p.Href }),
	"status":                   one(func(p *shownJSON) string { return p.Status }),
	"productSpecification.id":  one(func(p *shownJSON) string { return p.ProductSpecification.ID }),
	"productOffering.id":       one(func(p *shownJSON) string { return p.ProductOffering.ID }),
	"@baseType":                one(func(p *shownJSON) string { return p.BaseType }),
	"@type":                    one(func(p *shownJSON) string { return p.Type }),
	"@referredType":            one(func(p *shownJSON) string { return p.ReferredType }),
	"billingAccount.id":        one(func(p *shownJSON) string { return p.BillingAccount.ID }),
	"billingAccount.@baseType": one(func(p *shownJSON) string { return p.BillingAccount.BaseType }),
	"billingAccount.@type":     one(func(p *shownJSON) string { return p.BillingAccount.Type }),
	"billingAccount.contact.contactType": func(p *shownJSON) (texts []string) {
		for _, contact := range p.BillingAccount.Contact {
			texts = append(texts, contact.ContactType)
		}
		return texts
	},
	"billingAccount.contact.contactMedium.characteristic.emailAddress": func(p *shownJSON) (texts []string) {
		for _, contact := range p.BillingAccount.Contact {
			for _, medium := range contact.ContactMedium {
				texts = append(texts, medium.Characteristic.EmailAddress)
			}
		}
		return texts
	},
	"productCharacteristic.name":      characteristics(func(c characteristicJSON) string { return c.Name }),
	"productCharacteristic.valueType": characteristics(func(c characteristicJSON) string { return c.ValueType }),
	"productCharacteristic.value":     characteristics(func(c characteristicJSON) string { return c.Value }),
}

func one(text func(*shownJSON) string) func(*shownJSON) []string {
	return func(p *shownJSON) []string { return []string{text(p)} }
}

func characteristics(text func(characteristicJSON) string) func(*shownJSON) []string {
	return func(p *shownJSON) (texts []string) {
		for _, c := range p.ProductCharacteristic {
			texts = append(texts, text(c))
		}
		return texts
	}
}

// withoutText are the other attributes of a TMF637 v4 Product: objects and arrays, and what the model lacks. A filter
// may name them, and matches nothing. Beneath one that ends in .* every name is taken for an attribute.
var withoutText = []string{
	"description", "isBundle", "isCustomerVisible", "name", "orderDate", "productSerialNumber", "startDate",
	"terminationDate", "@schemaLocation",
	"agreement.*", "place.*", "product.*", "productOffering.*", "productOrderItem.*", "productPrice.*",
	"productRelationship.*", "productTerm.*", "realizingResource.*", "realizingService.*", "relatedParty.*",
	"billingAccount", "billingAccount.href", "billingAccount.name", "billingAccount.@schemaLocation",
	"billingAccount.@referredType", "billingAccount.contact", "billingAccount.contact.contactMedium",
	"billingAccount.contact.contactMedium.characteristic",
	"productSpecification", "productSpecification.href", "productSpecification.name", "productSpecification.version",
	"productSpecification.targetProductSchema.*", "productSpecification.@baseType",
	"productSpecification.@schemaLocation", "productSpecification.@type", "productSpecification.@referredType",
	"productCharacteristic", "productCharacteristic.@baseType", "productCharacteristic.@schemaLocation",
	"productCharacteristic.@type",
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

// decodeQuery reads the parameters of a list. It adds every fault, in the order of the parameters' names, after those
// of offset, limit and fields.
func decodeQuery(parameters url.Values, faults *fault.Violations) query {
	q := query{
		offset: natural(parameters, "offset", 0, faults),
		limit:  min(natural(parameters, "limit", maxPage, faults), maxPage),
		paged:  parameters.Has("offset") || parameters.Has("limit"),
		fields: decodeFields(parameters, faults),
	}
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		switch {
		case slices.Contains(controls, name):
		case isJSONPath(name):
			faults.Add(fault.BadValue, "%s: JSONPath is not supported", quoted(name))
		case operator(name) != "":
			addOperatorFault(name, operator(name), faults)
		case !isAttribute(name):
			faults.Add(fault.BadValue, "%s is not an attribute of a product", quoted(name))
		default:
			texts := alternatives(name, parameters[name], faults)
			q.filters = append(q.filters, product.Filter{Path: name, Texts: texts})
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

// alternatives returns the texts that a filter's values ask for: what commas and semicolons part, and each value as a
// whole, for a text may have a comma or semicolon of its own. Behind a semicolon the attribute's name may be there once
// more: status=created;status=active (TMF630). What would be the filter of another attribute, or has an operator, is
// added to the faults.
func alternatives(name string, values []string, faults *fault.Violations) map[string]bool {
	texts := map[string]bool{}
	for _, value := range values {
		texts[value] = true
		for i, text := range strings.Split(value, ";") {
			if i > 0 {
				text = anotherFilter(name, text, faults)
			}
			if strings.HasPrefix(text, "=") || strings.HasPrefix(text, "~") { // behind the = of the parameter
				addOperatorFault(name, "="+text[:1], faults)
			}
			texts[text] = true
			for part := range strings.SplitSeq(text, ",") {
				texts[part] = true
			}
		}
	}
	return texts
}

// anotherFilter reads what is behind a semicolon of an attribute's filter: its text, or a filter of the same attribute,
// whose text is returned.
func anotherFilter(name, text string, faults *fault.Violations) string {
	other, rest, isFilter := strings.Cut(text, "=")
	switch {
	case isFilter && other == name:
		return rest
	case isFilter && (isAttribute(other) || slices.Contains(controls, other)):
		faults.Add(fault.BadValue, "; joins filters of one attribute, not of %s and %s", quoted(name), quoted(other))
	case operator(other) != "":
		addOperatorFault(other, operator(other), faults)
	}
	return text
}

// controls are the parameters of a list that are no filters.
var controls = []string{"offset", "limit", "fields"}

// isJSONPath reports whether a parameter is what TMF630 has for JSONPath: filter, or a path with brackets or a root.
func isJSONPath(name string) bool {
	return name == "filter" || strings.HasPrefix(name, "$") || strings.Contains(name, "[")
}

// signs are what TMF630's operators are made of, where they are no names.
const signs = "<>=~*!"

// operator returns the operator of TMF630 that stands behind an attribute in a text, which is a parameter's name or may
// be one with its value, or "": .gt of status.gt, >= of status>= and the like.
func operator(text string) string {
	if dot := strings.LastIndexByte(text, '.'); dot > 0 && isAttribute(text[:dot]) {
		switch text[dot:] {
		case ".eq", ".gt", ".gte", ".lt", ".lte", ".ne", ".regex":
			return text[dot:]
		}
	}
	from := strings.IndexAny(text, signs)
	if from <= 0 || !isAttribute(text[:from]) {
		return ""
	}
	sign := text[from:]
	if end := strings.IndexFunc(sign, func(r rune) bool { return !strings.ContainsRune(signs, r) }); end > 0 {
		return sign[:end]
	}
	if len(sign) == 1 {
		return sign + "=" // the one that parts a parameter's name and value
	}
	return sign
}

func addOperatorFault(name, operator string, faults *fault.Violations) {
	faults.Add(fault.BadValue, "%s: the operator %s is not supported, = is", quoted(name), operator)
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
