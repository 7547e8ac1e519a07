// Package document reads template.yaml as it is written, for tests that hold it to something. What a deployment makes
// of it is package carillon/local/template's.
package document

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

	"carillon/local/emulatortest"
)

// Document is template.yaml as written: mappings, lists and strings, with `!Ref X` as {"Ref": "X"} and every other
// short form as {"Fn::…": …}, so that a test compares what a reader sees.
type Document map[string]any

// Load reads the repository's template.yaml.
func Load(t testing.TB) Document {
	t.Helper()
	root, err := emulatortest.Repository()
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	require.NoError(t, err)
	var node yaml.Node
	require.NoError(t, yaml.Load(raw, &node))
	return Document(plain(&node).(map[string]any))
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

// At follows a path of member names and fails the test where there is none.
func At(t testing.TB, from any, path ...string) any {
	t.Helper()
	for i, name := range path {
		members, ok := from.(map[string]any)
		require.True(t, ok, "%v is no mapping", path[:i])
		require.Contains(t, members, name, "in %v", path[:i])
		from = members[name]
	}
	return from
}

// List returns the elements of a list, or a value as the only one.
func List(value any) []any {
	if elements, ok := value.([]any); ok {
		return elements
	}
	return []any{value}
}

// OfType returns the resources of a type by logical id.
func (d Document) OfType(t testing.TB, kind string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for id, resource := range At(t, map[string]any(d), "Resources").(map[string]any) {
		if At(t, resource, "Type") == kind {
			found[id] = resource.(map[string]any)
		}
	}
	require.NotEmpty(t, found, "no resource of type %s", kind)
	return found
}

// Functions returns the properties of every function, Globals merged in as SAM does, by the name of its folder.
func (d Document) Functions(t testing.TB) map[string]map[string]any {
	t.Helper()
	globals := At(t, map[string]any(d), "Globals", "Function")
	found := map[string]map[string]any{}
	for id, resource := range d.OfType(t, "AWS::Serverless::Function") {
		found[Folder(id)] = merge(globals, At(t, resource, "Properties")).(map[string]any)
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

// Folder is the name in functions/ that belongs to a function's logical id, by the rule of the Makefile.
func Folder(logicalID string) string {
	return strings.ToLower(camel.ReplaceAllString(strings.TrimSuffix(logicalID, "Function"), "$1-$2"))
}

// Stem is what the logical ids of a function and of all that belongs to it start with.
func Stem(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "-") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// Text writes an intrinsic function the short way, so that expectations stay readable: "!Ref X", "!Sub …".
func Text(value any) string {
	members, ok := value.(map[string]any)
	if !ok || len(members) != 1 {
		return fmt.Sprint(value)
	}
	for name, argument := range members {
		return "!" + strings.TrimPrefix(name, "Fn::") + " " + fmt.Sprint(argument)
	}
	return ""
}

// Texts is Text of each element, sorted.
func Texts(value any) []string {
	written := []string{}
	for _, element := range List(value) {
		written = append(written, Text(element))
	}
	slices.Sort(written)
	return written
}

// Routes returns the routes of a function of Functions, as API Gateway writes them: POST /v2/token. ANY is each method
// that has no route of its own.
func Routes(t testing.TB, function map[string]any) []string {
	t.Helper()
	var routes []string
	for _, event := range events(t, function, "HttpApi") {
		routes = append(routes, Text(At(t, event, "Method"))+" "+Text(At(t, event, "Path")))
	}
	slices.Sort(routes)
	return routes
}

// Queues returns the logical ids of the queues that invoke a function of Functions.
func Queues(t testing.TB, function map[string]any) []string {
	t.Helper()
	var queues []string
	for _, event := range events(t, function, "SQS") {
		id, found := strings.CutPrefix(Text(At(t, event, "Queue")), "!GetAtt ")
		require.True(t, found, "a queue of another stack?")
		queues = append(queues, strings.TrimSuffix(id, ".Arn"))
	}
	return queues
}

// events returns the properties of a function's events of one type.
func events(t testing.TB, function map[string]any, kind string) []any {
	t.Helper()
	var found []any
	for _, event := range At(t, function, "Events").(map[string]any) {
		if At(t, event, "Type") == kind {
			found = append(found, At(t, event, "Properties"))
		}
	}
	return found
}

// Environment returns the variables that a function of Functions has on AWS, as Text writes their values: !Ref
// PushesTable.
func Environment(t testing.TB, function map[string]any) map[string]string {
	t.Helper()
	variables := map[string]string{}
	for name, value := range At(t, function, "Environment", "Variables").(map[string]any) {
		if written := Text(value); written != "!Ref AWS::NoValue" {
			variables[name] = written
		}
	}
	return variables
}
