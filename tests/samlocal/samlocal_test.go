package samlocal_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/tests/document"
	"carillon/tests/samlocal"
)

const root = "../.."

// call is the invocation of a function with its event.
type call struct {
	event  string // events/<event>.json, and the function's folder
	status int    // 0 for an event that is no request: start-api has nothing to do with it
	body   string // some of it
	grants string // where in the answer a value for later calls stands, and the name that the events have for it
	value  string
	// served is the status through start-api where it must differ, and servedBody some of that answer's body.
	served     int
	servedBody string
}

// calls are calls that a function can answer so only with what it read from, or wrote to, the emulators: a client's
// secret, the signing key, a table. The order matters, for the tokens. A function without a call here is invoked with
// its event behind these, and has to answer.
var calls = []call{
	{
		event:  "oauth-token",
		status: 200,
		body:   `"token_type":"Bearer"`,
		grants: "access_token",
		value:  "ott.token",
	},
	{event: "ott-register", status: 201},
	{event: "ott-list", status: 200, body: `"count":1`},
	{event: "ott-get", status: 200, body: `"pageId":"1732555047025799"`},
	{event: "ott-send", status: 201, grants: "ottRequestId", value: "ott.requestId"},
	{event: "ott-deliver", body: `{"batchItemFailures":`},
	{event: "ott-send-status", status: 200, body: `"event":"Sent"`},
	{event: "ott-callback", status: 200},
	{event: "ott-delete", status: 204},
	{
		event:  "engage-token",
		status: 200,
		body:   `"message":"Success"`,
		grants: "accessToken",
		value:  "engage.token",
	},
	{event: "engage-token-health", status: 200, body: `"message":"Healthy"`},
	{
		event:  "engage-batch",
		status: 200,
		body:   `"response":"success"`,
		grants: "requestId",
		value:  "engage.requestId",
	},
	{event: "engage-status", status: 200, body: `"state":"scheduled"`},
	{event: "engage-schedule", body: `null`},
	{event: "engage-deliver", body: `{"batchItemFailures":`},
	{
		event:      "engage-cancel",
		status:     409,
		body:       `"errorCode":409`, // it was delivered just now
		served:     200,
		servedBody: `"state":"cancelled"`, // it was not
	},
	{
		event: "product-create", status: 201, body: `"status":"created"`,
		served: 401, servedBody: notAuthenticated,
	},
	{event: "product-mail", body: `{"batchItemFailures":`},
	{event: "product-mail-event", body: `{"batchItemFailures":`},
	{
		event:      "product-list",
		status:     200,
		body:       `"id":"8001234567"`,
		served:     401,
		servedBody: notAuthenticated,
	},
	{
		event:      "product-get",
		status:     200,
		body:       `"value":"delivered"`,
		served:     401,
		servedBody: notAuthenticated,
	},
}

// anyStatus is that of a call that nobody has said the answer of.
const anyStatus = -1

// withTheRest adds a call for each function of the template that has none.
func withTheRest(t *testing.T, calls []call) []call {
	t.Helper()
	functions := document.Load(t).Functions(t)
	for name, function := range functions {
		if slices.ContainsFunc(calls, func(c call) bool { return c.event == name }) {
			continue
		}
		rest := call{event: name}
		if len(document.Routes(t, function)) > 0 {
			rest.status = anyStatus
		}
		calls = append(calls, rest)
	}
	return calls
}

// The SAM CLI's server drops headers with an underscore in their name (Werkzeug does), so client_id never arrives.
const notAuthenticated = "The user could not be authenticated for this request."

