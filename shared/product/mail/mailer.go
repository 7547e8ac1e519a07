// Package mail sends activation mails by SES, and records what SES tells of them afterwards (contract.md §3). It is apart
// from package product so that the functions behind the API carry neither templates nor SES.
package mail

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/google/uuid"

	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/product"
	"carillon/shared/product/mailqueue"
)

const (
	// claimTime is how long a claimed mail may be under way: more than product-mail's timeout, so that whoever claimed it
	// is dead or has given up after that.
	claimTime = 45 * time.Second
	// recordTime is what is left of the function's time when SES is no longer waited for.
	recordTime = 3 * time.Second
	// maxAge is how long SES is asked to take a mail whose link does not say when it ends.
	maxAge = 24 * time.Hour
	// minWait and maxWait bound the wait before SES is asked again, doubled each time.
	minWait = 5 * time.Second
	maxWait = 15 * time.Minute
)

// Mailer serves the mail queue: it sends each accepted request's mail at most once.
//
// A mail is claimed, sent, and its outcome recorded, in this order and by one process: the claim is a conditional write, and
// a mail is sent under a fresh claim alone. SendEmail cannot be repeated safely, so it is never tried twice unless SES
// certainly did not take the mail: it said so, or was not reached.
//
// What remains possible is a mail whose fate nobody knows: a process that dies between its claim and its record may or may
// not have sent it, and neither may SES, if it does not answer. Such a mail is not sent again. The next message of it, or
// the lack of an answer, makes it "unknown", which is readable on the product; an event of SES about it, if one comes,
// corrects that; and a resend is a new request with a mail of its own.
type Mailer struct {
	mails  *product.MailStore
	queue  *mailqueue.Queue
	sender *Sender
	now    func() time.Time
}

// NewMailer returns a Mailer; now is time.Now, but for tests.
func NewMailer(mails *product.MailStore, queue *mailqueue.Queue, sender *Sender, now func() time.Time) *Mailer {
	return &Mailer{mails: mails, queue: queue, sender: sender, now: now}
}

// Handle sends the mails of a batch of messages, all at the same time. It reports those that failed for a reason that a
// repeat may mend, AWS's mostly; SQS brings these back. A refusal of SES is not one: it is the mail's outcome.
func (m *Mailer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Each(slog.Default(), func(ctx context.Context, body string) error {
		message, err := mailqueue.Decode(body)
		if err != nil {
			return err
		}
		return m.send(ctx, message)
	})(ctx, event)
}

var (
	errUnderWay = errors.New("the mail is being sent by another process")
	errNoTime   = errors.New("too little of the function's time is left to send the mail")
)

func (m *Mailer) send(ctx context.Context, message mailqueue.Message) error {
	now := m.now()
	mail, err := m.mails.Claim(ctx, message.RequestID, uuid.NewString(), now)
	switch {
	case fault.Is(err, fault.NotFound):
		slog.WarnContext(ctx, "a message is of no mail", "request", message.RequestID)
		return nil
	case fault.Is(err, fault.Conflict):
		return m.claimedBefore(ctx, mail, message)
	case err != nil:
		return err
	case !now.Before(lastMoment(mail)):
		return m.record(ctx, mail, message, product.Outcome{State: product.MailExpired, Reason: "the link ended before the mail could be sent"})
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < m.sender.timeout+recordTime {
		return errors.Join(errNoTime, ignoreConflict(m.mails.Return(ctx, mail, "", now)))
	}
	messageID, err := m.sender.send(ctx, mail)
	var later *notTaken
	var refused *refusal
	switch {
	case err == nil:
		return m.record(ctx, mail, message, product.Outcome{State: product.MailSent, MessageID: messageID})
	case errors.As(err, &later):
		return m.putOff(ctx, mail, message, later)
	case errors.As(err, &refused):
		return m.record(ctx, mail, message, product.Outcome{State: product.MailRefused, Reason: refused.reason})
	default:
		return m.record(ctx, mail, message, product.Outcome{State: product.MailUnknown, Reason: err.Error()})
	}
}

// lastMoment is when a mail is of no use any more.
func lastMoment(mail product.Mail) time.Time {
	last := mail.CreatedAt.Add(maxAge)
	if !mail.LinkExpires.IsZero() && mail.LinkExpires.Before(last) {
		return mail.LinkExpires
	}
	return last
}

// claimedBefore is for a message whose mail is not pending: it has come twice, or its process died.
func (m *Mailer) claimedBefore(ctx context.Context, mail product.Mail, message mailqueue.Message) error {
	switch {
	case mail.State != product.MailSending:
		return nil
	case m.now().Sub(mail.ClaimedAt) < claimTime:
		return errUnderWay
	}
	return m.record(ctx, mail, message, product.Outcome{State: product.MailUnknown, Reason: "the process that was sending it ended early"})
}

// record keeps an outcome. If more is known already, from an event of SES that was faster, there is nothing to do.
func (m *Mailer) record(ctx context.Context, mail product.Mail, message mailqueue.Message, outcome product.Outcome) error {
	logOutcome(ctx, mail.RequestID, outcome, slog.Int("tries", message.Tries))
	return ignoreConflict(m.mails.Record(ctx, mail, outcome, m.now()))
}

// putOff makes the mail pending again and enqueues it anew. A crash in between leaves it to this message, which SQS brings
// back.
func (m *Mailer) putOff(ctx context.Context, mail product.Mail, message mailqueue.Message, later *notTaken) error {
	err := m.mails.Return(ctx, mail, later.reason, m.now())
	if fault.Is(err, fault.Conflict) {
		return nil // an event of SES says that it was sent after all
	}
	if err != nil {
		return err
	}
	wait := backoff(message.Tries)
	slog.WarnContext(ctx, "a mail is put off", "request", mail.RequestID, "tries", message.Tries, "wait", wait.String(), "error", later.code)
	message.Tries++
	return m.queue.Send(ctx, message, wait)
}

// backoff is the wait before the next try: doubled each time, with jitter.
func backoff(tries int) time.Duration {
	d := min(minWait<<min(tries, 16), maxWait)
	return d/2 + rand.N(d/2+1)
}

func ignoreConflict(err error) error {
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}
