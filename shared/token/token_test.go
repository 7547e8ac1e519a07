package token_test

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/secret"
	"carillon/shared/token"
)

const keyName = "carillon/token-signing-key"

var client = clientauth.Client{ID: "client-1", Tenant: "tenant-1", Scopes: []string{"a", "b", "c"}}

// keyring has the versions of the signing key.
type keyring struct {
	versions map[secret.Stage]secret.Version
	failure  error
	reads    atomic.Int64
}

func newKeyring() *keyring {
	k := &keyring{versions: map[secret.Stage]secret.Version{}}
	k.rotate("key-1", "0123456789abcdef0123456789abcdef")
	return k
}

func (k *keyring) rotate(id, value string) {
	if current, ok := k.versions[secret.Current]; ok {
		k.versions[secret.Previous] = current
	}
	k.versions[secret.Current] = secret.Version{ID: id, Value: secret.NewText(value), Created: time.Now()}
}

func (k *keyring) Get(_ context.Context, name string, stage secret.Stage) (secret.Version, error) {
	k.reads.Add(1)
	if k.failure != nil {
		return secret.Version{}, k.failure
	}
	version, ok := k.versions[stage]
	if !ok || name != keyName {
		return secret.Version{}, secret.ErrNotFound
	}
	return version, nil
}

func newAuthority(k *keyring) *token.Authority {
	return &token.Authority{Keys: secret.NewCache(k), KeyName: keyName, Audience: "ott", Lifetime: 20 * time.Minute}
}

func issue(t *testing.T, a *token.Authority) string {
	t.Helper()
	signed, err := a.Issue(t.Context(), client, []string{"a", "b"})
	require.NoError(t, err)
	return signed
}

func request(authorization string) *httpapi.Request {
	return httpapi.NewRequest(
		context.Background(),
		events.APIGatewayV2HTTPRequest{Headers: map[string]string{"authorization": authorization}},
	)
}

func authenticate(t *testing.T, a *token.Authority, bearer string) (token.Grant, error) {
	t.Helper()
	return a.Authenticate(t.Context(), request("Bearer "+bearer))
}

func assertRefused(t *testing.T, a *token.Authority, bearer string) {
	t.Helper()
	r := request("Bearer " + bearer)
	grant, err := a.Authenticate(t.Context(), r)
	require.True(t, fault.Is(err, fault.Unauthenticated), "%v", err)
	assert.Equal(t, token.Grant{}, grant)
	assert.Empty(t, r.Client, "nobody was recognized")
	if len(bearer) > 20 {
		assert.NotContains(t, err.Error(), bearer)
	}
}

// pass lets a bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

func TestIssueAndAuthenticate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		a := newAuthority(k)
		signed := issue(t, a)
		r := request("Bearer " + signed)
		grant, err := a.Authenticate(t.Context(), r)
		require.NoError(t, err)
		assert.Equal(t, token.Grant{ClientID: "client-1", Tenant: "tenant-1", Scopes: []string{"a", "b"}}, grant)
		assert.True(t, grant.Has("b"))
		assert.False(t, grant.Has("c"), "the token's scopes count, not the client's")
		assert.False(t, grant.Has(""))
		assert.Equal(t, "client-1", r.Client)
		assert.EqualValues(t, 1, k.reads.Load(), "a warm request reads no key")
		assert.NotEqual(t, signed, issue(t, a), "each token is another one")
	})
}

func TestIssuedTokenIsAStandardJWT(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		var claims jwt.MapClaims
		parsed, _, err := jwt.NewParser().ParseUnverified(issue(t, newAuthority(k)), &claims)
		require.NoError(t, err)
		assert.Equal(t, map[string]any{"alg": "HS256", "typ": "JWT", "kid": "key-1"}, parsed.Header)
		assert.NotEmpty(t, claims["jti"])
		delete(claims, "jti")
		now := float64(time.Now().Unix())
		assert.Equal(
			t,
			jwt.MapClaims{
				"sub":    "client-1",
				"aud":    []any{"ott"},
				"iat":    now,
				"exp":    now + 1200,
				"tenant": "tenant-1",
				"scope":  "a b",
			},
			claims,
		)
	})
}

