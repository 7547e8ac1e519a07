package local

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
)

// attempts is how often a call is made, as functions make theirs. On a busy machine the SDK now and then closes a
// connection whose answer it is still reading ("use of closed network connection",
// https://github.com/aws/aws-sdk-go-v2/issues/2737), and its usual three attempts have been seen to fail all of them.
const attempts = 8

// AWSConfig reaches the emulators; DynamoDB has an endpoint of its own, see DynamoDB.
func (b *Bundle) AWSConfig() aws.Config {
	return aws.Config{
		Region:           region,
		Credentials:      credentials.NewStaticCredentialsProvider("local", "local", ""),
		BaseEndpoint:     aws.String(b.emulators.AWS),
		RetryMaxAttempts: attempts,
	}
}

// DynamoDB is a client of the bundle's tables.
func (b *Bundle) DynamoDB() *dynamodb.Client {
	return dynamodb.NewFromConfig(
		b.AWSConfig(),
		func(o *dynamodb.Options) { o.BaseEndpoint = aws.String(b.emulators.DynamoDB) },
	)
}

// SecretsManager is a client of the bundle's secrets.
func (b *Bundle) SecretsManager() *secretsmanager.Client {
	return secretsmanager.NewFromConfig(b.AWSConfig())
}

// EventBridge is a client of the emulator's buses and rules. What it publishes is not on /_local/events.
func (b *Bundle) EventBridge() *eventbridge.Client { return eventbridge.NewFromConfig(b.AWSConfig()) }

// SESv2 is a client of the emulator's SES. What it sends is not on /_local/mail.
func (b *Bundle) SESv2() *sesv2.Client { return sesv2.NewFromConfig(b.AWSConfig()) }

// SQS is a client of the bundle's queues.
func (b *Bundle) SQS() *sqs.Client { return sqs.NewFromConfig(b.AWSConfig()) }
