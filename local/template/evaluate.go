package template

import (
	"encoding/base64"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// noValue is what Ref of AWS::NoValue gives: the member or element that holds it does not exist.
type noValue struct{}

// evaluate returns the node's value as a string, []any or map[string]any. Scalars stay as written, because
// that is what CloudFormation hands on; booleans and numbers are read where a property wants one.
func (t *Template) evaluate(node *yaml.Node) (any, error) {
	node = target(node)
	if name, argument, ok := intrinsic(node); ok {
		return t.call(node, name, argument)
	}
	switch node.Kind {
	case yaml.ScalarNode:
		return node.Value, nil
	case yaml.SequenceNode:
		list := []any{}
		for _, element := range node.Content {
			value, err := t.evaluate(element)
			if err != nil {
				return nil, err
			}
			if _, drop := value.(noValue); !drop {
				list = append(list, value)
			}
		}
		return list, nil
	case yaml.MappingNode:
		members, names, err := t.members(node)
		if err != nil {
			return nil, err
		}
		object := map[string]any{}
		for _, name := range names {
			value, err := t.evaluate(members[name])
			if err != nil {
				return nil, err
			}
			if _, drop := value.(noValue); !drop {
				object[name] = value
			}
		}
		return object, nil
	}
	return nil, t.errorf(node, "is neither scalar, list nor mapping")
}

// intrinsic recognizes a call in its short form (!Sub …) and its long one ({"Fn::Sub": …}).
// The argument of a short form is the node itself without its tag.
func intrinsic(node *yaml.Node) (name string, argument *yaml.Node, ok bool) {
	if strings.HasPrefix(node.Tag, "!") && !strings.HasPrefix(node.Tag, "!!") {
		plain := *node
		plain.Tag = ""
		return node.Tag[1:], &plain, true
	}
	if node.Kind != yaml.MappingNode || len(node.Content) != 2 {
		return "", nil, false
	}
	key := node.Content[0].Value
	if key == "Ref" {
		return key, target(node.Content[1]), true
	}
	if name, ok := strings.CutPrefix(key, "Fn::"); ok {
		return name, target(node.Content[1]), true
	}
	return "", nil, false
}

func (t *Template) call(node *yaml.Node, name string, argument *yaml.Node) (any, error) {
	switch name {
	case "Ref":
		return t.ref(node, argument.Value)
	case "GetAtt":
		return t.getAtt(node, argument)
	case "Sub":
		return t.sub(node, argument)
	case "If":
		return t.branch(node, argument)
	case "Equals", "And", "Or", "Not", "Condition":
		holds, err := t.decide(node, name, argument)
		return strconv.FormatBool(holds), err
	case "Join":
		parts, err := t.arguments(node, name, argument, 2)
		if err != nil {
			return nil, err
		}
		separator, ok := parts[0].(string)
		words, isList := stringsOf(parts[1])
		if !ok || !isList {
			return nil, t.errorf(node, "!Join wants a separator and a list of strings")
		}
		return strings.Join(words, separator), nil
	case "Split":
		parts, err := t.arguments(node, name, argument, 2)
		if err != nil {
			return nil, err
		}
		words, ok := stringsOf(parts)
		if !ok {
			return nil, t.errorf(node, "!Split wants two strings")
		}
		list := []any{}
		for _, word := range strings.Split(words[1], words[0]) {
			list = append(list, word)
		}
		return list, nil
	case "Select":
		parts, err := t.arguments(node, name, argument, 2)
		if err != nil {
			return nil, err
		}
		list, ok := parts[1].([]any)
		index, aerr := strconv.Atoi(text(parts[0]))
		if !ok || aerr != nil || index < 0 || index >= len(list) {
			return nil, t.errorf(node, "!Select wants an index within its list")
		}
		return list[index], nil
	case "FindInMap":
		return t.findInMap(node, argument)
	case "Base64":
		value, err := t.evaluate(argument)
		if err != nil {
			return nil, err
		}
		return base64.StdEncoding.EncodeToString([]byte(text(value))), nil
	}
	return nil, t.errorf(node, "the local run does not know the intrinsic function %s", name)
}

// arguments evaluates a call's list of exactly n arguments.
func (t *Template) arguments(node *yaml.Node, name string, argument *yaml.Node, n int) ([]any, error) {
	if argument.Kind != yaml.SequenceNode || len(argument.Content) != n {
		return nil, t.errorf(node, "!%s wants %d arguments", name, n)
	}
	values := make([]any, n)
	for i, element := range argument.Content {
		var err error
		if values[i], err = t.evaluate(element); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (t *Template) ref(node *yaml.Node, name string) (any, error) {
	switch name {
	case "AWS::NoValue":
		return noValue{}, nil
	case "AWS::StackName":
		return t.options.StackName, nil
	case "AWS::Region":
		return t.options.Region, nil
	case "AWS::AccountId":
		return t.options.AccountID, nil
	case "AWS::Partition":
		return "aws", nil
	case "AWS::URLSuffix":
		return "amazonaws.com", nil
	}
	if value, ok := t.parameters[name]; ok {
		return value, nil
	}
	p, err := t.identify(node, name)
	if err != nil {
		return nil, err
	}
	if p.Ref == "" {
		return nil, t.errorf(node, "the local run cannot say what %s is: it was not created", name)
	}
	return p.Ref, nil
}

func (t *Template) getAtt(node, argument *yaml.Node) (any, error) {
	var path []string
	switch argument.Kind {
	case yaml.ScalarNode:
		path = strings.SplitN(argument.Value, ".", 2)
	case yaml.SequenceNode:
		for _, element := range argument.Content {
			path = append(path, element.Value)
		}
	}
	if len(path) != 2 {
		return nil, t.errorf(node, "!GetAtt wants Resource.Attribute")
	}
	return t.attribute(node, path[0], path[1])
}

func (t *Template) attribute(node *yaml.Node, id, name string) (string, error) {
	p, err := t.identify(node, id)
	if err != nil {
		return "", err
	}
	value, ok := p.Attributes[name]
	if !ok {
		return "", t.errorf(node, "the local run does not know the attribute %s of %s", name, id)
	}
	return value, nil
}

// identify says what a resource answers to Ref and GetAtt.
func (t *Template) identify(node *yaml.Node, id string) (Physical, error) {
	if p, ok := t.physical[id]; ok {
		return p, nil
	}
	if _, ok := t.resources[id]; !ok {
		return Physical{}, t.errorf(node, "%s is neither a parameter nor a resource", id)
	}
	r, err := t.resource(id)
	if err != nil {
		return Physical{}, err
	}
	if r == nil {
		return Physical{}, t.errorf(node, "%s does not exist: its condition does not hold", id)
	}
	return t.predict(node, *r)
}

// placeholder is what Sub replaces; ${!Literal} stands for ${Literal}.
var placeholder = regexp.MustCompile(`\$\{(!?)([^}]*)\}`)

func (t *Template) sub(node, argument *yaml.Node) (any, error) {
	pattern := argument
	own := map[string]*yaml.Node{}
	if argument.Kind == yaml.SequenceNode {
		if len(argument.Content) != 2 {
			return nil, t.errorf(node, "!Sub wants a string, or a string and a mapping")
		}
		pattern = target(argument.Content[0])
		var err error
		if own, _, err = t.members(argument.Content[1]); err != nil {
			return nil, err
		}
	}
	if pattern.Kind != yaml.ScalarNode {
		return nil, t.errorf(node, "!Sub wants a string")
	}
	var failed error
	result := placeholder.ReplaceAllStringFunc(pattern.Value, func(match string) string {
		parts := placeholder.FindStringSubmatch(match)
		name := strings.TrimSpace(parts[2])
		if parts[1] == "!" {
			return "${" + parts[2] + "}"
		}
		value, err := t.substitute(node, name, own)
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	return result, failed
}

func (t *Template) substitute(node *yaml.Node, name string, own map[string]*yaml.Node) (string, error) {
	if mine, ok := own[name]; ok {
		value, err := t.evaluate(mine)
		return text(value), err
	}
	if id, attribute, ok := strings.Cut(name, "."); ok {
		return t.attribute(node, id, attribute)
	}
	value, err := t.ref(node, name)
	return text(value), err
}

func (t *Template) branch(node, argument *yaml.Node) (any, error) {
	if argument.Kind != yaml.SequenceNode || len(argument.Content) != 3 {
		return nil, t.errorf(node, "!If wants a condition and two values")
	}
	holds, err := t.condition(node, argument.Content[0].Value)
	if err != nil {
		return nil, err
	}
	if holds {
		return t.evaluate(argument.Content[1])
	}
	return t.evaluate(argument.Content[2])
}

// condition evaluates a named condition.
func (t *Template) condition(node *yaml.Node, name string) (bool, error) {
	definition, ok := t.conditions[name]
	if !ok {
		return false, t.errorf(node, "condition %s is not declared", name)
	}
	if slices.Contains(t.deciding, name) {
		return false, t.errorf(node, "condition %s depends on itself", name)
	}
	t.deciding = append(t.deciding, name)
	defer func() { t.deciding = t.deciding[:len(t.deciding)-1] }()
	return t.truth(definition)
}

func (t *Template) truth(node *yaml.Node) (bool, error) {
	node = target(node)
	if node.Kind == yaml.MappingNode && len(node.Content) == 2 && node.Content[0].Value == "Condition" {
		return t.condition(node, node.Content[1].Value)
	}
	name, argument, ok := intrinsic(node)
	if !ok {
		return false, t.errorf(node, "is not a condition")
	}
	return t.decide(node, name, argument)
}

func (t *Template) decide(node *yaml.Node, name string, argument *yaml.Node) (bool, error) {
	switch name {
	case "Condition":
		return t.condition(node, argument.Value)
	case "Equals":
		values, err := t.arguments(node, name, argument, 2)
		if err != nil {
			return false, err
		}
		return text(values[0]) == text(values[1]), nil
	case "Not", "And", "Or":
		if argument.Kind != yaml.SequenceNode || len(argument.Content) == 0 ||
			name == "Not" && len(argument.Content) != 1 {
			return false, t.errorf(node, "!%s has the wrong number of conditions", name)
		}
		for _, element := range argument.Content {
			holds, err := t.truth(element)
			switch {
			case err != nil:
				return false, err
			case name == "Not":
				return !holds, nil
			case holds == (name == "Or"):
				return holds, nil
			}
		}
		return name == "And", nil
	}
	return false, t.errorf(node, "!%s is not a condition", name)
}

func (t *Template) findInMap(node, argument *yaml.Node) (any, error) {
	keys, err := t.arguments(node, "FindInMap", argument, 3)
	if err != nil {
		return nil, err
	}
	current, ok := t.mappings[text(keys[0])]
	for _, key := range keys[1:] {
		if !ok {
			break
		}
		members, _, err := t.members(current)
		if err != nil {
			return nil, err
		}
		current, ok = members[text(key)]
	}
	if !ok {
		return nil, t.errorf(
			node,
			"!FindInMap finds nothing under %s.%s.%s",
			text(keys[0]),
			text(keys[1]),
			text(keys[2]),
		)
	}
	return t.evaluate(current)
}

// text is a scalar's value, empty for anything else.
func text(value any) string {
	s, _ := value.(string)
	return s
}

// stringsOf converts a list that holds strings alone.
func stringsOf(value any) ([]string, bool) {
	list, ok := value.([]any)
	if !ok {
		return nil, false
	}
	words := make([]string, len(list))
	for i, element := range list {
		if words[i], ok = element.(string); !ok {
			return nil, false
		}
	}
	return words, true
}
