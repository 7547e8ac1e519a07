package provision_test

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/stack"
	"carillon/local/template"
	"carillon/provision"
)

// emulators are AWS for the tests of this package; CARILLON_TEST_DYNAMODB takes another DynamoDB API for one of them.
var emulators struct{ endpoint, dynamodb string }

func TestMain(m *testing.M) {
	os.Exit(withEmulators(m.Run))
}

func withEmulators(run func() int) int {
	ctx := context.Background()
	say := func(progress string) { fmt.Fprintln(os.Stderr, progress) }
	tools, err := emulator.Install(ctx, filepath.Join("..", ".local"), say)
	if err != nil {
		say(err.Error())
		return 1
	}
	set, err := emulator.Start(ctx, tools)
	if err != nil {
		say(err.Error())
		return 1
	}
	defer set.Close()
	emulators.endpoint, emulators.dynamodb = set.AWS, cmp.Or(os.Getenv("CARILLON_TEST_DYNAMODB"), set.DynamoDB)
	return run()
}

var config = aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}

// newStack is a name that no other test uses: the emulators are shared.
func newStack() string { return "t" + uuid.NewString()[:8] }

func secretsManager(endpoint string) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) { o.BaseEndpoint = &endpoint })
}

func dynamoDB(endpoint string) *dynamodb.Client {
	return dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint })
}

// deploy creates what the template declares, under a name of its own.
func deploy(t *testing.T) (stackName string) {
	t.Helper()
	stackName = newStack()
	declared, err := template.Load(filepath.Join("..", "template.yaml"), template.Options{
		StackName: stackName, Region: config.Region, AccountID: "000000000000",
		Parameters: map[string]string{"ProviderUrl": "https://provider.example.com"},
	})
	require.NoError(t, err)
	require.NoError(t, stack.Create(t.Context(), declared, stack.Clients{
		DynamoDB: dynamoDB(emulators.dynamodb), SecretsManager: secretsManager(emulators.endpoint),
	}, nil))
	return stackName
}

// newTable makes a content table of its own for a test.
func newTable(t *testing.T) string {
	t.Helper()
	return provision.ContentTable(deploy(t))
}

// between is an AWS endpoint that answers with answer where that answers at all, and else passes on to endpoint.
// answer gets the operation, CreateSecret for instance.
func between(t *testing.T, endpoint string, answer func(operation string, w http.ResponseWriter, r *http.Request) bool) string {
	t.Helper()
	target, err := url.Parse(endpoint)
	require.NoError(t, err)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		if !answer(operation, w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(server.Close)
	return server.URL
}
