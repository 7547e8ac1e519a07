package contract_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/dynamo"
	"carillon/shared/stackname"
)

// docs/contract.md §3: the operation resends. The same billing account, product and @referredType is the same product
// id; the link is renewed, never a second entitlement.
func TestProductIsResent(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	first := create(t, body.text(t))
	require.Equal(t, 201, first.Status, "%s", first.Body)
	before := bundle.Entitlements(t, customerOf(body))
	require.Len(t, before, 1)
	becomes(t, first, "delivered") // else the newer mail supersedes it

	renamed := body.set(unique()+"@example.com", emailPath...)
	second := create(t, renamed.text(t))
	require.Equal(t, 201, second.Status, "%s", second.Body)
	require.Equal(t, first.Object(t)["id"], second.Object(t)["id"])
	require.Equal(t, addressOf(renamed), dig2(second.Object(t), emailPath...))
	after := bundle.Entitlements(t, customerOf(body))
	require.Len(t, after, 1, "never a second entitlement")
	assert.Equal(t, before[0].EntitlementID, after[0].EntitlementID)
	assert.NotEqual(t, before[0].URL, after[0].URL, "the link is renewed")
	assert.Equal(t, 2, after[0].Creates)

	// Each request mails its own link, to the address that it has.
	becomes(t, second, "delivered")
	assert.Contains(t, mailed(t, body, 1)[0].Text, before[0].URL)
	assert.Contains(t, mailed(t, renamed, 1)[0].Text, after[0].URL)

	for name, other := range map[string]object{
		"another billing account": body.set("other-"+unique(), "billingAccount", "id"),
	} {
		a := create(t, other.text(t))
		require.Equal(t, 201, a.Status)
		require.NotEqual(t, first.Object(t)["id"], a.Object(t)["id"], name)
	}
}

// dig2 is dig in a decoded answer.
func dig2(value any, path ...any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			value = value.(map[string]any)[step]
		case int:
			value = value.([]any)[step]
		}
	}
	return value
}

// docs/contract.md §3: same client, business, correlation id and body → the first answer again; other body → 409.
func TestProductCorrelationID(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product.DemoClient
	t.Run("replay and conflict", func(t *testing.T) {
		t.Parallel()
		id, body := unique(), demoProduct()
		first := createAs(t, demo, inPanama(), id, body.text(t))
		require.Equal(t, 201, first.Status)
		again := createAs(t, demo, inPanama(), id, body.text(t))
		require.Equal(t, 201, again.Status)
		require.Equal(t, first.Body, again.Body)
		require.Equal(t, first.Header.Get("Location"), again.Header.Get("Location"))
		require.NotEqual(t, first.RequestID(), again.RequestID(), "x-request-id is each request's own")
		require.Len(t, provider.requests(customerOf(body)), 1, "the provider is not asked again")
		becomes(t, first, "delivered")
		createAs(t, demo, inPanama(), id, body.text(t))
		mailed(t, body, 1) // and mailedOnce sees to it that there is no second one

		other := demoProduct()
		conflict := createAs(t, demo, inPanama(), id, other.text(t))
		requireProductErrors(t, conflict, 409, productFault{Code: 409, Message: "APIKIT:CONFLICT"})
		require.Empty(t, provider.requests(customerOf(other)))
		require.Equal(t, first.Body, createAs(t, demo, inPanama(), id, body.text(t)).Body, "a conflict changes nothing")
	})
	t.Run("another client's", func(t *testing.T) {
		t.Parallel()
		id := unique()
		require.Equal(t, 201, createAs(t, demo, inPanama(), id, demoProduct().text(t)).Status)
		body := demoProduct().set(otherProduct, "productSpecification", "id")
		requireProductErrors(
			t,
			createAs(t, dxpTrinidad, in(otherCountry), id, body.text(t)),
			400,
			productFault{
				Code:        400,
				Message:     "Bango: Error while creating an entitlement",
				Description: "BAD_REQUEST-ProductKey is invalid.",
			},
		)
	})
	t.Run("another business", func(t *testing.T) {
		t.Parallel()
		id := unique()
		require.Equal(t, 201, createAs(t, demo, inPanama(), id, demoProduct().text(t)).Status)
		body := demoProduct().set(otherProduct, "productSpecification", "id")
		require.Equal(
			t,
			400,
			createAs(t, demo, in(otherCountry), id, body.text(t)).Status,
			"the provider's refusal, no conflict",
		)
	})
	t.Run("a refused body leaves it to a corrected one", func(t *testing.T) {
		t.Parallel()
		id, body := unique(), demoProduct()
		require.Equal(t, 400, createAs(t, demo, inPanama(), id, body.without("@type").text(t)).Status)
		require.Equal(t, 201, createAs(t, demo, inPanama(), id, body.text(t)).Status)
	})
	t.Run("50 at the same time", func(t *testing.T) {
		t.Parallel()
		id, body := unique(), demoProduct()
		sent, headers := body.text(t), productHeaders(demo, id)
		bodies := map[string]bool{}
		for _, a := range atOnce(t, 50, func(int) (answer, error) { return exchange(inPanama(), sent, headers...) }) {
			require.Equal(t, 201, a.Status, "%s", a.Body)
			bodies[a.Body] = true
		}
		require.Len(t, bodies, 1)
		own := bundle.Entitlements(t, customerOf(body))
		require.Len(t, own, 1)
		require.Equal(t, 1, own[0].Creates)
		mailed(t, body, 1)
	})
}

