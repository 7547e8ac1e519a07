package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/provision"
	"carillon/shared/dynamo"
	"carillon/shared/product"
	"carillon/shared/stackname"
)

// docs/contract.md §3: every accepted request brings about one mail with the newest link.
func TestCreateKeepsAndEnqueuesItsMail(t *testing.T) {
	b := deploy(t, nil)
	require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	request := b.requests()[0].requestID
	mails := b.mails()
	require.Len(t, mails, 1)
	entitlement := b.entitlements()[0]
	for name, want := range map[string]string{
		"id": "request#" + request, "requestId": request, "tenant": tenant, "businessId": "PA",
		"productId": product.ID(tenant, "PA", validProduct),
		"to":        "abc@gmail.com", "service": "Disney+", "link": entitlement["url"].(string), "state": "pending",
	} {
		assert.Equal(t, want, dynamo.GetString(mails[0], name), name)
	}
	for _, name := range []string{"createdAt", "updatedAt", "linkExpires"} {
		assert.False(t, dynamo.GetTime(mails[0], name).IsZero(), name)
	}
	assert.Equal(t, b.clock.Now().Add(30*24*time.Hour).Unix(), dynamo.GetInt(mails[0], "expiresAt"))
	assert.Equal(t, []string{request}, b.enqueued())

	b.post("c-1", validBody)
	assert.Len(t, b.mails(), 1, "the same request is the same mail")
	assert.Empty(t, b.enqueued())
	b.post("c-2", validBody)
	assert.Len(t, b.mails(), 2, "a resend is another one")
	assert.Equal(t, []string{b.requests()[1].requestID}, b.enqueued())
}

// A product that has no name in the content table is called as the request calls it.
func TestAMailNamesAServiceWithoutANameByItsReferredType(t *testing.T) {
	b := deploy(t, nil)
	b.play(answering(202, granted))
	require.Equal(t, http.StatusCreated, b.post("c-1", strings.Replace(validBody, "disney-plus", "disney-basic",
		1)).StatusCode)
	assert.Equal(t, "DISNEY", dynamo.GetString(b.mails()[0], "service"))
}

func TestAnEntitlementWithoutALinkHasNoMail(t *testing.T) {
	b := deploy(t, nil)
	b.play(answering(200, `{"entitlementId":"e-1","responseCode":"OK"}`))
	require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	assert.Empty(t, b.enqueued())
	assert.Equal(t, "none", dynamo.GetString(b.mails()[0], "state"))
	assert.Equal(t, "none", dynamo.GetString(b.kept()[0], "mailState"))
}

// The activation URL is checked before anything is kept or mailed.
func TestALinkToAHostThatIsNotAllowedIsNotMailed(t *testing.T) {
	b := deploy(t, nil)
	for _, link := range []string{"https://phishing.example/x", "http://activate.example.com/x",
		"https://activate.example.com.evil.example/x"} {
		b.play(answering(202, strings.Replace(granted, activationURL, link, 1)))
		assert.Equal(t, http.StatusBadGateway, b.post("c-1", validBody).StatusCode, link)
		assert.NotContains(t, b.log.String(), link)
	}
	assert.Empty(t, b.kept())
	assert.Empty(t, b.mails())
	assert.Empty(t, b.enqueued())
	b.play(nil)
	assert.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
}

// The provider decides what a customer has: one who cancelled there and buys again has another entitlement.
func TestAProductTakesTheEntitlementThatTheProviderGives(t *testing.T) {
	b := deploy(t, nil)
	require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	first := dynamo.GetString(b.kept()[0], "entitlementId")
	for i, id := range []string{"e-1", "e-1", "e-2", "e-1"} {
		b.play(answering(202, strings.Replace(granted, "e-1", id, 1)))
		require.Equal(t, http.StatusCreated, b.post(fmt.Sprintf("c-%d", i+2), validBody).StatusCode)
	}
	items := b.kept()
	require.Len(t, items, 1)
	assert.Equal(t, "e-1", dynamo.GetString(items[0], "entitlementId"))
	assert.ElementsMatch(t, []string{first, "e-1", "e-2"}, dynamo.GetStrings(items[0], "formerEntitlementIds"))
	assert.Len(t, b.mails(), 5)
}

