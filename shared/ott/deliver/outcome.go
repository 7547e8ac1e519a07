package deliver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/httpclient"
	"carillon/shared/secret"
)

// Refused is the error of a message that a platform will not take, however often it is sent.
type Refused struct {
	Reason string
	// Credentials says that it is the registration's credentials that the platform will not take.
	Credentials bool
	// Expired says that the message's time was over before it was sent.
	Expired bool
}

// Error returns the reason.
func (r *Refused) Error() string { return r.Reason }

// Again is the error of a message that may be taken when it is sent again.
type Again struct {
	After time.Duration // not sooner, by the platform's wish; 0 if it has none
	Cause error
	// Unanswered says that the platform may have taken the message: it got the call, and nobody knows its answer.
	Unanswered bool
	// Trouble says that others of the property's messages would fare alike.
	Trouble bool
}

// Error returns the cause's text.
func (a *Again) Error() string { return a.Cause.Error() }

// Unwrap returns the cause.
func (a *Again) Unwrap() error { return a.Cause }

// broken is the outcome of a call without an answer: Again, unless the address is one that is not called. url.Error is
// taken off: it quotes the URL, which may hold a token.
func broken(platform string, err error, call *call) error {
	if called, ok := errors.AsType[*url.Error](err); ok {
		err = called.Err
	}
	if errors.Is(err, errNotPublic) {
		return &Refused{Reason: platform + " was not called: " + errNotPublic.Error()}
	}
	return &Again{
		Cause: fmt.Errorf("%s did not answer: %w", platform, err), Unanswered: call.mayHaveArrived(), Trouble: true,
	}
}

// refusal is the outcome of an answer that is not 2xx: Again for a status that means another time, else Refused. What
// the platform says is quoted without the secrets that it may quote.
func refusal(
	platform string, response *http.Response, said string, now time.Time, hidden ...secret.Text,
) error {
	reason := fmt.Sprintf("%s answered %d", platform, response.StatusCode)
	if said != "" {
		reason += ": " + redact(said, hidden)
	}
	if httpclient.IsTemporary(response.StatusCode) {
		return &Again{After: httpclient.RetryAfter(response.Header, now), Cause: errors.New(reason), Trouble: true}
	}
	return &Refused{Reason: reason}
}

// call tells whether anything of a request may have reached the other side.
type call struct{ traced, written atomic.Bool }

// watch returns a context for a request that the call is told of.
func (c *call) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { c.traced.Store(true) },
		WroteHeaders: func() { c.written.Store(true) },
	})
}

// mayHaveArrived is false of a request that was given up before there was a connection to write it to. A transport that
// tells nothing may have written it.
func (c *call) mayHaveArrived() bool { return !c.traced.Load() || c.written.Load() }

// isSuccess reports whether a platform took what it was sent.
func isSuccess(response *http.Response) bool {
	return response.StatusCode >= 200 && response.StatusCode <= 299
}

// minQuoted is how much of the beginning of a secret counts as the secret, for a platform that shortens what it quotes.
const minQuoted = 12

// redact takes secrets out of a text, as they are and as a URL has them, and what begins as they do.
func redact(text string, hidden []secret.Text) string {
	const redacted = "REDACTED"
	for _, h := range hidden {
		if h.IsZero() {
			continue
		}
		for _, form := range []string{h.Reveal(), url.QueryEscape(h.Reveal())} {
			beginning := form[:min(minQuoted, len(form))]
			var out strings.Builder
			for {
				at := strings.Index(text, beginning)
				if at < 0 {
					break
				}
				end := 0
				for end < len(form) && at+end < len(text) && text[at+end] == form[end] {
					end++
				}
				out.WriteString(text[:at] + redacted)
				text = text[at+end:]
			}
			out.WriteString(text)
			text = out.String()
		}
	}
	return text
}

// neverSent is the call of a message that was not sent, for another call came before it.
func neverSent() *call {
	var c call
	c.traced.Store(true)
	return &c
}

// maxID is how long an id of a platform is kept, in bytes. Messenger's have some 120, LINE's 20.
const maxID = 512

// keptIDs are the ids that a platform gave a message, without what is none.
func keptIDs(ids ...string) []string {
	return slices.DeleteFunc(ids, func(id string) bool { return id == "" || len(id) > maxID || !utf8.ValidString(id) })
}

// lenient reads of an answer what decides, though the rest may be odd. It returns an error for what is no JSON, or has
// a member of another type than asked for.
func lenient(answer []byte, v any) error {
	return json.Unmarshal(answer, v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}
