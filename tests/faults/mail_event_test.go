package faults_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/product"
	"carillon/tests/harness"
)

const productMailEvent = "ProductMailEventFunction"

// tell delivers an event of SES about the mail.
func tell(t *testing.T, mail product.Mail, eventType string) {
	t.Helper()
	body := fmt.Sprintf(
		`{"source":"aws.ses","detail":{"eventType":%q,"mail":{"messageId":"ses-1","tags":{"request":[%q]}},
			"bounce":{"bounceType":"Permanent","bounceSubType":"General"}}}`,
		eventType,
		base64.RawURLEncoding.EncodeToString([]byte(mail.RequestID)),
	)
	_, err := bundle.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(bundle.QueueURL("MailEventQueue")), MessageBody: aws.String(body),
	})
	require.NoError(t, err)
}

// recorded waits until a mail is kept in a state, whatever its product shows, and returns it.
func recorded(t *testing.T, mail product.Mail, state product.MailState) product.Mail {
	t.Helper()
	return harness.Eventually(t, "the mail becomes "+string(state), func() (product.Mail, bool) {
		kept, err := mailStore().Get(t.Context(), mail.RequestID)
		return kept, err == nil && kept.State == state
	})
}

// noEvents keeps product-mail-event from recording anything. The function that it returns waits until n events of an
// order's mail have been lost so, and ends that.
func noEvents(t *testing.T) (end func(o order, n int)) {
	t.Helper()
	items, _ := bundle.Behind(t, productMailEvent)
	var mu sync.Mutex
	var asked []string
	items.Inject(always("GetItem", func(w http.ResponseWriter, r *http.Request) bool {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, string(body))
		return denied(w, r)
	}))
	return func(o order, n int) {
		id := o.mail(t).RequestID
		harness.Eventually(t, "SES has told of the mail", func() (told int, done bool) {
			mu.Lock()
			defer mu.Unlock()
			for _, body := range asked {
				if strings.Contains(body, id) {
					told++
				}
			}
			return told, told >= n
		})
		items.Inject()
		require.NoError(t, bundle.PurgeQueue(t.Context(), "MailEventQueue"))
	}
}

// The mail of an earlier request fares as it may: the product shows that of the latest.
func TestMailOfAnEarlierRequest(t *testing.T) {
	productLane.enter(t)
	o := newOrder()
	id := o.accepted(t)
	o.becomes(t, id, "delivered")
	earlier := o.mail(t)
	o.resent().accepted(t)
	require.NotEqual(t, earlier.RequestID, o.mail(t).RequestID)
	o.becomes(t, id, "delivered")
	settled(t)
	assert.Len(t, o.mails(), 2)
	tell(t, earlier, "Complaint")
	recorded(t, earlier, product.MailComplained)
	state, _ := o.mailState(t, id)
	assert.Equal(t, "delivered", state)
}

// Events come twice, in any order, about mails that nobody knows, and with rubbish between them.
func TestMailEvents(t *testing.T) {
	productLane.enter(t)
	endSilence := noEvents(t)
	o := newOrder()
	id := o.accepted(t)
	o.becomes(t, id, "sent")
	endSilence(o, 1)
	mail := o.mail(t)
	for _, step := range []struct{ told, state string }{
		{"Send", "sent"}, {"DeliveryDelay", "delayed"},
		{"Delivery", "delivered"}, {"Delivery", "delivered"}, {"DeliveryDelay", "delivered"},
		{"Bounce", "bounced"}, {"Delivery", "bounced"},
		{"Complaint", "complained"}, {"Bounce", "complained"}, {"Delivery", "complained"},
	} {
		tell(t, mail, step.told)
		tell(t, product.Mail{RequestID: uuid.NewString()}, step.told)
		eventsHandled(t)
		state, _ := o.mailState(t, id)
		require.Equal(t, step.state, state, step.told)
	}
	assert.Len(t, o.mails(), 1)
}

// Kill -9 of product-mail-event: SQS brings the event again, and it is recorded once.
func TestMailEventKilledAroundItsRecord(t *testing.T) {
	productLane.enter(t)
	for name, f := range map[string]*fault{
		"before the record": {Operation: "TransactWriteItems", Answer: bundle.KilledBefore(productMailEvent)},
		"after the record":  {Operation: "TransactWriteItems", After: bundle.KilledAfter(productMailEvent)},
	} {
		t.Run(name, func(t *testing.T) {
			endSilence := noEvents(t)
			o := newOrder()
			id := o.accepted(t)
			o.becomes(t, id, "sent")
			endSilence(o, 1)
			items, _ := bundle.Behind(t, productMailEvent)
			struck := f.Strikes()
			items.Inject(f)
			tell(t, o.mail(t), "Bounce")
			harness.Reached(t, struck)
			items.Inject()
			require.NoError(t, bundle.PurgeQueue(t.Context(), "MailEventQueue"))
			tell(t, o.mail(t), "Bounce")
			eventsHandled(t)
			o.becomes(t, id, "bounced")
		})
	}
}

// eventsHandled waits until nothing is left to do in the queue of events.
func eventsHandled(t *testing.T) {
	t.Helper()
	drained(t, "MailEventQueue")
}
