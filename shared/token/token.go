// Package token issues and checks Carillon's access tokens: JWTs signed with HS256 by a secret of the stack.
package token

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"carillon/shared/clientauth"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// Authority issues and checks the tokens of one API. A token of one audience opens no other.
type Authority struct {
	// Keys and KeyName say where the signing key is. The id of its version is the token's kid.
	Keys    secret.Reader
	KeyName string
	// Audience is the API.
	Audience string
	// Lifetime is how long a token is valid.
	Lifetime time.Duration
}

// clockSkew is how far the clock that issued a token may be ahead of the one that checks it. It makes no token live
// longer: what has expired is refused.
const clockSkew = time.Minute

// Open fills in the signing key: the secret that SIGNING_KEY_SECRET names, read in the background by now.
func (a Authority) Open(env *environment.Variables, config aws.Config) *Authority {
	keys := secret.NewCache(secretstore.Open(config))
	a.Keys, a.KeyName = keys, env.String("SIGNING_KEY_SECRET")
	keys.Warm(secret.Current, a.KeyName)
	return &a
}

// recheckAge is how old a kept key may be when a token names another one.
const recheckAge = time.Second

// Grant is what a valid token says.
type Grant struct {
	ClientID string
	Tenant   string
	Scopes   []string
}

// Has reports whether the token carries a scope.
func (g Grant) Has(scope string) bool { return slices.Contains(g.Scopes, scope) }

type claims struct {
	jwt.RegisteredClaims
	Tenant string `json:"tenant"`
	Scope  string `json:"scope"`
}

// Issue returns a signed token for a client with those scopes. It returns Keys' error.
func (a *Authority) Issue(ctx context.Context, client clientauth.Client, scopes []string) (string, error) {
	key, err := a.Keys.Get(ctx, a.KeyName, secret.Current, secret.AnyAge)
	if err != nil {
		return "", err
	}
	now := time.Now()
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims{
		RegisteredClaims: jwt.RegisteredClaims{
			ID:        uuid.NewString(),
			Subject:   client.ID,
			Audience:  jwt.ClaimStrings{a.Audience},
			IssuedAt:  jwt.NewNumericDate(now),
			ExpiresAt: jwt.NewNumericDate(now.Add(a.Lifetime)),
		},
		Tenant: client.Tenant,
		Scope:  strings.Join(scopes, " "),
	})
	token.Header["kid"] = key.ID
	return token.SignedString([]byte(key.Value.Reveal()))
}

// Authenticate checks the bearer token of a request and returns what it grants. It returns a fault Unauthenticated
// for a token that is missing, of another audience, expired or not ours, and Keys' error if the key could not be read.
func (a *Authority) Authenticate(ctx context.Context, r *httpapi.Request) (Grant, error) {
	bearer := r.BearerToken()
	if bearer == "" {
		return Grant{}, fault.New(fault.Unauthenticated, "")
	}
	var keyErr error
	var c claims
	_, err := jwt.ParseWithClaims(bearer, &c, func(t *jwt.Token) (any, error) {
		var key []byte
		key, keyErr = a.verificationKey(ctx, t)
		return key, keyErr
	},
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
		jwt.WithAudience(a.Audience),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(clockSkew), // for exp too, which is checked below
	)
	switch {
	case keyErr != nil && !errors.Is(keyErr, errUnknownKey):
		return Grant{}, keyErr
	case err != nil:
		return Grant{}, fault.Wrap(fault.Unauthenticated, err)
	case !time.Now().Before(c.ExpiresAt.Time), c.Subject == "", c.Tenant == "":
		return Grant{}, fault.New(fault.Unauthenticated, "")
	}
	r.Client = c.Subject
	return Grant{ClientID: c.Subject, Tenant: c.Tenant, Scopes: strings.Fields(c.Scope)}, nil
}

// verificationKey finds the key that a token's kid names: the current one or the one before it, first as they are kept,
// then as they are now, for the key may have been rotated a moment ago.
func (a *Authority) verificationKey(ctx context.Context, t *jwt.Token) ([]byte, error) {
	kid, _ := t.Header["kid"].(string)
	for _, maxAge := range []time.Duration{secret.AnyAge, recheckAge} {
		for _, stage := range []secret.Stage{secret.Current, secret.Previous} {
			key, err := a.Keys.Get(ctx, a.KeyName, stage, maxAge)
			switch {
			case err == nil && key.ID == kid:
				return []byte(key.Value.Reveal()), nil
			case stage == secret.Previous && errors.Is(err, secret.ErrNotFound):
				// Never rotated. A key that is missing altogether is our fault, not the token's.
			case err != nil:
				return nil, err
			}
		}
	}
	return nil, errUnknownKey
}

var errUnknownKey = errors.New("token: signed by no key of ours")
