package stack_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulator"
	"carillon/local/emulatortest"
	"carillon/local/stack"
	"carillon/local/template"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

// create makes the template's resources and returns the template with them bound.
func create(t *testing.T, text string) (*template.Template, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "template.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	tpl, err := template.Load(
		path,
		template.Options{
			StackName: emulatortest.StackName(),
			Region:    emulatortest.Region,
			AccountID: emulator.AccountID,
		},
	)
	require.NoError(t, err)
	clients := stack.Clients{
		DynamoDB: emulatortest.DynamoDB(), SecretsManager: emulatortest.SecretsManager(), SQS: emulatortest.SQS(),
		EventBridge: emulatortest.EventBridge(), SESv2: emulatortest.SESv2(),
	}
	return tpl, stack.Create(t.Context(), tpl, clients, nil)
}

func TestDeadLettersGoWhereTheTemplateSays(t *testing.T) {
	tpl, err := create(t, `
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties: {VisibilityTimeout: 0, RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 2}}
  Dead: {Type: AWS::SQS::Queue}
`)
	require.NoError(t, err)
	url := func(id string) *string {
		physical, ok := tpl.Bound(id)
		require.True(t, ok, id)
		return aws.String(physical.Ref)
	}
	client := emulatortest.SQS()
	receive := func(id string) []types.Message {
		out, err := client.ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: url(id)})
		require.NoError(t, err)
		return out.Messages
	}
	_, err = client.SendMessage(
		t.Context(),
		&sqs.SendMessageInput{QueueUrl: url("Work"), MessageBody: aws.String("poison")},
	)
	require.NoError(t, err)
	for range 2 {
		require.Len(t, receive("Work"), 1)
	}
	require.Empty(t, receive("Work"))
	dead := receive("Dead")
	require.Len(t, dead, 1)
	assert.Equal(t, "poison", aws.ToString(dead[0].Body))
}

func TestFIFOQueues(t *testing.T) {
	tpl, err := create(t, `
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties:
      FifoQueue: true
      DeduplicationScope: messageGroup
      FifoThroughputLimit: perMessageGroupId
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 1000}
  Dead: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
`)
	require.NoError(t, err)
	physical, ok := tpl.Bound("Work")
	require.True(t, ok)
	out, err := emulatortest.SQS().GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{
		QueueUrl: aws.String(physical.Ref), AttributeNames: []types.QueueAttributeName{types.QueueAttributeNameAll},
	})
	require.NoError(t, err)
	assert.Equal(t, "true", out.Attributes["FifoQueue"])
	assert.Equal(t, "messageGroup", out.Attributes["DeduplicationScope"])
	assert.Equal(t, "perMessageGroupId", out.Attributes["FifoThroughputLimit"])
	assert.Contains(t, out.Attributes["RedrivePolicy"], "-Dead.fifo")
}

func TestDeadLetterQueueMustBeInTheTemplate(t *testing.T) {
	_, err := create(t, `
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: "arn:aws:sqs:us-east-1:000000000000:elsewhere", maxReceiveCount: 2}}
`)
	assert.ErrorContains(
		t,
		err,
		"creating queue Work: its dead-letter queue arn:aws:sqs:us-east-1:000000000000:elsewhere is not in the template",
	)
}
