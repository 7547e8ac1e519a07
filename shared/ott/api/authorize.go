package api

import (
	"context"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/token"
)

// The tokens of this API: whom they are for, and how long one is valid.
const (
	tokenAudience = "ott"
	tokenLifetime = 20 * time.Minute
)

// NewAuthority returns what issues and checks this API's tokens, with the signing key of that name.
func NewAuthority(keys secret.Reader, keyName string) *token.Authority {
	a := authority()
	a.Keys, a.KeyName = keys, keyName
	return &a
}

// OpenAuthority returns what issues and checks this API's tokens, with the signing key that SIGNING_KEY_SECRET names.
func OpenAuthority(env *environment.Variables, config aws.Config) *token.Authority {
	return authority().Open(env, config)
}

func authority() token.Authority {
	return token.Authority{Audience: tokenAudience, Lifetime: tokenLifetime}
}

// authorize returns what the bearer token of a request grants. It returns a fault Unauthenticated as token.Authority
// does, Forbidden for a token without the scope, or the error of reading the key.
func authorize(ctx context.Context, tokens *token.Authority, r *httpapi.Request, scope string) (token.Grant, error) {
	grant, err := tokens.Authenticate(ctx, r)
	if err != nil {
		return token.Grant{}, err
	}
	if !grant.Has(scope) {
		return token.Grant{}, fault.New(fault.Forbidden, "")
	}
	return grant, nil
}

// pathPlatform returns the platform that a request's path names, or adds to faults that there is none such.
func pathPlatform(r *httpapi.Request, faults *fault.Violations) ott.Platform {
	platform := ott.Platform(r.PathParameter("platform"))
	if platform != ott.Messenger && platform != ott.LINE {
		faults.Add(fault.BadValue, "OttPlatformName is invalid")
	}
	return platform
}

// pathProperty returns the property that a request's path names, as {platform}/{ottPropertyId}. It returns a fault
// Invalid for an unknown platform.
func pathProperty(r *httpapi.Request) (ott.Platform, string, error) {
	var faults fault.Violations
	platform := pathPlatform(r, &faults)
	return platform, r.PathParameter("ottPropertyId"), faults.Err()
}
