package faults_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/dynamo"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const productCreate = "ProductCreateFunction"

// order is a request for a product of an account, to an address, that no other test has.
type order struct {
	account, address string
	headers          map[string]string
}

func newOrder() order {
	d := bundle.Demo.Product
	return order{
		account: uuid.NewString(), address: uuid.NewString() + "@example.com",
		headers: harness.DXPHeaders(d.DemoClient, uuid.NewString()),
	}
}

// resent is a request of its own for the same product.
func (o order) resent() order {
	o.headers = maps.Clone(o.headers)
	o.headers["X-Correlation-ID"] = uuid.NewString()
	return o
}

func productPath() string { return "/dxp-ux/v1/" + bundle.Demo.Product.BusinessID + "/product" }

func (o order) body() string {
	d := bundle.Demo.Product
	return fmt.Sprintf(
		`{"productSpecification":{"id":%q},"@baseType":"product","@type":"OTT","@referredType":%q,
		"billingAccount":{"id":%q,
		"contact":[{"contactMedium":[{"characteristic":{"emailAddress":%q}}]}]}}`,
		d.ProductID,
		d.ReferredType,
		o.account,
		o.address,
	)
}

func (o order) send(t *testing.T) harness.Reply {
	t.Helper()
	return bundle.Post(t, productPath(), o.body(), o.headers)
}

// accepted sends the order and returns the product's id.
func (o order) accepted(t *testing.T) string {
	t.Helper()
	answer := o.send(t)
	require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
	return answer.Field(t, "id")
}

// mails are those that SES has accepted for the order's address.
func (o order) mails() []standin.Message { return bundle.MailsTo(o.address) }

// mailState reads the product and returns what it says of its activation mail.
func (o order) mailState(t *testing.T, id string) (state, reason string) {
	t.Helper()
	answer := bundle.Ask(t, http.MethodGet, productPath()+"/"+id, o.headers)
	require.Equal(t, http.StatusOK, answer.Status, answer.Body)
	var read struct {
		ProductCharacteristic []struct{ Name, Value string }
	}
	require.NoError(t, json.Unmarshal([]byte(answer.Body), &read))
	for _, c := range read.ProductCharacteristic {
		switch c.Name {
		case "activationMail":
			state = c.Value
		case "activationMailReason":
			reason = c.Value
		}
	}
	return state, reason
}

// becomes waits until the product says so of its mail.
func (o order) becomes(t *testing.T, id, expected string) (reason string) {
	t.Helper()
	harness.Eventually(t, "the product's mail becomes "+expected, func() (state string, is bool) {
		state, reason = o.mailState(t, id)
		return state, state == expected
	})
	return reason
}

// settled waits until nothing is left to do in the mail queue, and nobody at it.
func settled(t *testing.T) {
	t.Helper()
	drained(t, "MailQueue")
}

// drained waits until a queue has no message: none to be received, none delayed, none under way.
func drained(t *testing.T, queue string) {
	t.Helper()
	names := []sqstypes.QueueAttributeName{
		"ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed", "ApproximateNumberOfMessagesNotVisible",
	}
	harness.Eventually(t, "the queue is empty: "+queue, func() (map[string]string, bool) {
		out, err := bundle.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
			QueueUrl: aws.String(bundle.QueueURL(queue)), AttributeNames: names,
		})
		require.NoError(t, err)
		for _, name := range names {
			if out.Attributes[string(name)] != "0" {
				return out.Attributes, false
			}
		}
		return out.Attributes, true
	})
}

// mailed waits until SES has accepted so many mails for the order's address, or more.
func (o order) mailed(t *testing.T, n int) {
	t.Helper()
	harness.Eventually(
		t,
		fmt.Sprintf("SES has %d mails", n),
		func() (int, bool) { sent := len(o.mails()); return sent, sent >= n },
	)
}

// requireOneProduct checks that there is one product of the account, with the provider's one entitlement, and that no
// more requests are counted against the account's limit than were accepted.
func (o order) requireOneProduct(t *testing.T, accepted int) {
	t.Helper()
	granted := bundle.Entitlements(t, o.account)
	require.Len(t, granted, 1)
	kept := 0
	for _, item := range bundle.Scan(t, stackname.ProductsTable) {
		if dynamo.GetString(item, "billingAccountId") == o.account {
			kept++
			assert.Equal(t, granted[0].EntitlementID, dynamo.GetString(item, "entitlementId"))
			assert.NotContains(t, item, "formerEntitlementIds")
		}
	}
	assert.Equal(t, 1, kept)
	sum := sha256.Sum256([]byte(o.account))
	for _, item := range bundle.Scan(t, stackname.MailsTable) {
		if id := dynamo.GetString(item, "id"); strings.HasPrefix(id, "account#") &&
			strings.HasSuffix(id, hex.EncodeToString(sum[:])) {
			counted, _ := item["requests"].(*types.AttributeValueMemberM)
			assert.Len(t, counted.Value, accepted)
		}
	}
}

