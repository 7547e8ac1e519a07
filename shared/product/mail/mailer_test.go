package mail_test

import (
	"context"
	"fmt"
	"io"
	"net"
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
	"carillon/shared/product/mail"
	"carillon/shared/product/mailqueue"
	"carillon/shared/rounds"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

// docs/contract.md §3: the mail is sent by SES, text and HTML, and what became of it is recorded on the product.
func TestAMailIsSent(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	b.clock.Advance(time.Minute)
	assert.Empty(t, b.deliver(messageOf(request)))
	sent := b.sent()
	require.Len(t, sent, 1)
	assert.Equal(t, emulatortest.MailFrom, sent[0].FromEmailAddress)
	assert.Equal(t, []string{address}, sent[0].Destination.ToAddresses)
	assert.Empty(t, sent[0].Destination.CcAddresses)
	assert.Empty(t, sent[0].Destination.BccAddresses)
	assert.Empty(t, sent[0].ReplyToAddresses)
	assert.Equal(t, stackname.MailConfigurationSet(b.name), sent[0].ConfigurationSetName)
	require.Len(t, sent[0].EmailTags, 1)
	assert.Equal(t, "request", sent[0].EmailTags[0].Name)
	assert.Regexp(t, `^[A-Za-z0-9_-]{1,256}$`, sent[0].EmailTags[0].Value, "SES takes no other value of a tag")
	for _, charset := range []string{
		sent[0].Content.Simple.Subject.Charset, sent[0].Content.Simple.Body.Text.Charset,
		sent[0].Content.Simple.Body.HTML.Charset,
	} {
		assert.Equal(t, "UTF-8", charset)
	}
	item := b.kept(request)
	assert.Equal(t, "sent", dynamo.GetString(item, "state"))
	assert.NotEmpty(t, dynamo.GetString(item, "sesMessageId"))
	assert.NotContains(t, item, "link", "nothing needs the link any more")
	state, reason, at := b.shown(m)
	assert.Equal(t, product.MailSent, state)
	assert.Empty(t, reason)
	assert.Equal(t, noon.Add(time.Minute), at)
	assert.Contains(t, b.log.String(), `"mailsRefused":0`)
}

// SQS delivers at least once.
func TestAMessageThatComesAgainSendsNothing(t *testing.T) {
	b := deploy(t)
	b.keep(request)
	for range 3 {
		assert.Empty(t, b.deliver(messageOf(request)))
	}
	assert.Len(t, b.sent(), 1)

	t.Run("at the same time", func(t *testing.T) {
		b.keep("b")
		var group sync.WaitGroup
		for range 20 {
			group.Go(func() { b.deliver(messageOf("b"), messageOf("b")) })
		}
		group.Wait()
		assert.Len(t, b.sent(), 2)
		assert.Equal(t, product.MailSent, b.state("b"))
	})
}

func TestMessagesOfABatchFailAlone(t *testing.T) {
	b := deploy(t)
	b.keep("good")
	b.keep("bad")
	b.aws = func(w http.ResponseWriter, call emulatortest.Call) bool {
		if !strings.Contains(call.Body, "request#bad") {
			return false
		}
		w.WriteHeader(http.StatusInternalServerError)
		return true
	}
	assert.Equal(t, "a b", b.deliver("not a message", messageOf("bad"), messageOf("good"), messageOf("nobody's")))
	assert.Equal(t, product.MailSent, b.state("good"))
	assert.Equal(t, product.MailPending, b.state("bad"))
}

// What SES answers decides what becomes of the mail. Whatever it is, SES is asked once.
func TestAMailsStateFollowsFromTheAnswerOfSES(t *testing.T) {
	html := func(status int) func(http.ResponseWriter, emulatortest.Call) bool {
		return func(w http.ResponseWriter, _ emulatortest.Call) bool {
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "<html>")
			return true
		}
	}
	cut := func(w http.ResponseWriter, _ emulatortest.Call) bool {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"MessageId":"m`)
		return true
	}
	hangUp := func(http.ResponseWriter, emulatortest.Call) bool { panic(http.ErrAbortHandler) }
	hangUpAfter := func(_ http.ResponseWriter, call emulatortest.Call) bool {
		call.Send(call.Body)
		panic(http.ErrAbortHandler)
	}
	const unverified = "Email address is not verified. " +
		"The following identities failed the check in region US-EAST-1: x.example"
	tests := map[string]struct {
		ses     func(http.ResponseWriter, emulatortest.Call) bool
		state   product.MailState
		reason  string
		account bool // the fault is the account's
	}{
		"throttled": {answering(429, "TooManyRequestsException", "Maximum sending rate exceeded."),
			product.MailPending, "TooManyRequestsException: Maximum sending rate exceeded.", false},
		"throttled in v1's words": {answering(400, "Throttling", ""), product.MailPending, "Throttling", false},
		"over the daily quota": {answering(400, "LimitExceededException", "Daily message quota exceeded."),
			product.MailPending, "LimitExceededException: Daily message quota exceeded.", true},
		"too busy": {answering(503, "ServiceUnavailable", ""), product.MailPending,
			"ServiceUnavailable", false},
		"sending is paused": {answering(400, "SendingPausedException", ""), product.MailPending,
			"SendingPausedException", true},
		"the account is suspended": {answering(400, "AccountSuspendedException", ""), product.MailPending,
			"AccountSuspendedException", true},
		"no permission": {answering(403, "AccessDeniedException", ""), product.MailPending,
			"AccessDeniedException", true},
		"the credentials ended": {answering(403, "ExpiredTokenException", ""), product.MailPending,
			"ExpiredTokenException", true},
		"the identity is not verified": {answering(400, "MessageRejected", unverified), product.MailPending,
			"MessageRejected: " + unverified, true},
		"the account is paused, in words": {answering(400, "MessageRejected", "Account is paused."),
			product.MailPending, "MessageRejected: Account is paused.", true},
		"the same in others": {answering(400, "MessageRejected", "Sending suspended for this account."),
			product.MailPending, "MessageRejected: Sending suspended for this account.", true},
		"the domain is not verified": {answering(400, "MailFromDomainNotVerifiedException", ""), product.MailPending,
			"MailFromDomainNotVerifiedException", true},
		"the domain is not verified, in words": {
			answering(400, "BadRequestException", "Mail FROM domain is not verified."),
			product.MailPending, "BadRequestException: Mail FROM domain is not verified.", true},
		"rejected": {answering(400, "MessageRejected", "Address list is not verifiable."),
			product.MailRefused, "MessageRejected: Address list is not verifiable.", false},
		"rejected without a word": {answering(400, "MessageRejected", ""), product.MailRefused,
			"MessageRejected", false},
		"a bad request": {answering(400, "BadRequestException", "Invalid parameter."), product.MailRefused,
			"BadRequestException: Invalid parameter.", false},
		"no configuration set": {answering(404, "NotFoundException", ""), product.MailRefused,
			"NotFoundException", false},
		"too busy, in HTML": {html(503), product.MailPending, "SES answered 503", false},
		"refused, in HTML":  {html(400), product.MailRefused, "SES answered 400", false},
		"an error of SES": {answering(500, "InternalServiceErrorException", "secret detail"),
			product.MailUnknown, "SES answered 500", false},
		"a gateway's error": {html(502), product.MailUnknown, "SES answered 502", false},
		"a request timeout": {
			answering(408, "RequestTimeout", ""),
			product.MailUnknown,
			"SES answered 408",
			false,
		},
		"half an answer":           {cut, product.MailSent, "", false},
		"an answer in HTML":        {html(200), product.MailSent, "", false},
		"a redirect":               {html(302), product.MailUnknown, "SES answered 302", false},
		"it hangs up":              {hangUp, product.MailUnknown, "SES did not answer", false},
		"it hangs up after taking": {hangUpAfter, product.MailUnknown, "SES did not answer", false},
	}
	b := deploy(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			before, faults := len(b.sent()), strings.Count(b.log.String(), `"mailAccountFaults":1`)
			m := b.keep(name)
			b.play(test.ses)
			assert.Empty(t, b.deliver(messageOf(name)))
			assert.Len(t, b.sent(), before+1)
			item := b.kept(name)
			assert.Equal(t, string(test.state), dynamo.GetString(item, "state"))
			assert.Equal(t, test.reason, dynamo.GetString(item, "reason"))
			messages := b.enqueued()
			b.play(nil)
			faults = strings.Count(b.log.String(), `"mailAccountFaults":1`) - faults
			assert.Equal(t, test.account, faults == 1, "%d faults of the account", faults)
			if test.state == product.MailPending {
				require.Len(t, messages, 1)
				assert.JSONEq(t, `{"requestId":"`+name+`","tries":1,"rounds":1}`, messages[0].MessageBody)
				assert.Equal(t, link, dynamo.GetString(item, "link"))
				assert.Empty(t, b.deliver(messages[0].MessageBody))
				assert.Equal(t, product.MailSent, b.state(name))
				return
			}
			assert.Empty(t, messages)
			assert.NotContains(t, item, "link")
			state, reason, _ := b.shown(m)
			assert.Equal(t, test.state, state)
			assert.Equal(t, test.reason, reason)
			assert.Empty(t, b.deliver(messageOf(name)), "not sent again")
			assert.Len(t, b.sent(), before+1)
		})
	}
	assert.Contains(t, b.log.String(), `"mailsRefused":1`)
	assert.NotContains(t, b.log.String(), "secret detail")
}

