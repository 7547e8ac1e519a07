package api

import (
	"context"

	"github.com/google/uuid"

	"carillon/shared/engage"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/token"
)

// authenticatePush returns who asks, and for which push. An id that is no request id is one that nobody has.
func authenticatePush(ctx context.Context, tokens *token.Authority, r *httpapi.Request) (token.Grant, string, error) {
	grant, err := tokens.Authenticate(ctx, r)
	if err != nil {
		return token.Grant{}, "", err
	}
	if !grant.Has(engage.ScopeInform) {
		return token.Grant{}, "", fault.New(fault.Unauthenticated, "")
	}
	id, ok := parseUUID(r.PathParameter("requestId"))
	if !ok {
		return token.Grant{}, "", fault.New(fault.NotFound, "")
	}
	return grant, id, nil
}

// parseUUID returns a UUID in lower case. It takes the plain form alone, not the urn: and {} that uuid.Parse takes as
// well.
func parseUUID(text string) (string, bool) {
	id, err := uuid.Parse(text)
	return id.String(), err == nil && len(text) == len(id.String())
}

// Counts says how many destinations of a push are in which state. They add up to Total.
type Counts struct {
	Total     int `json:"total"`
	Pending   int `json:"pending"`
	Delivered int `json:"delivered"`
	Rejected  int `json:"rejected"`
	Failed    int `json:"failed"`
	Expired   int `json:"expired"`
	Cancelled int `json:"cancelled"`
}

// Summary is how a push stands, without its destinations: what DELETE of a push answers.
type Summary struct {
	RequestID string           `json:"requestId"`
	State     engage.PushState `json:"state"`
	Counts    Counts           `json:"counts"`
}

// NewSummary returns the summary of a push.
func NewSummary(meta *engage.Meta) Summary {
	return Summary{RequestID: meta.RequestID, State: meta.State(), Counts: Counts(meta.Counts())}
}
