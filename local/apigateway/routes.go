package apigateway

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Route sends a method and path to a function.
type Route struct {
	// Method is upper case, or ANY.
	Method string
	// Path may hold {name} for a segment and, as its last one, {name+} for all the rest.
	Path string
	// Function answers.
	Function Function
	// Timeout is the integration's, zero for 30 seconds.
	Timeout time.Duration
}

// key is API Gateway's name for a route, as in "POST /v2/token".
func (r Route) key() string { return r.Method + " " + r.Path }

// table matches requests as API Gateway does: the most specific path first, then the method before ANY.
type table []compiled

type compiled struct {
	Route
	segments []segment
}

type segment struct {
	literal string
	name    string // of a variable
	greedy  bool
}

// rank orders segments: a literal beats a variable beats a greedy one.
func (s segment) rank() int {
	switch {
	case s.greedy:
		return 2
	case s.name != "":
		return 1
	}
	return 0
}

func newTable(routes []Route) (table, error) {
	var t table
	seen := map[string]bool{}
	for _, route := range routes {
		segments, err := parse(route.Path)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", route.key(), err)
		}
		if seen[route.key()] {
			return nil, fmt.Errorf("route %s is declared twice", route.key())
		}
		seen[route.key()] = true
		t = append(t, compiled{route, segments})
	}
	slices.SortStableFunc(t, compare)
	return t, nil
}

func parse(path string) ([]segment, error) {
	parts := split(path)
	segments := make([]segment, len(parts))
	for i, part := range parts {
		name, variable := strings.CutPrefix(part, "{")
		if !variable {
			segments[i] = segment{literal: part}
			continue
		}
		name, closed := strings.CutSuffix(name, "}")
		name, greedy := strings.CutSuffix(name, "+")
		if !closed || name == "" || greedy && i != len(parts)-1 {
			return nil, fmt.Errorf("%q is not a path variable that API Gateway knows", part)
		}
		segments[i] = segment{name: name, greedy: greedy}
	}
	return segments, nil
}

func compare(a, b compiled) int {
	for i := range min(len(a.segments), len(b.segments)) {
		if d := a.segments[i].rank() - b.segments[i].rank(); d != 0 {
			return d
		}
	}
	if d := len(b.segments) - len(a.segments); d != 0 {
		return d
	}
	switch {
	case a.Method == "ANY" && b.Method != "ANY":
		return 1
	case a.Method != "ANY" && b.Method == "ANY":
		return -1
	}
	return 0
}

// split cuts an escaped path at its slashes; one at the end counts, as it does for API Gateway.
func split(path string) []string { return strings.Split(strings.TrimPrefix(path, "/"), "/") }

// match finds the route and its decoded path variables.
func (t table) match(method, escapedPath string) (Route, map[string]string, bool) {
	parts := split(escapedPath)
	for _, route := range t {
		if route.Method != method && route.Method != "ANY" {
			continue
		}
		if variables, ok := route.variables(parts); ok {
			return route.Route, variables, true
		}
	}
	return Route{}, nil, false
}

func (c compiled) variables(parts []string) (map[string]string, bool) {
	variables := map[string]string{}
	for i, s := range c.segments {
		if i >= len(parts) {
			return nil, false
		}
		switch {
		case s.greedy:
			rest := strings.Join(parts[i:], "/")
			if rest == "" {
				return nil, false
			}
			variables[s.name] = decode(rest)
			return variables, true
		case s.name != "":
			if parts[i] == "" {
				return nil, false
			}
			variables[s.name] = decode(parts[i])
		case s.literal != decode(parts[i]):
			return nil, false
		}
	}
	return variables, len(parts) == len(c.segments)
}

func decode(escaped string) string {
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return escaped
	}
	return plain
}
