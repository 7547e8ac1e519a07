package faults_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/product"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/store"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

const (
	productMail = "ProductMailFunction"
	// sendEmail is SES's operation to a proxy: its API names none in a header.
	sendEmail = ""
	// sesEndpoint is the variable by which it finds SES.
	sesEndpoint = "AWS_ENDPOINT_URL_SESV2"
)

func mailStore() *store.Mails {
	return store.NewMails(
		bundle.DynamoDB(),
		bundle.Table(stackname.MailsTable),
		bundle.Table(stackname.ProductsTable),
		clock.System{},
	)
}

// mail is the record of the latest request's mail.
func (o order) mail(t *testing.T) product.Mail {
	t.Helper()
	for _, item := range bundle.Scan(t, stackname.ProductsTable) {
		if dynamo.GetString(item, "billingAccountId") == o.account {
			mail, err := mailStore().Get(t.Context(), dynamo.GetString(item, "operationId"))
			require.NoError(t, err)
			return mail
		}
	}
	require.Fail(t, "there is no product")
	return product.Mail{}
}

// comesAgain has SQS deliver the order's message again, once the visibility timeout is over and with it the claim of
// who had it.
func (o order) comesAgain(t *testing.T) {
	t.Helper()
	require.NoError(t, bundle.PurgeQueue(t.Context(), "MailQueue"))
	mail := o.mail(t)
	agedClaim(t, mail)
	messages := 3
	if mail.State == product.MailPending {
		messages = 1 // of several, all but the one that sends it would wait for their visibility timeout
	}
	queue := mailqueue.NewQueue(bundle.SQS(), bundle.QueueURL("MailQueue"), clock.System{})
	for range messages {
		require.NoError(t, queue.Enqueue(t.Context(), mail.RequestID))
	}
	settled(t)
}

// agedClaim has a mail's claim, if it has one, be of three minutes ago.
func agedClaim(t *testing.T, mail product.Mail) {
	t.Helper()
	kept, err := mailStore().Get(t.Context(), mail.RequestID)
	require.NoError(t, err)
	if kept.State != product.MailSending {
		return
	}
	_, err = bundle.DynamoDB().UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName:                 aws.String(bundle.Table(stackname.MailsTable)),
		Key:                       dynamo.Item{"id": dynamo.String("request#" + mail.RequestID)},
		UpdateExpression:          aws.String("SET claimedAt = :past"),
		ExpressionAttributeValues: dynamo.Item{":past": dynamo.Time(time.Now().Add(-3 * time.Minute))},
	})
	require.NoError(t, err)
}

// Kill -9 of product-mail between any two of its steps: SES takes the mail once at most, and where nobody knows whether
// it did, the product says so.
func TestMailKilledBetweenTwoSteps(t *testing.T) {
	productLane.enter(t)
	items, _ := bundle.Behind(t, productMail)
	ses := bundle.BehindPartner(t, productMail, sesEndpoint, "mail")
	tests := []struct {
		name      string
		item, ses *fault
		finds     string // what the product says after the kill
		accepted  int    // mails that SES has taken by then
		ends      string // what the product says once the message has come again
		mails     int
	}{
		{
			name:  "before the claim",
			item:  before("TransactWriteItems", productMail),
			finds: "pending",
			ends:  "sent",
			mails: 1,
		},
		{
			name:  "between claim and send",
			item:  after("TransactWriteItems", productMail),
			finds: "pending",
			ends:  "unknown",
		},
		{name: "when SES has half of it", ses: before(sendEmail, productMail), finds: "pending", ends: "unknown"},
		{
			name:     "when SES has taken it",
			ses:      after(sendEmail, productMail),
			finds:    "pending",
			accepted: 1,
			ends:     "unknown",
			mails:    1,
		},
		{
			name:     "between send and record",
			item:     later(1, before("TransactWriteItems", productMail)),
			finds:    "pending",
			accepted: 1,
			ends:     "unknown",
			mails:    1,
		},
		{
			name:     "after the record",
			item:     later(1, after("TransactWriteItems", productMail)),
			finds:    "sent",
			accepted: 1,
			ends:     "sent",
			mails:    1,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			endSilence := noEvents(t) // a fast event would hide what product-mail itself leaves behind
			proxy, f := items, test.item
			if f == nil {
				proxy, f = ses, test.ses
			}
			struck := f.Strikes()
			proxy.Inject(f)
			o := newOrder()
			id := o.accepted(t)
			harness.Reached(t, struck)
			items.Inject()
			ses.Inject()
			state, _ := o.mailState(t, id)
			assert.Equal(t, test.finds, state)
			assert.Len(t, o.mails(), test.accepted)

			o.comesAgain(t)
			reason := o.becomes(t, id, test.ends)
			if test.ends == "unknown" {
				assert.NotEmpty(t, reason)
			}
			o.comesAgain(t)
			assert.Len(t, o.mails(), test.mails, "never a second time")
			assert.Empty(t, o.mail(t).Link.Reveal(), "the link is gone")
			state, _ = o.mailState(t, id)
			assert.Equal(t, test.ends, state)

			endSilence(o, test.mails)
			if test.mails == 1 {
				tell(t, o.mail(t), "Delivery")
				o.becomes(t, id, "delivered") // an event of SES tells more
			}
			settled(t)
			require.Equal(t, id, o.resent().accepted(t))
			o.becomes(t, id, "delivered")
			assert.Len(t, o.mails(), test.mails+1, "a resend is a request with a mail of its own")
		})
	}
}

