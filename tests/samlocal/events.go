package samlocal

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
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

// CreatedProduct reads what product-create answered when it was invoked: the values by which the events of the product's
// other functions name the product and its mail. It returns an error for any answer but a 201.
func CreatedProduct(answer []byte) (map[string]string, error) {
	var response struct {
		StatusCode int
		Headers    map[string]string
		Body       string
	}
	var product struct{ ID string }
	err := json.Unmarshal(answer, &response)
	if err == nil {
		err = json.Unmarshal([]byte(response.Body), &product)
	}
	requestID := response.Headers["x-request-id"]
	if err != nil || response.StatusCode != http.StatusCreated || product.ID == "" || requestID == "" {
		return nil, fmt.Errorf("ProductCreateFunction created no product: %s", answer)
	}
	return map[string]string{
		"product.id":         product.ID,
		"product.requestId":  requestID,
		"product.requestTag": base64.RawURLEncoding.EncodeToString([]byte(requestID)),
	}, nil
}
