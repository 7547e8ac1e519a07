package standin_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
)

// secret's key is the 24 bytes of Standard Webhooks' own example.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

type partners struct {
	*standin.Server
	gateway *standin.Gateway
	control string
}

func start(t *testing.T) partners {
	t.Helper()
	gateway, err := standin.NewGateway(secret)
	require.NoError(t, err)
	server, err := standin.Start(gateway, standin.NewBango("user", "pass", []string{"DISNEY_PLUS_PA"}))
	require.NoError(t, err)
	control := httptest.NewServer(server.Control())
	t.Cleanup(func() { control.Close(); server.Close() })
	return partners{server, gateway, control.URL + "/_local/"}
}

func do(t *testing.T, method, url, body string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	for name, values := range header {
		req.Header[name] = values
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res, string(raw)
}

func (p partners) received(t *testing.T, name string) []map[string]any {
	t.Helper()
	res, body := do(t, "GET", p.control+name, "", nil)
	require.Equal(t, http.StatusOK, res.StatusCode)
	var list []map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	require.NotNil(t, list, "an empty list is []")
	return list
}

func signed(t *testing.T, id string, at time.Time, body string) http.Header {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	require.NoError(t, err)
	timestamp := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "." + body))
	return http.Header{
		"Webhook-Id":        {id},
		"Webhook-Timestamp": {timestamp},
		"Webhook-Signature": {"v1,AAAA v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))},
	}
}

const pushBody = `{"type":"push","destinations":[{"bNumber":"+15018902005"},{"bNumber":"+14258309029"}]}`

func TestGatewayDeliversToEveryDestination(t *testing.T) {
	p := start(t)
	res, body := do(t, "POST", p.URL("gateway"), pushBody, signed(t, "r.0", time.Now(), pushBody))
	assert.Equal(t, http.StatusOK, res.StatusCode)
	assert.JSONEq(
		t,
		`{"results":[{"bNumber":"+15018902005","status":"delivered"},{"bNumber":"+14258309029","status":"delivered"}]}`,
		body,
	)
	got := p.received(t, "gateway")
	require.Len(t, got, 1)
	assert.Equal(t, pushBody, got[0]["body"], "byte for byte, so that the signature can be checked")
	assert.Equal(t, "r.0", got[0]["headers"].(map[string]any)["webhook-id"])
	_, err := time.Parse(time.RFC3339Nano, got[0]["at"].(string))
	assert.NoError(t, err)
}

func TestGatewayRefusesWhatIsNotSigned(t *testing.T) {
	valid := func(t *testing.T) http.Header { return signed(t, "r.0", time.Now(), pushBody) }
	for name, c := range map[string]struct {
		header func(*testing.T) http.Header
		body   string
	}{
		"no headers":    {func(*testing.T) http.Header { return nil }, pushBody},
		"another body":  {valid, pushBody + " "},
		"another id":    {func(t *testing.T) http.Header { h := valid(t); h["Webhook-Id"] = []string{"r.1"}; return h }, pushBody},
		"no signature":  {func(t *testing.T) http.Header { h := valid(t); delete(h, "Webhook-Signature"); return h }, pushBody},
		"old timestamp": {func(t *testing.T) http.Header { return signed(t, "r.0", time.Now().Add(-time.Hour), pushBody) }, pushBody},
		"bad timestamp": {func(t *testing.T) http.Header { h := valid(t); h["Webhook-Timestamp"] = []string{"x"}; return h }, pushBody},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t)
			res, _ := do(t, "POST", p.URL("gateway"), c.body, c.header(t))
			assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
			assert.Len(t, p.received(t, "gateway"), 1, "it was received all the same")
		})
	}
}

func entitle(t *testing.T, p partners, body, identifier string) (int, map[string]any) {
	t.Helper()
	header := http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass"))}}
	if identifier != "" {
		header.Set("X-RequestIdentifier", identifier)
	}
	res, raw := do(t, "POST", p.URL("bango")+"/v1/entitlement", body, header)
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(raw), &answer), raw)
	return res.StatusCode, answer
}

const entitlement = `{"customerIdentifier":"c1","merchantAccountKey":"m","productKey":"DISNEY_PLUS_PA","offerKey":"o"}`

func TestBangoRenewsThePendingEntitlement(t *testing.T) {
	p := start(t)
	status, first := entitle(t, p, entitlement, "one")
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, "CLIENT_ACTION_REQUIRED", first["responseCode"])
	parameters := first["parameters"].(map[string]any)
	assert.Regexp(t, `^https://`, parameters["url"])
	expiry, err := time.Parse(time.RFC3339, parameters["urlExpiry"].(string))
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(24*time.Hour), expiry, time.Minute)

	_, replay := entitle(t, p, entitlement, "one")
	assert.Equal(t, first, replay)
	status, _ = entitle(t, p, strings.Replace(entitlement, "c1", "c2", 1), "one")
	assert.Equal(t, http.StatusBadRequest, status, "an identifier of another request")

	_, second := entitle(t, p, entitlement, "two")
	assert.Equal(t, first["entitlementId"], second["entitlementId"])
	assert.NotEqual(t, parameters["url"], second["parameters"].(map[string]any)["url"])

	got := p.received(t, "bango")
	require.Len(t, got, 1)
	assert.InDelta(t, 2, got[0]["creates"], 0)
	assert.Equal(t, "PENDING", got[0]["status"])
	assert.Equal(t, "c1", got[0]["customerIdentifier"])
	assert.Equal(t, "DISNEY_PLUS_PA", got[0]["productKey"])
	assert.Equal(t, second["entitlementId"], got[0]["entitlementId"])
	assert.Equal(t, second["parameters"].(map[string]any)["url"], got[0]["url"])
}

