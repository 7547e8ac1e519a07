package harness

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"carillon/local"
)

// Reply is an answer of the API, read to its end.
type Reply struct {
	Status int
	Header http.Header
	Body   string
	// Took is the time from before the request to the end of the answer.
	Took time.Duration
}

// client follows no redirect and decodes nothing. It waits longer than API Gateway, which gives a function 30 s.
var client = &http.Client{
	Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 32},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Timeout:       35 * time.Second,
}

// Do sends a request as it is. It returns the HTTP client's error, and never ends a test: it is for any goroutine.
func Do(request *http.Request) (Reply, error) {
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		return Reply{}, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return Reply{Status: response.StatusCode, Header: response.Header, Body: string(body), Took: time.Since(start)}, err
}

// Call asks the bundle's API, and fails the test if nothing is answered. A body is JSON unless the headers say
// otherwise.
func (b *Bundle) Call(t testing.TB, method, path, body string, headers map[string]string) Reply {
	t.Helper()
	reply, err := b.Exchange(t.Context(), method, path, body, headers)
	require.NoError(t, err)
	return reply
}

// Exchange is Call for goroutines, which must not end a test: it returns the HTTP client's error.
func (b *Bundle) Exchange(ctx context.Context, method, path, body string, headers map[string]string) (Reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, b.BaseURL+path, strings.NewReader(body))
	if err != nil {
		return Reply{}, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	return Do(request)
}

// Post is Call with POST.
func (b *Bundle) Post(t testing.TB, path, body string, headers map[string]string) Reply {
	t.Helper()
	return b.Call(t, http.MethodPost, path, body, headers)
}

// Ask is Call without a body.
func (b *Bundle) Ask(t testing.TB, method, path string, headers map[string]string) Reply {
	t.Helper()
	return b.Call(t, method, path, "", headers)
}

// RequestID is the x-request-id.
func (r Reply) RequestID() string { return r.Header.Get("X-Request-Id") }

// Object decodes the body, a JSON object. Numbers keep their digits, so that a number is told from a string.
func (r Reply) Object(t testing.TB) map[string]any {
	t.Helper()
	var object map[string]any
	decoder := json.NewDecoder(strings.NewReader(r.Body))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&object), "%d %s", r.Status, r.Body)
	return object
}

// Field is a member of the body, a JSON object, empty if it is no string.
func (r Reply) Field(t testing.TB, name string) string {
	t.Helper()
	return Field(t, r.Body, name)
}

// Field is a member of a JSON object, empty if it is no string.
func Field(t testing.TB, text, name string) string {
	t.Helper()
	var object map[string]any
	require.NoError(t, json.Unmarshal([]byte(text), &object), text)
	value, _ := object[name].(string)
	return value
}

// The paths of the two endpoints that grant tokens.
const (
	OTTTokenPath    = "/v2/token"
	EngageTokenPath = "/federated/content/v2/token"
)

// OTTGrant is the body by which an OTT client asks for a token, for all its scopes if scope is empty.
func OTTGrant(c local.DemoClient, scope string) string {
	grant := map[string]string{
		"grant_type":    "client_credentials",
		"client_id":     c.ClientID,
		"client_secret": c.ClientSecret,
	}
	if scope != "" {
		grant["scope"] = scope
	}
	return text(grant)
}

// EngageGrant is the body by which an ENGAGE client asks for a token.
func EngageGrant(c local.DemoClient) string {
	return text(map[string]string{"clientId": c.ClientID, "clientSecret": c.ClientSecret})
}

// Inform is the header without which ENGAGE grants no token.
func Inform() map[string]string { return map[string]string{"X-Federated-Purpose": "inform"} }

func text(value map[string]string) string {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(err) // strings can be marshalled
	}
	return string(raw)
}

// OTTBearer has a token granted to an OTT client and returns the headers that show it.
func (b *Bundle) OTTBearer(t testing.TB, c local.DemoClient) map[string]string {
	t.Helper()
	return b.bearer(t, OTTTokenPath, OTTGrant(c, ""), "access_token", nil)
}

// EngageBearer has a token granted to an ENGAGE client and returns the headers that show it.
func (b *Bundle) EngageBearer(t testing.TB, c local.DemoClient) map[string]string {
	t.Helper()
	return b.bearer(t, EngageTokenPath, EngageGrant(c), "accessToken", Inform())
}

func (b *Bundle) bearer(t testing.TB, path, body, member string, headers map[string]string) map[string]string {
	t.Helper()
	reply := b.Post(t, path, body, headers)
	require.Equal(t, http.StatusOK, reply.Status, reply.Body)
	token := reply.Field(t, member)
	require.NotEmpty(t, token, reply.Body)
	return map[string]string{"Authorization": "Bearer " + token}
}

// DXPHeaders are a DXP client's credentials, which it sends with each request, under a correlation id if it is not
// empty.
func DXPHeaders(c local.DemoClient, correlationID string) map[string]string {
	headers := map[string]string{"client_id": c.ClientID, "client_secret": c.ClientSecret}
	if correlationID != "" {
		headers["X-Correlation-ID"] = correlationID
	}
	return headers
}

// RegistrationBody registers a Messenger page; version is its name, and in each of its credentials.
func RegistrationBody(pageID, version string) string {
	return fmt.Sprintf(`{"ottPlatformName":"messenger","ottPlatformAttributes":{"applicationId":"1",
		"applicationSecret":"secret %[2]s","pageId":%[1]q,"pageName":%[2]q,"pageAccessToken":"token %[2]s",
		"endpointUrl":"https://graph.facebook.com/me/messages","callbackVerifyToken":"verify","isActive":1}}`,
		pageID, version)
}

// RecipientID is the id of a person who is on an OTT platform, in the form that the platform has: a page-scoped id of
// Messenger's, or a user id of LINE's. A text has one on each of them, and no other text has it.
func RecipientID(platform, text string) string {
	sum := sha256.Sum256([]byte(text))
	if platform == "line" {
		return "U" + hex.EncodeToString(sum[:16])
	}
	return strconv.FormatUint(binary.BigEndian.Uint64(sum[:]), 10)
}
