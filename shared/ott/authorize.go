package ott

import (
	"context"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// authorize returns what the bearer token of a request grants. It returns a fault Unauthenticated as token.Authority does,
// Forbidden for a token without the scope, or the error of reading the key.
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
func pathPlatform(r *httpapi.Request, faults *fault.Violations) Platform {
	platform := Platform(r.PathParameter("platform"))
	if platform != Messenger && platform != LINE {
		faults.Add(fault.BadValue, "OttPlatformName is invalid")
	}
	return platform
}

// pathProperty returns the property that a request's path names, as {platform}/{ottPropertyId}. It returns a fault Invalid for an unknown platform.
func pathProperty(r *httpapi.Request) (Platform, string, error) {
	var faults fault.Violations
	platform := pathPlatform(r, &faults)
	return platform, r.PathParameter("ottPropertyId"), faults.Err()
}
