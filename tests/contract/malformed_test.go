package contract_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"carillon/shared/httpapi"
	"carillon/tests/harness"
)

// posting is an endpoint that takes a body, and what its contract has for bodies that nobody can read.
type posting struct {
	endpoint endpoint
	valid    func(t *testing.T) string   // a body that succeeds, once
	headers  func(t *testing.T) []string // of a request that succeeds, once
	success  int
	limit    int // how large the body may be once decoded, in bytes; 0 is 32 MiB
	// requireMalformed checks the refusal of a body that is not JSON, requireRefused that of status 413 or 415.
	requireMalformed func(t *testing.T, a answer)
	requireRefused   func(t *testing.T, a answer, status int)
}

func postings() map[string]posting {
	return map[string]posting{
		"POST /v2/token": {
			endpoint: ottToken, success: 200, limit: httpapi.MaxTokenBody,
			valid:   func(t *testing.T) string { return ottCredentials().text(t) },
			headers: func(*testing.T) []string { return nil },
			requireMalformed: func(t *testing.T, a answer) {
				require.Equal(t, 400, a.Status, "%s", a.Body)
				require.Equal(t, "invalid_request", a.Object(t)["error"])
			},
			requireRefused: func(t *testing.T, a answer, status int) {
				require.Equal(t, status, a.Status, "%s", a.Body)
				require.Equal(t, "invalid_request", a.Object(t)["error"])
			},
		},
		"POST /ott/v1/registration": {
			endpoint: registration, success: 201,
			valid: func(t *testing.T) string { return messengerPage().text(t) },
			headers: func(t *testing.T) []string {
				return []string{"Authorization", ottBearer(t, bundle.Demo.OTT, "")}
			},
			requireMalformed: func(t *testing.T, a answer) {
				require.Equal(t, 400, a.Status, "%s", a.Body)
				body := a.Object(t)
				require.EqualValues(t, malformed, number(t, body["errorcode"]))
				require.NotContains(t, body, "validationErrors")
			},
			requireRefused: func(t *testing.T, a answer, status int) {
				require.Equal(t, status, a.Status, "%s", a.Body) // 415 has no body: openapi.yaml knows
			},
		},
		"POST /ott/v1/send": {
			endpoint: ottSend, success: 201,
			valid: func(t *testing.T) string { return newPage(t).hello().text(t) },
			headers: func(t *testing.T) []string {
				return []string{"Authorization", ottBearer(t, bundle.Demo.OTT, "")}
			},
			requireMalformed: func(t *testing.T, a answer) {
				require.Equal(t, 400, a.Status, "%s", a.Body)
				body := a.Object(t)
				require.EqualValues(t, malformed, number(t, body["errorcode"]))
				require.NotContains(t, body, "validationErrors")
			},
			requireRefused: func(t *testing.T, a answer, status int) {
				require.Equal(t, status, a.Status, "%s", a.Body) // 415 has no body: openapi.yaml knows
			},
		},
		"POST /federated/content/v2/token": {
			endpoint: engageToken, success: 200, limit: httpapi.MaxTokenBody,
			valid:            func(*testing.T) string { return harness.EngageGrant(bundle.Demo.Engage.DemoClient) },
			headers:          func(*testing.T) []string { return []string{"X-Federated-Purpose", "inform"} },
			requireMalformed: func(t *testing.T, a answer) { requireEngageRefusal(t, a, 500) },
			requireRefused:   requireEngageRefusal,
		},
		"POST /federated/outbound/v2/batch": {
			endpoint: demoProgram(), success: 200,
			valid: func(t *testing.T) string { return demoBatch().text(t) },
			headers: func(t *testing.T) []string {
				return []string{"Authorization", engageBearer(t, bundle.Demo.Engage.DemoClient)}
			},
			requireMalformed: func(t *testing.T, a answer) { requireBatchError(t, a, 400) },
			requireRefused:   requireBatchError,
		},
		"POST /dxp-ux/v1/{businessId}/product": {
			endpoint: inPanama(), success: 201,
			valid:   func(t *testing.T) string { return demoProduct().text(t) },
			headers: func(*testing.T) []string { return productHeaders(bundle.Demo.Product.DemoClient, unique()) },
			requireMalformed: func(t *testing.T, a answer) {
				requireProductErrors(t, a, 400, productFault{Code: 400, Message: "APIKIT:BAD_REQUEST"})
			},
			requireRefused: func(t *testing.T, a answer, status int) {
				require.Equal(t, status, a.Status, "%s", a.Body)
				if status == 415 {
					requireProductErrors(t, a, 415, productFault{Code: 415, Message: "APIKIT:UNSUPPORTED_MEDIA_TYPE"})
				}
			},
		},
	}
}

// isTooLarge reports whether a body is over the endpoint's own limit, before anybody looks at what it holds.
func (p posting) isTooLarge(size int) bool { return p.limit > 0 && size > p.limit }

func requireBatchError(t *testing.T, a answer, status int) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	requireNotPushed(t, a, status, a.Object(t)["response"].(string), pushFailed)
}