// docs/contract.md §3: creates of one product at the same time, each with its own correlation id, are of one product
// and one entitlement. The newest that is accepted is mailed, whatever becomes of the others, and no more are accepted
// than the account may have.
func TestProductConcurrentCreates(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	sent, ids, statuses := body.text(t), map[any]bool{}, map[int]int{}
	var created answer
	for _, a := range atOnce(t, 50, func(int) (answer, error) {
		return exchange(inPanama(), sent, productHeaders(bundle.Demo.Product.DemoClient, unique())...)
	}) {
		statuses[a.Status]++
		if a.Status == 429 {
			requireTooMany(t, a)
			continue
		}
		require.Equal(t, 201, a.Status, "%s", a.Body)
		created = a
		ids[a.Object(t)["id"]] = true
	}
	require.Equal(t, map[int]int{201: perAccount, 429: 50 - perAccount}, statuses)
	require.Len(t, ids, 1)
	own := bundle.Entitlements(t, customerOf(body))
	require.Len(t, own, 1)
	require.Equal(t, perAccount, own[0].Creates)
	becomes(t, created, "delivered")
	mails, links := bundle.MailsTo(addressOf(body)), map[string]bool{}
	for _, m := range mails {
		links[linkIn(t, m)] = true
	}
	require.LessOrEqual(t, len(mails), perAccount)
	require.Len(t, links, len(mails), "each with a link of its own")
	require.Contains(t, links, own[0].URL, "one with the link that is valid")
}

// The provider is the authority on entitlements: a customer who cancelled there and buys again has a new one.
func TestProductHasAnotherEntitlement(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	first := create(t, body.text(t))
	require.Equal(t, 201, first.Status)
	mailed(t, body, 1)
	former := bundle.Entitlements(t, customerOf(body))[0].EntitlementID
	link := "https://" + activationHost + "/" + unique()
	provider.misbehave(customerOf(body), grants("bought-again", link, ""))
	second := create(t, body.text(t))
	require.Equal(t, 201, second.Status, "%s", second.Body)
	require.Equal(t, first.Object(t)["id"], second.Object(t)["id"])
	kept := productItem(t, customerOf(body))
	require.Equal(t, "bought-again", stringOf(kept["entitlementId"]))
	require.Equal(t, []string{former}, kept["formerEntitlementIds"].(*types.AttributeValueMemberSS).Value)
	becomes(t, second, "delivered")
	require.Equal(t, link, linkIn(t, mailed(t, body, 2)[1]))
}

