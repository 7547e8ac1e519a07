package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/product"
)

// crash plays a process that is killed at one of its calls: before that is carried out, or after it was and before its
// answer came. No later call of the process gets anywhere, so it cleans nothing up either.
type crash struct {
	mu    sync.Mutex
	at    int // the call, from 1 on; 0 for none
	after bool
	calls []string
	dead  bool
}

// plan has the process die at a call of those to come, and forgets those that were.
func (c *crash) plan(at int, after bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.after, c.calls, c.dead = at, after, nil, false
}

// meets counts a call and reports whether it reaches its end, and whether its answer comes back.
func (c *crash) meets(call string) (carriedOut, answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return false, false
	}
	c.calls = append(c.calls, call)
	if len(c.calls) != c.at {
		return true, true
	}
	c.dead = true
	return c.after, false
}

func (c *crash) seen() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// aws stands between the process and AWS.
func (c *crash) aws(w http.ResponseWriter, call emulatortest.Call) bool {
	carriedOut, answered := c.meets(call.Operation)
	if answered {
		return false
	}
	if carriedOut {
		call.Send(call.Body)
	}
	w.WriteHeader(http.StatusInternalServerError)
	_, _ = io.WriteString(w, `{"__type":"InternalServerError"}`)
	return true
}

// provider stands between the process and the provider.
func (c *crash) provider(provider http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		carriedOut, answered := c.meets("provider")
		if carriedOut {
			provider.ServeHTTP(w, r)
		}
		if !answered {
			panic(http.ErrAbortHandler)
		}
	}
}

// lockTime is how long a process that died keeps an operation or a product locked.
const lockTime = 10 * time.Second

// docs/contract.md §3: nothing is lost, the same request again completes it, wherever a process died.
func TestTheSameRequestAgainCompletesWhatACrashLeft(t *testing.T) {
	var c crash
	b := deployBetween(t, c.aws, c.aws)
	b.handler.Limits.PerAccount = 1
	b.play(c.provider(b.bango))
	body := func(account string) string { return strings.Replace(validBody, "8001234567", account, 1) }
	require.Equal(t, http.StatusCreated, b.post("warm", body("warm")).StatusCode)
	c.plan(0, false)
	require.Equal(t, http.StatusCreated, b.post("whole", body("whole")).StatusCode)
	calls := c.seen()
	require.Equal(t, []string{
		"PutItem",            // the operation
		"TransactGetItems",   // what is counted
		"TransactWriteItems", // the count
		"PutItem",            // the product's lock
		"GetItem",            // what it was asked for before
		"provider",
		"TransactWriteItems", // product and mail
		"DeleteItem",         // the lock
		"SendMessageBatch",
		"UpdateItem", // the answer
	}, calls)
	for i, call := range calls {
		for _, after := range []bool{false, true} {
			name := fmt.Sprintf("%d %s, after it %v", i+1, call, after)
			t.Run(name, func(t *testing.T) {
				b.enqueued()
				account := strings.ReplaceAll(name, " ", "-")
				before := len(b.requests())
				c.plan(i+1, after)
				first := b.post(name, body(account))
				if call == "DeleteItem" || call == "UpdateItem" {
					t.Log("the process goes on without it:", first.StatusCode)
				} else {
					assert.GreaterOrEqual(t, first.StatusCode, 500)
				}
				c.plan(0, false)
				b.clock.Advance(lockTime)

				again := b.post(name, body(account))
				require.Equal(t, http.StatusCreated, again.StatusCode, again.Body)
				asked := b.requests()[before:]
				for _, request := range asked {
					assert.Equal(t, asked[0], request, "to the provider it is the same request")
				}
				var entitlements []map[string]any
				for _, entitlement := range b.entitlements() {
					if entitlement["customerIdentifier"] == "PA-"+account {
						entitlements = append(entitlements, entitlement)
					}
				}
				require.Len(t, entitlements, 1)
				assert.EqualValues(t, 1, entitlements[0]["creates"])
				var products, mails []dynamo.Item
				for _, item := range b.kept() {
					if dynamo.GetString(item, "billingAccountId") == account {
						products = append(products, item)
					}
				}
				require.Len(t, products, 1)
				for _, item := range b.mails() {
					if dynamo.GetString(item, "productId") == dynamo.GetString(products[0], "id") {
						mails = append(mails, item)
					}
				}
				require.Len(t, mails, 1)
				assert.Equal(t, entitlements[0]["url"], dynamo.GetString(mails[0], "link"))
				enqueued := b.enqueued()
				require.NotEmpty(t, enqueued)
				for _, request := range enqueued {
					assert.Equal(t, asked[0].requestID, request, "a job may come twice, of one mail")
				}
				// It was counted once, or it would have been refused, and it is counted still.
				assert.Equal(t, http.StatusTooManyRequests, b.post(name+" again", body(account)).StatusCode)
			})
		}
	}
}

// A mail that has been sent already is not enqueued again by a request that is completed late.
func TestARequestCompletedLateDoesNotEnqueueAMailThatWasSent(t *testing.T) {
	b := deploy(t, func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "UpdateItem" || !strings.Contains(call.Body, "SET answer") {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	})
	require.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	requests := b.enqueued()
	require.Len(t, requests, 1)
	mail, err := b.mailed.Get(t.Context(), requests[0])
	require.NoError(t, err)
	require.NoError(t, b.mailed.SetOutcome(t.Context(), mail, product.Outcome{State: product.MailSent}, b.clock.Now()))
	b.clock.Advance(lockTime)
	assert.Equal(t, http.StatusCreated, b.post("c-1", validBody).StatusCode)
	assert.Empty(t, b.enqueued())
	assert.Len(t, b.requests(), 1)
}