// A connection that was never made is certain to have carried nothing.
func TestAMailIsPutOffWhileSESCannotBeReached(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	b := deploy(t)
	b.keep(request)
	mailer := b.mailerWith(b.sender("http://"+gone.Addr().String(), 5*time.Second))
	response, err := mailer.Handle(t.Context(), sqsEvent(messageOf(request)))
	require.NoError(t, err)
	assert.Empty(t, failures(response))
	assert.Equal(t, product.MailPending, b.state(request))
	assert.Equal(t, "SES could not be reached", dynamo.GetString(b.kept(request), "reason"))
	b.deliver(messageOf(request))
	assert.Equal(t, product.MailSent, b.state(request))
}

func TestAMailThatSESHangsOverIsUnknown(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	release := make(chan struct{})
	defer close(release)
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(), func(http.ResponseWriter, emulatortest.Call) bool {
		<-release
		return true
	})
	mailer := b.mailerWith(b.sender(endpoint, 100*time.Millisecond))
	_, err := mailer.Handle(t.Context(), sqsEvent(messageOf(request)))
	require.NoError(t, err)
	state, reason, _ := b.shown(m)
	assert.Equal(t, product.MailUnknown, state)
	assert.Equal(t, "SES did not answer", reason)
}

// mailerWith is a mailer with another sender, and nothing in between the queue and it.
func (b *bundle) mailerWith(sender *mail.Sender) *mail.Mailer {
	queue := mailqueue.NewQueue(emulatortest.SQS(), b.queueURL(), b.clock)
	return mail.NewMailer(b.store, queue, sender, b.clock, b.logger())
}