// docs/contract.md §3, row "provider down / slow": 502 / 504, nothing is lost: the same request again completes it.
func TestProductProviderFaults(t *testing.T) {
	t.Parallel()
	const granted = `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED","responseMessage":"","parameters":{"url":"https://` + activationHost + `/1"}}`
	for name, test := range map[string]struct {
		fault  http.HandlerFunc
		status int
	}{
		"hangs":                              {hangs, 504},
		"says that it was too slow":          {answers(504, "<html>504</html>", "Content-Type", "text/html"), 504},
		"hangs up in its first line":         {hangsUp, 502},
		"503":                                {answers(503, `{"responseCode":"SERVICE_UNAVAILABLE","responseMessage":"Down for maintenance."}`), 503},
		"503 without a body":                 {answers(503, ""), 503},
		"500":                                {answers(500, `{"responseCode":"INTERNAL_ERROR","responseMessage":"NullPointerException at com.bango"}`), 502},
		"500 that says OK":                   {answers(500, granted), 502},
		"does not take our credentials":      {answers(401, `{"responseCode":"UNAUTHORIZED","responseMessage":"The credentials are invalid."}`), 502},
		"garbage":                            {answers(200, "this is not JSON"), 502},
		"garbage in JSON":                    {answers(200, `[{"entitlementId":5}]`), 502},
		"an empty 200":                       {answers(200, ""), 502},
		"a 200 without an entitlement":       {answers(200, `{"responseCode":"OK","responseMessage":""}`), 502},
		"a 200 without a link":               {answers(200, `{"entitlementId":"e-1","responseCode":"CLIENT_ACTION_REQUIRED","responseMessage":""}`), 502},
		"a 200 with a link that is none":     {answers(200, strings.Replace(granted, "https:", "javascript:", 1)), 502},
		"a 200 with a link elsewhere":        {answers(200, strings.Replace(granted, activationHost, "activate.example.org", 1)), 502},
		"a 200 with a link below":            {answers(200, strings.Replace(granted, activationHost, "x."+activationHost, 1)), 502},
		"a 200 with a link beside":           {answers(200, strings.Replace(granted, activationHost, "links.example.net", 1)), 502},
		"a 200 with a link that pretends":    {answers(200, strings.Replace(granted, activationHost, activationHost+"@example.org", 1)), 502},
		"a 200 with a link with credentials": {answers(200, strings.Replace(granted, activationHost, "user:password@"+activationHost, 1)), 502},
		"a 200 with a link without TLS":      {answers(200, strings.Replace(granted, "https:", "http:", 1)), 502},
		"a 200 with a link in two lines":     {answers(200, strings.Replace(granted, "/1", `/1\r\nBcc: victim@example.com`, 1)), 502},
		"a 200 with two links":               {answers(200, strings.Replace(granted, `"url"`, `"url":"https://`+activationHost+`/2","url"`, 1)), 502},
		"a 200 with a link of 10,001":        {answers(200, strings.Replace(granted, "/1", "/"+strings.Repeat("x", 10_000-len("https://"+activationHost)), 1)), 502},
		"a 200 with another code":            {answers(200, strings.Replace(granted, "CLIENT_ACTION_REQUIRED", "MAYBE", 1)), 502},
		"an answer of 2 MB":                  {answers(200, granted+strings.Repeat(" ", 2_000_000)), 502},
		"sends us elsewhere":                 {answers(307, "", "Location", "/resale/elsewhere"), 502},
		"a compressed answer that is none":   {answers(200, "not gzip", "Content-Encoding", "gzip"), 502},
		"an answer that ends before its end": {answers(200, granted, "Content-Length", "5000"), 502},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, body := unique(), demoProduct()
			demo := bundle.Demo.Product.DemoClient
			// Twice, for a function that has read the credentials before another test rotated them asks once more.
			provider.misbehave(customerOf(body), test.fault, test.fault)
			a := createAs(t, demo, inPanama(), id, body.text(t))
			provider.behave(customerOf(body))
			message := map[int]string{
				502: "APIKIT:BAD_GATEWAY", 503: "APIKIT:SERVICE_UNAVAILABLE", 504: "APIKIT:GATEWAY_TIMEOUT",
			}[test.status]
			requireProductErrors(t, a, test.status, productFault{Code: test.status, Message: message})
			require.Nil(t, productItem(t, customerOf(body)), "nothing is kept, so nothing is mailed")
			for _, word := range []string{"maintenance", "NullPointer", "credentials"} {
				require.NotContains(t, a.Body, word, "what the provider says of its faults stays inside")
			}
			completed := createAs(t, demo, inPanama(), id, body.text(t))
			require.Equal(t, 201, completed.Status, "the same request again completes it: %s", completed.Body)
			require.Len(t, bundle.Entitlements(t, customerOf(body)), 1)
			asked := provider.requests(customerOf(body))
			if name != "does not take our credentials" {
				require.Len(t, asked, 2)
			}
			for _, again := range asked[1:] {
				require.Equal(t, asked[0], again, "the same request, under the same X-RequestIdentifier")
			}
			require.Equal(t, bundle.Entitlements(t, customerOf(body))[0].URL, linkIn(t, mailed(t, body, 1)[0]))
		})
	}
}

