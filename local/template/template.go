// Package template reads what the local run needs from a SAM template: tables, secrets, queues, and functions with
// their environment, limits and events. It evaluates CloudFormation's intrinsic functions the way a
// deployment would.
//
// It is strict on purpose: a resource type, property or intrinsic that it does not know is an error with its
// line, so that whoever adds one to the template decides what it means on one machine.
package template

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Options say for which deployment the template is evaluated.
type Options struct {
	// StackName, Region and AccountID are the pseudo parameters of the same name.
	StackName, Region, AccountID string
	// Parameters override the defaults. They are not held to AllowedPattern: the local run points a parameter
	// at loopback http where a deployment demands https.
	Parameters map[string]string
	// Offered are values for parameters that a template may or may not declare; Parameters override them.
	Offered map[string]string
}

// Physical is what a created resource answers to Ref and GetAtt.
type Physical struct {
	Ref        string
	Attributes map[string]string
}

// Template is a SAM template under evaluation. It is not safe for concurrent use.
type Template struct {
	file       string
	options    Options
	parameters map[string]string
	conditions map[string]*yaml.Node
	mappings   map[string]*yaml.Node
	globals    map[string]*yaml.Node
	resources  map[string]*yaml.Node
	order      []string // logical ids, as written
	physical   map[string]Physical
	deciding   []string // conditions under evaluation, to notice a circle
}

// Load reads the template at path. It returns an error with the file and line if that is not YAML or has an unknown
// section, if a parameter has no value, or if one is overridden that is not declared.
func Load(path string, options Options) (*Template, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the template: %w", err)
	}
	t := &Template{
		file:       filepath.Base(path),
		options:    options,
		parameters: map[string]string{},
		physical:   map[string]Physical{},
	}
	var document yaml.Node
	if err := yaml.Load(raw, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", t.file, err)
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, fmt.Errorf("%s: must be one YAML document", t.file)
	}
	return t, t.sections(document.Content[0])
}

func (t *Template) sections(root *yaml.Node) error {
	sections, names, err := t.members(root)
	if err != nil {
		return err
	}
	for _, name := range names {
		node := sections[name]
		var err error
		switch name {
		case "AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Outputs", "Rules":
			// Nothing of these exists on one machine.
		case "Parameters":
			err = t.readParameters(node)
		case "Mappings":
			t.mappings, _, err = t.members(node)
		case "Conditions":
			t.conditions, _, err = t.members(node)
		case "Globals":
			t.globals, _, err = t.members(node)
		case "Resources":
			t.resources, t.order, err = t.members(node)
		default:
			err = t.errorf(node, "section %s is unknown to the local run", name)
		}
		if err != nil {
			return err
		}
	}
	for name := range t.globals {
		if name != "Function" && name != "HttpApi" {
			return t.errorf(t.globals[name], "Globals.%s is unknown to the local run", name)
		}
	}
	unknown := []string{}
	for name := range t.options.Parameters {
		if _, ok := t.parameters[name]; !ok {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("%s: declares no parameter %s", t.file, strings.Join(unknown, ", "))
	}
	return nil
}

func (t *Template) readParameters(section *yaml.Node) error {
	declared, names, err := t.members(section)
	if err != nil {
		return err
	}
	var missing []string
	for _, name := range names {
		attributes, _, err := t.members(declared[name])
		if err != nil {
			return err
		}
		value, given := t.options.Parameters[name]
		if !given {
			value, given = t.options.Offered[name]
		}
		if !given {
			node, ok := attributes["Default"]
			if !ok {
				missing = append(missing, name)
				continue
			}
			value = node.Value
		}
		if node, ok := attributes["AllowedValues"]; ok {
			if !slices.ContainsFunc(node.Content, func(n *yaml.Node) bool { return n.Value == value }) {
				return t.errorf(node, "parameter %s cannot be %q", name, value)
			}
		}
		t.parameters[name] = value
	}
	if len(missing) > 0 {
		return fmt.Errorf(
			"%s: parameter %s has no default and the local run gives it no value",
			t.file,
			strings.Join(missing, ", "),
		)
	}
	return nil
}

// Bind tells what Ref and GetAtt of a created resource answer from now on. Only what AWS names itself needs it:
// a secret's ARN ends in random characters, a queue's URL is its server's.
func (t *Template) Bind(logicalID string, p Physical) {
	t.physical[logicalID] = p
}

// Bound returns what Bind was told.
func (t *Template) Bound(logicalID string) (Physical, bool) {
	p, ok := t.physical[logicalID]
	return p, ok
}

// resource is one that exists in this deployment: its condition, if any, holds.
type resource struct {
	id         string
	kind       string
	properties map[string]*yaml.Node
	node       *yaml.Node
}

// live returns the resources of one type, in the template's order.
func (t *Template) live(kind string) ([]resource, error) {
	var found []resource
	var errs []error
	for _, id := range t.order {
		r, err := t.resource(id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if r != nil && r.kind == kind {
			found = append(found, *r)
		}
	}
	return found, errors.Join(errs...)
}

// resource reads one resource, nil if its condition does not hold.
func (t *Template) resource(id string) (*resource, error) {
	node := t.resources[id]
	attributes, names, err := t.members(node)
	if err != nil {
		return nil, err
	}
	r := &resource{id: id, node: node}
	for _, name := range names {
		switch name {
		case "Type":
			r.kind = attributes[name].Value
		case "Properties":
			if r.properties, _, err = t.members(attributes[name]); err != nil {
				return nil, err
			}
		case "Condition":
			holds, err := t.condition(attributes[name], attributes[name].Value)
			if err != nil || !holds {
				return nil, err
			}
		case "DeletionPolicy", "UpdateReplacePolicy", "UpdatePolicy", "DependsOn", "Metadata":
			// Every run starts empty and ends with everything gone; the order is the local run's own.
		default:
			return nil, t.errorf(attributes[name], "%s.%s is unknown to the local run", id, name)
		}
	}
	known, ok := knownTypes[r.kind]
	if !ok {
		return nil, t.errorf(node, "%s: the local run does not know resources of type %s", id, r.kind)
	}
	if known == nil { // nothing of it exists on one machine, whatever its properties
		return r, nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.properties)) {
		if !slices.Contains(known, name) {
			return nil, t.errorf(
				r.properties[name],
				"%s: the local run does not know property %s of %s",
				id,
				name,
				r.kind,
			)
		}
	}
	return r, nil
}

// members returns a mapping's values by name, and the names as written; merge keys are resolved.
func (t *Template) members(node *yaml.Node) (map[string]*yaml.Node, []string, error) {
	node = target(node)
	if node.Kind != yaml.MappingNode {
		return nil, nil, t.errorf(node, "must be a mapping")
	}
	values := map[string]*yaml.Node{}
	var names []string
	merged := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], target(node.Content[i+1])
		if key.Tag == "!!merge" {
			more, _, err := t.members(value)
			if err != nil {
				return nil, nil, err
			}
			maps.Copy(merged, more)
			continue
		}
		if _, twice := values[key.Value]; twice {
			return nil, nil, t.errorf(key, "%s is given twice", key.Value)
		}
		values[key.Value] = value
		names = append(names, key.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		if _, own := values[name]; !own {
			values[name] = merged[name]
			names = append(names, name)
		}
	}
	return values, names, nil
}

// target follows an alias to its anchor.
func target(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	return node
}

func (t *Template) errorf(node *yaml.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", t.file, node.Line, fmt.Sprintf(format, args...))
}
