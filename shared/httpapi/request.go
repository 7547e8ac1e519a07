// Package httpapi is what every function has in common that API Gateway's HTTP API (payload format 2.0) invokes:
// requests, answers, and the one place where an error becomes an answer and a request becomes a log line.
package httpapi

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"io"
	"mime"
	"net/url"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/google/uuid"

	"carillon/shared/fault"
)

// MaxBody is how large a body may be once decoded, in bytes. Lambda itself takes 6 MB, so only a gzip body can be
// larger.
const MaxBody = 32 << 20

// Request is an HTTP request as API Gateway hands it to a function.
type Request struct {
	ID     string // a UUID, the x-request-id of the answer and the requestId of the log: Lambda's request id
	Method string
	Client string // who asks, for the log; set by whoever authenticates the request

	event   events.APIGatewayV2HTTPRequest
	headers map[string]string // by name in lower case
}

// NewRequest reads an event. The request's id is Lambda's, so that an answer leads to its log lines.
func NewRequest(ctx context.Context, event events.APIGatewayV2HTTPRequest) *Request {
	id := uuid.NewString()
	if lc, ok := lambdacontext.FromContext(ctx); ok {
		if parsed, err := uuid.Parse(lc.AwsRequestID); err == nil {
			id = parsed.String()
		}
	}
	headers := make(map[string]string, len(event.Headers))
	for name, value := range event.Headers {
		headers[strings.ToLower(name)] = value // as API Gateway delivers them already, and sam local does not
	}
	return &Request{ID: id, Method: event.RequestContext.HTTP.Method, event: event, headers: headers}
}

// Header returns a header's value, or "". The name is given in lower case.
func (r *Request) Header(name string) string { return r.headers[name] }

// PathParameter returns the part of the path that a {name} of the route stands for, unescaped.
func (r *Request) PathParameter(name string) string { return r.event.PathParameters[name] }

// QueryParameter returns the first value of a query parameter, or "".
func (r *Request) QueryParameter(name string) string {
	query, err := r.Query()
	if err != nil {
		return ""
	}
	return query.Get(name)
}

// Query returns all values of all query parameters. It returns a fault Malformed if the query is broken anywhere.
func (r *Request) Query() (url.Values, error) {
	query, err := url.ParseQuery(r.event.RawQueryString)
	if err != nil {
		return nil, malformed("the query is not URL-encoded", err)
	}
	return query, nil
}

// RawQuery returns the query as it came, without the ?.
func (r *Request) RawQuery() string { return r.event.RawQueryString }

// Route returns the route that matched, such as "POST /v2/token".
func (r *Request) Route() string { return r.event.RouteKey }

// BaseURL returns the API's own base URL as the caller sees it, without a trailing slash.
func (r *Request) BaseURL() string {
	scheme := "https"
	if r.Header("x-forwarded-proto") == "http" {
		scheme = "http"
	}
	return scheme + "://" + r.event.RequestContext.DomainName
}

// MediaType returns the Content-Type without its parameters, in lower case, or "" if there is none or it is malformed.
func (r *Request) MediaType() string {
	mediaType, _, err := mime.ParseMediaType(r.Header("content-type"))
	if err != nil {
		return ""
	}
	return mediaType
}

// BearerToken returns the token of an Authorization: Bearer header, or "".
func (r *Request) BearerToken() string {
	scheme, token, _ := strings.Cut(r.Header("authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// RawBody returns the body as its sender wrote it: decoded from the event's base64, and from no Content-Encoding. It is
// what a signature over a body is made of. It returns a fault Malformed if the event's base64 is broken.
func (r *Request) RawBody() ([]byte, error) {
	if !r.event.IsBase64Encoded {
		return []byte(r.event.Body), nil
	}
	body, err := base64.StdEncoding.DecodeString(r.event.Body)
	if err != nil {
		return nil, malformed("the body's base64 encoding is broken", err)
	}
	return body, nil
}

// Body returns the body, decoded from base64 and gzip as it is read, at most MaxBody bytes of it: a bomb costs no
// memory. Body and its reader return faults TooLarge, UnsupportedMediaType (an encoding that is not gzip) and
// Malformed.
func (r *Request) Body() (io.Reader, error) { return r.body(MaxBody, "32 MiB") }

// MaxTokenBody is how large the body of a token request may be once decoded, in bytes: what it holds is a few short
// strings.
const MaxTokenBody = 64 << 10

// TokenBody returns the body of a token request, read to its end: at most MaxTokenBody of it, whatever its media type.
// Its faults are those of Body and its reader.
func (r *Request) TokenBody() (io.Reader, error) {
	body, err := r.body(MaxTokenBody, "64 KiB")
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(body)
	return bytes.NewReader(text), err
}

func (r *Request) body(most int64, inWords string) (io.Reader, error) {
	var body io.Reader = strings.NewReader(r.event.Body)
	if r.event.IsBase64Encoded {
		body = base64.NewDecoder(base64.StdEncoding, body)
	}
	switch strings.ToLower(strings.TrimSpace(r.Header("content-encoding"))) {
	case "", "identity":
	case "gzip", "x-gzip":
		unzipped, err := gzip.NewReader(body)
		if err != nil {
			return nil, malformed("the body is not gzip, as its Content-Encoding says", err)
		}
		body = unzipped
	default:
		return nil, fault.New(fault.UnsupportedMediaType, "Content-Encoding must be gzip or absent")
	}
	return &limitedBody{reader: body, left: most, limit: inWords}, nil
}

func malformed(message string, cause error) error {
	return &fault.Error{Code: fault.Malformed, Message: message, Cause: cause}
}

// limitedBody is io.LimitedReader with errors that say what is wrong with the request.
type limitedBody struct {
	reader io.Reader
	left   int64
	limit  string // in words
}

func (b *limitedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.reader.Read(p)
	b.left -= int64(n)
	switch {
	case b.left < 0:
		return 0, fault.New(fault.TooLarge, "the body is larger than "+b.limit+" when decoded")
	case err != nil && err != io.EOF:
		return n, malformed("the body's base64 or gzip encoding is broken", err)
	}
	return n, err
}
