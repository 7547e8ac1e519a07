package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/provision"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/product"
)

var validProduct = product.Product{
	SpecificationID: "disney-plus", ReferredType: "DISNEY", BillingAccount: product.BillingAccount{ID: "8001234567"},
}

func TestCreateAnswersTheSeedsModelAndKeepsTheProduct(t *testing.T) {
	b := deploy(t, nil)
	answer := b.post("c-1", validBody)
	id := product.ID(tenant, "PA", validProduct)
	href := "https://api.example.com/dxp-ux/v1/PA/product/" + id
	assert.Equal(t, http.StatusCreated, answer.StatusCode, answer.Body)
	assert.Equal(t, href, answer.Headers["location"])
	assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
	assert.NotEmpty(t, answer.Headers["x-request-id"])
	assert.JSONEq(t, `{"id":"`+id+`","href":"`+href+`","status":"created","productSpecification":{"id":"disney-plus"},
		"productOffering":{"id":"DISNEY_PLUS_PA_MONTHLY"},
		"@baseType":"product","@type":"OTT","@referredType":"DISNEY",
		"billingAccount":{"id":"8001234567","contact":[
			{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}],
			"@baseType":"Account","@type":"BillingAccount"},
		"productCharacteristic":[],"productPrice":[],"relatedParty":[]}`, answer.Body)

	asked := b.requests()
	require.Len(t, asked, 1)
	assert.Equal(t, map[string]string{
		"customerIdentifier": "PA-8001234567", "merchantAccountKey": "demo-merchant-pa", "productKey": "DISNEY_PLUS_PA",
		"offerKey": "DISNEY_PLUS_PA_MONTHLY",
	}, asked[0].body)
	entitlement := b.entitlements()[0]
	items := b.kept()
	require.Len(t, items, 1)
	for name, want := range map[string]string{
		"owner": "demo-channel#PA", "id": id, "status": "created", "productSpecificationId": "disney-plus",
		"referredType":     "DISNEY",
		"billingAccountId": "8001234567", "billingAccountType": "BillingAccount", "billingAccountBaseType": "Account",
		"contact": `[{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]`,
		"email":   "abc@gmail.com", "entitlementId": entitlement["entitlementId"].(string),
		"customerIdentifier": "PA-8001234567", "merchantAccountKey": "demo-merchant-pa", "productKey": "DISNEY_PLUS_PA",
		"offerKey": "DISNEY_PLUS_PA_MONTHLY", "operationId": asked[0].requestID, "correlationId": "c-1", "mailState": "pending", "mailReason": "",
	} {
		assert.Equal(t, want, dynamo.GetString(items[0], name), name)
	}
	for _, name := range []string{"createdAt", "updatedAt", "activationExpires", "mailAt"} {
		assert.False(t, dynamo.GetTime(items[0], name).IsZero(), name)
	}
	assert.NotContains(t, items[0], "activationUrl", "the mail alone needs it")
}

func TestCreateLeavesOutWhatTheRequestLeftOut(t *testing.T) {
	b := deploy(t, nil)
	answer := b.post("c-1", `{"productSpecification":{"id":"disney-plus"},"@baseType":"product","@type":"OTT",
		"@referredType":"DISNEY","x":1,"billingAccount":{"id":"1","contact":[
			{"contactMedium":[{"characteristic":{"emailAddress":"a@b.co"}}]}]}}`)
	var body map[string]any
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
	assert.Equal(t, map[string]any{"id": "1", "contact": []any{
		map[string]any{"contactMedium": []any{
			map[string]any{"characteristic": map[string]any{"emailAddress": "a@b.co"}},
		}},
	}}, body["billingAccount"])
	assert.NotContains(t, body, "x")
}

// docs/contract.md §3: the same billing account, product and @referredType is the same product, never a second
// entitlement.
func TestAResendRenewsTheLinkOfTheSameProduct(t *testing.T) {
	b := deploy(t, nil)
	first := b.post("c-1", validBody)
	before := b.kept()[0]
	second := b.post("c-2", strings.Replace(validBody, "abc@gmail.com", "new@gmail.com", 1))
	assert.Equal(t, http.StatusCreated, second.StatusCode)
	assert.Equal(t, first.Headers["location"], second.Headers["location"])
	assert.Contains(t, second.Body, "new@gmail.com")

	entitlements, items := b.entitlements(), b.kept()
	require.Len(t, entitlements, 1)
	assert.EqualValues(t, 2, entitlements[0]["creates"])
	require.Len(t, items, 1)
	assert.Equal(t, "new@gmail.com", dynamo.GetString(items[0], "email"))
	assert.Equal(t, "c-2", dynamo.GetString(items[0], "correlationId"))
	assert.Equal(t, before["createdAt"], items[0]["createdAt"])
	assert.NotEqual(t, before["operationId"], items[0]["operationId"])
	assert.NotEqual(t, b.requests()[0].requestID, b.requests()[1].requestID)
}