// Kill -9 of product-mail around a mail that SES throttles: it is certain that SES has not taken it, as long as this is
// kept.
func TestMailKilledWhenItIsPutOff(t *testing.T) {
	productLane.enter(t)
	items, others := bundle.Behind(t, productMail)
	for _, test := range []struct {
		name          string
		item, message *fault
		queued        bool // the mail's next message is there
		ends          string
		mails         int
	}{
		{name: "before it is pending again", item: before("UpdateItem", productMail), ends: "unknown"},
		{
			name: "after it is pending again", item: after("UpdateItem", productMail),
			ends: "delivered", mails: 1,
		},
		{name: "before the queue", message: before("SendMessageBatch", productMail), ends: "delivered", mails: 1},
		{
			name: "after the queue", message: after("SendMessageBatch", productMail),
			queued: true, ends: "delivered", mails: 1,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := newOrder()
			sesAnswers(t, map[string][]standin.Answer{o.address: {sesError(429, "TooManyRequestsException")}})
			proxy, f := items, test.item
			if f == nil {
				proxy, f = others, test.message
			}
			struck := f.Strikes()
			proxy.Inject(f)
			id := o.accepted(t)
			harness.Reached(t, struck)
			proxy.Inject()
			assert.Empty(t, o.mails())
			if !test.queued {
				o.comesAgain(t)
			}
			o.becomes(t, id, test.ends)
			o.comesAgain(t)
			assert.Len(t, o.mails(), test.mails)
		})
	}
}

// A newer mail is accepted while an older one is under way, and product-mail is killed: the older one never leaves
// after the newer one.
func TestMailKilledWithANewerOneAccepted(t *testing.T) {
	productLane.enter(t)
	items, _ := bundle.Behind(t, productMail)
	ses := bundle.BehindPartner(t, productMail, sesEndpoint, "mail")
	for _, test := range []struct {
		name      string
		item, ses *fault
		older     product.MailState // how the older mail ends
		mails     int               // of the older one
	}{
		{name: "before the claim", item: before("TransactWriteItems", productMail), older: product.MailSuperseded},
		{name: "between claim and send", item: after("TransactWriteItems", productMail), older: product.MailUnknown},
		{name: "when SES has taken it", ses: after(sendEmail, productMail), older: product.MailUnknown, mails: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			endSilence := noEvents(t)
			proxy, f := items, test.item
			if f == nil {
				proxy, f = ses, test.ses
			}
			struck := f.Strikes()
			proxy.Inject(f)
			o := newOrder()
			id := o.accepted(t)
			harness.Reached(t, struck)
			proxy.Inject()
			older := o.mail(t)

			corrected := o.resent()
			corrected.address = newOrder().address
			require.Equal(t, id, corrected.accepted(t))
			corrected.becomes(t, id, "sent")
			require.Len(t, corrected.mails(), 1)
			agedClaim(t, older)
			require.NoError(t, bundle.PurgeQueue(t.Context(), "MailQueue"))
			queue := mailqueue.NewQueue(bundle.SQS(), bundle.QueueURL("MailQueue"), clock.System{})
			require.NoError(t, queue.Enqueue(t.Context(), older.RequestID)) // as SQS brings it back
			older = recorded(t, older, test.older)
			assert.Empty(t, older.Link.Reveal(), "the link is gone")
			settled(t)
			assert.Len(t, o.mails(), test.mails)
			assert.Len(t, corrected.mails(), 1)
			state, _ := o.mailState(t, id)
			assert.Equal(t, "sent", state, "the product shows its newest mail")
			endSilence(corrected, 1)
		})
	}
}

