// Package apigateway serves functions over HTTP as an API Gateway HTTP API does with payload format 2.0: its routing,
// its event, its reading of answers, its limits and its own error answers.
package apigateway

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"carillon/local/lambda"
)

const (
	// maxBody is API Gateway's limit of a request's body, in bytes.
	maxBody = 10 << 20
	// integrationTimeout is how long API Gateway waits for a function, at most.
	integrationTimeout = 30 * time.Second
)

// Function answers events; a *lambda.Function is one.
type Function interface {
	Invoke(ctx context.Context, payload []byte) ([]byte, error)
	Label() string
}

// Options describe the API.
type Options struct {
	AccountID, APIID string
	// Log takes the access log, a line per request; it must be safe for concurrent use.
	Log func(line string)
}

// API is an http.Handler.
type API struct {
	options Options
	routes  table
}

// New makes the API. It returns an error if API Gateway does not know a path, or a route is declared twice.
func New(routes []Route, options Options) (*API, error) {
	table, err := newTable(routes)
	if err != nil {
		return nil, err
	}
	return &API{options: options, routes: table}, nil
}

// ServeHTTP routes the request to its function. API Gateway's own answers: 404 without a route, 413 above 10 MB of
// body or 6 MB of event, 503 when the function takes 30 seconds or none is free, 500 when it fails.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	requestID := newRequestID()
	w.Header().Set("Apigw-Requestid", requestID)
	route, variables, ok := a.routes.match(r.Method, r.URL.EscapedPath())
	status, label := http.StatusNotFound, "no route"
	if ok {
		label = route.Function.Label()
		status = a.serve(w, r, route, variables, requestID, start)
	} else {
		own(w, status)
	}
	a.options.Log(fmt.Sprintf("%s %s %d %.1f ms %s", r.Method, r.URL.EscapedPath(), status,
		float64(time.Since(start).Microseconds())/1000, label))
}

func (a *API) serve(
	w http.ResponseWriter,
	r *http.Request,
	route Route,
	variables map[string]string,
	requestID string,
	now time.Time,
) int {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return own(w, http.StatusBadRequest)
	}
	if len(body) > maxBody {
		return own(w, http.StatusRequestEntityTooLarge)
	}
	trace := r.Header.Get("X-Amzn-Trace-Id")
	if trace == "" {
		trace = fmt.Sprintf("Root=1-%08x-%s", now.Unix(), randomHex(12))
	}
	payload, err := json.Marshal(a.event(r, route, variables, body, requestID, trace, now))
	if err != nil {
		return own(w, http.StatusInternalServerError)
	}
	timeout := route.Timeout
	if timeout == 0 {
		timeout = integrationTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	raw, err := route.Function.Invoke(ctx, payload)
	if err != nil {
		return own(w, statusOf(err))
	}
	response, err := decodeResponse(raw)
	if err != nil {
		a.options.Log(
			fmt.Sprintf("%s | the answer is not one that API Gateway understands: %v", route.Function.Label(), err),
		)
		return own(w, http.StatusInternalServerError)
	}
	return response.write(w, r.Method)
}

// statusOf says what API Gateway answers when there is no answer of the function's.
func statusOf(err error) int {
	switch {
	case errors.Is(err, lambda.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, lambda.ErrThrottled), errors.Is(err, lambda.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusServiceUnavailable
	}
	return http.StatusInternalServerError
}

// own writes one of API Gateway's own answers.
func own(w http.ResponseWriter, status int) int {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"message":%q}`, http.StatusText(status))
	return status
}

// response is what a function answers in format 2.0.
type response struct {
	StatusCode int
	Headers    map[string]string
	Cookies    []string
	Body       []byte
}

// decodeResponse reads an answer. One without statusCode is itself the body of a 200, as format 2.0 infers.
func decodeResponse(raw []byte) (response, error) {
	var wire struct {
		StatusCode      *json.Number   `json:"statusCode"`
		Headers         map[string]any `json:"headers"`
		Cookies         []string       `json:"cookies"`
		Body            *string        `json:"body"`
		IsBase64Encoded bool           `json:"isBase64Encoded"`
	}
	inferred := response{
		StatusCode: http.StatusOK,
		Headers:    map[string]string{"content-type": "application/json"},
		Body:       raw,
	}
	if !json.Valid(raw) {
		return response{}, errors.New("it is not JSON")
	}
	var members map[string]json.RawMessage
	isObject := json.Unmarshal(raw, &members) == nil
	if !isObject || members["statusCode"] == nil {
		return inferred, nil
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return response{}, err
	}
	if wire.StatusCode == nil {
		return response{}, errors.New("statusCode is null")
	}
	status, err := strconv.Atoi(wire.StatusCode.String())
	if err != nil || status < 100 || status > 599 {
		return response{}, fmt.Errorf("statusCode %s is not an HTTP status", wire.StatusCode)
	}
	res := response{StatusCode: status, Headers: map[string]string{}, Cookies: wire.Cookies}
	for name, value := range wire.Headers {
		switch value.(type) {
		case string, float64, bool:
			res.Headers[name] = fmt.Sprint(value)
		default:
			return response{}, fmt.Errorf("header %s is not a string", name)
		}
	}
	if wire.Body == nil {
		return res, nil
	}
	res.Body = []byte(*wire.Body)
	if wire.IsBase64Encoded {
		if res.Body, err = base64.StdEncoding.DecodeString(*wire.Body); err != nil {
			return response{}, fmt.Errorf("isBase64Encoded is true: %w", err)
		}
	}
	return res, nil
}

func (r response) write(w http.ResponseWriter, method string) int {
	h := w.Header()
	for name, value := range r.Headers {
		if http.CanonicalHeaderKey(name) == "Content-Length" {
			continue // API Gateway counts itself
		}
		h.Set(name, value)
	}
	for _, cookie := range r.Cookies {
		h.Add("Set-Cookie", cookie)
	}
	if h.Get("Content-Type") == "" && len(r.Body) > 0 {
		h.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	if bodyAllowed(r.StatusCode) {
		h.Set("Content-Length", strconv.Itoa(len(r.Body)))
	}
	w.WriteHeader(r.StatusCode)
	if method != http.MethodHead && bodyAllowed(r.StatusCode) {
		_, _ = w.Write(r.Body) // a caller that hung up is not our trouble
	}
	return r.StatusCode
}

func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

func contentLength(body []byte) string { return strconv.Itoa(len(body)) }

// newRequestID looks like API Gateway's: 15 characters and an equals sign.
func newRequestID() string {
	raw := make([]byte, 11)
	_, _ = rand.Read(raw)
	return base64.URLEncoding.EncodeToString(raw)
}

func randomHex(n int) string {
	raw := make([]byte, n)
	_, _ = rand.Read(raw)
	return hex.EncodeToString(raw)
}