// Kill -9 of product-create between any two of its steps: the same request again completes it, with one entitlement,
// one product and one mail.
func TestProductKilledBetweenTwoSteps(t *testing.T) {
	productLane.enter(t)
	items, others := bundle.Behind(t, productCreate)
	kill := bundle.KilledAfter(productCreate)
	tests := []struct {
		name     string
		item     *fault
		message  *fault
		provider bool // it gets the request, and the process that sent it dies
		mailed   bool // before the request comes again
	}{
		{name: "after the correlation id's claim", item: after("PutItem", productCreate)},
		{name: "before the limits", item: before("TransactGetItems", productCreate)},
		{name: "before the limits are written", item: before("TransactWriteItems", productCreate)},
		{name: "after the limits are written", item: after("TransactWriteItems", productCreate)},
		{name: "before the product's lock", item: later(1, before("PutItem", productCreate))},
		{name: "after the product's lock", item: later(1, after("PutItem", productCreate))},
		{name: "when the provider has the request", provider: true},
		{name: "between provider and record", item: later(1, before("TransactWriteItems", productCreate))},
		{name: "after the record", item: later(1, after("TransactWriteItems", productCreate))},
		{name: "before the product's lock ends", item: before("DeleteItem", productCreate)},
		{name: "between record and queue", message: before("SendMessageBatch", productCreate)},
		{name: "between queue and answer", message: after("SendMessageBatch", productCreate), mailed: true},
		{name: "before the answer is kept", item: before("UpdateItem", productCreate), mailed: true},
		{name: "after the answer is kept", item: after("UpdateItem", productCreate), mailed: true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newOrder()
			items.Inject(test.item)
			others.Inject(test.message)
			if test.provider {
				bundle.Partners.Hook("bango", func(standin.Request) *standin.Answer {
					bundle.Partners.Hook("bango", nil)
					kill()
					return &standin.Answer{Hang: true}
				})
			}
			require.Equal(t, http.StatusInternalServerError, o.send(t).Status)
			items.Inject()
			others.Inject()
			if test.mailed {
				o.mailed(t, 1)
			} else {
				assert.Empty(t, o.mails())
			}
			endLocks(t, "product#", "entitlement#")
			answer := o.send(t)
			require.Equal(t, http.StatusCreated, answer.Status, answer.Body)
			id := answer.Field(t, "id")
			assert.Equal(t, answer.Body, o.send(t).Body, "a repeat gets the first answer")
			o.becomes(t, id, "delivered")
			settled(t)
			require.Len(t, o.mails(), 1)
			assert.Contains(t, o.mails()[0].Text, bundle.Entitlements(t, o.account)[0].URL, "the link that is valid")
			assert.Equal(t, 1, bundle.Entitlements(t, o.account)[0].Creates)
			o.requireOneProduct(t, 1)

			require.Equal(t, id, o.resent().accepted(t))
			o.mailed(t, 2) // a resend mails again
			o.requireOneProduct(t, 2)
		})
	}
}

// AWS throttles, fails or loses its answer: the request is served all the same, or the same request again completes it.
func TestProductWhenAWSFails(t *testing.T) {
	productLane.enter(t)
	items, others := bundle.Behind(t, productCreate)
	tests := []struct {
		name    string
		item    *fault
		message *fault
		status  int
	}{
		{name: "the limits are throttled twice", item: times(2, "TransactWriteItems", throttled), status: 201},
		{name: "the answer to the limits is lost", item: lost("TransactWriteItems"), status: 201},
		{name: "the record is throttled twice", item: later(1, times(2, "TransactWriteItems", throttled)), status: 201},
		{name: "the answer to the record is lost", item: later(1, lost("TransactWriteItems")), status: 201},
		{
			name:   "the record is throttled on and on",
			item:   later(1, always("TransactWriteItems", throttled)),
			status: 503,
		},
		{name: "the record is denied", item: later(1, always("TransactWriteItems", denied)), status: 500},
		{name: "the lock's end is denied", item: always("DeleteItem", denied), status: 201},
		{
			name:    "the queue fails twice",
			message: times(2, "SendMessageBatch", awsError(500, "InternalError")),
			status:  201,
		},
		{name: "the queue's answer is lost", message: lost("SendMessageBatch"), status: 201},
		{
			name:    "the queue fails on and on",
			message: always("SendMessageBatch", awsError(500, "InternalError")),
			status:  503,
		},
		{name: "the queue is denied", message: always("SendMessageBatch", denied), status: 500},
		{name: "the answer cannot be kept", item: always("UpdateItem", denied), status: 201},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := newOrder()
			items.Inject(test.item)
			others.Inject(test.message)
			answer := o.send(t)
			items.Inject()
			others.Inject()
			require.Equal(t, test.status, answer.Status, answer.Body)
			endLocks(t, "product#", "entitlement#")
			id := o.accepted(t)
			o.becomes(t, id, "delivered")
			settled(t)
			assert.Len(t, o.mails(), 1, "one mail however often the request came")
			o.requireOneProduct(t, 1)
			o.resent().accepted(t)
		})
	}
}

