package deliver_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/deliver"
	"carillon/shared/secret"
)

// received is a request as a platform got it.
type received struct {
	method, host, uri string
	header            http.Header
	body              string
}

// platforms is a server that both networks' requests end at. It keeps them and answers as a test says.
type platforms struct {
	*httptest.Server

	mu       sync.Mutex
	requests []received
	answer   func(n int, w http.ResponseWriter, r *http.Request, body string) // n counts from 0
}

func newPlatforms(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request, body string)) *platforms {
	t.Helper()
	p := &platforms{answer: answer}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p.mu.Lock()
		n := len(p.requests)
		p.requests = append(p.requests, received{r.Method, r.Host, r.RequestURI, r.Header, string(body)})
		p.mu.Unlock()
		p.answer(n, w, r, string(body))
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *platforms) all() []received {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]received(nil), p.requests...)
}

// transport carries every request to the server.
func (p *platforms) transport(t *testing.T) http.RoundTripper {
	t.Helper()
	transport, err := deliver.StandInTransport(p.URL)
	require.NoError(t, err)
	return transport
}

// status answers everything alike.
func status(code int, body string, headers ...string) func(int, http.ResponseWriter, *http.Request, string) {
	return func(_ int, w http.ResponseWriter, _ *http.Request, _ string) {
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(code)
		_, _ = io.WriteString(w, body)
	}
}

const requestID = "6f1f9d0e-4a57-4b8c-9e0d-2f6a1c3b5d7e"

// always is the end of a message that is valid.
var always = time.Now().AddDate(1, 0, 0)

// What no log line, reason or error may show.
const (
	pageAccessToken   = "EAAGtoken+needs/escaping=&0123456789"
	applicationSecret = "03d537gg656gvkbe9b430f002e9c4517"
	channelSecret     = "31234arajcauoherbasuhb213ijqjohbjhb123"
)

func messengerDelivery(message ott.Message) deliver.Delivery {
	return deliver.Delivery{
		OttRequestID: requestID, Message: message, ValidUntil: always,
		Registration: ott.StoredRegistration{
			Registration: ott.Registration{
				Platform: ott.Messenger, PropertyID: "1732555047025799",
				EndpointURL: "https://graph.facebook.com/v2.6/me/messages", IsActive: true,
			},
			Tenant: "acme", SecretName: "carillon/ott/messenger/1",
		},
		Credentials: ott.Credentials{
			PageAccessToken: secret.NewText(pageAccessToken), ApplicationSecret: secret.NewText(applicationSecret),
			CallbackVerifyToken: secret.NewText("verify"),
		},
	}
}

// messengerText is the delivery of a message to Messenger.
func messengerText(t *testing.T) deliver.Delivery {
	t.Helper()
	return messengerDelivery(decoded(t,
		messengerRequest(`{"ottId":"1"}`, `{"type":"text","text":"t"}`, `{"messagingType":"UPDATE"}`)))
}

// errorOf is what Send says but for the ids.
func errorOf(_ []string, err error) error { return err }

func lineDelivery(message ott.Message) deliver.Delivery {
	return deliver.Delivery{
		OttRequestID: requestID, Message: message, ValidUntil: always,
		Registration: ott.StoredRegistration{
			Registration: ott.Registration{
				Platform: ott.LINE, PropertyID: "23493453984234345", EndpointURL: "https://example.com/",
				IsActive: true,
			},
			Tenant: "acme", SecretName: "carillon/ott/line/1",
		},
		Credentials: ott.Credentials{ChannelSecret: secret.NewText(channelSecret)},
	}
}

// decoded reads the Message of a request.
func decoded(t *testing.T, body string) ott.Message {
	t.Helper()
	message, faults, err := ott.DecodeSend(strings.NewReader(body))
	require.NoError(t, err)
	require.Empty(t, faults)
	return message
}
