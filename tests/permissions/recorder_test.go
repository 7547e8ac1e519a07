package permissions_test

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/harness"
)

// recorder passes a function's AWS calls on to the emulators and notes what they need.
type recorder struct {
	url string

	mu   sync.Mutex
	seen map[permission]bool
}

func newRecorder(t *testing.T, bundle *harness.Bundle) *recorder {
	t.Helper()
	emulators := bundle.Demo.AWS
	r := &recorder{seen: map[permission]bool{}}
	forwardTo := func(target string) http.Handler {
		u, err := url.Parse(target)
		require.NoError(t, err)
		return &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(u)
			p.Out.Host = p.In.Host // what was signed
		}}
	}
	dynamoDB, others := forwardTo(emulators.DynamoDB), forwardTo(emulators.Endpoint)
	mail, events := forwardTo(bundle.Partners.URL("mail")), forwardTo(bundle.Partners.URL("events"))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		request.Body = io.NopCloser(bytes.NewReader(body))
		service, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
		if strings.HasPrefix(service, "DynamoDB") {
			r.noteTables(operation, body, emulators.Stack)
			dynamoDB.ServeHTTP(w, request)
			return
		}
		if strings.HasPrefix(request.URL.Path, "/v2/email/") { // SES names its operations by their paths
			r.noteMail(t, request, body, emulators.Stack)
			mail.ServeHTTP(w, request)
			return
		}
		switch service {
		case "AmazonSQS":
			r.noteQueue(operation, body, emulators.Stack)
		case "AWSEvents":
			r.noteEvents(t, operation, body, emulators.Stack)
			events.ServeHTTP(w, request)
			return
		default:
			r.noteSecret(operation, body, emulators.Stack)
		}
		others.ServeHTTP(w, request)
	}))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

func (r *recorder) noteTables(operation string, body []byte, stack string) {
	var call struct {
		TableName    string
		IndexName    string
		RequestItems map[string]json.RawMessage
		// What a transaction does, one of Put, Update, Delete and ConditionCheck each: it needs the permissions of
		// those.
		TransactItems []map[string]struct{ TableName string }
	}
	_ = json.Unmarshal(body, &call)
	note := func(operation, table string) {
		resource := logicalID(table, stack) + "Table"
		if call.IndexName != "" {
			resource += "/index/" + call.IndexName
		}
		r.note(permission{"dynamodb:" + operation, resource})
	}
	if call.TableName != "" {
		note(operation, call.TableName)
	}
	for table := range call.RequestItems {
		note(operation, table)
	}
	for _, item := range call.TransactItems {
		for kind, part := range item {
			note(kind+"Item", part.TableName)
		}
	}
}

// logicalID is a table's or queue's, without its type: MailEvent for carillon-mail-event.
func logicalID(name, stack string) string {
	var id strings.Builder
	for part := range strings.SplitSeq(strings.TrimPrefix(name, stack+"-"), "-") {
		id.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return id.String()
}

func (r *recorder) noteMail(t *testing.T, request *http.Request, body []byte, stack string) {
	if request.Method != http.MethodPost || request.URL.Path != "/v2/email/outbound-emails" {
		t.Errorf("no permission is known for %s %s", request.Method, request.URL.Path)
		return
	}
	var call struct{ FromEmailAddress, ConfigurationSetName string }
	assert.NoError(t, json.Unmarshal(body, &call))
	assert.Equal(
		t,
		"activation@mail.example.com",
		call.FromEmailAddress,
		"the only address that the role's condition lets through",
	)
	assert.Equal(t, stack+"-mail", call.ConfigurationSetName)
	r.note(permission{"ses:SendEmail", "identity/MailIdentity"})
	r.note(permission{"ses:SendEmail", "configuration-set/MailConfigurationSet"})
}

func (r *recorder) noteEvents(t *testing.T, operation string, body []byte, stack string) {
	var call struct {
		Entries []struct{ EventBusName string }
	}
	assert.NoError(t, json.Unmarshal(body, &call))
	for _, entry := range call.Entries {
		assert.Equal(t, stack+"-ott", entry.EventBusName)
		r.note(permission{"events:" + operation, "EventBus"})
	}
}

func (r *recorder) noteQueue(operation string, body []byte, stack string) {
	var call struct{ QueueURL string }
	_ = json.Unmarshal(body, &call) // without regard to case: AWS spells it QueueUrl
	// A batch needs the permission of what it is a batch of.
	r.note(
		permission{
			"sqs:" + strings.TrimSuffix(operation, "Batch"),
			logicalID(strings.TrimSuffix(path.Base(call.QueueURL), ".fifo"), stack) + "Queue",
		},
	)
}

func (r *recorder) noteSecret(operation string, body []byte, stack string) {
	var call struct{ SecretID, Name string }
	_ = json.Unmarshal(body, &call) // without regard to case: AWS spells it SecretId
	r.note(permission{"secretsmanager:" + operation, secretResource(call.SecretID+call.Name, stack)})
}

func (r *recorder) note(p permission) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[p] = true
}

// secretResource names a secret as roles below does, from its name or its ARN.
func secretResource(name, stack string) string {
	if _, after, isARN := strings.Cut(name, ":secret:"); isARN {
		name = after
	}
	name = strings.TrimPrefix(name, stack+"/")
	switch {
	case strings.HasPrefix(name, "token-signing-key"):
		return "TokenSigningKeySecret"
	case strings.HasPrefix(name, "gateway-"): // an ARN's random characters follow
		return "GatewaySecret"
	case strings.HasPrefix(name, "provider/"):
		return "ProviderSecret"
	}
	folder, _, _ := strings.Cut(name, "/")
	return folder + "/*"
}

func (r *recorder) permissions() map[permission]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.seen)
}
