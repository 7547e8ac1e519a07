package template

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// reader reads the properties of one resource and keeps the first error, so that reading is not all error handling.
type reader struct {
	t          *Template
	node       *yaml.Node
	properties map[string]any
	err        error
}

func (t *Template) read(node *yaml.Node, properties map[string]*yaml.Node, names ...string) *reader {
	r := &reader{t: t, node: node, properties: map[string]any{}}
	for _, name := range names {
		property, ok := properties[name]
		if !ok {
			continue
		}
		value, err := t.evaluate(property)
		if err != nil {
			r.err = err
			return r
		}
		if _, drop := value.(noValue); !drop {
			r.properties[name] = value
		}
	}
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = r.t.errorf(r.node, format, args...)
	}
}

// only refuses members that were not named.
func (r *reader) only(what string, object map[string]any, names ...string) {
	for _, name := range slices.Sorted(maps.Keys(object)) {
		if !slices.Contains(names, name) {
			r.fail("the local run does not know %s.%s", what, name)
		}
	}
}

func (r *reader) text(what string, value any, otherwise string) string {
	switch value := value.(type) {
	case nil:
		return otherwise
	case string:
		return value
	}
	r.fail("%s must be a string", what)
	return ""
}

func (r *reader) integer(what string, value any, otherwise int) int {
	if value == nil {
		return otherwise
	}
	n, err := strconv.Atoi(text(value))
	if err != nil {
		r.fail("%s must be an integer", what)
	}
	return n
}

func (r *reader) boolean(what string, value any, otherwise bool) bool {
	switch strings.ToLower(r.text(what, value, strconv.FormatBool(otherwise))) {
	case "true":
		return true
	case "false":
		return false
	}
	r.fail("%s must be true or false", what)
	return false
}

func (r *reader) object(what string, value any) map[string]any {
	object, ok := value.(map[string]any)
	if !ok && value != nil {
		r.fail("%s must be a mapping", what)
	}
	return object
}

func (r *reader) list(what string, value any) []any {
	list, ok := value.([]any)
	if !ok && value != nil {
		r.fail("%s must be a list", what)
	}
	return list
}
