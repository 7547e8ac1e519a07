package contract_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// ofPush returns the endpoint of a push, with a query.
func ofPush(e endpoint, id, query string) endpoint {
	return e.at(strings.Replace(e.path, "{requestId}", id, 1) + query)
}

// ask asks about a push of the demo provider.
func ask(t *testing.T, e endpoint) answer {
	t.Helper()
	return send(t, e, "", "Authorization", engageBearer(t, bundle.Demo.Engage.DemoClient))
}

// scheduled is a batch that waits for an hour.
func scheduled(destinations int) (body object, notBefore string) {
	notBefore = time.Now().Add(time.Hour).UTC().Format("2006-01-02T15:04:05Z")
	b := demoBatch().set(notBefore, "notBefore")
	var list []any
	for i := range destinations {
		list = append(list, object{"bNumber": fmt.Sprintf("+1501%07d", i), "customTrackingId": fmt.Sprint("id ", i)})
	}
	return b.set(list, "destinations"), notBefore
}

// docs/contract.md §2, status.
func TestPushStatusIsScheduledThenCancelled(t *testing.T) {
	t.Parallel()
	body, notBefore := scheduled(3)
	id := requirePushed(t, push(t, demoProgram(), body.text(t)))
	status := ask(t, ofPush(pushStatus, id, ""))
	require.Equal(t, 200, status.Status, "%s", status.Body)
	shown := status.Object(t)
	createdAt, err := time.Parse(time.RFC3339, shown["createdAt"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), createdAt, time.Minute)
	delete(shown, "createdAt")
	destination := func(i int, state string) map[string]any {
		return map[string]any{
			"bNumber":          fmt.Sprintf("+1501%07d", i),
			"customTrackingId": fmt.Sprint("id ", i),
			"state":            state,
			"reason":           nil,
			"deliveredAt":      nil,
		}
	}
	counts := func(pending, cancelled string) map[string]any {
		return numbers(
			map[string]string{
				"total":     "3",
				"pending":   pending,
				"delivered": "0",
				"rejected":  "0",
				"failed":    "0",
				"expired":   "0",
				"cancelled": cancelled,
			},
		)
	}
	want := map[string]any{
		"requestId":          id,
		"state":              "scheduled",
		"programContentUuid": bundle.Demo.Engage.ProgramContentUUID,
		"notBefore":          notBefore,
		"counts":             counts("3", "0"),
		"destinations":       []any{destination(0, "pending"), destination(1, "pending"), destination(2, "pending")},
		"next":               nil,
	}
	assert.Equal(t, want, shown)

	for range 2 { // again 200 when repeated
		cancelled := ask(t, ofPush(pushCancel, id, ""))
		require.Equal(t, 200, cancelled.Status, "%s", cancelled.Body)
		assert.Equal(
			t,
			map[string]any{"requestId": id, "state": "cancelled", "counts": counts("0", "3")},
			cancelled.Object(t),
		)
	}
	shown = ask(t, ofPush(pushStatus, id, "")).Object(t)
	assert.Equal(t, "cancelled", shown["state"])
	assert.Equal(
		t,
		[]any{destination(0, "cancelled"), destination(1, "cancelled"), destination(2, "cancelled")},
		shown["destinations"],
	)
}

// numbers are numbers as answer.json decodes them.
func numbers(texts map[string]string) map[string]any {
	all := map[string]any{}
	for name, text := range texts {
		all[name] = json.Number(text)
	}
	return all
}

// docs/contract.md §2, status: limit and next, destinations in the order sent.
func TestPushStatusPages(t *testing.T) {
	t.Parallel()
	body, _ := scheduled(7)
	id := requirePushed(t, push(t, demoProgram(), body.text(t)))
	var seen []string
	for query, pages := "?limit=3", 1; ; pages++ {
		page := ask(t, ofPush(pushStatus, id, query)).Object(t)
		for _, d := range page["destinations"].([]any) {
			seen = append(seen, d.(map[string]any)["bNumber"].(string))
		}
		next, more := page["next"].(string)
		if !more {
			assert.Equal(t, 3, pages)
			break
		}
		query = "?limit=3&next=" + next
	}
	assert.Equal(
		t,
		[]string{
			"+15010000000",
			"+15010000001",
			"+15010000002",
			"+15010000003",
			"+15010000004",
			"+15010000005",
			"+15010000006",
		},
		seen,
	)
	for _, query := range []string{"?limit=0", "?limit=-1", "?limit=1001", "?limit=x", "?next=x!", "?next=AAAA"} {
		bad := ask(t, ofPush(pushStatus, id, query))
		assert.Equal(t, 400, bad.Status, query)
	}
}

// docs/contract.md §2: a delivered push, and 409 when nothing was left to cancel.
func TestPushDeliveredCannotBeCancelled(t *testing.T) {
	t.Parallel()
	id := requirePushed(t, push(t, demoProgram(), demoBatch().text(t)))
	shown := harness.Eventually(t, "the push is completed", func() (map[string]any, bool) {
		shown := ask(t, ofPush(pushStatus, id, "")).Object(t)
		return shown, shown["state"] == "completed"
	})
	assert.Equal(
		t,
		numbers(
			map[string]string{
				"total":     "2",
				"pending":   "0",
				"delivered": "2",
				"rejected":  "0",
				"failed":    "0",
				"expired":   "0",
				"cancelled": "0",
			},
		),
		shown["counts"],
	)
	for _, d := range shown["destinations"].([]any) {
		at, err := time.Parse(time.RFC3339, d.(map[string]any)["deliveredAt"].(string))
		require.NoError(t, err)
		assert.Equal(t, time.UTC, at.Location())
	}
	requireNotPushed(t, ask(t, ofPush(pushCancel, id, "")), 409, "Nothing was left to cancel", pushFailed)
}

// docs/contract.md §2: unknown, or another provider's → 404; no token → 401 without a body.
func TestPushThatIsNotTheCallers(t *testing.T) {
	t.Parallel()
	body, _ := scheduled(1)
	id := requirePushed(t, push(t, demoProgram(), body.text(t)))
	other := engageBearer(t, bundle.Demo.EngageOther.DemoClient)
	for _, e := range []endpoint{pushStatus, pushCancel} {
		for _, unknown := range []string{unknownUUID, "x", "urn:uuid:" + id, "%7B" + id + "%7D"} {
			requireNotPushed(t, ask(t, ofPush(e, unknown, "")), 404, "Unknown request", pushFailed)
		}
		requireNotPushed(t, send(t, ofPush(e, id, ""), "", "Authorization", other), 404, "Unknown request", pushFailed)
		for _, bearer := range []string{"", "Bearer x", ottBearer(t, bundle.Demo.OTT, "")} {
			refused := send(t, ofPush(e, id, ""), "", "Authorization", bearer)
			assert.Equal(t, 401, refused.Status)
			assert.Empty(t, refused.Body)
		}
	}
	assert.Equal(t, 200, ask(t, ofPush(pushStatus, strings.ToUpper(id), "")).Status, "a UUID has no case")
}
