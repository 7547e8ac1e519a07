package template_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v4"
)

const root = "../.."

// document is template.yaml as written: mappings, lists and strings, with `!Ref X` as {"Ref": "X"} and every other
// short form as {"Fn::…": …}, so that a test compares what a reader sees.
type document map[string]any

func load(t *testing.T) document {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	require.NoError(t, err)
	var node yaml.Node
	require.NoError(t, yaml.Load(raw, &node))
	return document(plain(&node).(map[string]any))
}

func plain(node *yaml.Node) any {
	var value any
	switch node.Kind {
	case yaml.DocumentNode:
		return plain(node.Content[0])
	case yaml.MappingNode:
		members := map[string]any{}
		for i := 0; i < len(node.Content); i += 2 {
			members[node.Content[i].Value] = plain(node.Content[i+1])
		}
		value = members
	case yaml.SequenceNode:
		elements := []any{}
		for _, element := range node.Content {
			elements = append(elements, plain(element))
		}
		value = elements
	default:
		value = node.Value
	}
	switch tag := node.Tag; {
	case tag == "!Ref" || tag == "!Condition":
		return map[string]any{strings.TrimPrefix(tag, "!"): value}
	case strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!"):
		return map[string]any{"Fn::" + strings.TrimPrefix(tag, "!"): value}
	}
	return value
}

// at follows a path of member names and fails the test where there is none.
func at(t *testing.T, from any, path ...string) any {
	t.Helper()
	for i, name := range path {
		members, ok := from.(map[string]any)
		require.True(t, ok, "%v is no mapping", path[:i])
		require.Contains(t, members, name, "in %v", path[:i])
		from = members[name]
	}
	return from
}

func list(value any) []any {
	if elements, ok := value.([]any); ok {
		return elements
	}
	return []any{value}
}

// ofType returns the resources of a type by logical id.
func (d document) ofType(t *testing.T, kind string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for id, resource := range at(t, map[string]any(d), "Resources").(map[string]any) {
		if at(t, resource, "Type") == kind {
			found[id] = resource.(map[string]any)
		}
	}
	require.NotEmpty(t, found, "no resource of type %s", kind)
	return found
}

// functions returns the properties of every function, Globals merged in as SAM does, by the name of its folder.
func (d document) functions(t *testing.T) map[string]map[string]any {
	t.Helper()
	globals := at(t, map[string]any(d), "Globals", "Function")
	found := map[string]map[string]any{}
	for id, resource := range d.ofType(t, "AWS::Serverless::Function") {
		found[folder(id)] = merge(globals, at(t, resource, "Properties")).(map[string]any)
	}
	return found
}

func merge(base, over any) any {
	lower, isMap := base.(map[string]any)
	upper, isMapToo := over.(map[string]any)
	if !isMap || !isMapToo {
		return over
	}
	merged := map[string]any{}
	for name, value := range lower {
		merged[name] = value
	}
	for name, value := range upper {
		if was, both := merged[name]; both {
			value = merge(was, value)
		}
		merged[name] = value
	}
	return merged
}

var camel = regexp.MustCompile(`([a-z0-9])([A-Z])`)

// folder is the name in functions/ that belongs to a function's logical id, by the rule of the Makefile.
func folder(logicalID string) string {
	return strings.ToLower(camel.ReplaceAllString(strings.TrimSuffix(logicalID, "Function"), "$1-$2"))
}

// stem is what the logical ids of a function and of all that belongs to it start with.
func stem(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// text writes an intrinsic function the short way, so that expectations stay readable: "!Ref X", "!Sub …".
func text(value any) string {
	members, ok := value.(map[string]any)
	if !ok || len(members) != 1 {
		return fmt.Sprint(value)
	}
	for name, argument := range members {
		return "!" + strings.TrimPrefix(name, "Fn::") + " " + fmt.Sprint(argument)
	}
	return ""
}

func texts(value any) []string {
	written := []string{}
	for _, element := range list(value) {
		written = append(written, text(element))
	}
	slices.Sort(written)
	return written
}