// A throttled mail waits longer each time, at most a quarter of an hour, until it is taken or of no use.
func TestAThrottledMailBacksOffUntilItsLinkEnds(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	b.play(answering(429, "TooManyRequestsException", ""))
	body, longest, tries := messageOf(request), 0, 0
	for b.clock.Now().Before(m.LinkExpires) {
		require.Empty(t, b.deliver(body))
		messages := b.enqueued()
		require.Len(t, messages, 1)
		limit := min(5<<min(tries, 10), 900)
		assert.GreaterOrEqual(t, messages[0].DelaySeconds, limit/2)
		assert.LessOrEqual(t, messages[0].DelaySeconds, limit)
		longest = max(longest, messages[0].DelaySeconds)
		body = messages[0].MessageBody
		tries++
		b.clock.Advance(15 * time.Minute)
	}
	assert.Greater(t, longest, 450)
	assert.Equal(t, 22*4, tries)
	require.Empty(t, b.deliver(body))
	assert.Len(t, b.sent(), tries, "SES is not asked to send a link that is over")
	assert.Empty(t, b.enqueued())
	state, reason, _ := b.shown(m)
	assert.Equal(t, product.MailExpired, state)
	assert.Equal(t, "the link ended before the mail could be sent", reason)
}

// A fault of the account is not the mail's: it waits until the fault is mended, or its link ends.
func TestAMailWaitsForTheAccount(t *testing.T) {
	sandbox := answering(400, "MessageRejected",
		"Email address is not verified. The following identities failed the check in region US-EAST-1: "+address)
	for name, test := range map[string]struct {
		mended bool
		state  product.MailState
		reason string
	}{
		"until it is mended":  {true, product.MailSent, ""},
		"until its link ends": {false, product.MailExpired, "the link ended before the mail could be sent"},
	} {
		t.Run(name, func(t *testing.T) {
			b := deploy(t)
			m := b.keep(request)
			b.play(sandbox)
			body := messageOf(request)
			for range 3 {
				require.Empty(t, b.deliver(body))
				messages := b.enqueued()
				require.Len(t, messages, 1)
				body = messages[0].MessageBody
				state, _, _ := b.shown(m)
				assert.Equal(t, product.MailPending, state)
			}
			if test.mended {
				b.play(nil)
			} else {
				b.clock.Advance(m.LinkExpires.Sub(noon))
			}
			require.Empty(t, b.deliver(body))
			assert.Empty(t, b.enqueued())
			state, reason, _ := b.shown(m)
			assert.Equal(t, test.state, state)
			assert.Equal(t, test.reason, reason)
			assert.NotContains(t, b.kept(request), "link")
			assert.NotContains(t, b.log.String(), `"mailsRefused":1`, "it has an alarm of its own")
		})
	}
}

