package samlocal

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
)

// CreatedProduct reads what product-create answered when it was invoked: the values by which the events of the
// product's other functions name the product and its mail. It returns an error for any answer but a 201.
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