func TestIssueWhenTheKeyCannotBeRead(t *testing.T) {
	k := newKeyring()
	k.failure = errors.New("down")
	_, err := newAuthority(k).Issue(t.Context(), client, nil)
	assert.ErrorIs(t, err, k.failure)
}

func TestBearerScheme(t *testing.T) {
	a := newAuthority(newKeyring())
	signed := issue(t, a)
	for _, header := range []string{"Bearer " + signed, "bearer " + signed, "BEARER  " + signed + " "} {
		_, err := a.Authenticate(t.Context(), request(header))
		assert.NoError(t, err)
	}
	for _, header := range []string{"", "Bearer", "Bearer ", signed, "Basic " + signed, "Bearer: " + signed, "Bearer Bearer " + signed} {
		_, err := a.Authenticate(t.Context(), request(header))
		assert.True(t, fault.Is(err, fault.Unauthenticated), "%q: %v", header[:min(len(header), 14)], err)
	}
}

// An expired token is expired: clocks that differ make none live longer.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(newKeyring())
		signed := issue(t, a)
		pass(a.Lifetime - time.Second)
		_, err := authenticate(t, a, signed)
		require.NoError(t, err, "a second before its end")
		pass(time.Second)
		assertRefused(t, a, signed)
		pass(24 * time.Hour)
		assertRefused(t, a, signed)
	})
}

// A token may come from a process whose clock is ahead.
func TestClockSkew(t *testing.T) {
	key := []byte(newKeyring().versions[secret.Current].Value.Reveal())
	for _, claim := range []string{"iat", "nbf"} {
		synctest.Test(t, func(t *testing.T) {
			a := newAuthority(newKeyring())
			ahead := func(by time.Duration) string {
				return forge(t, jwt.SigningMethodHS256, key, func(_ map[string]any, claims jwt.MapClaims) {
					claims[claim] = time.Now().Add(by).Unix()
					claims["exp"] = time.Now().Add(time.Hour).Unix()
				})
			}
			_, err := authenticate(t, a, ahead(time.Minute))
			assert.NoError(t, err, claim)
			assertRefused(t, a, ahead(time.Minute+time.Second))
		})
	}
}

// forge signs claims and a header of the test's own, by default as the authority itself would.
func forge(
	t *testing.T,
	method jwt.SigningMethod,
	key any,
	change func(header map[string]any, claims jwt.MapClaims),
) string {
	t.Helper()
	now := time.Now()
	claims := jwt.MapClaims{
		"sub":    "client-1",
		"aud":    "ott",
		"iat":    now.Unix(),
		"exp":    now.Add(time.Minute).Unix(),
		"tenant": "tenant-1",
		"scope":  "a",
	}
	forged := jwt.NewWithClaims(method, claims)
	forged.Header["kid"] = "key-1"
	change(forged.Header, claims)
	signed, err := forged.SignedString(key)
	require.NoError(t, err)
	return signed
}

