package provision

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.yaml.in/yaml/v4"

	"carillon/shared/engage"
	"carillon/shared/product"
)

// What a content file may hold, beyond the exported limits: far above any real use, and together below
// DynamoDB's 400 KB for an item.
const (
	maxText      = 256 // characters of a name, a key or an id
	maxVariables = 200
)

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	referredType = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// ParseContent reads a content file, YAML or JSON: one document with providers, businesses or both. Members
// that it does not know are refused, so that a typing error is not taken for an omission. The error is Faults
// with all that is wrong at once, or what r failed with.
func ParseContent(r io.Reader) (Content, error) {
	raw, err := io.ReadAll(io.LimitReader(r, MaxContentFile+1))
	if err != nil {
		return Content{}, err
	}
	if len(raw) > MaxContentFile {
		return Content{}, Faults{{Message: fmt.Sprintf("the file is larger than %d MiB", MaxContentFile>>20)}}
	}
	var document yaml.Node
	if err := yaml.Load(raw, &document); err != nil {
		return Content{}, notYAML(err)
	}
	p := parser{ids: map[string]string{}}
	content := p.content(resolve(&document))
	if err := p.faults.orNil(); err != nil {
		return Content{}, err
	}
	return content, nil
}

func notYAML(err error) error {
	fault := Fault{Message: err.Error()}
	if bad, ok := errors.AsType[*yaml.LoadError](err); ok {
		fault = Fault{Line: bad.Mark.Line, Message: bad.Message}
	}
	fault.Message = "must be one YAML document: " + strings.TrimPrefix(fault.Message, "yaml: ")
	return Faults{fault}
}

// parser walks the YAML tree rather than letting the library fill structs: that way every fault comes with its
// path and line, and one fault does not hide the next.
type parser struct {
	faults Faults
	// ids says where an id that must be unique in the whole file was seen first.
	ids map[string]string
}

func (p *parser) fault(n *yaml.Node, path, format string, args ...any) {
	p.faults = append(p.faults, Fault{Path: path, Line: n.Line, Message: fmt.Sprintf(format, args...)})
}

func (p *parser) content(n *yaml.Node) Content {
	var c Content
	m := p.object(n, "", "providers", "businesses")
	if m == nil {
		return c
	}
	c.Tenants = list(p, m["providers"], "providers", p.tenant)
	c.Businesses = list(p, m["businesses"], "businesses", p.business)
	if m["providers"] == nil && m["businesses"] == nil {
		p.fault(n, "", "must hold providers or businesses")
	}
	return c
}

func (p *parser) tenant(n *yaml.Node, path string) Tenant {
	var out Tenant
	m := p.object(n, path, "tenant", "aNumbers", "aNumberGroups", "programs")
	if m == nil {
		return out
	}
	out.ID = p.pattern(n, m["tenant"], path+".tenant", tenantID.MatchString, "must be 1 to 64 letters, digits, _ . -")
	p.unique(n, m["tenant"], path+".tenant", "provider", out.ID)
	if m["aNumbers"] == nil {
		// An omission must not take a tenant's numbers away; an empty list says that it is meant.
		p.fault(n, path+".aNumbers", "is required, [] for none")
	}
	out.ANumbers = p.numbers(m["aNumbers"], path+".aNumbers", nil)
	own := make(map[string]bool, len(out.ANumbers))
	for _, number := range out.ANumbers {
		own[number] = true
	}
	out.Groups = list(p, m["aNumberGroups"], path+".aNumberGroups", func(n *yaml.Node, path string) Group {
		return p.group(n, path, own)
	})
	out.Programs = list(p, m["programs"], path+".programs", p.program)
	return out
}

func (p *parser) group(n *yaml.Node, path string, own map[string]bool) Group {
	var out Group
	m := p.object(n, path, "id", "name", "aNumbers")
	if m == nil {
		return out
	}
	out.ID = p.uuid(n, m["id"], path+".id")
	p.unique(n, m["id"], path+".id", "group", out.ID)
	out.Name = p.text(n, m["name"], path+".name")
	out.ANumbers = p.numbers(m["aNumbers"], path+".aNumbers", own)
	if m["aNumbers"] == nil || m["aNumbers"].Kind == yaml.SequenceNode && len(m["aNumbers"].Content) == 0 {
		p.fault(n, path+".aNumbers", "must list at least one number")
	}
	return out
}