// docs/contract.md §3: same client, business, correlation id and body → the first answer again.
func TestTheSameRequestGetsTheFirstAnswerAgain(t *testing.T) {
	b := deploy(t, nil)
	first := b.post("c-1", validBody)
	again := b.post("c-1", validBody)
	assert.Equal(t, first.Body, again.Body)
	assert.Equal(t, http.StatusCreated, again.StatusCode)
	assert.Equal(t, first.Headers["location"], again.Headers["location"])
	assert.Equal(t, "c-1", again.Headers["x-correlation-id"])
	assert.NotEqual(t, first.Headers["x-request-id"], again.Headers["x-request-id"])
	assert.Len(t, b.requests(), 1)

	conflict := b.post("c-1", strings.Replace(validBody, "abc@gmail.com", "new@gmail.com", 1))
	assert.Equal(t, http.StatusConflict, conflict.StatusCode)
	assert.JSONEq(t,
		`{"errors":[{"code":409,"message":"APIKIT:CONFLICT","description":"The X-Correlation-ID was used for a `+
			`request with another body."}]}`, conflict.Body)
	assert.Len(t, b.requests(), 1)

	other := b.post("c-1", validBody, func(e *events.APIGatewayV2HTTPRequest) {
		client := provision.Client{ID: "another-client", Tenant: tenant, Scopes: []string{product.ScopeProduct}}
		e.Headers["client_id"], e.Headers["client_secret"] = client.ID, b.addClient(client)
	})
	assert.Equal(t, http.StatusCreated, other.StatusCode)
	assert.Len(t, b.requests(), 2, "another client's correlation id is another one")
}

func TestWhatTheProviderRefusesCanBeCorrectedUnderTheSameCorrelationID(t *testing.T) {
	b := deploy(t, nil)
	answer := b.post("c-1", strings.Replace(validBody, "DISNEY", "INVALID", 1))
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	assert.Equal(t,
		`{"errors":[{"code":400,"message":"Bango: Error while creating an entitlement",`+
			`"description":"BAD_REQUEST-ProductKey is invalid."}]}`, answer.Body)
	asked := b.requests()
	assert.Equal(t, "INVALID", asked[0].body["productKey"], "an unknown product is sent as it is")
	assert.Equal(t, "disney-plus", asked[0].body["offerKey"])
	assert.Empty(t, b.kept())
	assert.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
}

// docs/contract.md §3: nothing is lost, the same request again completes it.
func TestAFailureOfTheProviderIsMendedByTheSameRequestAgain(t *testing.T) {
	tests := map[string]struct {
		provider http.HandlerFunc
		status   int
	}{
		"down":                {answering(500, `{"responseCode":"INTERNAL_ERROR"}`), 502},
		"not available":       {answering(503, `{"responseCode":"SERVICE_UNAVAILABLE"}`), 503},
		"garbage":             {answering(200, `<html>`), 502},
		"wrong credentials":   {answering(401, `{"responseCode":"UNAUTHORIZED"}`), 502},
		"throttling":          {answering(429, `{"responseCode":"TOO_MANY_REQUESTS"}`), 503},
		"a gateway timeout":   {answering(504, ``), 504},
		"a broken connection": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 502},
	}
	b := deploy(t, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before := len(b.requests())
			correlation := "c-" + name
			b.play(test.provider)
			failed := b.post(correlation, validBody)
			assert.Equal(t, test.status, failed.StatusCode)
			assert.Equal(t, correlation, failed.Headers["x-correlation-id"])
			assert.Equal(t, http.StatusConflict, b.post(correlation,
				strings.Replace(validBody, "abc@", "new@", 1)).StatusCode)
			b.play(nil)
			assert.Equal(t, http.StatusCreated, b.post(correlation, validBody).StatusCode)
			asked := b.requests()[before:]
			for _, request := range asked {
				assert.Equal(t, asked[0], request, "to the provider it is the same request")
			}
		})
	}
}

