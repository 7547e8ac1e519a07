package engage

import (
	"context"
	"net/http"
	"time"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/jsonbody"
	"carillon/shared/secret"
	"carillon/shared/token"
)

// TokenAudience is the audience of this API's tokens.
const TokenAudience = "engage"

// TokenLifetime is how long a token is valid (seed 002, Get Token).
const TokenLifetime = 15 * time.Minute

// purposeInform is the one X-Federated-Purpose there is.
const purposeInform = "inform"

// NewAuthority returns what issues and checks this API's tokens, with the signing key of that name.
func NewAuthority(keys secret.Reader, keyName string) *token.Authority {
	return &token.Authority{Keys: keys, KeyName: keyName, Audience: TokenAudience, Lifetime: TokenLifetime}
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
	ErrorCode   any     `json:"errorCode"` // 0 on a granted token, "" on a healthy one, a number on failure: contract.md §2
	RequestID   string  `json:"requestId"`
}

// Serve grants a token to a client that holds the scope of the purpose. Whatever is wrong with the request, the refusal is the same.
func (h *TokenHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	body, err := r.Body()
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
	if request.ClientID.Missing() || request.ClientSecret.Missing() || !request.ClientID.IsString() || !request.ClientSecret.IsString() {
		return nil, fault.New(fault.Unauthenticated, "")
	}
	client, err := h.Clients.Authenticate(ctx, request.ClientID.Text, secret.NewText(request.ClientSecret.Text))
	if err != nil {
		return nil, err
	}
	r.Client = client.ID
	scopes, ok := clientauth.GrantScopes(client, []string{clientauth.ScopeEngageInform}, "")
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

// EncodeTokenError maps an error to the status and body of POST /federated/content/v2/token: 500 for every refusal
// (seed 002), except for what no retry with other credentials mends.
func EncodeTokenError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	status := http.StatusInternalServerError
	switch err.Code {
	case fault.TooLarge:
		status = http.StatusRequestEntityTooLarge
	case fault.UnsupportedMediaType:
		status = http.StatusUnsupportedMediaType
	case fault.Unavailable:
		status = http.StatusServiceUnavailable
	}
	answer := tokenAnswer{Message: "Failed to grant access token", ErrorCode: status, RequestID: r.ID}
	return httpapi.JSON(status, answer).With("cache-control", "no-store")
}

// EncodeTokenHealthError maps an error to the status of GET /federated/content/v2/token/health. A 401 has no body.
func EncodeTokenHealthError(r *httpapi.Request, err *fault.Error) *httpapi.Response {
	switch err.Code {
	case fault.Unauthenticated:
		return unauthorized()
	case fault.Unavailable:
		return httpapi.JSON(http.StatusServiceUnavailable, tokenAnswer{Message: "Service unavailable", ErrorCode: http.StatusServiceUnavailable, RequestID: r.ID})
	default:
		return httpapi.JSON(http.StatusInternalServerError, tokenAnswer{Message: "Internal server error", ErrorCode: http.StatusInternalServerError, RequestID: r.ID})
	}
}
