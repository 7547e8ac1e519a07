package faults_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/product"
)

const productMailEvent = "ProductMailEventFunction"

// tell delivers an event of SES about the mail.
func tell(t *testing.T, mail product.Mail, eventType string) {
	t.Helper()
	body := fmt.Sprintf(`{"source":"aws.ses","detail":{"eventType":%q,"mail":{"messageId":"ses-1","tags":{"request":[%q]}}}}`,
		eventType, base64.RawURLEncoding.EncodeToString([]byte(mail.RequestID)))
	_, err := bundle.SQS().SendMessage(t.Context(), &sqs.SendMessageInput{
		QueueUrl: aws.String(bundle.QueueURL("MailEventQueue")), MessageBody: aws.String(body),
	})
	require.NoError(t, err)
}

// noEvents keeps product-mail-event from recording anything. The function that it returns waits until n events have been
// lost so, and ends that.
func noEvents(t *testing.T) (end func(n int)) {
	t.Helper()
	items, _ := behindProxies(t, productMailEvent)
	items.inject(&fault{operation: "GetItem", times: -1, answer: awsError(400, "AccessDeniedException")})
	return func(n int) {
		eventually(t, "SES has told of the mail", func() bool { return items.count("GetItem") >= n })
		items.inject()
		require.NoError(t, bundle.PurgeQueue(t.Context(), "MailEventQueue"))
	}
}

// The mail of an earlier request fares as it may: the product shows that of the latest.
func TestMailOfAnEarlierRequest(t *testing.T) {
	bundle.PauseQueues()
	o := newOrder()
	id := o.accepted(t)
	earlier := o.mail(t)
	o.resent().accepted(t)
	latest := o.mail(t)
	require.NotEqual(t, earlier.RequestID, latest.RequestID)
	bundle.ResumeQueues()
	o.becomes(t, id, "delivered")
	settled(t)
	assert.Len(t, o.mails(), 2)
	tell(t, earlier, "Complaint")
	eventually(t, "the earlier mail's event is recorded", func() bool {
		mail, err := mailStore().Get(t.Context(), earlier.RequestID)
		return err == nil && mail.State == product.MailComplained
	})
	state, _ := o.mailState(t, id)
	assert.Equal(t, "delivered", state)
}

// Events come twice, in any order, about mails that nobody knows, and with rubbish between them.
func TestMailEvents(t *testing.T) {
	endSilence := noEvents(t)
	o := newOrder()
	id := o.accepted(t)
	o.becomes(t, id, "sent")
	endSilence(1)
	mail := o.mail(t)
	for _, step := range []struct{ told, state string }{
		{"Send", "sent"}, {"Delivery", "delivered"}, {"Delivery", "delivered"}, {"DeliveryDelay", "delivered"},
		{"Bounce", "bounced"}, {"Delivery", "bounced"}, {"Complaint", "complained"}, {"Bounce", "complained"}, {"Delivery", "complained"},
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
	for name, f := range map[string]*fault{
		"before the record": {operation: "TransactWriteItems", answer: killed(productMailEvent)},
		"after the record":  {operation: "TransactWriteItems", after: func() { bundle.Function(productMailEvent).Kill() }},
	} {
		t.Run(name, func(t *testing.T) {
			endSilence := noEvents(t)
			o := newOrder()
			id := o.accepted(t)
			o.becomes(t, id, "sent")
			endSilence(1)
			items, _ := behindProxies(t, productMailEvent)
			struck := atStep(f)
			items.inject(f)
			tell(t, o.mail(t), "Bounce")
			reached(t, struck)
			items.inject()
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
	eventually(t, "the events are handled", func() bool { return isEmpty(t, "MailEventQueue") })
}