// An answer that cannot be kept is given all the same.
func TestCreateAnswersThoughItsAnswerIsNotKept(t *testing.T) {
	b := deploy(t, func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "UpdateItem" || !strings.Contains(call.Body, "SET answer") {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	assert.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	assert.Contains(t, b.log.String(), "an operation could not be ended")
}

// docs/contract.md §3: missing, short, unknown, wrong are one indistinguishable answer.
func TestCreateRefusesCredentialsIndistinguishably(t *testing.T) {
	b := deploy(t, nil)
	short := provision.Client{ID: "short-secret", Tenant: tenant, Scopes: b.client.Scopes}
	b.addClient(short)
	tests := map[string][2]string{
		"missing":       {"", ""},
		"no secret":     {b.client.ID, ""},
		"no id":         {"", b.password},
		"short id":      {"demo", b.password},
		"short secret":  {b.client.ID, "1234"},
		"unknown":       {"nobody-at-all", b.password},
		"wrong secret":  {b.client.ID, b.password + "x"},
		"not a name":    {"../client/x", b.password},
		"anothers":      {short.ID, b.password},
		"a long id":     {strings.Repeat("x", 5000), b.password},
		"not even text": {"\x00\x01\x02\x03\x04", "\xff\xff\xff\xff\xff"},
	}
	for name, credentials := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Whatever else is wrong, without credentials it is this that one is told.
			answer := b.post("c-1", "not JSON", header("client_id", credentials[0]),
				header("client_secret", credentials[1]), business("xx"), header("content-type", ""))
			assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
			assert.Equal(t, "Client-ID-Enforcement", answer.Headers["www-authenticate"])
			assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
			assert.Equal(t, `{"errors":[{"code":401,"message":"The user could not be authenticated for this request.",`+
				`"description":"The request has not been applied because it lacks valid authentication credentials `+
				`for the target resource."}]}`, answer.Body)
		})
	}
}

func TestCreateRefusesAClientThatIsNotAllowedForTheBusiness(t *testing.T) {
	b := deploy(t, nil)
	panama := provision.Client{ID: "panama-only", Tenant: tenant, Scopes: []string{product.ScopeProduct + ":PA"}}
	ott := provision.Client{ID: "ott-only", Tenant: tenant, Scopes: []string{ott.ScopeSend}}
	passwords := map[string]string{b.client.ID: b.password, panama.ID: b.addClient(panama), ott.ID: b.addClient(ott)}
	tests := []struct {
		client, business, body string
		status                 int
	}{
		{b.client.ID, "PA", validBody, 201},
		{panama.ID, "PA", validBody, 201},
		{panama.ID, "TT", validBody, 403},
		{panama.ID, "TT", "not JSON", 403}, // it is not even read
		{panama.ID, "JM", validBody, 400},  // nobody's
		{panama.ID, "PAN", validBody, 400},
		{ott.ID, "PA", validBody, 403},
		{ott.ID, "JM", validBody, 403},
		{b.client.ID, "JM", validBody, 400},
	}
	for i, test := range tests {
		answer := b.post(fmt.Sprintf("c-%d", i), test.body, business(test.business), header("client_id", test.client),
			header("client_secret", passwords[test.client]))
		assert.Equal(t, test.status, answer.StatusCode, "%+v: %s", test, answer.Body)
	}
}

func TestCreateRefusesAnotherMethod(t *testing.T) {
	b := deploy(t, nil)
	for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodHead,
		http.MethodOptions} {
		answer := b.post("c-1", "", func(e *events.APIGatewayV2HTTPRequest) {
			e.RequestContext.HTTP.Method = method
			delete(e.Headers, "client_id")
		})
		assert.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
		assert.Equal(t, "GET, POST", answer.Headers["allow"])
		assert.Contains(t, answer.Body, `"message":"APIKIT:METHOD_NOT_ALLOWED"`)
		assert.Equal(t, "c-1", answer.Headers["x-correlation-id"])
	}
}

func TestCreateRefusesAnotherMediaType(t *testing.T) {
	b := deploy(t, nil)
	for mediaType, status := range map[string]int{
		"application/json; charset=utf-8": 201, "Application/JSON": 201,
		"": 415, "text/plain": 415, "application/xml": 415, "application/merge-patch+json": 415,
		"application/json; =": 415,
	} {
		answer := b.post("c-"+mediaType, validBody, header("content-type", mediaType))
		assert.Equal(t, status, answer.StatusCode, mediaType)
		if status == 415 {
			assert.Contains(t, answer.Body, `"message":"APIKIT:UNSUPPORTED_MEDIA_TYPE"`)
		}
	}
	assert.Equal(t, 415, b.post("c-1", validBody, header("content-encoding", "br")).StatusCode)
}

