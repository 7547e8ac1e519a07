package otttest

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

// Registry is a stack of its own with its registrations.
type Registry struct {
	*store.Registrations
	Stack   string
	Table   string // of registrations
	Prefix  string // of their secrets
	Items   *dynamodb.Client
	Secrets *secretsmanager.Client
	Clock   *clocktest.Clock
	Log     Log

	t *testing.T
}

// NewRegistry deploys a stack.
func NewRegistry(t *testing.T) *Registry {
	t.Helper()
	stack := emulatortest.Deploy(t)
	r := &Registry{
		t:       t,
		Stack:   stack,
		Table:   stackname.RegistrationsTable(stack),
		Prefix:  stackname.RegistrationSecretPrefix(stack),
		Clock:   clocktest.New(),
		Items:   emulatortest.DynamoDB(),
		Secrets: emulatortest.SecretsManager(),
	}
	r.Registrations = r.Through(r.Items, r.Secrets)
	return r
}

// Through is the registry's store by way of other clients.
func (r *Registry) Through(items *dynamodb.Client, secrets *secretsmanager.Client) *store.Registrations {
	return store.NewRegistrations(items, r.Table, secrets, r.Prefix, r.Clock, r.Log.Logger())
}

// All returns every item of the table.
func (r *Registry) All() []dynamo.Item {
	r.t.Helper()
	out, err := r.Items.Scan(r.t.Context(), &dynamodb.ScanInput{TableName: &r.Table, ConsistentRead: aws.Bool(true)})
	require.NoError(r.t, err)
	return out.Items
}

// Live lists the secrets under the prefix that are not deleted.
func (r *Registry) Live() []string {
	r.t.Helper()
	var names []string
	pages := secretsmanager.NewListSecretsPaginator(r.Secrets, &secretsmanager.ListSecretsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(r.t.Context())
		require.NoError(r.t, err)
		for _, entry := range page.SecretList {
			if strings.HasPrefix(*entry.Name, r.Prefix) && entry.DeletedDate == nil {
				names = append(names, *entry.Name)
			}
		}
	}
	return names
}

// Credentials reads what a secret holds, but for what is former.
func (r *Registry) Credentials(name string) map[string]string {
	r.t.Helper()
	out, err := r.Secrets.GetSecretValue(r.t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	require.NoError(r.t, err)
	var document map[string]any
	require.NoError(r.t, json.Unmarshal([]byte(*out.SecretString), &document))
	texts := map[string]string{}
	for member, value := range document {
		if text, is := value.(string); is {
			texts[member] = text
		}
	}
	return texts
}

// AssertWhole holds the registry to one item, whose secret is the only one there is.
func (r *Registry) AssertWhole() (item dynamo.Item, credentials map[string]string) {
	r.t.Helper()
	items := r.All()
	require.Len(r.t, items, 1)
	name := dynamo.GetString(items[0], "secretName")
	assert.Equal(r.t, []string{name}, r.Live())
	return items[0], r.Credentials(name)
}

// Log keeps what is logged, as JSON. Its zero value is empty; it is safe for concurrent use.
type Log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Logger returns a logger to it.
func (l *Log) Logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all lines.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Metric holds one line of the log to what CloudWatch makes a metric of: a number of that name at the top of the line,
// and beside it the block that says so, in the namespace Carillon and by the one dimension function, which the line has
// too.
func (l *Log) Metric(t *testing.T, name string, value float64) {
	t.Helper()
	for line := range strings.Lines(l.String()) {
		var fields map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &fields))
		if fields[name] != value {
			continue
		}
		var block struct {
			AWS struct {
				Timestamp         int64
				CloudWatchMetrics []struct {
					Namespace  string
					Dimensions [][]string
					Metrics    []struct{ Name, Unit string }
				}
			} `json:"_aws"`
		}
		require.NoError(t, json.Unmarshal([]byte(line), &block))
		require.Len(t, block.AWS.CloudWatchMetrics, 1, line)
		metrics := block.AWS.CloudWatchMetrics[0]
		assert.Positive(t, block.AWS.Timestamp)
		assert.Equal(t, "Carillon", metrics.Namespace)
		assert.Equal(t, [][]string{{"function"}}, metrics.Dimensions)
		assert.NotEmpty(t, fields["function"], "the dimension's value")
		assert.Contains(t, metrics.Metrics, struct{ Name, Unit string }{name, "Count"})
		return
	}
	assert.Failf(t, "no such metric in the log", "%s %v in\n%s", name, value, l)
}
