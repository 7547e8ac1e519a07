package local

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// placeholder is a place in an event that a value of the run belongs in.
var placeholder = regexp.MustCompile(`\{\{([A-Za-z.]+)\}\}`)

// event is a file of events/.
type event struct {
	filled []byte
	names  []string // every place's, in their order
}

// fill reads an event and puts values in the places that it marks as {{name}}. The names of those without a value are
// open.
func fill(file string, values map[string]string) (e event, open []string, err error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return event{}, nil, err
	}
	filled := placeholder.ReplaceAllStringFunc(string(raw), func(mark string) string {
		name := mark[2 : len(mark)-2]
		e.names = append(e.names, name)
		value, ok := values[name]
		if !ok {
			if !slices.Contains(open, name) {
				open = append(open, name)
			}
			return mark
		}
		return value
	})
	if !json.Valid([]byte(filled)) {
		return event{}, nil, fmt.Errorf("%s: is no JSON once it is filled in", file)
	}
	e.filled = []byte(filled)
	return e, open, nil
}

// FillEvent reads an event of events/ and puts values in the places that it marks as {{name}}: the credentials of the
// run. It returns an error if a place has no value, or the event is no JSON then.
func FillEvent(file string, values map[string]string) ([]byte, error) {
	e, open, err := fill(file, values)
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("%s: nothing is known to fill in for %s", file, strings.Join(open, ", "))
	}
	return e.filled, err
}

// Values are what FillEvent puts into the events: the members of demo.json, such as ott.clientSecret.
func (d Demo) Values() (map[string]string, error) {
	raw, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, err
	}
	values := map[string]string{}
	flatten(values, "", members)
	return values, nil
}

func flatten(values map[string]string, prefix string, members map[string]any) {
	for name, value := range members {
		switch value := value.(type) {
		case string:
			values[prefix+name] = value
		case map[string]any:
			flatten(values, prefix+name+".", value)
		}
	}
}