// 50 creates of the same product at the same time, each a request of its own: one product, one entitlement, and a mail
// with the link that is valid. Those of the others have left if they were claimed before a newer one was accepted.
func TestProductFiftyCreatesAtOnce(t *testing.T) {
	productLane.enter(t)
	const (
		requests     = 50
		providerTime = 20 * time.Millisecond
	)
	for name, test := range map[string]struct {
		limit string
		same  bool
		asked func(accepted int) int // how often the provider is, and so how many mails there are
	}{
		"each a request of its own":     {limit: "1000", asked: func(accepted int) int { return accepted }},
		"the same request":              {limit: "1000", same: true, asked: func(int) int { return 1 }},
		"more than the account's limit": {limit: "7", asked: func(int) int { return 7 }},
	} {
		t.Run(name, func(t *testing.T) {
			bundle.SetVariables(t, productCreate, map[string]string{
				"RESENDS_PER_ACCOUNT": test.limit, "RESENDS_PER_ADDRESS": "1000",
			})
			asked := providerTakes(t, providerTime)
			o := newOrder()
			answers := make([]harness.Reply, requests)
			var all sync.WaitGroup
			for i := range requests {
				sent := o
				if !test.same {
					sent = o.resent()
				}
				all.Go(func() { answers[i] = sent.send(t) })
			}
			all.Wait()
			statuses, ids := map[int]int{}, map[string]bool{}
			for _, answer := range answers {
				statuses[answer.Status]++
				switch answer.Status {
				case http.StatusCreated:
					ids[answer.Field(t, "id")] = true
				case http.StatusTooManyRequests, http.StatusServiceUnavailable:
					assert.NotEmpty(t, answer.Header.Get("Retry-After"))
				default:
					assert.Fail(t, "neither accepted nor told to come again", "%d %s", answer.Status, answer.Body)
				}
			}
			require.Len(t, ids, 1, "%v", statuses)
			creates := test.asked(statuses[http.StatusCreated])
			for id := range ids {
				o.becomes(t, id, "delivered")
			}
			settled(t)
			assert.LessOrEqual(t, len(o.mails()), creates)
			o.requireOneProduct(t, creates)
			valid, links := bundle.Entitlements(t, o.account)[0].URL, map[string]bool{}
			for _, m := range o.mails() {
				_, link, _ := strings.Cut(m.Text, "https://")
				link, _, _ = strings.Cut(link, "\n")
				links["https://"+link] = true
			}
			assert.Contains(t, links, valid)
			assert.Len(t, links, len(o.mails()), "each mail has a link of its own")
			times := asked()
			assert.Len(t, times, creates)
			for i := range times[1:] {
				assert.GreaterOrEqual(
					t,
					times[i+1].Sub(times[i]),
					providerTime,
					"the provider is asked by one request at a time",
				)
			}
		})
	}
}

// providerTakes slows the provider down until the test ends. The function that it returns tells when it was asked.
func providerTakes(t *testing.T, d time.Duration) (asked func() []time.Time) {
	t.Helper()
	var mu sync.Mutex
	var times []time.Time
	bundle.Partners.Hook("bango", func(r standin.Request) *standin.Answer {
		mu.Lock()
		defer mu.Unlock()
		times = append(times, r.At)
		return &standin.Answer{DelayMS: int(d.Milliseconds())}
	})
	t.Cleanup(func() { bundle.Partners.Hook("bango", nil) })
	return func() []time.Time {
		mu.Lock()
		defer mu.Unlock()
		slices.SortFunc(times, time.Time.Compare)
		return slices.Clone(times)
	}
}

// A holder of the product's lock that dies keeps it for some seconds; who waits for it is served within its own time.
func TestProductWaitsForADeadHolderOfItsLock(t *testing.T) {
	productLane.enter(t)
	items, _ := bundle.Behind(t, productCreate)
	o := newOrder()
	items.Inject(later(1, after("PutItem", productCreate)))
	require.Equal(t, http.StatusInternalServerError, o.send(t).Status)
	items.Inject()
	id := o.resent().accepted(t)
	o.becomes(t, id, "delivered")
	o.requireOneProduct(t, 2) // who died is counted: the same request again goes on with it
	require.Equal(t, id, o.accepted(t))
	o.mailed(t, 2) // each has its mail
	o.requireOneProduct(t, 2)
}