// docs/contract.md, common: JSON objects, UTF-8, trailing data refused; each API's own error, and the function goes on.
func TestBodyThatIsNotTheJSONAskedFor(t *testing.T) {
	t.Parallel()
	front := func(member string) func(string) string {
		return func(valid string) string { return strings.Replace(valid, "{", "{"+member+",", 1) }
	}
	for endpointName, p := range postings() {
		for name, spoil := range map[string]func(valid string) string{
			"empty":                       func(string) string { return "" },
			"white space":                 func(string) string { return " \r\n\t" },
			"text":                        func(string) string { return "this is not JSON" },
			"a form":                      func(string) string { return "clientId=x&clientSecret=y" },
			"XML":                         func(string) string { return "<a>b</a>" },
			"cut off":                     func(valid string) string { return valid[:len(valid)-1] },
			"cut off in a text":           func(valid string) string { return valid[:3] },
			"single quotes":               func(valid string) string { return strings.ReplaceAll(valid, `"`, `'`) },
			"a trailing comma":            func(valid string) string { return valid[:len(valid)-1] + ",}" },
			"a comment":                   func(valid string) string { return "/* */" + valid },
			"NaN":                         front(`"n":NaN`),
			"a number with a leading 0":   front(`"n":01`),
			"a control character":         front("\"n\":\"\x00\""),
			"an array":                    func(valid string) string { return "[" + valid + "]" },
			"a text in JSON":              func(string) string { return `"text"` },
			"a number":                    func(string) string { return "5" },
			"a number without end":        func(string) string { return strings.Repeat("9", 400) },
			"a huge number":               func(string) string { return "1e400" },
			"a boolean":                   func(string) string { return "true" },
			"null":                        func(string) string { return "null" },
			"arrays 100,000 deep":         front(`"n":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)),
			"arrays 100,000 deep, open":   func(string) string { return strings.Repeat("[", 100_000) },
			"objects 100,000 deep":        front(`"n":` + strings.Repeat(`{"n":`, 100_000) + "1" + strings.Repeat("}", 100_000)),
			"objects 100,000 deep, open":  func(string) string { return strings.Repeat(`{"n":`, 100_000) },
			"a member twice":              front(`"twice":1,"twice":2`),
			"a member twice, escaped":     front(`"twice":1,"tw\u0069ce":2`),
			"a member twice further down": front(`"n":{"a":[{"twice":1,"twice":2}]}`),
			"a known member twice":        func(valid string) string { return valid[:len(valid)-1] + "," + valid[1:] },
			"invalid UTF-8":               front("\"n\":\"\xff\""),
			"invalid UTF-8 in a name":     front("\"\xc3\x28\":1"),
			"overlong UTF-8":              front("\"n\":\"\xc0\xaf\""),
			"half a surrogate pair":       front(`"n":"\ud800"`),
			"two byte order marks":        func(valid string) string { return "\ufeff\ufeff" + valid },
			"300,000 members":             func(valid string) string { return "{" + manyMembers(300_000) + valid[1:] },
			"Latin-1":                     front("\"n\":\"Panam\xe1\""),
			"UTF-16":                      func(valid string) string { return "\xff\xfe" + strings.Join(strings.Split(valid, ""), "\x00") + "\x00" },
			"trailing text":               func(valid string) string { return valid + "x" },
			"a second object":             func(valid string) string { return valid + valid },
			"a second object on a line":   func(valid string) string { return valid + "\n{}" },
			"a trailing bracket":          func(valid string) string { return valid + "}" },
			"a trailing zero byte":        func(valid string) string { return valid + "\x00" },
		} {
			t.Run(endpointName+" "+name, func(t *testing.T) {
				t.Parallel()
				body := spoil(p.valid(t))
				a := send(t, p.endpoint, body, p.headers(t)...)
				if p.isTooLarge(len(body)) {
					p.requireRefused(t, a, 413)
					return
				}
				p.requireMalformed(t, a)
			})
		}
	}
}

// contract.md, common: Content-Encoding: gzip is accepted, at most 32 MiB decoded → 413, an encoding we don't know →
// 415.
func TestBodyInAnEncoding(t *testing.T) {
	t.Parallel()
	const ok, broken, large = 0, -1, -2 // what an encoding is answered, if it is no status
	for endpointName, p := range postings() {
		for name, test := range map[string]struct {
			encoding string
			encode   func(valid string) string
			expected int
		}{
			"gzip":                          {"gzip", zipped, ok},
			"GZIP":                          {"GZIP", zipped, ok},
			"gzip in two members":           {"gzip", func(valid string) string { return zipped(valid[:9]) + zipped(valid[9:]) }, ok},
			"gzip of 31 MiB":                {"gzip", func(valid string) string { return zippedPadded(valid, 31) }, large},
			"identity, in base64":           {"identity", func(valid string) string { return valid }, ok},
			"gzip that is none":             {"gzip", func(valid string) string { return valid }, broken},
			"gzip that is empty":            {"gzip", func(string) string { return "" }, broken},
			"gzip of nothing":               {"gzip", func(string) string { return zipped("") }, broken},
			"gzip of what is not JSON":      {"gzip", func(string) string { return zipped("not JSON") }, broken},
			"gzip of gzip":                  {"gzip", func(valid string) string { return zipped(zipped(valid)) }, broken},
			"gzip cut off":                  {"gzip", func(valid string) string { z := zipped(valid); return z[:len(z)-12] }, broken},
			"gzip without its checksum":     {"gzip", func(valid string) string { z := zipped(valid); return z[:len(z)-8] }, broken},
			"gzip with a wrong checksum":    {"gzip", func(valid string) string { z := []byte(zipped(valid)); z[len(z)-5] ^= 1; return string(z) }, broken},
			"gzip with a wrong byte":        {"gzip", func(valid string) string { z := []byte(zipped(valid)); z[12] ^= 0xff; return string(z) }, broken},
			"gzip with trailing data":       {"gzip", func(valid string) string { return zipped(valid) + "trailing" }, broken},
			"gzip with a second object":     {"gzip", func(valid string) string { return zipped(valid) + zipped("{}") }, broken},
			"gzip of 32 MiB and more":       {"gzip", func(valid string) string { return zippedPadded(valid, 32) }, 413},
			"gzip bomb":                     {"gzip", func(string) string { return bomb() }, 413},
			"br":                            {"br", zipped, 415},
			"deflate":                       {"deflate", zipped, 415},
			"an encoding that is none":      {"rot13", func(valid string) string { return valid }, 415},
			"two encodings":                 {"gzip, gzip", func(valid string) string { return zipped(zipped(valid)) }, 415},
			"an unknown encoding, no JSON":  {"br", func(string) string { return "not JSON" }, 415},
			"an unknown encoding, no bytes": {"br", func(string) string { return "" }, 415},
		} {
			t.Run(endpointName+" "+name, func(t *testing.T) {
				t.Parallel()
				a := send(
					t,
					p.endpoint,
					test.encode(p.valid(t)),
					append(p.headers(t), "Content-Encoding", test.encoding)...)
				switch {
				case test.expected == large && p.isTooLarge(31*mebibyte):
					p.requireRefused(t, a, 413)
				case test.expected == ok, test.expected == large:
					require.Equal(t, p.success, a.Status, "%s", a.Body)
				case test.expected == broken:
					p.requireMalformed(t, a)
				default:
					p.requireRefused(t, a, test.expected)
				}
			})
		}
	}
}

// docs/contract.md, common: unknown members are ignored, whatever they hold; white space may follow.
func TestBodyWithMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	for endpointName, p := range postings() {
		for name, extend := range map[string]func(valid string) string{
			"white space around":        func(valid string) string { return "\n\t " + valid + "\r\n" },
			"a byte order mark":         func(valid string) string { return "\ufeff" + valid },
			"an unknown member of 4 MB": func(valid string) string { return padded(valid, 4_000_000) },
			"100,000 unknown members":   func(valid string) string { return strings.Replace(valid, "{", "{"+manyMembers(100_000), 1) },
			"an unknown list of 1,000,000": func(valid string) string {
				return strings.Replace(valid, "{", `{"n":[`+strings.Repeat("1,", 999_999)+"1],", 1)
			},
			"an unknown number of 400":   func(valid string) string { return strings.Replace(valid, "{", `{"n":`+strings.Repeat("9", 400)+",", 1) },
			"an unknown number of 1e400": func(valid string) string { return strings.Replace(valid, "{", `{"n":[1e400,-1e-400],`, 1) },
			"an unknown object 1,000 deep": func(valid string) string {
				return strings.Replace(valid, "{", `{"n":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+",", 1)
			},
			"unknown members in any script": func(valid string) string {
				return strings.Replace(valid, "{", `{"名前":"鐘","😀":"\ud83d\ude00",`, 1)
			},
		} {
			t.Run(endpointName+" "+name, func(t *testing.T) {
				t.Parallel()
				body := extend(p.valid(t))
				a := send(t, p.endpoint, body, p.headers(t)...)
				if p.isTooLarge(len(body)) {
					p.requireRefused(t, a, 413)
					return
				}
				require.Equal(t, p.success, a.Status, "%s", a.Body)
			})
		}
	}
}

func manyMembers(count int) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, `"unknown%x":0,`, i)
	}
	return b.String()
}

// A function that was sent rubbish serves the next request.
func TestFunctionSurvivesBadBodies(t *testing.T) {
	t.Parallel()
	for endpointName, p := range postings() {
		t.Run(endpointName, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{"", "{", strings.Repeat("[", 50_000), "\xff"} {
				p.requireMalformed(t, send(t, p.endpoint, body, p.headers(t)...))
			}
			p.requireRefused(t, send(t, p.endpoint, bomb(), append(p.headers(t), "Content-Encoding", "gzip")...), 413)
			a := send(t, p.endpoint, p.valid(t), p.headers(t)...)
			require.Equal(t, p.success, a.Status, "%s", a.Body)
		})
	}
}