// A job goes round so often and no more: then its message is the queue's to bring back, and a dead letter in the end.
func TestAMailsJobGoesRoundSoOften(t *testing.T) {
	b := deploy(t)
	b.keep(request)
	b.play(answering(429, "TooManyRequestsException", ""))
	job := func(round int) string {
		return fmt.Sprintf(`{"requestId":%q,"tries":%d,"rounds":%d}`, request, round, round)
	}
	require.Empty(t, b.deliver(job(rounds.Max-1)))
	messages := b.enqueued()
	require.Len(t, messages, 1)
	assert.JSONEq(t, job(rounds.Max), messages[0].MessageBody)
	for range 2 {
		assert.Equal(t, "a", b.deliver(job(rounds.Max)))
		assert.Empty(t, b.enqueued())
		assert.Equal(t, product.MailPending, b.state(request))
	}
	assert.Equal(t, 2, strings.Count(b.log.String(), rounds.ErrTooMany.Error()))
	b.play(nil)
	assert.Empty(t, b.deliver(job(rounds.Max)), "what needs no other round is done")
	assert.Equal(t, product.MailSent, b.state(request))
}

func TestAMailsLastMoment(t *testing.T) {
	tests := map[string]struct {
		expires time.Duration // 0: the provider does not say
		after   time.Duration
		state   product.MailState
	}{
		"just before the link ends":  {time.Hour, time.Hour - time.Millisecond, product.MailSent},
		"when the link ends":         {time.Hour, time.Hour, product.MailExpired},
		"within a day":               {0, 24*time.Hour - time.Millisecond, product.MailSent},
		"after a day":                {0, 24 * time.Hour, product.MailExpired},
		"after a day of a long link": {48 * time.Hour, 24 * time.Hour, product.MailExpired},
		"a link that was over":       {-time.Hour, 0, product.MailExpired},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := deploy(t)
			b.keep(request, func(m *product.Mail) {
				m.LinkExpires = time.Time{}
				if test.expires != 0 {
					m.LinkExpires = noon.Add(test.expires)
				}
			})
			b.clock.Advance(test.after)
			assert.Empty(t, b.deliver(messageOf(request)))
			assert.Equal(t, test.state, b.state(request))
		})
	}
}