// SES throttles an older mail, again and again, while newer ones are accepted: one mail leaves, with the link that is
// valid.
func TestMailSupersededWhileSESThrottles(t *testing.T) {
	productLane.enter(t)
	o := newOrder()
	busy := sesError(429, "TooManyRequestsException")
	sesAnswers(t, map[string][]standin.Answer{o.address: {busy, busy, busy}})
	id := o.accepted(t)
	var older []product.Mail
	for range 2 {
		mail := harness.Eventually(t, "SES was busy", func() (product.Mail, bool) {
			mail := o.mail(t)
			return mail, mail.State == product.MailPending && mail.Reason != ""
		})
		older = append(older, mail)
		require.Equal(t, id, o.resent().accepted(t))
	}
	o.becomes(t, id, "delivered")
	settled(t)
	for _, mail := range older {
		assert.Empty(t, recorded(t, mail, product.MailSuperseded).Link.Reveal())
	}
	require.Len(t, o.mails(), 1)
	assert.Contains(t, o.mails()[0].Text, bundle.Entitlements(t, o.account)[0].URL)
	state, _ := o.mailState(t, id)
	assert.Equal(t, "delivered", state)
}

// A claim that is young is another process's: its message comes again later, and changes nothing.
func TestMailMessageWhileAnotherProcessSends(t *testing.T) {
	productLane.enter(t)
	o := newOrder()
	sending, release := make(chan struct{}), make(chan struct{})
	ses := bundle.BehindPartner(t, productMail, sesEndpoint, "mail")
	ses.Inject(&fault{Operation: sendEmail, Answer: func(http.ResponseWriter, *http.Request) bool {
		close(sending)
		<-release
		return false
	}})
	id := o.accepted(t)
	<-sending
	mail := o.mail(t)
	assert.Equal(t, product.MailSending, mail.State)
	response, err := bundle.Function(productMail).Invoke(t.Context(), []byte(mailEvent(mail.RequestID, 3)))
	require.NoError(t, err)
	var failures struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	require.NoError(t, json.Unmarshal(response, &failures), "%s", response)
	assert.Len(t, failures.BatchItemFailures, 3)
	close(release)
	o.becomes(t, id, "delivered")
	settled(t)
	assert.Len(t, o.mails(), 1)
}

// mailEvent is an invocation of product-mail with n messages of the same mail.
func mailEvent(requestID string, n int) string {
	records := make([]string, n)
	for i := range records {
		records[i] = fmt.Sprintf(
			`{"messageId":"m%d","eventSource":"aws:sqs","body":%q}`,
			i,
			`{"requestId":"`+requestID+`"}`,
		)
	}
	return `{"Records":[` + strings.Join(records, ",") + `]}`
}

// SQS delivers at least once: to several processes at the same time, and several times to one.
func TestMailMessageIsDeliveredManyTimes(t *testing.T) {
	productLane.enter(t)
	bundle.PauseQueues("MailQueue")
	o := newOrder()
	id := o.accepted(t)
	require.NoError(t, bundle.PurgeQueue(t.Context(), "MailQueue"))
	bundle.ResumeQueues("MailQueue")
	event := []byte(mailEvent(o.mail(t).RequestID, 10))
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			_, err := bundle.Function(productMail).Invoke(t.Context(), event)
			assert.NoError(t, err)
		})
	}
	all.Wait()
	o.becomes(t, id, "delivered")
	assert.Len(t, o.mails(), 1)
	response, err := bundle.Function(productMail).Invoke(t.Context(), event)
	require.NoError(t, err)
	assert.NotContains(t, string(response), "m0", "what was sent is done with")
	assert.Len(t, o.mails(), 1)
}

