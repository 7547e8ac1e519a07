package api_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott/api"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/token"
)

func authenticate(t *testing.T, a *token.Authority, signed string) error {
	t.Helper()
	_, err := a.Authenticate(t.Context(), httpapi.NewRequest(t.Context(), events.APIGatewayV2HTTPRequest{
		Headers: map[string]string{"authorization": "Bearer " + signed},
	}))
	return err
}

// The clock of who issued a token may be a minute ahead of that of who checks it; what has expired has expired.
func TestClockSkewOfAMinute(t *testing.T) {
	for name, test := range map[string]struct {
		issued, expires time.Duration // from now
		fine            bool
	}{
		"a second to its end": {-20 * time.Minute, time.Second, true},
		"at its end":          {-20 * time.Minute, 0, false},
		"expired a second":    {-20 * time.Minute, -time.Second, false},
		"issued in 59 s":      {59 * time.Second, 20 * time.Minute, true},
		"issued in 61 s":      {61 * time.Second, 20 * time.Minute, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				now := time.Now()
				forged := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
					"sub": "ott-client", "aud": "ott", "tenant": "tenant-1", "scope": "ott_send",
					"iat": now.Add(test.issued).Unix(), "exp": now.Add(test.expires).Unix(),
				})
				forged.Header["kid"] = "key-1"
				signed, err := forged.SignedString([]byte("0123456789abcdef"))
				require.NoError(t, err)
				err = authenticate(t, api.NewAuthority(secret.NewCache(vault{}), keyName), signed)
				if test.fine {
					assert.NoError(t, err)
					return
				}
				assert.True(t, fault.Is(err, fault.Unauthenticated), "%v", err)
			})
		})
	}
}

// The signing key is rotated in Secrets Manager: a process that keeps the old key and one that starts with the new one
// take each other's tokens, and nobody is logged out.
func TestSigningKeyIsRotated(t *testing.T) {
	key := emulatortest.Deploy(t) + "/token-signing-key"
	client := clientauth.Client{ID: "ott-client", Tenant: "tenant-1"}
	newProcess := func() *token.Authority {
		return api.NewAuthority(secret.NewCache(secretstore.New(emulatortest.SecretsManager())), key)
	}
	issue := func(a *token.Authority) string {
		signed, err := a.Issue(t.Context(), client, []string{"ott_send"})
		require.NoError(t, err)
		return signed
	}
	long := newProcess()
	before := issue(long)
	_, err := emulatortest.SecretsManager().PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: &key, SecretString: aws.String("another key of thirty-two bytes!"),
		ClientRequestToken: aws.String(uuid.NewString()),
	})
	require.NoError(t, err)
	rotated := newProcess()
	after := issue(rotated)
	meanwhile := issue(long)
	for _, signed := range []string{before, meanwhile, after} {
		require.NoError(t, authenticate(t, rotated, signed))
		require.NoError(t, authenticate(t, newProcess(), signed))
	}
	for _, signed := range []string{before, meanwhile} {
		require.NoError(t, authenticate(t, long, signed))
	}
}