// A mail is claimed by one process. While that may be alive, the message comes again; then nobody knows what it did.
func TestAMailWhoseProcessDiedIsUnknown(t *testing.T) {
	b := deploy(t)
	m := b.keep(request)
	_, err := b.store.Claim(t.Context(), request, "a process that died", noon)
	require.NoError(t, err)
	for _, d := range []time.Duration{0, 30 * time.Second, 14 * time.Second} {
		b.clock.Advance(d)
		assert.Equal(t, "a", b.deliver(messageOf(request)))
		assert.Equal(t, product.MailSending, b.state(request))
	}
	b.clock.Advance(2 * time.Second)
	assert.Empty(t, b.deliver(messageOf(request)))
	assert.Empty(t, b.sent())
	state, reason, _ := b.shown(m)
	assert.Equal(t, product.MailUnknown, state)
	assert.Equal(t, "the process that was sending it ended early", reason)
}

// A function that has too little time left does not begin.
func TestAMailIsNotBegunWithoutTheTimeForIt(t *testing.T) {
	b := deploy(t)
	b.keep(request)
	ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
	defer cancel()
	response, err := b.mailer.Handle(ctx, sqsEvent(messageOf(request)))
	require.NoError(t, err)
	assert.Equal(t, "a", failures(response))
	assert.Empty(t, b.sent())
	assert.Equal(t, product.MailPending, b.state(request))
}

// An event of SES may be faster than the answer that it follows from.
func TestAnEventMayComeBeforeTheRecord(t *testing.T) {
	tests := map[string]func(http.ResponseWriter, emulatortest.Call) bool{
		"SES takes the mail":             nil,
		"SES says that it does not":      answering(429, "TooManyRequestsException", ""),
		"SES says that it never will":    answering(400, "MessageRejected", ""),
		"SES does not say what happened": answering(500, "InternalServiceErrorException", ""),
	}
	for name, answer := range tests {
		t.Run(name, func(t *testing.T) {
			b := deploy(t)
			m := b.keep(request)
			b.play(func(w http.ResponseWriter, call emulatortest.Call) bool {
				assert.Empty(t, b.tell(event("Complaint", `"complaint":{"complaintFeedbackType":"abuse"}`,
					b.sent()[0].EmailTags[0].Value)))
				return answer != nil && answer(w, call)
			})
			assert.Empty(t, b.deliver(messageOf(request)))
			assert.Empty(t, b.enqueued())
			state, _, _ := b.shown(m)
			assert.Equal(t, product.MailComplained, state)
		})
	}
}

