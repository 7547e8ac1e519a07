package apigateway_test

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/apigateway"
	"carillon/local/lambda"
)

//go:embed testdata/event.json
var eventFixture string

// function answers by itself what a process would.
type function struct {
	name   string
	answer func(ctx context.Context, payload []byte) ([]byte, error)
}

func (f function) Label() string { return f.name }

func (f function) Invoke(ctx context.Context, payload []byte) ([]byte, error) {
	return f.answer(ctx, payload)
}

// named answers its own name and the path variables it was given.
func named(name string) function {
	return function{name, func(_ context.Context, payload []byte) ([]byte, error) {
		var event struct {
			PathParameters map[string]string `json:"pathParameters"`
		}
		if err := json.Unmarshal(payload, &event); err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"function": name, "variables": event.PathParameters})
	}}
}

func serve(t *testing.T, routes ...apigateway.Route) *httptest.Server {
	t.Helper()
	options := apigateway.Options{AccountID: "000000000000", APIID: "local", Log: func(string) {}}
	api, err := apigateway.New(routes, options)
	require.NoError(t, err)
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	return server
}

func call(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.NoError(t, res.Body.Close())
	return res, string(body)
}

func request(t *testing.T, method, url string, body []byte) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	require.NoError(t, err)
	return req
}

func TestRouting(t *testing.T) {
	server := serve(t,
		apigateway.Route{Method: "ANY", Path: "/{proxy+}", Function: named("rest")},
		apigateway.Route{Method: "GET", Path: "/things/{id}", Function: named("one")},
		apigateway.Route{Method: "ANY", Path: "/things/{id}", Function: named("any")},
		apigateway.Route{Method: "GET", Path: "/things/special", Function: named("special")},
		apigateway.Route{Method: "GET", Path: "/things/{id}/{part+}", Function: named("part")},
	)
	for _, c := range []struct{ method, path, function, variables string }{
		{"GET", "/things/special", "special", `null`},
		{"POST", "/things/special", "any", `{"id":"special"}`},
		{"GET", "/things/7", "one", `{"id":"7"}`},
		{"DELETE", "/things/7", "any", `{"id":"7"}`},
		{"GET", "/things/a%2Fb%20c", "one", `{"id":"a/b c"}`},
		{"GET", "/things/7/x/y", "part", `{"id":"7","part":"x/y"}`},
		{"GET", "/things/7/", "rest", `{"proxy":"things/7/"}`},
		{"GET", "/other", "rest", `{"proxy":"other"}`},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			res, body := call(t, request(t, c.method, server.URL+c.path, nil))
			assert.Equal(t, http.StatusOK, res.StatusCode)
			var got struct {
				Function  string
				Variables json.RawMessage
			}
			require.NoError(t, json.Unmarshal([]byte(body), &got), body)
			assert.Equal(t, c.function, got.Function)
			if c.variables == "null" {
				assert.Contains(t, []string{"", "null", "{}"}, string(got.Variables))
				return
			}
			assert.JSONEq(t, c.variables, string(got.Variables))
		})
	}
}

func TestWithoutRouteIsNotFound(t *testing.T) {
	server := serve(t, apigateway.Route{Method: "POST", Path: "/v2/token", Function: named("token")})
	for _, c := range []struct{ method, path string }{{"GET", "/v2/token"}, {"POST", "/v2/token/"}, {"POST", "/"}, {"POST", "/v2//token"}} {
		res, body := call(t, request(t, c.method, server.URL+c.path, nil))
		assert.Equal(t, http.StatusNotFound, res.StatusCode, c.path)
		assert.JSONEq(t, `{"message":"Not Found"}`, body)
		assert.NotEmpty(t, res.Header.Get("Apigw-Requestid"))
	}
}

func TestRoutesThatAPIGatewayDoesNotKnow(t *testing.T) {
	for _, paths := range [][]string{{"/a/{x+}/b"}, {"/{x"}, {"/{}"}, {"/same", "/same"}} {
		var routes []apigateway.Route
		for _, path := range paths {
			routes = append(routes, apigateway.Route{Method: "GET", Path: path, Function: named("x")})
		}
		_, err := apigateway.New(routes, apigateway.Options{Log: func(string) {}})
		assert.Error(t, err, paths)
	}
}

func TestEventHasFormat2(t *testing.T) {
	var payload []byte
	server := serve(t, apigateway.Route{Method: "POST", Path: "/dxp-ux/v1/{businessId}/product", Function: function{"x",
		func(_ context.Context, p []byte) ([]byte, error) {
			payload = p
			return []byte(`{"statusCode":204}`), nil
		}}})
	req := request(t, "POST", server.URL+"/dxp-ux/v1/P%20A/product?a=1&b=x%20y&a=2&flag", []byte(`{"id":"café"`))
	req.Header = http.Header{
		"Content-Type":    {"application/json; charset=utf-8"},
		"User-Agent":      {"fixture/1.0"},
		"Cookie":          {"one=1; two=2"},
		"X-Amzn-Trace-Id": {"Root=1-5e6722a7-cc56xmpl46db7ae02d4da47e"},
		"X-Repeated":      {"first", "second"},
	}
	before := time.Now()
	res, _ := call(t, req)
	assert.Equal(t, http.StatusNoContent, res.StatusCode)

	var got map[string]any
	require.NoError(t, json.Unmarshal(payload, &got))
	context := got["requestContext"].(map[string]any)
	assert.Equal(t, res.Header.Get("Apigw-Requestid"), context["requestId"])
	epoch := int64(context["timeEpoch"].(float64))
	assert.InDelta(t, before.UnixMilli(), epoch, 60_000)
	assert.Equal(t, time.UnixMilli(epoch).UTC().Format("02/Jan/2006:15:04:05 -0700"), context["time"])
	context["timeEpoch"] = 0

	host := strings.TrimPrefix(server.URL, "http://")
	_, port, err := net.SplitHostPort(host)
	require.NoError(t, err)
	want := strings.NewReplacer("HOST", host, "PORT", port,
		"REQUEST", context["requestId"].(string), "TIME", context["time"].(string)).Replace(eventFixture)
	actual, err := json.Marshal(got)
	require.NoError(t, err)
	assert.JSONEq(t, want, string(actual))
}