// docs/contract.md §3, row "provider … throttling": a Retry-After of the provider is passed on, within an hour.
func TestProductProviderSaysWhenToAskAgain(t *testing.T) {
	t.Parallel()
	const tooMany, down = `{"responseCode":"TOO_MANY_REQUESTS"}`, `{"responseCode":"SERVICE_UNAVAILABLE"}`
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		wait   string
	}{
		"throttling":                    {answers(429, tooMany, "Retry-After", "7"), "7"},
		"not available":                 {answers(503, down, "Retry-After", "120"), "120"},
		"503 alone":                     {answers(503, "", "Retry-After", "9"), "9"},
		"for a day":                     {answers(503, down, "Retry-After", "86400"), "3600"},
		"not available, without a word": {answers(503, down), "5"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			id, body := unique(), demoProduct()
			provider.misbehave(customerOf(body), test.answer)
			a := createAs(t, bundle.Demo.Product.DemoClient, inPanama(), id, body.text(t))
			requireProductErrors(t, a, 503, productFault{Code: 503, Message: "APIKIT:SERVICE_UNAVAILABLE"})
			require.Equal(t, test.wait, a.Header.Get("Retry-After"))
			require.Equal(t, 201, createAs(t, bundle.Demo.Product.DemoClient, inPanama(), id, body.text(t)).Status)
		})
	}
}

// docs/contract.md §3: only entitlementId, responseCode and the URL decide; any other member may be missing or odd, and
// a urlExpiry that cannot be read costs only itself. URLs up to 10,000 characters.
func TestProductProviderIsOddWhereNothingDecides(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 10_000-len("https://"+activationHost+"/")-36)
	for name, test := range map[string]struct {
		member  string // of parameters
		expires string // as the product keeps it
		path    string // of the link
	}{
		"no expiry":               {"", "", ""},
		"RFC 3339":                {`"2046-11-30T10:00:00Z"`, "2046-11-30T10:00:00", ""},
		"+0000":                   {`"2046-11-30T10:00:00+0000"`, "2046-11-30T10:00:00", ""},
		"a date":                  {`"2046-11-30"`, "2046-11-30T23:59:59", ""},
		"a space":                 {`"2046-11-30 10:00:00"`, "2046-11-30T10:00:00", ""},
		"seconds":                 {"2427184800", "2046-11-30T10:00:00", ""},
		"milliseconds as a text":  {`"2427184800000"`, "2046-11-30T10:00:00", ""},
		"garbage":                 {`"in 30 days"`, "", ""},
		"an object":               {`{"days":30}`, "", ""},
		"null":                    {"null", "", ""},
		"a long link":             {"", "", long},
		"members twice and not's": {`1,"action":[],"action":null,"urlExpiry":"\ud800"`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := demoProduct()
			link := "https://" + activationHost + "/" + unique() + test.path
			parameters := `"url":"` + link + `"`
			if test.member != "" {
				parameters += `,"urlExpiry":` + test.member
			}
			provider.misbehave(customerOf(body), answers(200, `{"entitlementId":"odd","responseMessage":{"a":[5]},`+
				`"responseCode":"CLIENT_ACTION_REQUIRED","parameters":{`+parameters+`}}`))
			made := create(t, body.text(t))
			require.Equal(t, 201, made.Status, "%s", made.Body)
			kept := stringOf(productItem(t, customerOf(body))["activationExpires"])
			require.Equal(t, test.expires, kept[:min(len(kept), len("2046-11-30T10:00:00"))])
			require.Equal(t, link, linkIn(t, mailed(t, body, 1)[0]))
		})
	}
}

// The stand-in's own script, as a person would use it. Not parallel: its next answer is whoever's asks next.
func TestProductProviderFaultsByScript(t *testing.T) {
	for name, next := range map[string]string{
		"500":     `{"status":500,"delayMs":0,"headers":{"content-type":"text/plain"},"body":"Internal Server Error"}`,
		"garbage": `{"status":200,"delayMs":20,"headers":{},"body":"<html>"}`,
	} {
		t.Run(name, func(t *testing.T) {
			id, body := unique(), demoProduct()
			script(t, `{"next":[`+next+`]}`)
			a := createAs(t, bundle.Demo.Product.DemoClient, inPanama(), id, body.text(t))
			requireProductErrors(t, a, 502, productFault{Code: 502, Message: "APIKIT:BAD_GATEWAY"})
			require.Empty(t, bundle.Entitlements(t, customerOf(body)))
			require.Equal(t, 201, createAs(t, bundle.Demo.Product.DemoClient, inPanama(), id, body.text(t)).Status)
			require.Len(t, bundle.Entitlements(t, customerOf(body)), 1)
		})
	}
}