// docs/contract.md §3, too many resends: 429 with Retry-After.
func TestTooManyResendsAreRefused(t *testing.T) {
	otherAccount := strings.Replace(validBody, "8001234567", "8007654321", 1)
	otherAddress := strings.Replace(validBody, "abc@gmail.com", "other@gmail.com", 1)
	tests := map[string]struct {
		limits  product.Limits
		same    string // counts against the limit that is reached
		another string // does not
	}{
		"to one account": {product.Limits{Window: time.Hour, PerAccount: 2, PerAddress: 100}, otherAddress,
			otherAccount},
		"to one address": {product.Limits{Window: time.Hour, PerAccount: 100, PerAddress: 2},
			strings.Replace(otherAccount, "abc@gmail.com", "ABC@Gmail.com", 1), otherAddress},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := deploy(t, nil)
			b.handler.Limits = test.limits
			require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
			require.Equal(t, http.StatusCreated, b.post("c-2", test.same).StatusCode)
			for range 2 {
				answer := b.post("c-3", test.same)
				assert.Equal(t, http.StatusTooManyRequests, answer.StatusCode)
				assert.JSONEq(t,
					`{"errors":[{"code":429,"message":"APIKIT:TOO_MANY_REQUESTS","description":"Too many requests. `+
						`Try again later."}]}`, answer.Body)
				assert.Equal(t, "c-3", answer.Headers["x-correlation-id"])
				var seconds int
				require.NoError(t, json.Unmarshal([]byte(answer.Headers["retry-after"]), &seconds))
				assert.Equal(t, 3600, seconds)
			}
			assert.Len(t, b.requests(), 2, "the provider is not asked")
			assert.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode,
				"a repeated request is no other mail")
			assert.Equal(t, http.StatusCreated, b.post("c-3", test.another).StatusCode,
				"the correlation id is free, and another is not limited")
			assert.Len(t, b.mails(), 3)
			b.clock.Advance(time.Hour - time.Millisecond)
			assert.Equal(t, http.StatusTooManyRequests, b.post("c-4", test.same).StatusCode, "a moment too early")
			b.clock.Advance(time.Millisecond)
			assert.Equal(t, http.StatusCreated, b.post("c-4", test.same).StatusCode, "when it was told to")
		})
	}
}

// What no mail came of is not counted.
func TestARequestThatFailedIsNotCounted(t *testing.T) {
	b := deploy(t, nil)
	b.handler.Limits.PerAccount = 1
	for i, provider := range []http.HandlerFunc{
		answering(400, `{"responseCode":"BAD_REQUEST","responseMessage":"ProductKey is invalid."}`),
		answering(503, `{"responseCode":"SERVICE_UNAVAILABLE"}`),
		answering(429, `{"responseCode":"TOO_MANY_REQUESTS"}`),
		answering(200, `garbage`),
	} {
		b.play(provider)
		assert.Contains(t, []int{400, 502, 503}, b.post(fmt.Sprintf("c-%d", i), validBody).StatusCode)
	}
	b.play(nil)
	assert.Equal(t, http.StatusCreated, b.post("c", validBody).StatusCode)
	assert.Equal(t, http.StatusTooManyRequests, b.post("another", validBody).StatusCode)
}

// docs/contract.md §3: two concurrent creates of the same thing give one product, one entitlement.
func TestFiftyIdenticalCreatesAtTheSameTimeMakeOneProduct(t *testing.T) {
	tests := map[string]struct {
		correlation func(i int) string
		limit       int
		created     int
		mails       int
	}{
		"under one correlation id each": {func(i int) string { return fmt.Sprintf("c-%d", i) }, 100, 50, 50},
		"of which ten are allowed":      {func(i int) string { return fmt.Sprintf("c-%d", i) }, 10, 10, 10},
		"under the same correlation id": {func(int) string { return "c" }, 10, 50, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := deployInRealTime(t)
			b.handler.Limits.PerAccount = test.limit
			inside := 0
			var mu sync.Mutex
			b.play(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				inside++
				assert.Equal(t, 1, inside, "the provider is asked for one product by one request at a time")
				mu.Unlock()
				b.bango.ServeHTTP(w, r)
				mu.Lock()
				inside--
				mu.Unlock()
			})
			var group sync.WaitGroup
			answers := make([]events.APIGatewayV2HTTPResponse, 50)
			for i := range answers {
				group.Go(func() { answers[i] = b.post(test.correlation(i), validBody) })
			}
			group.Wait()
			created := 0
			for _, answer := range answers {
				if answer.StatusCode == http.StatusTooManyRequests {
					continue
				}
				assert.Equal(t, http.StatusCreated, answer.StatusCode, answer.Body)
				assert.True(t, strings.HasSuffix(answer.Headers["location"], product.ID(tenant, "PA", validProduct)))
				created++
			}
			assert.Equal(t, test.created, created)
			assert.Len(t, b.requests(), test.mails)
			assert.Len(t, b.entitlements(), 1)
			assert.Len(t, b.mails(), test.mails)
			assert.Len(t, b.enqueued(), test.mails)
			items := b.kept()
			require.Len(t, items, 1)
			last := b.requests()[test.mails-1].requestID
			assert.Equal(t, last, dynamo.GetString(items[0], "operationId"), "the newest link is the product's")
		})
	}
}

