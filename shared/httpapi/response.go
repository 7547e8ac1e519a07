package httpapi

import (
	"github.com/aws/aws-lambda-go/events"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Response is an answer. Header names are in lower case.
type Response struct {
	Status int
	Header map[string]string
	Body   string
}

// Empty returns an answer without a body.
func Empty(status int) *Response {
	return &Response{Status: status, Header: map[string]string{}}
}

// JSON returns an answer with v as its JSON body. It panics if v cannot be marshalled, which no value of Carillon's own
// types does.
func JSON(status int, v any) *Response {
	body, err := json.Marshal(v, jsontext.EscapeForHTML(false))
	if err != nil {
		panic(err)
	}
	return &Response{Status: status, Header: map[string]string{"content-type": "application/json"}, Body: string(body)}
}

// With sets a header and returns the answer.
func (r *Response) With(name, value string) *Response {
	if r.Header == nil {
		r.Header = map[string]string{}
	}
	r.Header[name] = value
	return r
}

func (r *Response) event() events.APIGatewayV2HTTPResponse {
	return events.APIGatewayV2HTTPResponse{StatusCode: r.Status, Headers: r.Header, Body: r.Body}
}
