// Package mail sends activation mails by SES (docs/contract.md §3). It is apart from package product so that the
// functions behind the API carry neither templates nor SES.
package mail

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/uuid"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/messagebatch"
	"carillon/shared/metrics"
	"carillon/shared/product"
	"carillon/shared/product/mailevent"
	"carillon/shared/product/mailqueue"
	"carillon/shared/product/store"
)

const (
	// leaseTime is how long a claimed mail may be under way: more than product-mail's timeout, so that whoever claimed
	// it is dead or has given up after that.
	leaseTime = 45 * time.Second
	// outcomeTime is what is left of the function's time when SES is no longer waited for.
	outcomeTime = 3 * time.Second
	// maxAge is how long SES is asked to take a mail whose link does not say when it ends.
	maxAge = 24 * time.Hour
)

// putOffs are the waits before SES is asked again.
var putOffs = backoff.Policy{Min: 5 * time.Second, Max: 15 * time.Minute}

// Mailer serves the mail queue: it sends each accepted request's mail at most once.
//
// A mail is claimed, sent, and its outcome kept, in this order and by one process: the claim is a conditional write,
// and a mail is sent under a fresh claim alone. Only a product's newest mail is claimed: an older one, which SES had no
// room for before, ends as "superseded" there. SendEmail cannot be repeated safely, so it is never tried twice unless
// SES certainly did not take the mail: it said so, or was not reached. A fault of the account is not the mail's: the
// mail waits, until its link ends, and its log lines raise an alarm.
//
// What remains possible is a mail whose fate nobody knows: a process that dies between its claim and the outcome may or
// may not have sent it, and neither may SES, if it does not answer. Such a mail is not sent again. The next job of it,
// or the lack of an answer, makes it "unknown", which is readable on the product; an event of SES about it, if one
// comes, corrects that; and a resend is a new request with a mail of its own.
type Mailer struct {
	mails  *store.Mails
	queue  *mailqueue.Queue
	sender *Sender
	clock  clock.Clock
	log    *slog.Logger
}

// NewMailer returns a Mailer.
func NewMailer(
	mails *store.Mails, queue *mailqueue.Queue, sender *Sender, clock clock.Clock, log *slog.Logger,
) *Mailer {
	return &Mailer{mails: mails, queue: queue, sender: sender, clock: clock, log: log}
}

// Handle sends the mails of a batch of jobs, all at the same time. It reports the messages that failed for a reason
// that a repeat may mend, AWS's mostly; SQS brings these back. A refusal of SES is not one: it is the mail's outcome.
func (m *Mailer) Handle(ctx context.Context, event events.SQSEvent) (events.SQSEventResponse, error) {
	return messagebatch.Jobs(m.log, m.send)(ctx, event)
}

var (
	errUnderWay = errors.New("the mail is being sent by another process")
	errNoTime   = errors.New("too little of the function's time is left to send the mail")
)

func (m *Mailer) send(ctx context.Context, job mailqueue.Job) error {
	now := m.clock.Now()
	mail, err := m.mails.Claim(ctx, job.RequestID, uuid.NewString(), now)
	switch {
	case fault.Is(err, fault.NotFound):
		m.log.WarnContext(ctx, mailevent.UnknownMail, "request", job.RequestID)
		return nil
	case fault.Is(err, fault.Conflict):
		return m.claimedBefore(ctx, mail, job)
	case err != nil:
		return err
	case mail.State == product.MailSuperseded:
		outcome := product.Outcome{State: mail.State, Reason: mail.Reason}
		mailevent.LogOutcome(ctx, m.log, mail.RequestID, outcome, slog.Int("tries", job.Tries))
		return nil
	case !now.Before(lastMoment(mail)):
		const reason = "the link ended before the mail could be sent"
		return m.end(ctx, mail, job, product.Outcome{State: product.MailExpired, Reason: reason})
	}
	// A context ends by the machine's time, whatever the clock says.
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < m.sender.timeout+outcomeTime {
		return errors.Join(errNoTime, fault.Ignore(m.mails.Release(ctx, mail, "", now), fault.Conflict))
	}
	messageID, err := m.sender.send(ctx, mail)
	if err == nil {
		return m.end(ctx, mail, job, product.Outcome{State: product.MailSent, MessageID: messageID})
	}
	if later, ok := errors.AsType[*notTaken](err); ok {
		return m.putOff(ctx, mail, job, later)
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return m.end(ctx, mail, job, product.Outcome{State: product.MailRefused, Reason: refused.reason})
	}
	return m.end(ctx, mail, job, product.Outcome{State: product.MailUnknown, Reason: err.Error()})
}

// lastMoment is when a mail is of no use any more.
func lastMoment(mail product.Mail) time.Time {
	last := mail.CreatedAt.Add(maxAge)
	if !mail.LinkExpires.IsZero() && mail.LinkExpires.Before(last) {
		return mail.LinkExpires
	}
	return last
}

// claimedBefore is for a job whose mail is not pending: it has come twice, or its process died.
func (m *Mailer) claimedBefore(ctx context.Context, mail product.Mail, job mailqueue.Job) error {
	switch {
	case mail.State != product.MailSending:
		return nil
	case m.clock.Now().Sub(mail.ClaimedAt) < leaseTime:
		return errUnderWay
	}
	const reason = "the process that was sending it ended early"
	return m.end(ctx, mail, job, product.Outcome{State: product.MailUnknown, Reason: reason})
}

// end keeps an outcome. If more is known already, from an event of SES that was faster, there is nothing to do.
func (m *Mailer) end(ctx context.Context, mail product.Mail, job mailqueue.Job, outcome product.Outcome) error {
	mailevent.LogOutcome(ctx, m.log, mail.RequestID, outcome, slog.Int("tries", job.Tries))
	return fault.Ignore(m.mails.SetOutcome(ctx, mail, outcome, m.clock.Now()), fault.Conflict)
}

// putOff makes the mail pending again and enqueues it anew. A crash in between leaves it to this job, which SQS brings
// back.
func (m *Mailer) putOff(ctx context.Context, mail product.Mail, job mailqueue.Job, later *notTaken) error {
	err := m.mails.Release(ctx, mail, later.reason, m.clock.Now())
	if fault.Is(err, fault.Conflict) {
		return nil // an event of SES says that it was sent after all
	}
	if err != nil {
		return err
	}
	wait := putOffs.Wait(job.Tries + 1)
	accountFaults := 0
	if later.account {
		accountFaults = 1
	}
	m.log.LogAttrs(ctx, slog.LevelWarn, "a mail is put off",
		slog.String("request", mail.RequestID),
		slog.Int("tries", job.Tries),
		slog.String("wait", wait.String()),
		slog.String("error", later.code),
		slog.Int("mailAccountFaults", accountFaults),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "mailAccountFaults"))
	job.Tries++
	return m.queue.SendOn(ctx, job, wait)
}
