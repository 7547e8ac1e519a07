package mail

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sesv2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"carillon/shared/environment"
	"carillon/shared/product"
	"carillon/shared/product/mailevent"
)

// sendTimeout is how long SES may take for a mail. A mail that it does not answer for in time counts as unknown, so it
// is longer than that of other calls.
const sendTimeout = 15 * time.Second

const (
	dialTimeout = 3 * time.Second
	charset     = "UTF-8"
	// noMessage is what the SDK calls the message of an error that has none.
	noMessage = "UnknownError"
)

// Sender hands mails to SES.
type Sender struct {
	client           *sesv2.Client
	from             string
	configurationSet string
	timeout          time.Duration
}

// NewSender returns a Sender of mails from an address that SES has verified. The configuration set is what its events
// are published by; a mail takes timeout at most.
//
// Of config it takes everything but the retries and the connections: SendEmail must not be repeated, and each mail goes
// over a connection of its own. A kept one may be dead after the function was frozen, which shows only once the mail is
// on its way, and then nobody knows whether it arrived.
func NewSender(config aws.Config, from, configurationSet string, timeout time.Duration) *Sender {
	client := sesv2.NewFromConfig(config, func(o *sesv2.Options) {
		o.Retryer = aws.NopRetryer{}
		o.HTTPClient = awshttp.NewBuildableClient().
			WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).
			WithTransportOptions(func(t *http.Transport) { t.DisableKeepAlives = true })
	})
	return &Sender{client: client, from: from, configurationSet: configurationSet, timeout: timeout}
}

// OpenSender returns a Sender from MAIL_FROM with the configuration set that MAIL_CONFIGURATION_SET names.
func OpenSender(env *environment.Variables, config aws.Config) *Sender {
	return NewSender(config, env.String("MAIL_FROM"), env.String("MAIL_CONFIGURATION_SET"), sendTimeout)
}

// notTaken says that SES certainly did not take a mail, and may do so later.
type notTaken struct {
	code, reason string
	account      bool // the fault is the account's: no mail gets through until somebody mends it
}

func (e *notTaken) Error() string { return e.reason }

// refusal says that SES will not take a mail.
type refusal struct{ reason string }

func (e *refusal) Error() string { return e.reason }

// send returns the id that SES has given a mail. Its error is a *notTaken, a *refusal, or another one if nobody knows
// whether SES took the mail; its text is fit to be kept as the reason.
func (s *Sender) send(ctx context.Context, m product.Mail) (messageID string, err error) {
	mail, err := render(m)
	if err != nil {
		return "", &refusal{reason: "the mail could not be written"}
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { connected.Store(true) },
	})
	out, err := s.client.SendEmail(ctx, &sesv2.SendEmailInput{
		FromEmailAddress: aws.String(s.from),
		Destination:      &types.Destination{ToAddresses: []string{m.To}},
		Content: &types.EmailContent{Simple: &types.Message{
			Subject: text(mail.subject),
			Body:    &types.Body{Text: text(mail.text), Html: text(mail.html)},
		}},
		ConfigurationSetName: aws.String(s.configurationSet),
		EmailTags: []types.MessageTag{
			{Name: aws.String(mailevent.RequestTag), Value: aws.String(mailevent.EncodeTag(m.RequestID))},
		},
	})
	answer, answered := errors.AsType[*smithyhttp.ResponseError](err)
	switch {
	case err == nil:
		return aws.ToString(out.MessageId), nil
	case !connected.Load():
		return "", &notTaken{code: "NoConnection", reason: "SES could not be reached"}
	case !answered || answer.HTTPStatusCode() == 0: // none, or half a status line
		return "", errors.New("SES did not answer")
	case answer.HTTPStatusCode() < 300:
		return "", nil // it took the mail; the rest of its answer, the id, was lost
	}
	return "", classify(answer.HTTPStatusCode(), err)
}

func text(data string) *types.Content {
	return &types.Content{Data: aws.String(data), Charset: aws.String(charset)}
}

// accountFaults are refusals of every mail for the time being, which whoever runs the account can end.
var accountFaults = map[string]bool{
	"SendingPausedException":             true,
	"AccountSuspendedException":          true,
	"MailFromDomainNotVerifiedException": true,
}

// accountWords are how SES words the same where its code says less: MessageRejected for an identity that is not
// verified, or in the sandbox any receiver; and a throttling that lasts until the next day.
// https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html
var accountWords = []string{
	"email address is not verified", "mail from domain is not verified", "account is paused",
	"sending paused", "sending suspended", "daily message quota exceeded",
}

func hasAccountWords(reason string) bool {
	reason = strings.ToLower(reason)
	return slices.ContainsFunc(accountWords, func(words string) bool { return strings.Contains(reason, words) })
}

// classify reads an error that SES answered. Throttling and a refusal to serve at all, for lack of capacity or of
// permission, are certain not to have taken the mail, and so is a fault of the account; every other refusal is of the
// mail as it is.
func classify(status int, err error) error {
	code := fmt.Sprintf("SES answered %d", status) // of what is no error of its own
	reason := code
	if said, ok := errors.AsType[smithy.APIError](err); ok {
		code = said.ErrorCode()
		reason = code
		if detail := said.ErrorMessage(); detail != "" && detail != noMessage {
			reason += ": " + detail
		}
	}
	account := accountFaults[code] || status == http.StatusForbidden ||
		status < http.StatusInternalServerError && hasAccountWords(reason)
	_, throttled := retry.DefaultThrottleErrorCodes[code]
	switch {
	case throttled, account, status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return &notTaken{code: code, reason: reason, account: account}
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return &refusal{reason: reason}
	}
	return fmt.Errorf("SES answered %d", status)
}