func TestBodyIsTextOrBase64(t *testing.T) {
	for _, c := range []struct {
		name, contentType, encoding, body string
		base64                            bool
	}{
		{"JSON", "application/json", "", `{"a":1}`, false},
		{"JSON of a vendor", "application/vnd.api+json", "", `{}`, false},
		{"form", "application/x-www-form-urlencoded", "", "a=1", false},
		{"XML", "application/xml", "", "<a/>", false},
		{"text", "text/plain; charset=utf-8", "", "a", false},
		{"gzip", "application/json", "gzip", `{}`, true},
		{"not UTF-8", "application/json", "", "\xff\xfe", true},
		{"binary", "application/octet-stream", "", "abc", true},
		{"no type", "", "", "abc", true},
		{"empty", "application/octet-stream", "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var event struct {
				Body            string
				IsBase64Encoded bool
			}
			server := serve(t, apigateway.Route{Method: "POST", Path: "/", Function: function{"x",
				func(_ context.Context, p []byte) ([]byte, error) { return []byte(`{}`), json.Unmarshal(p, &event) }}})
			req := request(t, "POST", server.URL+"/", []byte(c.body))
			req.Header["Content-Type"] = []string{c.contentType}
			if c.encoding != "" {
				req.Header.Set("Content-Encoding", c.encoding)
			}
			call(t, req)
			assert.Equal(t, c.base64, event.IsBase64Encoded)
			if c.base64 {
				raw, err := base64.StdEncoding.DecodeString(event.Body)
				require.NoError(t, err)
				event.Body = string(raw)
			}
			assert.Equal(t, c.body, event.Body)
		})
	}
}

func TestAnswers(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		err          error
		status       int
		body         string
		header       http.Header
	}{
		{"whole", `{"statusCode":201,"headers":{"location":"/x","content-type":"application/json","x-n":7},"cookies":["a=1","b=2"],"body":"{}"}`, nil,
			201, `{}`, http.Header{"Location": {"/x"}, "Content-Type": {"application/json"}, "X-N": {"7"}, "Set-Cookie": {"a=1", "b=2"}}},
		{"base64", `{"statusCode":200,"body":"aMOp","isBase64Encoded":true}`, nil, 200, "hé", nil},
		{"empty body", `{"statusCode":201}`, nil, 201, "", http.Header{"Content-Length": {"0"}}},
		{"no content", `{"statusCode":204,"body":"ignored"}`, nil, 204, "", nil},
		{"inferred from an object", `{"hello":"world"}`, nil, 200, `{"hello":"world"}`, http.Header{"Content-Type": {"application/json"}}},
		{"inferred from a string", `"hello"`, nil, 200, `"hello"`, nil},
		{"not JSON", `nonsense`, nil, 500, `{"message":"Internal Server Error"}`, nil},
		{"not a status", `{"statusCode":"fine"}`, nil, 500, `{"message":"Internal Server Error"}`, nil},
		{"status out of range", `{"statusCode":42}`, nil, 500, `{"message":"Internal Server Error"}`, nil},
		{"bad base64", `{"statusCode":200,"body":"%","isBase64Encoded":true}`, nil, 500, `{"message":"Internal Server Error"}`, nil},
		{"header of objects", `{"statusCode":200,"headers":{"a":{}}}`, nil, 500, `{"message":"Internal Server Error"}`, nil},
		{"crash", "", lambda.ErrCrashed, 500, `{"message":"Internal Server Error"}`, nil},
		{"function timed out", "", lambda.ErrTimeout, 500, `{"message":"Internal Server Error"}`, nil},
		{"function's own error", "", &lambda.FunctionError{Type: "x"}, 500, `{"message":"Internal Server Error"}`, nil},
		{"anything", "", errors.New("secret"), 500, `{"message":"Internal Server Error"}`, nil},
		{"throttled", "", lambda.ErrThrottled, 503, `{"message":"Service Unavailable"}`, nil},
		{"event too large", "", lambda.ErrTooLarge, 413, `{"message":"Request Entity Too Large"}`, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := serve(t, apigateway.Route{Method: "GET", Path: "/", Function: function{"x",
				func(context.Context, []byte) ([]byte, error) { return []byte(c.answer), c.err }}})
			res, body := call(t, request(t, "GET", server.URL+"/", nil))
			assert.Equal(t, c.status, res.StatusCode)
			assert.Equal(t, c.body, body)
			for name, values := range c.header {
				assert.Equal(t, values, res.Header[name], name)
			}
		})
	}
}

func TestBodyAbove10MB(t *testing.T) {
	server := serve(t, apigateway.Route{Method: "POST", Path: "/", Function: named("x")})
	res, body := call(t, request(t, "POST", server.URL+"/", make([]byte, 10<<20+1)))
	assert.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
	assert.JSONEq(t, `{"message":"Request Entity Too Large"}`, body)
}

func TestIntegrationTimeout(t *testing.T) {
	server := serve(t, apigateway.Route{Method: "GET", Path: "/", Timeout: time.Millisecond, Function: function{"x",
		func(ctx context.Context, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }}})
	res, body := call(t, request(t, "GET", server.URL+"/", nil))
	assert.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
	assert.JSONEq(t, `{"message":"Service Unavailable"}`, body)
}
