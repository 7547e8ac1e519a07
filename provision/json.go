package provision

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.yaml.in/yaml/v4"
)

const maxContentDepth = 32

var errTooLarge = errors.New("too large")

// json writes a program's content as a JSON object, members in the order of the file and numbers digit for
// digit: no float64 in between.
func (p *parser) json(parent, n *yaml.Node, path string) string {
	if n == nil {
		p.fault(parent, path, "is required")
		return ""
	}
	if n.Kind != yaml.MappingNode {
		p.fault(n, path, "must be a mapping")
		return ""
	}
	out, err := p.value(nil, n, path, 1)
	if err != nil {
		p.fault(n, path, "must be at most %d bytes as JSON", MaxProgramContent)
		return ""
	}
	return string(out)
}

// value appends a node as JSON. It stops with errTooLarge at the size limit, because aliases can make a small
// file expand without bound; whatever else is wrong is a fault, and the walk goes on.
func (p *parser) value(out []byte, n *yaml.Node, path string, depth int) ([]byte, error) {
	if len(out) > MaxProgramContent {
		return nil, errTooLarge
	}
	n = resolve(n)
	if depth > maxContentDepth {
		p.fault(n, path, "is nested deeper than %d", maxContentDepth)
		return nil, errTooLarge
	}
	switch n.Kind {
	case yaml.MappingNode:
		return p.members(out, n, path, depth)
	case yaml.SequenceNode:
		out = append(out, '[')
		for i, element := range n.Content {
			if i > 0 {
				out = append(out, ',')
			}
			var err error
			if out, err = p.value(out, element, fmt.Sprintf("%s[%d]", path, i), depth+1); err != nil {
				return nil, err
			}
		}
		out = append(out, ']')
	default:
		out = p.leaf(out, n, path)
	}
	if len(out) > MaxProgramContent {
		return nil, errTooLarge
	}
	return out, nil
}

func (p *parser) members(out []byte, n *yaml.Node, path string, depth int) ([]byte, error) {
	seen := map[string]bool{}
	out = append(out, '{')
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := resolve(n.Content[i])
		switch {
		case key.ShortTag() == "!!merge":
			p.fault(key, path, "must not use <<: write the members out")
		case key.Kind != yaml.ScalarNode:
			p.fault(key, path, "must have text as keys")
		case seen[key.Value]:
			p.fault(key, join(path, key.Value), "is given twice")
		}
		seen[key.Value] = true
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendText(out, key.Value), ':')
		var err error
		if out, err = p.value(out, n.Content[i+1], join(path, key.Value), depth+1); err != nil {
			return nil, err
		}
	}
	return append(out, '}'), nil
}

func (p *parser) leaf(out []byte, n *yaml.Node, path string) []byte {
	switch n.ShortTag() {
	case "!!str", "!!timestamp": // JSON has no dates: a date stays the text that was written
		return appendText(out, n.Value)
	case "!!null":
		return append(out, "null"...)
	case "!!bool":
		var b bool
		if err := n.Load(&b); err == nil {
			return fmt.Append(out, b)
		}
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return append(out, n.Value...)
		}
		p.fault(n, path, "%s is no number in JSON: put it in quotes, or write it in plain digits", n.Value)
		return append(out, "null"...)
	}
	p.fault(n, path, "cannot be written as JSON")
	return append(out, "null"...)
}

func appendText(out []byte, s string) []byte {
	raw, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string can always be written
	}
	return append(out, raw...)
}
