package apigateway

import (
	"encoding/base64"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// event is the payload of format 2.0, members in the order in which AWS documents them.
type event struct {
	Version               string            `json:"version"`
	RouteKey              string            `json:"routeKey"`
	RawPath               string            `json:"rawPath"`
	RawQueryString        string            `json:"rawQueryString"`
	Cookies               []string          `json:"cookies,omitempty"`
	Headers               map[string]string `json:"headers"`
	QueryStringParameters map[string]string `json:"queryStringParameters,omitempty"`
	PathParameters        map[string]string `json:"pathParameters,omitempty"`
	RequestContext        requestContext    `json:"requestContext"`
	Body                  string            `json:"body,omitempty"`
	IsBase64Encoded       bool              `json:"isBase64Encoded"`
}

type requestContext struct {
	AccountID    string      `json:"accountId"`
	APIID        string      `json:"apiId"`
	DomainName   string      `json:"domainName"`
	DomainPrefix string      `json:"domainPrefix"`
	HTTP         httpContext `json:"http"`
	RequestID    string      `json:"requestId"`
	RouteKey     string      `json:"routeKey"`
	Stage        string      `json:"stage"`
	Time         string      `json:"time"`
	TimeEpoch    int64       `json:"timeEpoch"`
}

type httpContext struct {
	Method    string `json:"method"`
	Path      string `json:"path"`
	Protocol  string `json:"protocol"`
	SourceIP  string `json:"sourceIp"`
	UserAgent string `json:"userAgent"`
}

// logTime is Apache's common log format, which requestContext.time has.
const logTime = "02/Jan/2006:15:04:05 -0700"

func (a *API) event(
	r *http.Request,
	route Route,
	variables map[string]string,
	body []byte,
	requestID, trace string,
	now time.Time,
) event {
	sourceIP, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		sourceIP = r.RemoteAddr
	}
	e := event{
		Version:               "2.0",
		RouteKey:              route.key(),
		RawPath:               r.URL.Path, // AWS hands it on decoded
		RawQueryString:        r.URL.RawQuery,
		Headers:               joined(r.Header),
		QueryStringParameters: query(r.URL.RawQuery),
		PathParameters:        variables,
		RequestContext: requestContext{
			AccountID:    a.options.AccountID,
			APIID:        a.options.APIID,
			DomainName:   r.Host,
			DomainPrefix: strings.Split(r.Host, ".")[0],
			HTTP: httpContext{
				Method:    r.Method,
				Path:      r.URL.Path,
				Protocol:  r.Proto,
				SourceIP:  sourceIP,
				UserAgent: r.UserAgent(),
			},
			RequestID: requestID,
			RouteKey:  route.key(),
			Stage:     "$default",
			Time:      now.UTC().Format(logTime),
			TimeEpoch: now.UnixMilli(),
		},
	}
	for _, line := range r.Header.Values("Cookie") {
		for cookie := range strings.SplitSeq(line, ";") {
			e.Cookies = append(e.Cookies, strings.TrimSpace(cookie))
		}
	}
	// net/http takes these two out of the header.
	e.Headers["host"] = r.Host
	if len(body) > 0 {
		e.Headers["content-length"] = contentLength(body)
	}
	// The front adds these; what a caller claims about itself precedes.
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil {
		port = "80"
	}
	e.Headers["x-forwarded-proto"] = "http"
	e.Headers["x-forwarded-port"] = port
	e.Headers["x-forwarded-for"] = strings.TrimPrefix(e.Headers["x-forwarded-for"]+", "+sourceIP, ", ")
	e.Headers["x-amzn-trace-id"] = trace
	if textual(r.Header, body) {
		e.Body = string(body)
	} else {
		e.Body, e.IsBase64Encoded = base64.StdEncoding.EncodeToString(body), true
	}
	return e
}

// joined lower-cases the names and joins repeated headers with a comma; cookies travel elsewhere.
func joined(header http.Header) map[string]string {
	headers := map[string]string{}
	for name, values := range header {
		if name != "Cookie" {
			headers[strings.ToLower(name)] = strings.Join(values, ",")
		}
	}
	return headers
}

// query decodes the parameters and joins repeated ones with a comma, in the order sent.
func query(raw string) map[string]string {
	var parameters map[string]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if parameters == nil {
			parameters = map[string]string{}
		}
		if earlier, ok := parameters[name]; ok {
			value = earlier + "," + value
		}
		parameters[name] = value
	}
	return parameters
}

func unescape(s string) string {
	plain, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return plain
}

// textual tells whether API Gateway hands the body on as text.
func textual(header http.Header, body []byte) bool {
	if len(body) == 0 {
		return true
	}
	if header.Get("Content-Encoding") != "" || !utf8.Valid(body) {
		return false
	}
	contentType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		contentType, _, _ = strings.Cut(header.Get("Content-Type"), ";")
		contentType = strings.ToLower(strings.TrimSpace(contentType))
	}
	switch contentType {
	case "application/json", "application/xml", "application/javascript", "application/x-www-form-urlencoded":
		return true
	}
	return strings.HasPrefix(contentType, "text/") ||
		strings.HasSuffix(contentType, "+json") || strings.HasSuffix(contentType, "+xml")
}
