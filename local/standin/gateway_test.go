package standin_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
)

const chunkBody = `{"type":"push","requestId":"r","chunk":3,"program":{"uuid":"u","name":"n","content":{"headline":"Hello {{NAME}}","body":"<b>soon</b>"}},
	"aNumbers":["+5014008029"],"ttlSeconds":60,"keepAfterCall":true,"notBefore":"2026-02-10T16:00:00Z","deliverBefore":"2026-02-10T16:01:00Z",
	"destinations":[{"bNumber":"+15018902005","personalization":{"NAME":"Ann"},"customTrackingId":"t1"},
	{"bNumber":"+14258309029","personalization":{"NAME":"Bob","LATE":"1"},"customTrackingId":null}]}`

// post sends the chunk, signed, under a webhook-id.
func (p partners) post(t *testing.T, id string) (*http.Response, string) {
	t.Helper()
	return do(t, "POST", p.URL("gateway"), chunkBody, signed(t, id, time.Now(), chunkBody))
}

func TestPushes(t *testing.T) {
	p := start(t)
	before := time.Now()
	p.post(t, "r.3")
	pushes := p.gateway.Pushes()
	require.Len(t, pushes, 1)
	push := pushes[0]
	assert.Equal(t, "r.3", push.WebhookID())
	assert.Equal(t, chunkBody, push.Body)
	assert.Equal(t, http.StatusOK, push.Status)
	assert.Empty(t, push.Refused)
	assert.WithinRange(t, push.At, before, time.Now())
	chunk, err := push.Chunk()
	require.NoError(t, err)
	tracking := "t1"
	assert.Equal(t, standin.Chunk{
		Type:          "push",
		RequestID:     "r",
		Chunk:         3,
		ANumbers:      []string{"+5014008029"},
		TTLSeconds:    60,
		KeepAfterCall: true,
		Program: standin.Program{
			UUID:    "u",
			Name:    "n",
			Content: []byte(`{"headline":"Hello {{NAME}}","body":"<b>soon</b>"}`),
		},
		NotBefore:     time.Date(2026, 2, 10, 16, 0, 0, 0, time.UTC),
		DeliverBefore: time.Date(2026, 2, 10, 16, 1, 0, 0, time.UTC),
		Destinations: []standin.Destination{
			{BNumber: "+15018902005", Personalization: map[string]string{"NAME": "Ann"}, CustomTrackingID: &tracking},
			{BNumber: "+14258309029", Personalization: map[string]string{"NAME": "Bob", "LATE": "1"}},
		},
	}, chunk)

	do(t, "POST", p.URL("gateway"), chunkBody, nil)
	pushes = p.gateway.Pushes()
	require.Len(t, pushes, 2)
	assert.Equal(t, "webhook-id is missing", pushes[1].Refused)
	assert.Equal(t, http.StatusUnauthorized, pushes[1].Status)

	require.NoError(t, p.gateway.SetSecret(standin.NewWebhookSecret()))
	res, _ := p.post(t, "r.3")
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode, "the secret was rotated")
	p.gateway.Empty()
	assert.Empty(t, p.gateway.Pushes())
}

func TestHook(t *testing.T) {
	p := start(t)
	var seen []string
	p.Hook("gateway", func(r standin.Request) *standin.Answer {
		seen = append(seen, r.Method+" "+r.Header.Get("Webhook-Id"))
		if len(seen) == 1 {
			a := standin.Results(standin.Result{BNumber: "+15018902005", Status: "retry", Reason: "busy"})
			return &a
		}
		return nil
	})
	require.NoError(
		t,
		p.Script(
			"gateway",
			standin.Answer{Status: http.StatusFound, Headers: map[string]string{"Location": "/elsewhere"}},
		),
	)

	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL("gateway"), strings.NewReader(chunkBody))
	require.NoError(t, err)
	res, err := client.Do(req)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	assert.Equal(t, http.StatusFound, res.StatusCode, "a script comes before the hook")
	assert.Empty(t, seen)

	_, body := p.post(t, "a.0")
	assert.JSONEq(t, `{"results":[{"bNumber":"+15018902005","status":"retry","reason":"busy"}]}`, body)
	_, body = p.post(t, "a.1")
	assert.Equal(t, 2, strings.Count(body, "delivered"), "nil leaves it to the gateway")
	p.Hook("gateway", nil)
	p.post(t, "a.2")
	assert.Equal(t, []string{"POST a.0", "POST a.1"}, seen)
	assert.Len(t, p.gateway.Pushes(), 4)
}

func TestHalfAnswers(t *testing.T) {
	p := start(t)
	do(t, "POST", p.control+"gateway", `{"next":[{"half":true},{"cut":true}]}`, nil)
	_, body := p.post(t, "r.0")
	assert.JSONEq(t, `{"results":[{"bNumber":"+15018902005","status":"delivered"}]}`, body)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.URL("gateway"), strings.NewReader(chunkBody))
	require.NoError(t, err)
	req.Header = signed(t, "r.1", time.Now(), chunkBody)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	part, err := io.ReadAll(res.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, res.Body.Close())
	assert.Contains(t, string(part), `{"results":[`)
	assert.Zero(t, p.gateway.Pushes()[1].Status, "there was no whole answer")

	require.Error(t, p.Script("gateway", standin.Answer{Half: true, Status: 200}))
	assert.Error(t, p.Script("bango", standin.Answer{Half: true}))
}

func TestHangEndsWithTheCaller(t *testing.T) {
	p := start(t)
	require.NoError(t, p.Script("gateway", standin.Answer{Hang: true}))
	ctx, cancel := context.WithCancel(t.Context())
	// The request was received before anything hangs.
	p.Hook("gateway", func(standin.Request) *standin.Answer { return nil })
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL("gateway"), strings.NewReader(chunkBody))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			_ = res.Body.Close()
		}
		done <- err
	}()
	require.Eventually(t, func() bool { return len(p.gateway.Pushes()) == 1 }, 10*time.Second, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	res, _ := p.post(t, "r.0")
	assert.Equal(t, http.StatusOK, res.StatusCode)
}

func TestHandsets(t *testing.T) {
	p := start(t)
	p.post(t, "r.3")
	p.post(t, "r.3") // a repeat
	do(t, "POST", p.URL("gateway"), chunkBody, nil)
	require.NoError(
		t,
		p.Script("gateway", standin.Answer{Status: 503}, standin.Answer{Half: true}, standin.Answer{Status: 200}),
	)
	p.post(t, "r.4") // refused
	p.post(t, "r.5") // the first one only
	p.post(t, "r.6") // accepted without a word
	handsets := p.gateway.Handsets(10)
	var numbers []string
	for _, h := range handsets {
		numbers = append(numbers, h.BNumber)
		assert.Equal(t, "+5014008029", h.From)
	}
	const ann, bob = "+15018902005", "+14258309029"
	assert.Equal(t, []string{ann, bob, ann, ann, bob}, numbers)
	assert.Equal(
		t,
		[]standin.Line{
			{Name: "body", Text: "<b>soon</b>"},
			{Name: "headline", Text: "Hello Bob"},
			{Name: "LATE", Text: "1"},
		},
		handsets[1].Lines,
	)
	assert.Len(t, p.gateway.Handsets(2), 2)

	for i := range 30 {
		p.post(t, fmt.Sprint("many.", i))
	}
	_, page := do(t, "GET", p.control, "", nil)
	assert.Contains(t, page, "Hello Ann")
	assert.Contains(t, page, "&lt;b&gt;soon&lt;/b&gt;")
	assert.NotContains(t, page, "<b>soon")
	assert.Contains(t, page, "16 earlier ones.")
}
