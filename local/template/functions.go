package template

import (
	"maps"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"
)

// Function is an AWS::Serverless::Function with the globals merged in.
type Function struct {
	LogicalID   string
	Name        string
	Timeout     time.Duration
	MemoryMB    int
	LogFormat   string // Text or JSON
	LogLevel    string // empty when the template names none
	Environment map[string]string
	Routes      []Route
	Mappings    []Mapping
	Schedules   []Schedule
	// RecursionAllowed says that the template has RecursiveLoop: Allow: Lambda does not end loops of the function with
	// itself.
	RecursionAllowed bool
}

// FunctionIDs returns the logical ids of the functions; unlike Functions it needs nothing created.
func (t *Template) FunctionIDs() ([]string, error) {
	resources, err := t.live(typeFunction)
	if err != nil {
		return nil, err
	}
	ids := make([]string, len(resources))
	for i, resource := range resources {
		ids[i] = resource.id
	}
	return ids, nil
}

// Functions returns the functions that this deployment has, in the template's order. What their environment
// refers to must have been bound.
func (t *Template) Functions() ([]Function, error) {
	if apis, err := t.live(typeAPI); err != nil {
		return nil, err
	} else if len(apis) > 1 {
		return nil, t.errorf(apis[1].node, "%s: the local run serves one HTTP API", apis[1].id)
	}
	resources, err := t.live(typeFunction)
	if err != nil {
		return nil, err
	}
	globals := map[string]*yaml.Node{}
	if node, ok := t.globals["Function"]; ok {
		if globals, _, err = t.members(node); err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(globals)) {
			if !slices.Contains(knownTypes[typeFunction], name) {
				return nil, t.errorf(globals[name], "Globals.Function: the local run does not know property %s", name)
			}
		}
	}
	var functions []Function
	for _, resource := range resources {
		function, err := t.function(resource, globals)
		if err != nil {
			return nil, err
		}
		functions = append(functions, function)
	}
	return functions, nil
}

func (t *Template) function(resource resource, globals map[string]*yaml.Node) (Function, error) {
	names := []string{"FunctionName", "Timeout", "MemorySize", "Environment", "Events", "RecursiveLoop"}
	r := t.read(resource.node, resource.properties, names...)
	shared := t.read(resource.node, globals, names...)
	if r.err == nil {
		r.err = shared.err
	}
	if r.err != nil {
		return Function{}, r.err
	}
	merged := merge(shared.properties, r.properties)
	function := Function{
		LogicalID:   resource.id,
		Name:        r.text("FunctionName", merged["FunctionName"], t.generatedName(resource.id)),
		Timeout:     time.Duration(r.integer("Timeout", merged["Timeout"], 3)) * time.Second,
		MemoryMB:    r.integer("MemorySize", merged["MemorySize"], 128),
		Environment: map[string]string{},
	}
	switch loop := r.text("RecursiveLoop", merged["RecursiveLoop"], "Terminate"); loop {
	case "Allow":
		function.RecursionAllowed = true
	case "Terminate":
	default:
		r.fail("%s: RecursiveLoop %s is neither Allow nor Terminate", resource.id, loop)
	}
	logging, err := t.logging(resource, globals)
	if err != nil {
		return Function{}, err
	}
	function.LogFormat = r.text("LogFormat", logging["LogFormat"], "Text")
	function.LogLevel = r.text("ApplicationLogLevel", logging["ApplicationLogLevel"], "")
	environment := r.object("Environment", merged["Environment"])
	r.only("Environment", environment, "Variables")
	for name, value := range r.object("Environment.Variables", environment["Variables"]) {
		function.Environment[name] = r.text("Environment.Variables."+name, value, "")
	}
	events := r.object("Events", merged["Events"])
	for _, name := range slices.Sorted(maps.Keys(events)) {
		r.event(&function, resource.id+name, resource.id+"."+name, r.object(name, events[name]))
	}
	return function, r.err
}

// logging reads format and level alone: the log group of LoggingConfig is a resource that does not exist here.
func (t *Template) logging(resource resource, globals map[string]*yaml.Node) (map[string]any, error) {
	result := map[string]any{}
	for _, properties := range []map[string]*yaml.Node{globals, resource.properties} {
		node, ok := properties["LoggingConfig"]
		if !ok {
			continue
		}
		members, _, err := t.members(node)
		if err != nil {
			return nil, err
		}
		r := t.read(node, members, "LogFormat", "ApplicationLogLevel")
		if r.err != nil {
			return nil, r.err
		}
		maps.Copy(result, r.properties)
	}
	return result, nil
}

// merge does what SAM does with globals: mappings are merged, lists joined, anything else is replaced.
func merge(globals, own map[string]any) map[string]any {
	result := maps.Clone(globals)
	for name, value := range own {
		switch value := value.(type) {
		case map[string]any:
			if shared, ok := result[name].(map[string]any); ok {
				result[name] = merge(shared, value)
				continue
			}
		case []any:
			if shared, ok := result[name].([]any); ok {
				result[name] = slices.Concat(shared, value)
				continue
			}
		}
		result[name] = value
	}
	return result
}