func TestForgedClaims(t *testing.T) {
	key := []byte(newKeyring().versions[secret.Current].Value.Reveal())
	unchanged := func(map[string]any, jwt.MapClaims) {}
	with := func(name string, value any) func(map[string]any, jwt.MapClaims) {
		return func(_ map[string]any, claims jwt.MapClaims) { claims[name] = value }
	}
	without := func(name string) func(map[string]any, jwt.MapClaims) {
		return func(_ map[string]any, claims jwt.MapClaims) { delete(claims, name) }
	}
	header := func(name string, value any) func(map[string]any, jwt.MapClaims) {
		return func(header map[string]any, _ jwt.MapClaims) { header[name] = value }
	}
	tests := map[string]struct {
		change func(map[string]any, jwt.MapClaims)
		fine   bool
	}{
		"as we sign it":                     {unchanged, true},
		"another audience":                  {with("aud", "engage"), false},
		"no audience":                       {without("aud"), false},
		"an empty audience":                 {with("aud", []string{}), false},
		"several audiences, one of them us": {with("aud", []string{"engage", "ott"}), true},
		"audience in another case":          {with("aud", "OTT"), false},
		"no expiry":                         {without("exp"), false},
		"expiry is no number":               {with("exp", "tomorrow"), false},
		"expired":                           {with("exp", 1), false},
		"issued in the future":              {with("iat", time.Now().Add(time.Hour).Unix()), false},
		"not valid yet":                     {with("nbf", time.Now().Add(time.Hour).Unix()), false},
		"no subject":                        {without("sub"), false},
		"an empty subject":                  {with("sub", ""), false},
		"no tenant":                         {without("tenant"), false},
		"tenant is no string":               {with("tenant", 1), false},
		"no scope":                          {without("scope"), true},
		"unknown kid":                       {header("kid", "key-2"), false},
		"no kid": {
			func(header map[string]any, _ jwt.MapClaims) { delete(header, "kid") },
			false,
		},
		"an empty kid":            {header("kid", ""), false},
		"kid is no string":        {header("kid", 1), false},
		"a key in the header":     {header("jwk", map[string]any{"kty": "oct", "k": "AA"}), true}, // ignored
		"alg none in the header":  {header("alg", "none"), false},
		"alg HS384 in the header": {header("alg", "HS384"), false},
		"alg in another case":     {header("alg", "hs256"), false},
		"alg RS256 in the header": {header("alg", "RS256"), false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := newAuthority(newKeyring())
			forged := forge(t, jwt.SigningMethodHS256, key, test.change)
			if test.fine {
				_, err := authenticate(t, a, forged)
				require.NoError(t, err)
				return
			}
			assertRefused(t, a, forged)
		})
	}
}

func TestForgedSignatures(t *testing.T) {
	key := []byte(newKeyring().versions[secret.Current].Value.Reveal())
	unchanged := func(map[string]any, jwt.MapClaims) {}
	a := newAuthority(newKeyring())
	signed := issue(t, a)
	parts := strings.Split(signed, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT","kid":"key-1"}`))
	tests := map[string]string{
		"alg none":                  forge(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, unchanged),
		"alg none with a signature": none + "." + parts[1] + "." + parts[2],
		"HS384 with the right key":  forge(t, jwt.SigningMethodHS384, key, unchanged),
		"HS512 with the right key":  forge(t, jwt.SigningMethodHS512, key, unchanged),
		"another key":               forge(t, jwt.SigningMethodHS256, []byte("another"), unchanged),
		"an empty key":              forge(t, jwt.SigningMethodHS256, []byte{}, unchanged),
		"no signature":              parts[0] + "." + parts[1] + ".",
		"no third part":             parts[0] + "." + parts[1],
		"a fourth part":             signed + ".x",
		"another token's signature": parts[0] + "." + parts[1] + "." + strings.Split(issue(t, a), ".")[2],
		"another token's claims":    parts[0] + "." + strings.Split(issue(t, a), ".")[1] + "." + parts[2],
		"not base64":                parts[0] + "." + parts[1] + ".???",
		"padding":                   signed + "=",
		"white space":               strings.Replace(signed, ".", ". ", 1),
		"no JWT":                    "hunter2",
		"dots":                      "..",
		"header is no object": base64.RawURLEncoding.EncodeToString(
			[]byte(`"x"`),
		) + "." + parts[1] + "." + parts[2],
		"claims are no object": parts[0] + "." + base64.RawURLEncoding.EncodeToString(
			[]byte(`[]`),
		) + "." + parts[2],
		"a million dots":                strings.Repeat(".", 1<<20),
		"first character of the header": flip(signed, 0),
		"first character of the claims": flip(signed, len(parts[0])+1),
		"first of the signature":        flip(signed, len(parts[0])+len(parts[1])+2),
	}
	for name, forged := range tests {
		t.Run(name, func(t *testing.T) { assertRefused(t, a, forged) })
	}
}

func flip(text string, at int) string {
	changed := []byte(text)
	if changed[at] == 'A' {
		changed[at] = 'B'
	} else {
		changed[at] = 'A'
	}
	return string(changed)
}
