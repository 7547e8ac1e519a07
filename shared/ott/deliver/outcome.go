package deliver

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carillon/shared/httpclient"
	"carillon/shared/secret"
)

// Refused is the error of a message that a platform will not take, however often it is sent.
type Refused struct{ Reason string }

// Error returns the reason.
func (r *Refused) Error() string { return r.Reason }

// Again is the error of a message that may be taken when it is sent again.
type Again struct {
	After time.Duration // not sooner, by the platform's wish; 0 if it has none
	Cause error
}

// Error returns the cause's text.
func (a *Again) Error() string { return a.Cause.Error() }

// Unwrap returns the cause.
func (a *Again) Unwrap() error { return a.Cause }

// broken is the outcome of a call without an answer: Again, unless the address is one that is not called. url.Error is
// taken off: it quotes the URL, which may hold a token.
func broken(platform string, err error) error {
	if called, ok := errors.AsType[*url.Error](err); ok {
		err = called.Err
	}
	if errors.Is(err, errNotPublic) {
		return &Refused{Reason: platform + " was not called: " + errNotPublic.Error()}
	}
	return &Again{Cause: fmt.Errorf("%s did not answer: %w", platform, err)}
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
		return &Again{After: httpclient.RetryAfter(response.Header, now), Cause: errors.New(reason)}
	}
	return &Refused{Reason: reason}
}

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
