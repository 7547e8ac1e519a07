package samlocal

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
)

var placeholder = regexp.MustCompile(`\{\{([A-Za-z.]+)\}\}`)

// FillEvent reads an event and puts values in the places that it marks as {{name}}: the credentials of the run. It
// returns an error if a place has no value.
func FillEvent(file string, values map[string]string) ([]byte, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var missing []string
	filled := placeholder.ReplaceAllStringFunc(string(raw), func(mark string) string {
		value, ok := values[mark[2:len(mark)-2]]
		if !ok {
			missing = append(missing, mark)
		}
		return value
	})
	if len(missing) > 0 {
		return nil, fmt.Errorf("%s: nothing is known to fill in for %s", file, strings.Join(missing, ", "))
	}
	if !json.Valid([]byte(filled)) {
		return nil, fmt.Errorf("%s: is no JSON once it is filled in", file)
	}
	return []byte(filled), nil
}
