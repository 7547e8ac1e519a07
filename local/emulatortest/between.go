package emulatortest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Call is a call of an AWS operation on its way to an endpoint.
type Call struct {
	Operation string // PutItem, for instance
	Body      string // JSON

	request  *http.Request
	endpoint http.Handler
}

// Send has the endpoint do the call, with that body instead of its own, and returns the answer that the caller does not
// see.
func (c Call) Send(body string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	c.send(recorder, body)
	return recorder
}

func (c Call) send(w http.ResponseWriter, body string) {
	r := c.request.Clone(c.request.Context())
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	c.endpoint.ServeHTTP(w, r)
}

// Between returns an AWS endpoint in front of another one, for as long as the test runs. A call that answer answers,
// which it says by returning true, goes no further unless answer sends it; any other goes on as it is. Calls come at
// once, so answer must be safe for concurrent use.
func Between(t *testing.T, endpoint string, answer func(w http.ResponseWriter, call Call) bool) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		if _, err := body.ReadFrom(r.Body); err != nil {
			return // the client has gone
		}
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		call := Call{Operation: operation, Body: body.String(), request: r, endpoint: proxy}
		if !answer(w, call) {
			call.send(w, call.Body)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}
