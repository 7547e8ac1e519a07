package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/product"
)

// docs/contract.md §3: the seed's model with what became of the activation mail.
func TestGetAnswersTheSeedsModel(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1), "mailState", "delivered", "mailAt", "2026-02-10T16:00:00.000Z"),
		stored(numbered(2), "mailState", "pending"))
	answer := reads.got(t, numbered(1), "")
	assert.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	assert.JSONEq(t, `{"id":"`+numbered(1)+`","href":"`+collection+`/`+numbered(1)+`","status":"created",
		"productSpecification":{"id":"disney-plus"},"productOffering":{"id":"disney-plus"},"@baseType":"product","@type":"OTT","@referredType":"DISNEY",
		"billingAccount":{"id":"8001234567","contact":[
			{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]},
		"productCharacteristic":[{"name":"activationMail","valueType":"string","value":"delivered"},
			{"name":"activationMailDate","valueType":"dateTime","value":"2026-02-10T16:00:00Z"}],
		"productPrice":[],"relatedParty":[]}`, answer.Body)
	requireTMF637(t, "Product", answer.Body)
	assert.Equal(t, "application/json", answer.Headers["content-type"])
	assert.Equal(t, "no-store", answer.Headers["cache-control"])
	assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
	assert.NotEmpty(t, answer.Headers["x-request-id"])
	assert.NotContains(t, answer.Body, "activate.example.com")

	var second struct{ ProductCharacteristic []map[string]string }
	require.NoError(t, json.Unmarshal([]byte(reads.got(t, numbered(2), "").Body), &second))
	assert.Equal(t, []map[string]string{{"name": "activationMail", "valueType": "string", "value": "pending"}},
		second.ProductCharacteristic)
}

// What a create answers is what the reads answer, but for what became of the mail since.
func TestGetAnswersWhatACreateAnswered(t *testing.T) {
	b := deploy(t, nil)
	created := b.post("c-1", validBody)
	require.Equal(t, http.StatusCreated, created.StatusCode, created.Body)
	requireTMF637(t, "Product", created.Body)
	reads := newReadAPI(b.items, b.name)
	id := product.ID(tenant, "PA", validProduct)
	without := func(body string) map[string]any {
		var members map[string]any
		require.NoError(t, json.Unmarshal([]byte(body), &members))
		delete(members, "productCharacteristic")
		return members
	}
	assert.Equal(t, without(created.Body), without(reads.got(t, id, "").Body))
	list := reads.listed(t, "").Body
	requireTMF637(t, "Products", list)
	assert.Equal(t, without(created.Body), without(strings.Trim(list, "[]")))
}

// docs/contract.md §3: an unknown id, in the error body of the seed.
func TestGetOfAnUnknownProduct(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1)))
	for name, id := range map[string]string{
		"no product's":        numbered(2),
		"of capital letters":  strings.ToUpper(product.ID(tenant, "PA", validProduct)),
		"no UUID":             "product",
		"a UUID's other form": "urn:uuid:" + numbered(1),
		"without hyphens":     strings.ReplaceAll(numbered(1), "-", ""),
		"in braces":           "{" + numbered(1) + "}",
		"empty":               "",
		"blank":               " ",
		"longer than a key":   strings.Repeat("x", 1025),
		"with a key's #":      tenant + "#PA",
		"with a slash":        "../" + numbered(1),
		"of no characters":    "\x00\xff",
	} {
		answer := reads.got(t, id, "fields=status")
		assert.Equal(t, http.StatusNotFound, answer.StatusCode, name)
		assert.Equal(t, unknownBody, answer.Body, name)
		assert.Equal(t, "c-1", answer.Headers["x-correlation-id"], name)
	}
}

func TestGetRefusesEverythingThatIsWrongAtOnce(t *testing.T) {
	reads := deployReads(t, nil)
	answer := reads.got(t, numbered(1), "fields=colour,id,billingAccount.id", business("JM"),
		header("x-correlation-id", "c\x7f"))
	assert.Equal(t, []string{
		"businessId JM is not a country that is served",
		"X-Correlation-ID must be at most 255 printable ASCII characters",
		`fields: "colour" is not a first-level attribute of a product`,
		`fields: "billingAccount.id" is not a first-level attribute of a product`,
	}, descriptions(t, answer))
	assert.Equal(t, []string{"the query is not URL-encoded"}, descriptions(t, reads.got(t, numbered(1), "fields=%")))
}

// docs/contract.md §3, row "wrong method": the route takes every method, so that its answer is the API's own.
func TestGetRefusesOtherMethods(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1)))
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get"} {
		answer := reads.got(t, numbered(1), "",
			func(e *events.APIGatewayV2HTTPRequest) { e.RequestContext.HTTP.Method = method })
		assert.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode, method)
		assert.Equal(t,
			`{"errors":[{"code":405,"message":"APIKIT:METHOD_NOT_ALLOWED","description":"The method is not allowed `+
				`for this resource."}]}`, answer.Body)
	}
}
