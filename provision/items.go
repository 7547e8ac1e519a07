package provision

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// The sort keys that have no id in them.
const (
	numbersSort  = "anumbers"
	businessSort = "business"
)

type item = map[string]types.AttributeValue

// owner is one partition of the content table: all that a provider or a business has.
type owner struct {
	name  string
	pk    string
	items []item
}

func owners(c Content) []owner {
	var out []owner
	for _, p := range c.Providers {
		out = append(out, p.owner())
	}
	for _, b := range c.Businesses {
		out = append(out, b.owner())
	}
	return out
}

func (p Provider) owner() owner {
	o := owner{name: "provider " + p.Tenant, pk: "provider#" + p.Tenant}
	if len(p.ANumbers) > 0 { // DynamoDB has no empty set
		o.add(numbersSort, item{"numbers": set(p.ANumbers)})
	}
	for _, g := range p.Groups {
		o.add("group#"+g.ID, item{"name": str(g.Name), "numbers": set(g.ANumbers)})
	}
	for _, program := range p.Programs {
		variables := make([]types.AttributeValue, len(program.Variables))
		for i, name := range program.Variables {
			variables[i] = str(name)
		}
		o.add("program#"+program.UUID, item{
			"name":      str(program.Name),
			"complete":  &types.AttributeValueMemberBOOL{Value: program.Complete},
			"variables": &types.AttributeValueMemberL{Value: variables},
			"content":   str(program.Content),
		})
	}
	return o
}

func (b Business) owner() owner {
	o := owner{name: "business " + b.ID, pk: "business#" + b.ID}
	o.add(businessSort, item{"merchantAccountKey": str(b.MerchantAccountKey)})
	for _, product := range b.Products {
		attributes := item{"productKey": str(product.ProductKey), "offerKey": str(product.OfferKey)}
		if product.Name != "" {
			attributes["name"] = str(product.Name)
		}
		o.add(productSort(product), attributes)
	}
	return o
}

func productSort(p Product) string {
	return "product#" + p.ReferredType + "#" + p.ProductSpecification
}

func (o *owner) add(sort string, attributes item) {
	maps.Copy(attributes, key(o.pk, sort))
	o.items = append(o.items, attributes)
}

func key(pk, sort string) item { return item{"pk": str(pk), "sk": str(sort)} }

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func set(values []string) types.AttributeValue { return &types.AttributeValueMemberSS{Value: values} }

func text(it item, name string) string {
	if s, ok := it[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func sortedKeys(m map[string]item) []string { return slices.Sorted(maps.Keys(m)) }