// A message that SQS loses leaves the mail pending, and readable as such; a resend mails again.
func TestTheMailQueueLosesAMessage(t *testing.T) {
	productLane.enter(t)
	bundle.PauseQueues("MailQueue")
	o := newOrder()
	id := o.accepted(t)
	require.NoError(t, bundle.PurgeQueue(t.Context(), "MailQueue"))
	bundle.ResumeQueues("MailQueue")
	settled(t)
	state, _ := o.mailState(t, id)
	assert.Equal(t, "pending", state)
	assert.Empty(t, o.mails())
	require.Equal(t, id, o.resent().accepted(t))
	o.becomes(t, id, "delivered")
	settled(t)
	assert.Len(t, o.mails(), 1)
	o.requireOneProduct(t, 2)
}

// sesAnswers scripts what SES answers by the address of a mail, one answer after the other, until the test ends.
func sesAnswers(t *testing.T, byAddress map[string][]standin.Answer) {
	t.Helper()
	var mu sync.Mutex
	bundle.Partners.Hook("mail", func(r standin.Request) *standin.Answer {
		var request struct {
			Destination struct{ ToAddresses []string }
		}
		if json.Unmarshal(r.Body, &request) != nil || len(request.Destination.ToAddresses) != 1 {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		to := request.Destination.ToAddresses[0]
		next := byAddress[to]
		if len(next) == 0 {
			return nil
		}
		byAddress[to] = next[1:]
		return &next[0]
	})
	t.Cleanup(func() { bundle.Partners.Hook("mail", nil) })
}

// sesError is an error as SES answers it.
func sesError(status int, code string) standin.Answer {
	return standin.Answer{
		Status: status, Headers: map[string]string{"Content-Type": "application/json", "X-Amzn-Errortype": code},
		Body: `{"message":"told by the test"}`,
	}
}

// SES throttles, refuses, fails or does not answer. The mails of all cases go out side by side.
func TestMailWhenSESFails(t *testing.T) {
	productLane.enter(t)
	tests := map[string]struct {
		answers []standin.Answer
		ends    string
		reason  string // part of it
		mails   int
	}{
		"throttled": {
			answers: []standin.Answer{sesError(429, "TooManyRequestsException")},
			ends:    "delivered",
			mails:   1,
		},
		"throttled twice": {
			answers: []standin.Answer{sesError(429, "TooManyRequestsException"), sesError(400, "ThrottlingException")},
			ends:    "delivered",
			mails:   1,
		},
		"over the daily quota": {
			answers: []standin.Answer{sesError(400, "LimitExceededException")},
			ends:    "delivered",
			mails:   1,
		},
		"sending is paused": {
			answers: []standin.Answer{sesError(400, "SendingPausedException")},
			ends:    "delivered",
			mails:   1,
		},
		"503": {answers: []standin.Answer{{Status: 503}}, ends: "delivered", mails: 1},
		"rejected": {
			answers: []standin.Answer{sesError(400, "MessageRejected")},
			ends:    "refused",
			reason:  "MessageRejected",
		},
		"its domain is not verified": {
			answers: []standin.Answer{sesError(400, "MailFromDomainNotVerifiedException")},
			ends:    "delivered",
			mails:   1,
		},
		"a bad request": {
			answers: []standin.Answer{sesError(400, "BadRequestException")},
			ends:    "refused",
			reason:  "BadRequestException",
		},
		"no such configuration set": {
			answers: []standin.Answer{sesError(404, "NotFoundException")},
			ends:    "refused",
			reason:  "NotFoundException",
		},
		"a failure": {
			answers: []standin.Answer{sesError(500, "InternalFailure")},
			ends:    "unknown",
			reason:  "SES answered 500",
		},
		"no answer": {
			answers: []standin.Answer{{Hang: true}},
			ends:    "unknown",
			reason:  "SES did not answer",
		},
		"half an answer": {answers: []standin.Answer{{Cut: true}}, ends: "delivered", mails: 1},
		"throttled, and then no more": {
			answers: []standin.Answer{sesError(429, "TooManyRequestsException"), sesError(400, "MessageRejected")},
			ends:    "refused",
			reason:  "MessageRejected",
		},
	}
	orders, answers := map[string]order{}, map[string][]standin.Answer{}
	for name, test := range tests {
		o := newOrder()
		orders[name], answers[o.address] = o, test.answers
	}
	sesAnswers(t, answers)
	ids := map[string]string{}
	for name, o := range orders {
		ids[name] = o.accepted(t)
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o, id := orders[name], ids[name]
			o.becomes(t, id, test.ends)
			_, reason := o.mailState(t, id)
			assert.Contains(t, reason, test.reason)
			assert.Empty(t, o.mail(t).Link.Reveal(), "the link is gone")
			o.comesAgainAlone(t)
			assert.Len(t, o.mails(), test.mails, "at most once")

			require.Equal(t, id, o.resent().accepted(t))
			o.becomes(t, id, "delivered")
			assert.Len(t, o.mails(), test.mails+1, "a resend mails again")
			assert.Equal(t, http.StatusCreated, o.send(t).Status)
			assert.Len(t, o.mails(), test.mails+1, "a replay does not")
		})
	}
	settled(t)
}

