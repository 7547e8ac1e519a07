package idempotency_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
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
)

// emulators are AWS for the tests of this package; CARILLON_TEST_DYNAMODB takes another DynamoDB API for one of them.
var emulators struct{ endpoint, dynamodb string }

func TestMain(m *testing.M) { os.Exit(withEmulators(m.Run)) }

func withEmulators(run func() int) int {
	ctx := context.Background()
	say := func(progress string) { fmt.Fprintln(os.Stderr, progress) }
	tools, err := emulator.Install(ctx, filepath.Join("..", "..", ".local"), say)
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

func secretsManager(endpoint string) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(config, func(o *secretsmanager.Options) { o.BaseEndpoint = &endpoint })
}

func dynamoDB(endpoint string) *dynamodb.Client {
	return dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.BaseEndpoint = &endpoint })
}

// deploy makes a stack of its own from the template and returns its name: the emulators are shared.
func deploy(t *testing.T) string {
	t.Helper()
	name := "t" + uuid.NewString()[:8]
	declared, err := template.Load(filepath.Join("..", "..", "template.yaml"), template.Options{
		StackName: name, Region: config.Region, AccountID: "000000000000", Parameters: map[string]string{"ProviderUrl": "https://provider.example.com"},
	})
	require.NoError(t, err)
	clients := stack.Clients{DynamoDB: dynamoDB(emulators.dynamodb), SecretsManager: secretsManager(emulators.endpoint)}
	require.NoError(t, stack.Create(t.Context(), declared, clients, nil))
	return name
}