// docs/contract.md §3: the newest mail of a product wins. One that was not sent when a newer one is accepted never
// leaves, and the product shows the newest.
func TestTheNewestMailWins(t *testing.T) {
	throttled := answering(429, "TooManyRequestsException", "")
	newer := func(b *bundle, of product.Mail) product.Mail {
		return b.keep("newer", func(m *product.Mail) { m.ProductID, m.To = of.ProductID, "right@example.com" })
	}
	requireSuperseded := func(t *testing.T, b *bundle) {
		t.Helper()
		item := b.kept(request)
		assert.Equal(t, "superseded", dynamo.GetString(item, "state"))
		assert.Equal(t, "a newer mail of the product was accepted before it could be sent",
			dynamo.GetString(item, "reason"))
		assert.NotContains(t, item, "link")
		assert.Empty(t, b.deliver(messageOf(request)))
		assert.Empty(t, b.enqueued())
	}
	to := func(b *bundle) (all []string) {
		for _, m := range b.sent() {
			all = append(all, m.Destination.ToAddresses...)
		}
		return all
	}

	t.Run("a resend before the first mail's job", func(t *testing.T) {
		b := deploy(t)
		second := newer(b, b.keep(request))
		assert.Empty(t, b.deliver(messageOf(request), messageOf("newer")), "both jobs come at the same time")
		requireSuperseded(t, b)
		assert.Equal(t, []string{"right@example.com"}, to(b))
		state, _, _ := b.shown(second)
		assert.Equal(t, product.MailSent, state)
		assert.Contains(t, b.log.String(), `"state":"superseded"`)
		assert.NotContains(t, b.log.String(), `"mailsRefused":1`, "nobody is to be woken")
	})
	t.Run("the second mail's job first", func(t *testing.T) {
		b := deploy(t)
		newer(b, b.keep(request))
		assert.Empty(t, b.deliver(messageOf("newer")))
		assert.Empty(t, b.deliver(messageOf(request)))
		requireSuperseded(t, b)
		assert.Equal(t, []string{"right@example.com"}, to(b))
	})
	t.Run("SES is busy for the first mail", func(t *testing.T) {
		b := deploy(t)
		first := b.keep(request)
		b.play(throttled)
		assert.Empty(t, b.deliver(messageOf(request)))
		waiting := b.enqueued()
		require.Len(t, waiting, 1)
		b.play(nil)
		second := newer(b, first)
		assert.Empty(t, b.deliver(messageOf("newer")))
		assert.Empty(t, b.deliver(waiting[0].MessageBody))
		requireSuperseded(t, b)
		assert.Equal(t, []string{address, "right@example.com"}, to(b), "SES took the second alone")
		state, _, _ := b.shown(second)
		assert.Equal(t, product.MailSent, state)
	})
	t.Run("accepted while SES is asked to take the first one, which it does", func(t *testing.T) {
		b := deploy(t)
		first := b.keep(request)
		var second product.Mail
		b.play(func(http.ResponseWriter, emulatortest.Call) bool { second = newer(b, first); return false })
		assert.Empty(t, b.deliver(messageOf(request)))
		b.play(nil)
		assert.Equal(t, product.MailSent, b.state(request), "it had left")
		state, _, _ := b.shown(second)
		assert.Equal(t, product.MailPending, state, "the product shows the newest all the same")
		assert.Empty(t, b.deliver(messageOf("newer")))
		assert.Empty(t, b.tell(event("Bounce", bounce("Permanent", "General", recipient), tagOf(request))))
		assert.Equal(t, product.MailBounced, b.state(request))
		state, reason, _ := b.shown(second)
		assert.Equal(t, product.MailSent, state, "late news of the older one change nothing on the product")
		assert.Empty(t, reason)
	})
	t.Run("accepted while SES is asked to take the first one, which it does not", func(t *testing.T) {
		b := deploy(t)
		first := b.keep(request)
		b.play(func(w http.ResponseWriter, call emulatortest.Call) bool {
			newer(b, first)
			return throttled(w, call)
		})
		assert.Empty(t, b.deliver(messageOf(request)))
		waiting := b.enqueued()
		require.Len(t, waiting, 1)
		b.play(nil)
		assert.Empty(t, b.deliver(waiting[0].MessageBody, messageOf("newer")))
		requireSuperseded(t, b)
		assert.Len(t, b.sent(), 2)
	})
	t.Run("the first mail's process died under its claim", func(t *testing.T) {
		b := deploy(t)
		first := b.keep(request)
		_, err := b.store.Claim(t.Context(), request, "a process that died", noon)
		require.NoError(t, err)
		second := newer(b, first)
		assert.Empty(t, b.deliver(messageOf("newer")))
		b.clock.Advance(time.Minute)
		assert.Empty(t, b.deliver(messageOf(request)))
		assert.Equal(t, product.MailUnknown, b.state(request), "it may have left")
		assert.NotContains(t, b.kept(request), "link")
		assert.Equal(t, []string{"right@example.com"}, to(b))
		state, _, _ := b.shown(second)
		assert.Equal(t, product.MailSent, state)
	})
	t.Run("the newest has nothing to mail", func(t *testing.T) {
		b := deploy(t)
		first := b.keep(request)
		second := b.keep("newer", func(m *product.Mail) {
			m.ProductID, m.State, m.Link = first.ProductID, product.MailNone, secret.Text{}
		})
		assert.Empty(t, b.deliver(messageOf(request)))
		requireSuperseded(t, b)
		assert.Empty(t, b.sent())
		state, _, _ := b.shown(second)
		assert.Equal(t, product.MailNone, state)
	})
	t.Run("of another product", func(t *testing.T) {
		b := deploy(t)
		b.keep(request)
		b.keep("another")
		assert.Empty(t, b.deliver(messageOf(request), messageOf("another")))
		assert.Equal(t, product.MailSent, b.state(request))
		assert.Equal(t, product.MailSent, b.state("another"))
	})
}