func (p *parser) program(n *yaml.Node, path string) Program {
	var out Program
	m := p.object(n, path, "uuid", "name", "complete", "variables", "content")
	if m == nil {
		return out
	}
	out.UUID = p.uuid(n, m["uuid"], path+".uuid")
	p.unique(n, m["uuid"], path+".uuid", "program", out.UUID)
	out.Name = p.text(n, m["name"], path+".name")
	out.Complete = p.boolean(n, m["complete"], path+".complete")
	seen := map[string]bool{}
	out.Variables = list(p, m["variables"], path+".variables", func(n *yaml.Node, path string) string {
		name := p.pattern(
			n,
			n,
			path,
			variableName.MatchString,
			"must be a letter or _, then letters, digits and _, at most 128",
		)
		if name != "" && seen[name] {
			p.fault(n, path, "%q is given twice", name)
		}
		seen[name] = true
		return name
	})
	if len(out.Variables) > maxVariables {
		p.fault(m["variables"], path+".variables", "must be at most %d", maxVariables)
	}
	out.Content = p.json(n, m["content"], path+".content")
	return out
}

func (p *parser) business(n *yaml.Node, path string) Business {
	var out Business
	m := p.object(n, path, "id", "merchantAccountKey", "productKey", "offerKey", "products")
	if m == nil {
		return out
	}
	out.ID = p.pattern(n, m["id"], path+".id", product.IsCountryCode, "must be a country, two capital letters")
	p.unique(n, m["id"], path+".id", "business", out.ID)
	out.MerchantAccountKey = p.text(n, m["merchantAccountKey"], path+".merchantAccountKey")
	out.ProductKey = p.optionalText(n, m["productKey"], path+".productKey")
	out.OfferKey = p.optionalText(n, m["offerKey"], path+".offerKey")
	seen := map[string]bool{}
	out.Products = list(p, m["products"], path+".products", func(n *yaml.Node, path string) Product {
		product := p.product(n, path, out)
		key := productSort(product)
		if seen[key] && product.ReferredType != "" && product.ProductSpecification != "" {
			p.fault(n, path, "%s %q is given twice", product.ReferredType, product.ProductSpecification)
		}
		seen[key] = true
		return product
	})
	return out
}

// product reads a product of a business, whose keys it may leave out where the business has them.
func (p *parser) product(n *yaml.Node, path string, business Business) Product {
	var out Product
	m := p.object(
		n, path, "referredType", "productSpecification", "merchantAccountKey", "productKey", "offerKey", "name")
	if m == nil {
		return out
	}
	out.ReferredType = p.pattern(
		n,
		m["referredType"],
		path+".referredType",
		referredType.MatchString,
		"must be 1 to 64 letters, digits, _ . -",
	)
	out.ProductSpecification = p.text(n, m["productSpecification"], path+".productSpecification")
	out.MerchantAccountKey = p.optionalText(n, m["merchantAccountKey"], path+".merchantAccountKey")
	out.ProductKey = p.textOr(n, m["productKey"], path+".productKey", business.ProductKey)
	out.OfferKey = p.textOr(n, m["offerKey"], path+".offerKey", business.OfferKey)
	out.Name = p.optionalText(n, m["name"], path+".name")
	return out
}

// textOr reads a text that may be absent if there is one to take instead; then it returns none.
func (p *parser) textOr(parent, n *yaml.Node, path, instead string) string {
	if instead != "" {
		return p.optionalText(parent, n, path)
	}
	return p.text(parent, n, path)
}

func (p *parser) optionalText(parent, n *yaml.Node, path string) string {
	if n == nil {
		return ""
	}
	return p.text(parent, n, path)
}

// numbers reads a list of E.164 numbers; own, where given, is what they must be among.
func (p *parser) numbers(n *yaml.Node, path string, own map[string]bool) []string {
	seen := map[string]bool{}
	out := list(p, n, path, func(n *yaml.Node, path string) string {
		number := p.e164(n, path)
		switch {
		case number == "":
		case seen[number]:
			p.fault(n, path, "%s is given twice", number)
		case own != nil && !own[number]:
			p.fault(n, path, "%s is not one of the provider's own aNumbers", number)
		}
		seen[number] = true
		return number
	})
	if len(out) > MaxANumbers {
		p.fault(n, path, "must be at most %d, not %d", MaxANumbers, len(out))
	}
	return out
}