// Only an identical create renews.
func TestBangoGrantsAnotherEntitlementForOtherKeys(t *testing.T) {
	p := start(t)
	ids := map[any]bool{}
	for _, changed := range []string{`"c1"`, `"m"`, `"o"`} {
		_, answer := entitle(t, p, strings.Replace(entitlement, changed, `"another"`, 1), "")
		ids[answer["entitlementId"]] = true
	}
	_, first := entitle(t, p, entitlement, "")
	_, again := entitle(t, p, entitlement, "")
	ids[first["entitlementId"]] = true
	assert.Len(t, ids, 4)
	assert.Equal(t, first["entitlementId"], again["entitlementId"])
}

func TestBangoRefuses(t *testing.T) {
	p := start(t)
	status, answer := entitle(t, p, strings.Replace(entitlement, "DISNEY_PLUS_PA", "NETFLIX", 1), "")
	assert.Equal(t, http.StatusBadRequest, status)
	assert.Equal(t, map[string]any{"responseCode": "BAD_REQUEST", "responseMessage": "ProductKey is invalid."}, answer)

	status, answer = entitle(
		t,
		p,
		`{"customerIdentifier":"c1","merchantAccountKey":"m","productKey":"DISNEY_PLUS_PA","entitlementId":"x"}`,
		"",
	)
	assert.Equal(t, http.StatusNotFound, status)
	assert.Equal(t, "NOT_FOUND", answer["responseCode"])

	status, _ = entitle(t, p, `[`, "")
	assert.Equal(t, http.StatusBadRequest, status)

	res, body := do(
		t,
		"POST",
		p.URL("bango")+"/v1/entitlement",
		entitlement,
		http.Header{"Authorization": {"Basic eDp5"}},
	)
	assert.Equal(t, http.StatusUnauthorized, res.StatusCode)
	assert.Contains(t, body, `"UNAUTHORIZED"`)
	assert.Empty(t, p.received(t, "bango"))
}

func TestScriptedAnswersComeFirst(t *testing.T) {
	p := start(t)
	res, _ := do(
		t,
		"POST",
		p.control+"gateway",
		`{"next":[{"status":503,"headers":{"Retry-After":"2"},"body":"busy"},{"status":0,"delayMs":1}]}`,
		nil,
	)
	require.Equal(t, http.StatusNoContent, res.StatusCode)
	header := signed(t, "r.0", time.Now(), pushBody)
	res, body := do(t, "POST", p.URL("gateway"), pushBody, header)
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.Equal(t, "busy", body)
	assert.Equal(t, "2", res.Header.Get("Retry-After"))
	for range 2 {
		res, _ = do(t, "POST", p.URL("gateway"), pushBody, header)
		assert.Equal(t, http.StatusOK, res.StatusCode)
	}
	assert.Len(t, p.received(t, "gateway"), 3, "what a script answered was received too")
}

func TestControl(t *testing.T) {
	p := start(t)
	for _, body := range []string{`nonsense`, `{"next":[{"status":42}]}`, `{"next":[{"delayMs":-1}]}`} {
		res, _ := do(t, "POST", p.control+"bango", body, nil)
		assert.Equal(t, http.StatusBadRequest, res.StatusCode, body)
	}
	res, _ := do(t, "GET", p.control+"nobody", "", nil)
	assert.Equal(t, http.StatusNotFound, res.StatusCode)

	do(t, "POST", p.control+"gateway", `{"next":[{"status":503}]}`, nil)
	do(t, "POST", p.URL("gateway"), `<script>alert(1)</script>`, nil)
	res, body := do(t, "GET", p.control, "", nil)
	assert.Equal(t, "text/html; charset=utf-8", res.Header.Get("Content-Type"))
	assert.NotContains(t, body, "<script")

	do(t, "POST", p.control+"gateway", `{"next":[{"status":503}]}`, nil)
	res, _ = do(t, "DELETE", p.control+"gateway", "", nil)
	assert.Equal(t, http.StatusNoContent, res.StatusCode)
	assert.Empty(t, p.received(t, "gateway"))
	res, _ = do(t, "POST", p.URL("gateway"), pushBody, signed(t, "r.0", time.Now(), pushBody))
	assert.Equal(t, http.StatusOK, res.StatusCode, "the script is forgotten too")
}