// A process may be killed at any of its calls: SES never takes a mail twice, and the mail ends in a state that says so.
func TestAMailIsTakenAtMostOnceWhereverAProcessDies(t *testing.T) {
	const taken, unknown, superseded = product.MailSent, product.MailUnknown, product.MailSuperseded
	tests := map[string]struct {
		ses        func(http.ResponseWriter, emulatortest.Call) bool
		superseded bool
		calls      []string
		// The state in which the next messages leave the mail, if the process dies before and after each call.
		before, after []product.MailState
	}{
		"when SES takes it": {
			calls: []string{
				"GetItem",
				"TransactWriteItems",
				"SendEmail",
				"TransactWriteItems",
			}, // claim, send, outcome
			before: []product.MailState{taken, taken, unknown, unknown},
			after:  []product.MailState{taken, unknown, unknown, taken},
		},
		"when SES throttles it": {
			ses: answering(429, "TooManyRequestsException", ""),
			// claim, send, release, enqueue
			calls:  []string{"GetItem", "TransactWriteItems", "SendEmail", "UpdateItem", "SendMessageBatch"},
			before: []product.MailState{taken, taken, unknown, unknown, taken},
			after:  []product.MailState{taken, unknown, unknown, taken, taken},
		},
		"when it is not the newest": {
			superseded: true,
			calls:      []string{"GetItem", "TransactWriteItems", "UpdateItem"},
			before:     []product.MailState{superseded, superseded, superseded},
			after:      []product.MailState{superseded, superseded, superseded},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for i, call := range test.calls {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("%d %s, after it %v", i+1, call, after), func(t *testing.T) {
						b := deploy(t)
						m := b.keep(request)
						if test.superseded {
							b.keep("newer", func(newer *product.Mail) { newer.ProductID = m.ProductID })
						}
						c := &crash{at: i + 1, after: after}
						b.aws, b.ses = c.between(nil), c.between(test.ses)
						b.deliver(messageOf(request))
						assert.Equal(t, test.calls[:i+1], c.calls)

						b.aws, b.ses = nil, nil
						before := len(b.sent())
						for range 3 { // SQS brings the message back, and what was enqueued comes too
							b.clock.Advance(3 * time.Minute)
							assert.Empty(t, b.deliver(messageOf(request)))
							assert.Empty(t, b.deliver(`{"requestId":"`+request+`","tries":1}`))
						}
						want := test.before[i]
						if after {
							want = test.after[i]
						}
						assert.Equal(t, want, b.state(request))
						again := len(b.sent()) - before
						assert.LessOrEqual(t, again, 1)
						if want != taken || test.ses == nil && i > 1 {
							assert.Zero(t, again, "it may have been taken")
						}
					})
				}
			}
		})
	}
}