func TestSAMLocal(t *testing.T) {
	if err := samlocal.Engine(t.Context()); err != nil {
		t.Skipf("SKIPPED, NOT PASSED: sam local needs a Docker engine, and there is none: %v", err)
	}
	say := func(line string) { t.Log(line) }
	path, err := filepath.Abs(root)
	require.NoError(t, err)

	release, err := samlocal.BaseImage(t.Context(), say)
	require.NoError(t, err)
	t.Cleanup(release)
	backend, err := samlocal.NewBackend(t.Context(), path, say)
	require.NoError(t, err)
	t.Cleanup(backend.Close)
	backend.HoldQueues()

	work := t.TempDir()
	output := &log{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what sam said:\n%s", output.String())
		}
	})
	sam := samlocal.CLI{
		Path: samPath(t), Root: path, BuildDir: filepath.Join(work, "build"), EnvVars: filepath.Join(work, "env.json"),
		AWS: backend.AWS, Output: output,
	}
	require.NoError(t, backend.WriteEnvVars(sam.EnvVars))
	require.NoError(t, sam.Build(t.Context()))

	t.Run("invoke", func(t *testing.T) {
		for _, call := range withTheRest(t, calls) {
			file := filepath.Join(work, call.event+".json")
			event, err := local.FillEvent(filepath.Join(path, "events", call.event+".json"), backend.Values)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file, event, 0o600))

			raw, err := sam.Invoke(t.Context(), document.Stem(call.event)+"Function", file)
			require.NoError(t, err, call.event)
			body := string(raw)
			if call.status != 0 {
				var answer struct {
					StatusCode int
					Body       string
				}
				require.NoError(t, json.Unmarshal(raw, &answer), "%s: %s", call.event, raw)
				if call.status == anyStatus {
					assert.Less(t, answer.StatusCode, http.StatusInternalServerError, "%s: %s", call.event, raw)
				} else {
					assert.Equal(t, call.status, answer.StatusCode, "%s: %s", call.event, raw)
				}
				body = answer.Body
			}
			assert.Contains(t, body, call.body, call.event)
			keep(t, backend, call.grants, call.value, body)
			if call.event == "product-create" {
				created, err := samlocal.CreatedProduct(raw)
				require.NoError(t, err)
				maps.Copy(backend.Values, created)
			}
		}
		mails := backend.Mails()
		require.Len(t, mails, 1)
		assert.Equal(t, "abc@gmail.com", mails[0].To)
	})

	t.Run("start-api", func(t *testing.T) {
		api, err := sam.StartAPI(t.Context(), 0)
		require.NoError(t, err)
		t.Cleanup(api.Stop)
		for _, call := range calls {
			if call.status == 0 {
				continue
			}
			raw, err := local.FillEvent(filepath.Join(path, "events", call.event+".json"), backend.Values)
			require.NoError(t, err)
			if call.served != 0 {
				call.status, call.body = call.served, call.servedBody
			}
			status, body := send(t, api.URL, raw)
			assert.Equal(t, call.status, status, "%s: %s", call.event, body)
			assert.Contains(t, body, call.body, call.event)
			keep(t, backend, call.grants, call.value, body)
		}
	})
}

// samPath is the SAM CLI at the version that the Makefile pins; make installs it if need be.
func samPath(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", "--silent", "--no-print-directory", "sam-cli")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err, "make sam-cli")
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

func keep(t *testing.T, backend *samlocal.Backend, member, name, body string) {
	t.Helper()
	if name == "" {
		return
	}
	var answer map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &answer), body)
	value, _ := answer[member].(string)
	require.NotEmpty(t, value, body)
	backend.Values[name] = value
}

// send makes of an event the HTTP request that it stands for.
func send(t *testing.T, base string, raw []byte) (status int, body string) {
	t.Helper()
	var event struct {
		RawPath, RawQueryString, Body string
		Headers                       map[string]string
		RequestContext                struct{ HTTP struct{ Method string } }
	}
	require.NoError(t, json.Unmarshal(raw, &event))
	url := base + event.RawPath
	if event.RawQueryString != "" {
		url += "?" + event.RawQueryString
	}
	req, err := http.NewRequestWithContext(
		t.Context(),
		event.RequestContext.HTTP.Method,
		url,
		strings.NewReader(event.Body),
	)
	require.NoError(t, err)
	for _, name := range []string{"content-type", "authorization", "x-federated-purpose", "client_id", "client_secret", "x-correlation-id", "x-hub-signature-256"} {
		if value, ok := event.Headers[name]; ok {
			req.Header[name] = []string{value}
		}
	}
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { require.NoError(t, res.Body.Close()) }()
	answer, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return res.StatusCode, string(answer)
}

// log keeps what sam says until it is wanted; sam writes to it from another goroutine.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