// docs/contract.md §3: the keys are configured per product, the business's are the default, and kept with the
// entitlement, so that a resend sends exactly what the create sent.
func TestAResendSendsExactlyWhatTheCreateSent(t *testing.T) {
	b := deploy(t, nil)
	b.configure("merchant", provision.Product{MerchantAccountKey: "own-merchant", OfferKey: "FIRST"})
	created := b.post("c-1", validBody)
	require.Equal(t, http.StatusCreated, created.StatusCode, created.Body)
	want := map[string]string{
		"customerIdentifier": "PA-8001234567", "merchantAccountKey": "own-merchant", "productKey": "DISNEY_PLUS_PA",
		"offerKey": "FIRST",
	}
	assert.Equal(t, want, b.requests()[0].body)

	b.configure("another-merchant", provision.Product{OfferKey: "SECOND"})
	resent := b.post("c-2", validBody)
	require.Equal(t, http.StatusCreated, resent.StatusCode, resent.Body)
	assert.Equal(t, want, b.requests()[1].body)
	assert.Len(t, b.entitlements(), 1)
	for _, answer := range []events.APIGatewayV2HTTPResponse{created, resent} {
		assert.Contains(t, answer.Body, `"productOffering":{"id":"FIRST"}`)
	}

	other := b.post("c-3", strings.Replace(validBody, "8001234567", "8007654321", 1))
	require.Equal(t, http.StatusCreated, other.StatusCode, other.Body)
	assert.Contains(t, other.Body, `"productOffering":{"id":"SECOND"}`)
	assert.Equal(t, map[string]string{
		"customerIdentifier": "PA-8007654321", "merchantAccountKey": "another-merchant",
		"productKey": "DISNEY_PLUS_PA", "offerKey": "SECOND",
	}, b.requests()[2].body, "a product that is new takes what is configured")

	b.configure("another-merchant") // the product is not on sale any more
	gone := b.post("c-4", validBody)
	require.Equal(t, http.StatusCreated, gone.StatusCode, gone.Body)
	assert.Equal(t, want, b.requests()[3].body)
}

// A product of the release before has no keys kept. To the provider it is a customer by its billing account's id alone,
// and another customer would be a second entitlement.
func TestAProductOfTheReleaseBeforeGoesOnWithWhatIsConfigured(t *testing.T) {
	b := deploy(t, nil)
	require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	_, err := b.items.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: aws.String(stackname.ProductsTable(b.name)),
		Key: dynamo.Item{
			"owner": dynamo.String(tenant + "#PA"), "id": dynamo.String(product.ID(tenant, "PA", validProduct)),
		},
		UpdateExpression: aws.String("REMOVE customerIdentifier, merchantAccountKey, productKey, offerKey"),
	})
	require.NoError(t, err)
	b.configure("merchant", provision.Product{OfferKey: "SECOND"})
	reads := newReadAPI(b.items, b.name)
	assert.Contains(t, reads.got(t, product.ID(tenant, "PA", validProduct), "").Body,
		`"productOffering":{"id":"SECOND"}`)
	want := map[string]string{
		"customerIdentifier": "8001234567", "merchantAccountKey": "merchant", "productKey": "DISNEY_PLUS_PA",
		"offerKey": "SECOND",
	}
	resent := b.post("c-2", validBody)
	require.Equal(t, http.StatusCreated, resent.StatusCode, resent.Body)
	assert.Contains(t, resent.Body, `"productOffering":{"id":"SECOND"}`)
	assert.Equal(t, want, b.requests()[1].body)

	b.configure("another-merchant", provision.Product{OfferKey: "THIRD"})
	require.Equal(t, http.StatusCreated, b.post("c-3", validBody).StatusCode)
	assert.Equal(t, want, b.requests()[2].body, "they are kept from then on")
}

// Whatever was kept before a process died, the answer has the offer that the provider was asked for.
func TestAnAnswerThatWasLostHasTheOffer(t *testing.T) {
	lost := true
	b := deployBetween(t, nil, func(w http.ResponseWriter, _ emulatortest.Call) bool {
		if lost {
			w.WriteHeader(http.StatusBadRequest)
		}
		return lost
	})
	require.Equal(t, http.StatusInternalServerError, b.post("c-1", validBody).StatusCode, "the job is not enqueued")
	b.clock.Advance(lockTime)
	b.configure("merchant", provision.Product{OfferKey: "SECOND"})
	lost = false
	again := b.post("c-1", validBody)
	require.Equal(t, http.StatusCreated, again.StatusCode, again.Body)
	assert.Contains(t, again.Body, `"productOffering":{"id":"DISNEY_PLUS_PA_MONTHLY"}`)
	assert.Len(t, b.requests(), 1)
}
