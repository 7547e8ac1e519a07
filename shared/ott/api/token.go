package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/jsonbody"
	"carillon/shared/ott"
	"carillon/shared/secret"
	"carillon/shared/token"
)

// The faults of POST /v2/token beside those that every API has: error codes of RFC 6749 §5.2.
const (
	unsupportedGrantType fault.Code = "unsupported_grant_type"
	invalidScope         fault.Code = "invalid_scope"
)

// TokenHandler serves POST /v2/token: OAuth 2.0 client credentials (RFC 6749 §4.4, docs/contract.md §1).
type TokenHandler struct {
	Clients *clientauth.Authenticator
	Tokens  *token.Authority
}

type tokenRequest struct {
	GrantType    jsonbody.Value `json:"grant_type"`
	ClientID     jsonbody.Value `json:"client_id"`
	ClientSecret jsonbody.Value `json:"client_secret"`
	Scope        jsonbody.Value `json:"scope"`
}

type tokenBody struct {
	AccessToken     string `json:"access_token"`
	TokenType       string `json:"token_type"`
	ExpiresIn       int64  `json:"expires_in"` // seconds
	Scope           string `json:"scope"`
	RESTInstanceURL string `json:"rest_instance_url"`
}

// Serve grants a token to a client that holds any of this API's scopes: for all of them, or for those that scope names.
func (h *TokenHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	request, err := decodeTokenRequest(r)
	if err != nil {
		return nil, err
	}
	client, err := h.Clients.Authenticate(ctx, request.ClientID.Text, secret.NewText(request.ClientSecret.Text))
	if err != nil {
		return nil, err
	}
	r.Client = client.ID
	scopes, ok := clientauth.GrantScopes(client, ott.Scopes(), request.Scope.Text)
	if !ok {
		return nil, fault.New(invalidScope, "the client does not hold the requested scope")
	}
	signed, err := h.Tokens.Issue(ctx, client, scopes)
	if err != nil {
		return nil, err
	}
	return httpapi.JSON(http.StatusOK, tokenBody{
		AccessToken:     signed,
		TokenType:       "Bearer",
		ExpiresIn:       int64(h.Tokens.Lifetime / time.Second),
		Scope:           strings.Join(scopes, " "),
		RESTInstanceURL: r.BaseURL() + "/",
	}).With("cache-control", "no-store").With("pragma", "no-cache"), nil
}

// decodeTokenRequest reads a JSON or form body. It returns a fault Malformed, TooLarge, UnsupportedMediaType, Invalid
// or unsupportedGrantType.
func decodeTokenRequest(r *httpapi.Request) (tokenRequest, error) {
	var request tokenRequest
	body, err := r.TokenBody()
	if err != nil {
		return request, err
	}
	switch r.MediaType() {
	case "application/json":
		err = jsonbody.Decode(body, &request, jsonbody.AnyCase)
	case "application/x-www-form-urlencoded":
		err = decodeTokenForm(body, &request)
	default:
		err = fault.New(fault.UnsupportedMediaType,
			"Content-Type must be application/json or application/x-www-form-urlencoded")
	}
	if err != nil {
		return request, err
	}
	var faults fault.Violations
	for _, member := range []struct {
		name  string
		value jsonbody.Value
	}{{"grant_type", request.GrantType}, {"client_id", request.ClientID}, {"client_secret", request.ClientSecret}} {
		switch {
		case member.value.Missing():
			faults.Add(fault.Missing, "%s is missing", member.name)
		case !member.value.IsString():
			faults.Add(fault.WrongType, "%s must be a string", member.name)
		}
	}
	if !request.Scope.Missing() && !request.Scope.IsString() {
		faults.Add(fault.WrongType, "scope must be a string")
	}
	if err := faults.Err(); err != nil {
		return request, err
	}
	if request.GrantType.Text != "client_credentials" {
		return request, fault.New(unsupportedGrantType, "grant_type must be client_credentials")
	}
	return request, nil
}

func decodeTokenForm(body io.Reader, request *tokenRequest) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	form, err := url.ParseQuery(string(text))
	if err != nil {
		return &fault.Error{Code: fault.Malformed, Message: "the body is not a form", Cause: err}
	}
	for name, value := range map[string]*jsonbody.Value{
		"grant_type": &request.GrantType, "client_id": &request.ClientID, "client_secret": &request.ClientSecret,
		"scope": &request.Scope,
	} {
		switch len(form[name]) {
		case 0:
		case 1:
			*value = jsonbody.Value{Kind: '"', Text: form[name][0]}
		default:
			return fault.New(fault.Malformed, name+" appears more than once") // RFC 6749 §3.2
		}
	}
	return nil
}

// tokenErrorBody is the error body of RFC 6749 §5.2.
type tokenErrorBody struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// EncodeTokenError maps an error to the status and body of POST /v2/token.
func EncodeTokenError(_ *httpapi.Request, err *fault.Error) *httpapi.Response {
	answer := func(status int, code, constant string) *httpapi.Response {
		description := err.Message
		if description == "" {
			description = constant
		}
		return httpapi.JSON(status, tokenErrorBody{Error: code, Description: description}).
			With("cache-control", "no-store").With("pragma", "no-cache")
	}
	switch err.Code {
	case fault.Unauthenticated:
		return answer(http.StatusUnauthorized, "invalid_client", "client authentication failed")
	case unsupportedGrantType, invalidScope:
		return answer(http.StatusBadRequest, string(err.Code), "")
	case fault.Invalid:
		return answer(http.StatusBadRequest, "invalid_request", err.Violations.Join(", ", len(err.Violations)))
	case fault.Malformed:
		return answer(http.StatusBadRequest, "invalid_request", "the request is malformed")
	case fault.TooLarge:
		return answer(http.StatusRequestEntityTooLarge, "invalid_request", "the request body is too large")
	case fault.UnsupportedMediaType:
		return answer(http.StatusUnsupportedMediaType, "invalid_request",
			"the media type or content encoding is not supported")
	case fault.Unavailable:
		return answer(http.StatusServiceUnavailable, "temporarily_unavailable", "try again later")
	default:
		body := tokenErrorBody{Error: "server_error", Description: "internal server error"}
		return httpapi.JSON(http.StatusInternalServerError, body).With("cache-control", "no-store")
	}
}
