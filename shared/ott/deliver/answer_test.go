package deliver_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"

	"carillon/shared/clock/clocktest"
	"carillon/shared/ott/deliver"
)

// answering is a transport that answers all but LINE's grants of tokens, which it makes, with one status and body.
type answering struct {
	status int
	body   string
}

// RoundTrip implements http.RoundTripper.
func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	response := &http.Response{
		StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(a.body)), Request: r,
	}
	if strings.HasSuffix(r.URL.Path, "/token") {
		response.StatusCode, response.Body = 200,
			io.NopCloser(strings.NewReader(`{"access_token":"line-token-0123456789","expires_in":900}`))
	}
	return response, nil
}

// Whatever a platform answers, a message is sent, refused or to be sent again, and the reason holds no secret.
func FuzzAnswers(f *testing.F) {
	for _, seed := range []string{
		`{"error":{"message":"(#100) No matching user found","code":100,"error_subcode":2018001,"is_transient":false}}`,
		`{"error":{"code":4}}`,
		`{"message":"The request body has 1 error(s)","details":[{"message":"May not be empty",` +
			`"property":"messages[0].text"}]}`,
		`{"error":{"message":"` + pageAccessToken + " " + applicationSecret +
			`","code":190}}`, `{"message":"line-token-0123456789 ` + channelSecret + `"}`, `[]`, ``, `{"error":1}`,
	} {
		f.Add(400, seed)
	}
	f.Add(200, `{"sentMessages":[]}`)
	f.Add(200, `{"sentMessages":[{"id":""},{"id":"1"},{"id":"\xff"}],"message_id":"m"}`)
	f.Add(409, `{"sentMessages":[{"id":"1"}]}`)
	f.Add(503, ``)
	f.Fuzz(func(t *testing.T, status int, body string) {
		if status < 200 || status > 599 {
			t.Skip("no final status of HTTP")
		}
		transport := answering{status, body}
		for platform, d := range map[deliver.Platform]deliver.Delivery{
			deliver.NewMessenger(transport, clocktest.New()): messengerText(t),
			deliver.NewLINE(transport, clocktest.New()):      lineText(t),
		} {
			ids, err := platform.Send(t.Context(), d)
			var refused *deliver.Refused
			var again *deliver.Again
			if err == nil {
				assert.True(t, status < 300 || status == http.StatusConflict, "%d is no success", status)
				for _, id := range ids {
					assert.True(t, id != "" && len(id) <= 512 && utf8.ValidString(id), "%q can be kept", id)
				}
				continue
			}
			assert.Empty(t, ids)
			assert.NotEqual(t, errors.As(err, &refused), errors.As(err, &again), "one of the two: %v", err)
			for _, hidden := range []string{
				pageAccessToken, applicationSecret, channelSecret, "line-token-0123456789",
			} {
				assert.NotContains(t, err.Error(), hidden)
			}
		}
	})
}
