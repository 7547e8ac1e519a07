package provision

import (
	"cmp"
	"maps"
	"slices"

	"carillon/shared/dynamo"
)

// The sort keys that have no id in them.
const (
	numbersSort  = "anumbers"
	businessSort = "business"
)

// owner is one partition of the content table: all that a tenant or a business has.
type owner struct {
	name  string
	pk    string
	items []dynamo.Item
}

func owners(c Content) []owner {
	var out []owner
	for _, t := range c.Tenants {
		out = append(out, t.owner())
	}
	for _, b := range c.Businesses {
		out = append(out, b.owner())
	}
	return out
}

// owner names the partition as the content file does; the key is what stored items have.
func (t Tenant) owner() owner {
	o := owner{name: "provider " + t.ID, pk: "provider#" + t.ID}
	if len(t.ANumbers) > 0 { // DynamoDB has no empty set
		o.add(numbersSort, dynamo.Item{"numbers": dynamo.StringSet(t.ANumbers)})
	}
	for _, g := range t.Groups {
		o.add("group#"+g.ID, dynamo.Item{"name": dynamo.String(g.Name), "numbers": dynamo.StringSet(g.ANumbers)})
	}
	for _, program := range t.Programs {
		o.add("program#"+program.UUID, dynamo.Item{
			"name":      dynamo.String(program.Name),
			"complete":  dynamo.Bool(program.Complete),
			"variables": dynamo.StringList(program.Variables),
			"content":   dynamo.String(program.Content),
		})
	}
	return o
}

func (b Business) owner() owner {
	o := owner{name: "business " + b.ID, pk: "business#" + b.ID}
	o.add(businessSort, dynamo.Item{"merchantAccountKey": dynamo.String(b.MerchantAccountKey)})
	for _, product := range b.Products {
		attributes := dynamo.Item{
			"productKey": dynamo.String(cmp.Or(product.ProductKey, b.ProductKey)),
			"offerKey":   dynamo.String(cmp.Or(product.OfferKey, b.OfferKey)),
		}
		if product.MerchantAccountKey != "" {
			attributes["merchantAccountKey"] = dynamo.String(product.MerchantAccountKey)
		}
		if product.Name != "" {
			attributes["name"] = dynamo.String(product.Name)
		}
		o.add(productSort(product), attributes)
	}
	return o
}

func productSort(p Product) string {
	return "product#" + p.ReferredType + "#" + p.ProductSpecification
}

func (o *owner) add(sort string, attributes dynamo.Item) {
	maps.Copy(attributes, key(o.pk, sort))
	o.items = append(o.items, attributes)
}

func key(pk, sort string) dynamo.Item {
	return dynamo.Item{"pk": dynamo.String(pk), "sk": dynamo.String(sort)}
}

func sortedKeys(m map[string]dynamo.Item) []string { return slices.Sorted(maps.Keys(m)) }
