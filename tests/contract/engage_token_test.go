package contract_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// engageLifetime is how long an ENGAGE token lives (docs/contract.md §2).
const engageLifetime = 15 * time.Minute

// docs/contract.md §2: POST /federated/content/v2/token → 200, errorCode is the number 0; tokens live 15 minutes.
func TestEngageTokenIsGranted(t *testing.T) {
	t.Parallel()
	valid := harness.EngageGrant(bundle.Demo.Engage.DemoClient)
	for name, body := range map[string]string{
		"as documented":   valid,
		"unknown members": strings.Replace(valid, "{", `{"grantType":{"x":[1e400]},`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			a := send(t, engageToken, body, "X-Federated-Purpose", "inform")
			require.Equal(t, 200, a.Status, "%s", a.Body)
			answered := a.Object(t)
			secrets.add(answered["accessToken"].(string))
			assert.Equal(t, "Success", answered["message"])
			assert.Equal(t, json.Number("0"), answered["errorCode"])
			assert.Equal(t, a.RequestID(), answered["requestId"])

			claims := jwt.RegisteredClaims{}
			_, _, err := jwt.NewParser().ParseUnverified(answered["accessToken"].(string), &claims)
			require.NoError(t, err)
			assert.WithinRange(
				t,
				claims.ExpiresAt.Time,
				before.Add(engageLifetime-time.Second),
				time.Now().Add(engageLifetime+time.Second),
			)
		})
	}
}

// docs/contract.md §2: any refusal → 500 with errorCode the number 500 and accessToken null.
func TestEngageTokenIsRefused(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Engage
	valid := object{"clientId": demo.ClientID, "clientSecret": demo.ClientSecret}
	for name, test := range map[string]struct{ body, purpose string }{
		"clientId missing":             {valid.without("clientId").text(t), "inform"},
		"clientId null":                {valid.set(nil, "clientId").text(t), "inform"},
		"clientId empty":               {valid.set("", "clientId").text(t), "inform"},
		"clientId blank":               {valid.set(" \t", "clientId").text(t), "inform"},
		"clientId of a wrong type":     {valid.set(5, "clientId").text(t), "inform"},
		"clientId in another case":     {strings.Replace(valid.text(t), "clientId", "clientID", 1), "inform"},
		"clientSecret missing":         {valid.without("clientSecret").text(t), "inform"},
		"clientSecret null":            {valid.set(nil, "clientSecret").text(t), "inform"},
		"clientSecret blank":           {valid.set("   ", "clientSecret").text(t), "inform"},
		"clientSecret of a wrong type": {valid.set([]any{demo.ClientSecret}, "clientSecret").text(t), "inform"},
		"both missing":                 {`{}`, "inform"},
		"unknown client":               {valid.set("nobody-knows", "clientId").text(t), "inform"},
		"a client id that cannot be":   {valid.set("a/b c", "clientId").text(t), "inform"},
		"wrong secret":                 {valid.set("wrong-secret", "clientSecret").text(t), "inform"},
		"another client's secret":      {valid.set(bundle.Demo.EngageOther.ClientSecret, "clientSecret").text(t), "inform"},
		"purpose missing":              {valid.text(t), ""},
		"another purpose":              {valid.text(t), "metrics"},
		"purpose in another case":      {valid.text(t), "Inform"},
		"client without the scope": {
			object{"clientId": bundle.Demo.OTT.ClientID, "clientSecret": bundle.Demo.OTT.ClientSecret}.text(t), "inform",
		},
		"bad JSON": {`{"clientId":`, "inform"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, engageToken, test.body, "X-Federated-Purpose", test.purpose)
			requireEngageRefusal(t, a, 500)
		})
	}
}

// docs/contract.md, common: token requests are at most 64 KiB decoded.
func TestEngageTokenRequestIsTooLarge(t *testing.T) {
	t.Parallel()
	body := padded(harness.EngageGrant(bundle.Demo.Engage.DemoClient), 70_000)
	requireEngageRefusal(t, send(t, engageToken, body, "X-Federated-Purpose", "inform"), 413)
	a := send(t, engageToken, zipped(body), "X-Federated-Purpose", "inform", "Content-Encoding", "gzip")
	requireEngageRefusal(t, a, 413)
}

// requireEngageRefusal checks the one body of every refusal.
func requireEngageRefusal(t *testing.T, a answer, status int) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	body := a.Object(t)
	require.Nil(t, body["accessToken"])
	require.Equal(t, "Failed to grant access token", body["message"])
	require.Equal(t, status, int(number(t, body["errorCode"])))
	require.Equal(t, a.RequestID(), body["requestId"])
}

// number tells a JSON number from a string of digits.
func number(t *testing.T, value any) int64 {
	t.Helper()
	digits, ok := value.(json.Number)
	require.True(t, ok, "%v is no number", value)
	n, err := digits.Int64()
	require.NoError(t, err)
	return n
}

// docs/contract.md §2: GET /federated/content/v2/token/health → 200, errorCode is the empty string.
func TestEngageHealthOfAGoodToken(t *testing.T) {
	t.Parallel()
	a := send(
		t,
		health,
		"",
		"Authorization",
		engageBearer(t, bundle.Demo.Engage.DemoClient),
		"Content-Type",
		"application/json",
	)
	require.Equal(t, 200, a.Status, "%s", a.Body)
	assert.Equal(
		t,
		map[string]any{"accessToken": nil, "message": "Healthy", "errorCode": "", "requestId": a.RequestID()},
		a.Object(t),
	)
}

// docs/contract.md §2: invalid or expired → 401, no body; row "token missing, invalid, expired" of the batch: the same.
func TestEngageUnauthorized(t *testing.T) {
	t.Parallel()
	for name, bearer := range badBearers(t, engageBearer(t, bundle.Demo.Engage.DemoClient)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, 401, send(t, health, "", "Authorization", bearer).Status)
			for _, body := range []string{demoBatch().text(t), `{}`, "not JSON"} { // who is unknown learns nothing of the body
				require.Equal(t, 401, send(t, demoProgram(), body, "Authorization", bearer).Status)
			}
			require.Equal(t, 401, send(t, batch, `{}`, "Authorization", bearer).Status)
		})
	}
}
