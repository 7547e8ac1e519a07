package template

import (
	"encoding/json"
	"strings"

	"go.yaml.in/yaml/v4"
)

// DefaultBus is the event bus that every account has, and that AWS's own services publish to.
const DefaultBus = "default"

// EventBus is an AWS::Events::EventBus.
type EventBus struct{ LogicalID, Name string }

// Rule is an AWS::Events::Rule: it sends the events of a bus that match a pattern to queues.
type Rule struct {
	LogicalID string
	Name      string
	// Bus is the name of its bus, DefaultBus if the template names none.
	Bus string
	// Pattern is the event pattern, a JSON object.
	Pattern string
	Targets []RuleTarget
	// Disabled rules send nothing.
	Disabled bool
}

// RuleTarget is where a rule sends events; the id is its own among the rule's targets.
type RuleTarget struct{ ID, ARN string }

// qualifiedName is the rule's name, after its bus's unless that is the default one.
func (r Rule) qualifiedName(separator string) string {
	if r.Bus == DefaultBus {
		return r.Name
	}
	return r.Bus + separator + r.Name
}

// EventBuses returns the buses that this deployment has of its own, in the template's order.
func (t *Template) EventBuses() ([]EventBus, error) {
	resources, err := t.live(typeEventBus)
	if err != nil {
		return nil, err
	}
	var buses []EventBus
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, "Name")
		bus := EventBus{LogicalID: resource.id, Name: r.text("Name", r.properties["Name"], "")}
		if bus.Name == "" {
			r.fail("%s: Name is missing", resource.id)
		}
		if r.err != nil {
			return nil, r.err
		}
		buses = append(buses, bus)
	}
	return buses, nil
}

// Rules returns the rules that this deployment has, in the template's order. What their targets refer to must have been
// bound.
func (t *Template) Rules() ([]Rule, error) {
	resources, err := t.live(typeRule)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	for _, resource := range resources {
		rule, err := t.rule(resource)
		if err != nil {
			return nil, err
		}
		r := t.read(resource.node, resource.properties, "Targets", "State")
		for _, element := range r.list("Targets", r.properties["Targets"]) {
			target := r.object("Targets", element)
			// The emulator delivers what it accepts: there is nothing to repeat or to give up.
			r.only(resource.id+".Targets", target, "Id", "Arn", "RetryPolicy", "DeadLetterConfig")
			arn := r.text("Arn", target["Arn"], "")
			if !strings.HasPrefix(arn, "arn:aws:sqs:") {
				r.fail("%s: the local run knows rules that send to queues, not to %q", resource.id, arn)
			}
			rule.Targets = append(rule.Targets, RuleTarget{ID: r.text("Id", target["Id"], ""), ARN: arn})
		}
		switch state := r.text("State", r.properties["State"], "ENABLED"); state {
		case "ENABLED":
		case "DISABLED":
			rule.Disabled = true
		default:
			r.fail("%s: State %s is neither ENABLED nor DISABLED", resource.id, state)
		}
		if node, ok := resource.properties["EventPattern"]; !ok {
			r.fail("%s: the local run knows rules with an EventPattern alone", resource.id)
		} else if rule.Pattern, err = t.json(node); err != nil {
			return nil, err
		}
		if r.err != nil {
			return nil, r.err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// rule reads what the rule is called: a policy of its target may name it before the target exists.
func (t *Template) rule(resource resource) (Rule, error) {
	r := t.read(resource.node, resource.properties, "Name", "EventBusName")
	bus := r.text("EventBusName", r.properties["EventBusName"], DefaultBus)
	return Rule{
		LogicalID: resource.id,
		Name:      r.text("Name", r.properties["Name"], t.generatedName(resource.id)),
		Bus:       bus[strings.LastIndexByte(bus, '/')+1:], // an ARN ends in the name
	}, r.err
}

// json evaluates a property that is JSON to its service. There, unlike in CloudFormation's own properties, it matters
// whether a scalar is a boolean, a number or a string.
func (t *Template) json(node *yaml.Node) (string, error) {
	value, err := t.typed(node)
	if err != nil {
		return "", err
	}
	raw, err := json.Marshal(value)
	return string(raw), err
}

func (t *Template) typed(node *yaml.Node) (any, error) {
	node = target(node)
	if _, _, isCall := intrinsic(node); isCall {
		return t.evaluate(node)
	}
	switch node.Kind {
	case yaml.SequenceNode:
		list := make([]any, 0, len(node.Content))
		for _, element := range node.Content {
			value, err := t.typed(element)
			if err != nil {
				return nil, err
			}
			list = append(list, value)
		}
		return list, nil
	case yaml.MappingNode:
		members, names, err := t.members(node)
		if err != nil {
			return nil, err
		}
		object := make(map[string]any, len(names))
		for _, name := range names {
			if object[name], err = t.typed(members[name]); err != nil {
				return nil, err
			}
		}
		return object, nil
	}
	var value any
	if err := node.Decode(&value); err != nil {
		return nil, t.errorf(node, "is no JSON: %v", err)
	}
	return value, nil
}
