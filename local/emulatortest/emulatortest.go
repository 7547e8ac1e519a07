// Package emulatortest runs the tests of a package against the emulators of AWS. The tests of a package share the
// emulators, so each deploys a stack of its own.
package emulatortest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/stack"
	"carillon/local/template"
	"carillon/shared/awsconfig"
)

// Region is where the emulators are, as far as they care.
const Region = "us-east-1"

// MailFrom is the address that SES sends mails from in a stack of Deploy's.
const (
	MailFrom     = "activation@" + mailIdentity
	mailIdentity = "mail.example.com"
)

// otherDynamoDB is the environment variable with the endpoint of another DynamoDB API to test against.
const otherDynamoDB = "CARILLON_TEST_DYNAMODB"

// running is what Run started; its endpoints are empty before that.
var running struct{ root, dynamoDB, aws string }

// Main runs the tests with the emulators and ends the process. It is all that a TestMain has to do.
func Main(m *testing.M) { os.Exit(Run(m.Run)) }

// Run runs tests with the emulators, which it installs in the repository's .local where they are missing, and returns
// the exit status: that of tests, or 1, with the reason on standard error, if the emulators do not start.
func Run(tests func() int) int {
	say := func(progress string) { fmt.Fprintln(os.Stderr, progress) }
	set, err := start(context.Background(), say)
	if err != nil {
		say(err.Error())
		return 1
	}
	defer set.Close()
	return tests()
}

func start(ctx context.Context, say func(string)) (*emulator.Set, error) {
	root, err := Repository()
	if err != nil {
		return nil, err
	}
	tools, err := emulator.Install(ctx, filepath.Join(root, ".local"), say)
	if err != nil {
		return nil, err
	}
	set, err := emulator.Start(ctx, tools)
	if err != nil {
		return nil, err
	}
	running.root, running.aws, running.dynamoDB = root, set.AWS, cmp.Or(os.Getenv(otherDynamoDB), set.DynamoDB)
	return set, nil
}

// Repository returns the folder of go.mod: go test starts a test in its package's folder. It returns the file system's
// error.
func Repository() (string, error) {
	folder, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		_, err := os.Stat(filepath.Join(folder, "go.mod"))
		parent := filepath.Dir(folder)
		if err == nil || !errors.Is(err, os.ErrNotExist) || parent == folder {
			return folder, err
		}
		folder = parent
	}
}

// DynamoDBEndpoint is where DynamoDB answers: the emulator, or what CARILLON_TEST_DYNAMODB names instead.
func DynamoDBEndpoint() string { return started(running.dynamoDB) }

// AWSEndpoint is where every other service answers.
func AWSEndpoint() string { return started(running.aws) }

func started(endpoint string) string {
	if endpoint == "" {
		panic("there are no emulators: TestMain must call emulatortest.Main or Run")
	}
	return endpoint
}

var config = awsconfig.New(Region, credentials.NewStaticCredentialsProvider("test", "test", ""))

// DynamoDB returns a client of the emulator.
func DynamoDB() *dynamodb.Client {
	return dynamodb.NewFromConfig(config, func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(DynamoDBEndpoint()) })
}

// DynamoDBAt returns a client of an endpoint that a test made. It tries each call once, so that a test which breaks a
// call sees what its one failure does.
func DynamoDBAt(endpoint string) *dynamodb.Client {
	return dynamodb.NewFromConfig(
		config,
		func(o *dynamodb.Options) { o.BaseEndpoint, o.Retryer = &endpoint, aws.NopRetryer{} },
	)
}

// SecretsManager returns a client of the emulator.
func SecretsManager() *secretsmanager.Client {
	return secretsmanager.NewFromConfig(
		config,
		func(o *secretsmanager.Options) { o.BaseEndpoint = aws.String(AWSEndpoint()) },
	)
}

// SQS returns a client of the emulator.
func SQS() *sqs.Client {
	return sqs.NewFromConfig(config, func(o *sqs.Options) { o.BaseEndpoint = aws.String(AWSEndpoint()) })
}

// SecretsManagerAt returns a client of an endpoint that a test made. It tries each call once, as DynamoDBAt's does.
func SecretsManagerAt(endpoint string) *secretsmanager.Client {
	return secretsmanager.NewFromConfig(
		config,
		func(o *secretsmanager.Options) { o.BaseEndpoint, o.Retryer = &endpoint, aws.NopRetryer{} },
	)
}

// SQSAt returns a client of an endpoint that a test made. It tries each call once, as DynamoDBAt's does.
func SQSAt(endpoint string) *sqs.Client {
	return sqs.NewFromConfig(config, func(o *sqs.Options) { o.BaseEndpoint, o.Retryer = &endpoint, aws.NopRetryer{} })
}

// EventBridge returns a client of the emulator.
func EventBridge() *eventbridge.Client {
	return eventbridge.NewFromConfig(
		config,
		func(o *eventbridge.Options) { o.BaseEndpoint = aws.String(AWSEndpoint()) },
	)
}

// EventBridgeAt returns a client of an endpoint that a test made. It tries each call once, as DynamoDBAt's does.
func EventBridgeAt(endpoint string) *eventbridge.Client {
	return eventbridge.NewFromConfig(
		config,
		func(o *eventbridge.Options) { o.BaseEndpoint, o.Retryer = &endpoint, aws.NopRetryer{} },
	)
}

// SESv2 returns a client of the emulator, which takes mails from MailFrom.
func SESv2() *sesv2.Client {
	return sesv2.NewFromConfig(config, func(o *sesv2.Options) { o.BaseEndpoint = aws.String(AWSEndpoint()) })
}

// SESv2At returns a client of an endpoint that a test made. It tries each call once, as DynamoDBAt's does.
func SESv2At(endpoint string) *sesv2.Client {
	return sesv2.NewFromConfig(
		config,
		func(o *sesv2.Options) { o.BaseEndpoint, o.Retryer = &endpoint, aws.NopRetryer{} },
	)
}

// StackName returns a name that no other test uses. Nothing is deployed under it.
func StackName() string { return "t" + uuid.NewString()[:8] }

// Deploy creates what template.yaml declares (tables, queues, secrets, rules, the mails' configuration set), and
// returns the name of the stack, which no other test uses. SES takes mails from MailFrom then.
func Deploy(t testing.TB) (stackName string) {
	t.Helper()
	clients := stack.Clients{
		DynamoDB: DynamoDB(), SecretsManager: SecretsManager(), SQS: SQS(), EventBridge: EventBridge(), SESv2: SESv2(),
	}
	name := StackName()
	declared, err := template.Load(filepath.Join(running.root, "template.yaml"), template.Options{
		StackName: name, Region: Region, AccountID: emulator.AccountID,
		Parameters: map[string]string{
			"ProviderUrl": "https://provider.example.com", "GatewayUrl": "https://gateway.example.com",
			"MailFrom": MailFrom, "MailIdentity": mailIdentity, "ActivationHosts": "activate.example.com",
		},
	})
	require.NoError(t, err)
	require.NoError(t, stack.Create(t.Context(), declared, clients, nil))
	// Not part of a stack: whoever deploys has it verified before.
	_, err = clients.SESv2.CreateEmailIdentity(
		t.Context(),
		&sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String(mailIdentity)},
	)
	require.NoError(t, err)
	return name
}