// comesAgainAlone invokes product-mail with the order's message again, and leaves the queue to others.
func (o order) comesAgainAlone(t *testing.T) {
	t.Helper()
	_, err := bundle.Function(productMail).Invoke(t.Context(), []byte(mailEvent(o.mail(t).RequestID, 2)))
	require.NoError(t, err)
}

// While a mail waits for SES it is pending, and its link is kept.
func TestMailWaitsForSES(t *testing.T) {
	productLane.enter(t)
	o := newOrder()
	t.Run("that cannot be reached", func(t *testing.T) {
		closed := harness.NewProxy(t, bundle.Partners.URL("mail"))
		bundle.SetVariables(t, productMail, map[string]string{sesEndpoint: closed.URL})
		closed.Close()
		o.accepted(t)
		mail := harness.Eventually(
			t,
			"SES is asked",
			func() (product.Mail, bool) { m := o.mail(t); return m, m.Reason != "" },
		)
		assert.Equal(t, product.MailPending, mail.State)
		assert.Equal(t, "SES could not be reached", mail.Reason)
		assert.Equal(t, bundle.Entitlements(t, o.account)[0].URL, mail.Link.Reveal())
	})
	o.mailed(t, 1)
	harness.Eventually(
		t,
		"it is recorded",
		func() (product.MailState, bool) { s := o.mail(t).State; return s, s == product.MailDelivered },
	)
	settled(t)
}

// DynamoDB fails around a mail: it goes out all the same, once, or the product says that nobody knows.
func TestMailWhenDynamoDBFails(t *testing.T) {
	productLane.enter(t)
	items, _ := bundle.Behind(t, productMail)
	tests := []struct {
		name  string
		fault *fault
		ends  string
		mails int
	}{
		{
			name:  "the claim is throttled twice",
			fault: times(2, "TransactWriteItems", throttled),
			ends:  "sent",
			mails: 1,
		},
		{name: "the claim's answer is lost", fault: lost("TransactWriteItems"), ends: "sent", mails: 1},
		{
			name:  "the record is throttled twice",
			fault: later(1, times(2, "TransactWriteItems", throttled)),
			ends:  "sent",
			mails: 1,
		},
		{name: "the record's answer is lost", fault: later(1, lost("TransactWriteItems")), ends: "sent", mails: 1},
		{
			name:  "the record is denied",
			fault: later(1, always("TransactWriteItems", denied)),
			ends:  "unknown",
			mails: 1,
		},
		{name: "the claim is denied", fault: always("TransactWriteItems", denied), ends: "sent", mails: 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			endSilence := noEvents(t)
			bundle.Function(productMail).Kill() // and with it what it still tries again for the case before
			o := newOrder()
			forEver, skipped := test.fault.Times < 0, test.fault.Skip
			items.Inject(test.fault)
			id := o.accepted(t)
			if forEver {
				harness.Eventually(
					t,
					"the step is reached",
					func() (int, bool) {
						n := items.Count(test.fault.Operation)
						return n, n > skipped
					},
				)
			} else {
				o.mailed(t, 1)
				o.becomes(t, id, test.ends)
			}
			items.Inject()
			o.comesAgain(t)
			o.becomes(t, id, test.ends)
			assert.Len(t, o.mails(), test.mails)
			endSilence(o, test.mails)
			tell(t, o.mail(t), "Delivery")
			o.becomes(t, id, "delivered")
		})
	}
}