// docs/contract.md §3: errors come all of a request's at once, those of path, header and body.
func TestCreateReportsTheFaultsOfPathHeaderAndBodyTogether(t *testing.T) {
	b := deploy(t, nil)
	const businessFault = "businessId must be a country code of two capital letters"
	tests := map[string]struct {
		business, correlation, body string
		encoding                    string
		want                        []string
	}{
		"no correlation id":      {"PA", "", validBody, "", []string{"X-Correlation-ID must be provided"}},
		"a blank correlation id": {"PA", "  ", validBody, "", []string{"X-Correlation-ID must be provided"}},
		"a long correlation id": {"PA", strings.Repeat("x", 256), validBody, "",
			[]string{"X-Correlation-ID must be at most 255 printable ASCII characters"}},
		"a strange correlation id": {"PA", "a\x01b", validBody, "",
			[]string{"X-Correlation-ID must be at most 255 printable ASCII characters"}},
		"three letters":        {"PAN", "c", validBody, "", []string{businessFault}},
		"small letters":        {"pa", "c", validBody, "", []string{businessFault}},
		"a digit":              {"P1", "c", validBody, "", []string{businessFault}},
		"none":                 {"", "c", validBody, "", []string{businessFault}},
		"an umlaut, two bytes": {"ä", "c", validBody, "", []string{businessFault}},
		"a country that is not ours": {"ZZ", "c", validBody, "",
			[]string{"businessId ZZ is not a country that is served"}},
		"everything": {"x", "", `{"@type":"OTT","@baseType":"product"}`, "", []string{
			businessFault, "X-Correlation-ID must be provided", "productSpecification.id must be provided",
			"@referredType must be provided",
			"billingAccount.id must be provided", emailMember + " must be provided",
		}},
		"a body that is not JSON": {"x", "", "{", "", []string{businessFault, "X-Correlation-ID must be provided",
			"the body is not valid JSON at byte 1"}},
		"no body": {"PA", "c", "", "", []string{"the body is empty"}},
		"a body that is not gzip": {"x", "c", validBody, "gzip",
			[]string{businessFault, "the body is not gzip, as its Content-Encoding says"}},
		"an array": {"PA", "c", "[]", "", []string{"the body must be a JSON object"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			answer := b.post(test.correlation, test.body, business(test.business),
				header("content-encoding", test.encoding))
			assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
			var body struct {
				Errors []struct {
					Code                 int
					Message, Description string
				}
			}
			require.NoError(t, json.Unmarshal([]byte(answer.Body), &body))
			var got []string
			for _, item := range body.Errors {
				assert.Equal(t, 400, item.Code)
				assert.Equal(t, "APIKIT:BAD_REQUEST", item.Message)
				got = append(got, item.Description)
			}
			assert.Equal(t, test.want, got)
		})
	}
	assert.Empty(t, b.requests())
}

// Everything as long as it may be still fits the tables.
func TestCreateTakesEveryMemberAtItsLimit(t *testing.T) {
	b := deploy(t, nil)
	text := func(n int) string { return strings.Repeat("😀", n) }
	media := `{"characteristic":{"emailAddress":"` + strings.Repeat("a", 64) + "@" +
		strings.Repeat(strings.Repeat("b", 61)+".", 3) + `com"}}`
	contact := `{"contactType":"` + text(64) + `","contactMedium":[` + media + strings.Repeat(","+media, 9) + `]}`
	body := `{"productSpecification":{"id":"` + text(256) + `"},"@baseType":"product","@type":"OTT",
		"@referredType":"` + text(64) + `","billingAccount":{"id":"` + text(256) + `","@type":"` + text(64) + `",
			"@baseType":"` + text(64) + `","contact":[` + contact + strings.Repeat(","+contact, 9) + `]},
		"description":"` + strings.Repeat("x", 5_000_000) + `"}`
	b.play(answering(202, granted))
	answer := b.post(strings.Repeat("c", 255), body)
	require.Equal(t, http.StatusCreated, answer.StatusCode)
	assert.Equal(t, answer.Body, b.post(strings.Repeat("c", 255), body).Body)
	assert.Len(t, b.requests(), 1)
}

// docs/contract.md §3: urlExpiry in a form that we can't read: mailed without it, and logged.
func TestAnUnreadableExpiryCostsOnlyItself(t *testing.T) {
	b := deploy(t, nil)
	b.play(answering(200, strings.Replace(granted, "2026-11-23T10:00:00Z", "in 30 days", 1)))
	answer := b.post("c-1", validBody)
	require.Equal(t, http.StatusCreated, answer.StatusCode, answer.Body)
	mails := b.mails()
	require.Len(t, mails, 1)
	assert.Equal(t, activationURL, dynamo.GetString(mails[0], "link"))
	assert.NotContains(t, mails[0], "linkExpires")
	assert.Empty(t, dynamo.GetString(b.kept()[0], "activationExpires"))
	assert.Contains(t, b.log.String(), `"looksLike":"\"aa 99 aaaa\"","unreadExpiries":1,`)

	b.play(answering(200, strings.Replace(granted, "2026-11-23T10:00:00Z", "2026-11-23", 1)))
	require.Equal(t, http.StatusCreated, b.post("c-2", validBody).StatusCode)
	assert.Equal(t, "2026-11-23T23:59:59Z",
		dynamo.GetTime(b.kept()[0], "activationExpires").UTC().Format(time.RFC3339))
	assert.Equal(t, 1, strings.Count(b.log.String(), "looksLike"))
}
