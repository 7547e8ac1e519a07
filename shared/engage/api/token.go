package api

import (
	"context"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"carillon/shared/clientauth"
	"carillon/shared/engage"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/jsonbody"
	"carillon/shared/secret"
	"carillon/shared/token"
)

const (
	// audience is that of this API's tokens.
	audience = "engage"
	// lifetime is how long a token is valid (seed 002, Get Token).
	lifetime = 15 * time.Minute
)

// purposeInform is the one X-Federated-Purpose there is.
const purposeInform = "inform"

// OpenAuthority returns what issues and checks this API's tokens, with the signing key that SIGNING_KEY_SECRET names,
// read in the background by now.
func OpenAuthority(env *environment.Variables, config aws.Config) *token.Authority {
	return token.Authority{Audience: audience, Lifetime: lifetime}.Open(env, config)
}

// TokenHandler serves POST /federated/content/v2/token.
type TokenHandler struct {
	Clients *clientauth.Authenticator
	Tokens  *token.Authority
}

type tokenRequest struct {
	ClientID     jsonbody.Value `json:"clientId"`
	ClientSecret jsonbody.Value `json:"clientSecret"`
}

type tokenAnswer struct {
	AccessToken *string `json:"accessToken"`
	Message     string  `json:"message"`
	// ErrorCode is 0 on a granted token, "" on a healthy one, a number on failure: docs/contract.md §2.
	ErrorCode any    `json:"errorCode"`
	RequestID string `json:"requestId"`
}

// Serve grants a token to a client that holds the scope of the purpose. Whatever is wrong with the request, the refusal
// is the same.
func (h *TokenHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	body, err := r.TokenBody()
	if err != nil {
		return nil, err
	}
	var request tokenRequest
	if err := jsonbody.Decode(body, &request); err != nil {
		return nil, err
	}
	if r.Header("x-federated-purpose") != purposeInform {
		return nil, fault.New(fault.Unauthenticated, "")
	}
	id, presented := request.ClientID, request.ClientSecret
	if id.Missing() || presented.Missing() || !id.IsString() || !presented.IsString() {
		return nil, fault.New(fault.Unauthenticated, "")
	}
	client, err := h.Clients.Authenticate(ctx, id.Text, secret.NewText(presented.Text))
	if err != nil {
		return nil, err
	}
	r.Client = client.ID
	scopes, ok := clientauth.GrantScopes(client, []string{engage.ScopeInform}, "")
	if !ok {
		return nil, fault.New(fault.Forbidden, "")
	}
	signed, err := h.Tokens.Issue(ctx, client, scopes)
	if err != nil {
		return nil, err
	}
	answer := tokenAnswer{AccessToken: &signed, Message: "Success", ErrorCode: 0, RequestID: r.ID}
	return httpapi.JSON(http.StatusOK, answer).With("cache-control", "no-store"), nil
}

// TokenHealthHandler serves GET /federated/content/v2/token/health.
type TokenHealthHandler struct {
	Tokens *token.Authority
}

// Serve answers 200 to a token that is valid now.
func (h *TokenHealthHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	if _, err := h.Tokens.Authenticate(ctx, r); err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, tokenAnswer{Message: "Healthy", ErrorCode: "", RequestID: r.ID}), nil
}