func script(t *testing.T, next string) {
	t.Helper()
	reply := bundle.Post(t, "/_local/bango", next, nil)
	require.Less(t, reply.Status, 300, reply.Body)
}

// docs/contract.md §3: merchantAccountKey, productKey and offerKey are configured per product, the business's are the
// default; customerIdentifier is {businessId}-{billingAccount.id}.
func TestProductKeysArePerProduct(t *testing.T) {
	t.Parallel()
	for specification, want := range map[string]object{
		englishProduct: {
			"merchantAccountKey": "contract-merchant-tt", "productKey": "DISNEY_PLUS_PA",
			"offerKey": "DISNEY_PLUS_TT_MONTHLY",
		},
		ownKeysProduct: {
			"merchantAccountKey": "contract-merchant-own", "productKey": "DISNEY_PLUS_PA",
			"offerKey": "CONTRACT_OFFER_TT",
		},
	} {
		t.Run(specification, func(t *testing.T) {
			t.Parallel()
			body := demoProduct().set(specification, "productSpecification", "id")
			made := createAs(t, dxpTrinidad, in(otherCountry), unique(), body.text(t))
			require.Equal(t, 201, made.Status, "%s", made.Body)
			asked := provider.requests(customerOf(body))
			require.Len(t, asked, 1)
			want["customerIdentifier"] = otherCountry + "-" + customerOf(body)
			assert.Equal(t, map[string]any(want), asked[0].Body)
			assert.Equal(t, map[string]any{"id": want["offerKey"]}, made.Object(t)["productOffering"])
		})
	}
}

// docs/contract.md §3: the keys are kept with the entitlement, so that a resend sends exactly what the create sent. A
// product that is kept without them, as the release before kept it, goes on with what is configured, and as the
// customer that the provider knows.
func TestProductIsResentWithTheKeysThatItHas(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		kept map[string]string // as the item has it before the resend
		want object            // of the resend, where it differs from the create
	}{
		"as it was created": {},
		"as another configuration had it": {
			map[string]string{"merchantAccountKey": "former-merchant", "offerKey": "FORMER_OFFER"},
			object{"merchantAccountKey": "former-merchant", "offerKey": "FORMER_OFFER"},
		},
		"of the release before": {
			map[string]string{"customerIdentifier": "", "merchantAccountKey": "", "productKey": "", "offerKey": ""},
			object{"customerIdentifier": "the account's id"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := demoProduct()
			made := create(t, body.text(t))
			require.Equal(t, 201, made.Status, "%s", made.Body)
			want := provider.requests(customerOf(body))[0].Body
			for member, value := range test.want {
				if member == "customerIdentifier" {
					value = customerOf(body)
				}
				want[member] = value
			}
			rewriteProduct(t, made.Object(t)["id"].(string), test.kept)
			offering := map[string]any{"id": want["offerKey"]}
			require.Equal(t, offering, got(t, made.Object(t)["id"].(string)).Object(t)["productOffering"])

			for range 2 { // the first keeps what a product lacks
				again := create(t, body.text(t))
				require.Equal(t, 201, again.Status, "%s", again.Body)
				require.Equal(t, offering, again.Object(t)["productOffering"])
			}
			asked := provider.requests(customerOf(body))
			require.Len(t, asked, 3)
			require.Equal(t, want, asked[1].Body)
			require.Equal(t, want, asked[2].Body)
		})
	}
}

// rewriteProduct sets attributes of a product of the demo channel, or removes those that are to be empty.
func rewriteProduct(t *testing.T, id string, attributes map[string]string) {
	t.Helper()
	for name, value := range attributes {
		input := &dynamodb.UpdateItemInput{
			TableName: aws.String(bundle.Table(stackname.ProductsTable)),
			Key: dynamo.Item{
				"owner": dynamo.String("demo-channel#" + bundle.Demo.Product.BusinessID), "id": dynamo.String(id),
			},
			UpdateExpression:         aws.String("REMOVE #name"),
			ConditionExpression:      aws.String("attribute_exists(#name)"),
			ExpressionAttributeNames: map[string]string{"#name": name},
		}
		if value != "" {
			input.UpdateExpression = aws.String("SET #name = :value")
			input.ExpressionAttributeValues = dynamo.Item{":value": dynamo.String(value)}
		}
		_, err := bundle.DynamoDB().UpdateItem(t.Context(), input)
		require.NoError(t, err)
	}
}
