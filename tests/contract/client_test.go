package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// description is openapi.yaml.
var description *openapi3.T

// endpoint is an operation of openapi.yaml, and how to ask it.
type endpoint struct {
	operation string // the method that openapi.yaml describes
	path      string // as in openapi.yaml
	method    string // the method to send, if it is another one
	target    string // path and query to send, if they are others
}

var (
	ottToken     = endpoint{operation: http.MethodPost, path: "/v2/token"}
	registration = endpoint{operation: http.MethodPost, path: "/ott/v1/registration"}
	engageToken  = endpoint{operation: http.MethodPost, path: "/federated/content/v2/token"}
	health       = endpoint{operation: http.MethodGet, path: "/federated/content/v2/token/health"}
	batch        = endpoint{operation: http.MethodPost, path: "/federated/outbound/v2/batch"}
	pushStatus   = endpoint{operation: http.MethodGet, path: "/federated/outbound/v2/batch/{requestId}"}
	pushCancel   = endpoint{operation: http.MethodDelete, path: "/federated/outbound/v2/batch/{requestId}"}
	product      = endpoint{operation: http.MethodPost, path: "/dxp-ux/v1/{businessId}/product"}
	productList  = endpoint{operation: http.MethodGet, path: "/dxp-ux/v1/{businessId}/product"}
	productGet   = endpoint{operation: http.MethodGet, path: "/dxp-ux/v1/{businessId}/product/{id}"}
)

// at returns the endpoint with another path or query to send.
func (e endpoint) at(target string) endpoint {
	e.target = target
	return e
}

// with returns the endpoint with another method to send.
func (e endpoint) with(method string) endpoint {
	e.method = method
	return e
}

// answer is a response; send and exchange have checked its form.
type answer = harness.Reply

// send asks an endpoint and fails the test if the answer's form is not the contract's. Headers are name and value in
// turn; a Content-Type of application/json goes without saying where there is a body to take.
func send(t testing.TB, e endpoint, body string, headers ...string) answer {
	t.Helper()
	a, err := exchange(e, body, headers...)
	require.NoError(t, err)
	return a
}

// exchange is send for goroutines, which must not end a test.
func exchange(e endpoint, body string, headers ...string) (answer, error) {
	method, target := e.operation, e.path
	if e.method != "" {
		method = e.method
	}
	if e.target != "" {
		target = e.target
	}
	request, err := http.NewRequestWithContext(
		context.Background(),
		method,
		bundle.BaseURL+target,
		strings.NewReader(body),
	)
	if err != nil {
		return answer{}, err
	}
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			request.Header.Del(headers[i])
		} else {
			request.Header.Set(headers[i], headers[i+1])
		}
	}
	a, err := harness.Do(request)
	if err != nil {
		return answer{}, err
	}
	if err := conforms(e, request, a); err != nil {
		return a, fmt.Errorf("%s %s answered %d %q: %w", method, target, a.Status, abridged(a.Body), err)
	}
	return a, nil
}

func abridged(body string) string {
	const limit = 1000
	if len(body) > limit {
		return body[:limit] + "…"
	}
	return body
}

// internals are words of the inside that no caller should read.
var internals = regexp.MustCompile(
	`(?i)panic|goroutine|\.go:\d|jsontext|unmarshal|dynamodb|secretsmanager|amazonaws|arn:aws|127\.0\.0\.1|deadline exceeded|context canceled|EOF`,
)

// conforms checks what every answer has to be: one that openapi.yaml describes, with a request id, without a body where
// it has none, without a secret, and a refusal without words of the inside.
func conforms(e endpoint, request *http.Request, a answer) error {
	id, err := uuid.Parse(a.RequestID())
	if err != nil || id.String() != a.RequestID() {
		return fmt.Errorf("x-request-id %q is no UUID", a.RequestID())
	}
	item := description.Paths.Value(e.path)
	operation := item.GetOperation(e.operation)
	input := &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{
			Request: request,
			Route: &routers.Route{
				Spec: description, Path: e.path, PathItem: item, Method: e.operation, Operation: operation,
			},
		},
		Status:  a.Status,
		Header:  a.Header,
		Options: &openapi3filter.Options{IncludeResponseStatus: true, MultiError: true},
	}
	input.SetBodyBytes([]byte(a.Body))
	if err := openapi3filter.ValidateResponse(context.Background(), input); err != nil {
		return err
	}
	if described := operation.Responses.Status(a.Status).Value; len(described.Content) == 0 {
		if len(a.Body) > 0 || a.Header.Get("Content-Type") != "" {
			return fmt.Errorf("there must be no body, nor a Content-Type (%q)", a.Header.Get("Content-Type"))
		}
	}
	for _, secret := range append(secrets.list(), activationHost) {
		if strings.Contains(a.Body, secret) {
			return fmt.Errorf("the answer holds a secret")
		}
	}
	if a.Status >= http.StatusBadRequest && internals.MatchString(a.Body) {
		return fmt.Errorf("the answer tells %q of the inside", internals.FindString(a.Body))
	}
	return nil
}

// object is a JSON object of a request.
type object map[string]any

// text marshals an object.
func (o object) text(t testing.TB) string {
	t.Helper()
	raw, err := json.Marshal(o)
	require.NoError(t, err)
	return string(raw)
}

// without returns a copy of a JSON value that lacks the member at a path of names and indexes.
func (o object) without(path ...any) object {
	copied := clone(o).(object)
	parent := dig(copied, path[:len(path)-1])
	delete(parent.(object), path[len(path)-1].(string))
	return copied
}

// set returns a copy with another value at the path.
func (o object) set(value any, path ...any) object {
	copied := clone(o).(object)
	switch parent := dig(copied, path[:len(path)-1]).(type) {
	case object:
		parent[path[len(path)-1].(string)] = value
	case []any:
		parent[path[len(path)-1].(int)] = value
	}
	return copied
}

func dig(value any, path []any) any {
	for _, step := range path {
		switch step := step.(type) {
		case string:
			value = value.(object)[step]
		case int:
			value = value.([]any)[step]
		}
	}
	return value
}

func clone(value any) any {
	switch value := value.(type) {
	case object:
		copied := object{}
		for name, member := range value {
			copied[name] = clone(member)
		}
		return copied
	case []any:
		copied := make([]any, len(value))
		for i, item := range value {
			copied[i] = clone(item)
		}
		return copied
	}
	return value
}

// unique makes an id that no other test has.
func unique() string { return uuid.NewString() }