// object returns a mapping's members by name, nil if the node is not a mapping. A member that is null counts as absent.
func (p *parser) object(n *yaml.Node, path string, known ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		p.fault(n, path, "must be a mapping of %s", strings.Join(known, ", "))
		return nil
	}
	members := make(map[string]*yaml.Node, len(known))
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		name := key.Value
		switch {
		case !slices.Contains(known, name):
			p.fault(key, join(path, name), "is not known; known here: %s", strings.Join(known, ", "))
		case seen[name]:
			p.fault(key, join(path, name), "is given twice")
		case !isNull(value):
			members[name] = value
		}
		seen[name] = true
	}
	return members
}

// list reads every element of a sequence; an absent one is empty.
func list[T any](p *parser, n *yaml.Node, path string, read func(*yaml.Node, string) T) []T {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		p.fault(n, path, "must be a list")
		return nil
	}
	out := make([]T, len(n.Content))
	for i, element := range n.Content {
		out[i] = read(resolve(element), fmt.Sprintf("%s[%d]", path, i))
	}
	return out
}

// scalar returns a scalar's text. A number or a date where text is expected is taken as it is written:
// +5014008029 needs no quotes. Empty if the node is absent or no scalar, which is then a fault.
func (p *parser) scalar(parent, n *yaml.Node, path string) string {
	switch {
	case n == nil || isNull(n):
		if n == nil {
			n = parent
		}
		p.fault(n, path, "is required")
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!binary":
		p.fault(n, path, "must be text")
	case n.Value == "":
		p.fault(n, path, "must not be empty")
	default:
		return n.Value
	}
	return ""
}

func (p *parser) text(parent, n *yaml.Node, path string) string {
	s := p.scalar(parent, n, path)
	switch {
	case utf8.RuneCountInString(s) > maxText:
		p.fault(n, path, "must be at most %d characters", maxText)
	case strings.ContainsFunc(s, unicode.IsControl):
		p.fault(n, path, "must not hold control characters")
	case s != "" && strings.TrimSpace(s) != s:
		p.fault(n, path, "must not begin or end with a space")
	default:
		return s
	}
	return ""
}

func (p *parser) pattern(parent, n *yaml.Node, path string, allowed func(string) bool, rule string) string {
	s := p.scalar(parent, n, path)
	if s != "" && !allowed(s) {
		p.fault(n, path, "%s", rule)
		return ""
	}
	return s
}

func (p *parser) e164(n *yaml.Node, path string) string {
	s := p.scalar(n, n, path)
	if s != "" && !engage.IsE164(s) {
		p.fault(n, path, "must be an E.164 number: +, then 7 to 15 digits, the first not 0")
		return ""
	}
	return s
}

func (p *parser) uuid(parent, n *yaml.Node, path string) string {
	s := p.scalar(parent, n, path)
	if s == "" {
		return ""
	}
	id, err := uuid.Parse(s)
	if err != nil || len(s) != len(id.String()) {
		p.fault(n, path, "must be a UUID")
		return ""
	}
	return id.String()
}

func (p *parser) boolean(parent, n *yaml.Node, path string) bool {
	if n == nil {
		p.fault(parent, path, "is required: true once the program may be pushed, else false")
		return false
	}
	var b bool
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Load(&b) != nil {
		p.fault(n, path, "must be true or false")
	}
	return b
}

// unique refuses an id that the file used before for the same kind of thing.
func (p *parser) unique(parent, n *yaml.Node, path, kind, id string) {
	if id == "" {
		return
	}
	if first, taken := p.ids[kind+" "+id]; taken {
		if n == nil {
			n = parent
		}
		p.fault(n, path, "is the same as %s", first)
		return
	}
	p.ids[kind+" "+id] = path
}

// resolve looks through the document node and aliases.
func resolve(n *yaml.Node) *yaml.Node {
	for {
		switch {
		case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
			n = n.Content[0]
		case n.Kind == yaml.AliasNode && n.Alias != nil:
			n = n.Alias
		default:
			return n
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}
