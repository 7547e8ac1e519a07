package contract_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

// granted keeps a token per client and scope: a test that wants one does not wait for another.
var granted sync.Map

// ottBearer returns an Authorization header's value for a client, for all its scopes or for some.
func ottBearer(t *testing.T, c local.DemoClient, scope string) string {
	t.Helper()
	if kept, ok := granted.Load("ott " + c.ClientID + scope); ok {
		return kept.(string)
	}
	a := send(t, ottToken, harness.OTTGrant(c, scope))
	require.Equal(t, 200, a.Status, "%s", a.Body)
	bearer := "Bearer " + a.Object(t)["access_token"].(string)
	secrets.add(bearer[len("Bearer "):])
	granted.Store("ott "+c.ClientID+scope, bearer)
	return bearer
}

// engageBearer returns an Authorization header's value for a provider's client.
func engageBearer(t *testing.T, c local.DemoClient) string {
	t.Helper()
	if kept, ok := granted.Load("engage " + c.ClientID); ok {
		return kept.(string)
	}
	a := send(t, engageToken, harness.EngageGrant(c), "X-Federated-Purpose", "inform")
	require.Equal(t, 200, a.Status, "%s", a.Body)
	bearer := "Bearer " + a.Object(t)["accessToken"].(string)
	secrets.add(bearer[len("Bearer "):])
	granted.Store("engage "+c.ClientID, bearer)
	return bearer
}

// badBearers are Authorization headers that open nothing, made from a good one.
func badBearers(t *testing.T, good string) map[string]string {
	t.Helper()
	token := good[len("Bearer "):]
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	key := signingKey(t)
	signed := func(method jwt.SigningMethod, key any, change func(jwt.MapClaims)) string {
		claims := jwt.MapClaims{}
		parsed, _, err := jwt.NewParser().ParseUnverified(token, claims)
		require.NoError(t, err)
		change(claims)
		forged := jwt.NewWithClaims(method, claims)
		forged.Header["kid"] = parsed.Header["kid"]
		text, err := forged.SignedString(key)
		require.NoError(t, err)
		return "Bearer " + text
	}
	same := func(jwt.MapClaims) {}
	return map[string]string{
		"missing":           "",
		"empty":             "Bearer ",
		"another scheme":    "Basic " + token,
		"no token":          "Bearer not-a-token",
		"no signature":      "Bearer " + parts[0] + "." + parts[1] + ".",
		"another payload":   "Bearer " + parts[0] + "." + parts[1] + "x." + parts[2],
		"algorithm none":    signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, same),
		"another algorithm": signed(jwt.SigningMethodHS512, key, same),
		"another key": signed(
			jwt.SigningMethodHS256,
			[]byte("another key of the same sixty-four characters, or nearly so many"),
			same,
		),
		"expired": signed(
			jwt.SigningMethodHS256,
			key,
			func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-time.Second).Unix() },
		),
		"without expiry": signed(jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { delete(c, "exp") }),
		"issued in future": signed(
			jwt.SigningMethodHS256,
			key,
			func(c jwt.MapClaims) { c["iat"] = time.Now().Add(time.Hour).Unix() },
		),
		"another audience":   signed(jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { c["aud"] = "another" }),
		"without a tenant":   signed(jwt.SigningMethodHS256, key, func(c jwt.MapClaims) { delete(c, "tenant") }),
		"two tokens in one":  good + ", " + good,
		"a client's secret ": "Bearer " + bundle.Demo.OTT.ClientSecret,
	}
}

// signingKey reads the key of the stack's tokens: only who has it can make an expired one.
func signingKey(t *testing.T) []byte {
	t.Helper()
	out, err := bundle.SecretsManager().GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(stackname.SigningKeySecret(bundle.Demo.AWS.Stack)),
	})
	require.NoError(t, err)
	secrets.add(aws.ToString(out.SecretString))
	return []byte(aws.ToString(out.SecretString))
}
