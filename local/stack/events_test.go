package stack_test

import (
	"encoding/json"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/local/template"
)

func TestRulesSendWhatMatches(t *testing.T) {
	tpl, err := create(t, `
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: !Sub "${AWS::StackName}-bus"}}
  Queue: {Type: AWS::SQS::Queue}
  OnItsBus:
    Type: AWS::Events::Rule
    Properties:
      EventBusName: !Ref Bus
      EventPattern: {source: [carillon.test], detail: {urgent: [true], at: [{numeric: [">", 5]}]}}
      Targets: [{Id: queue, Arn: !GetAtt Queue.Arn}]
  OnTheDefaultBus:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [aws.ses], detail: {mail: {tags: {"ses:configuration-set": [!Ref AWS::StackName]}}}}
      Targets: [{Id: queue, Arn: !GetAtt Queue.Arn}]
  Disabled:
    Type: AWS::Events::Rule
    Properties:
      State: DISABLED
      EventBusName: !GetAtt Bus.Arn
      EventPattern: {source: [carillon.test]}
      Targets: [{Id: queue, Arn: !GetAtt Queue.Arn}]
`)
	require.NoError(t, err)
	queue, ok := tpl.Bound("Queue")
	require.True(t, ok)
	buses, err := tpl.EventBuses()
	require.NoError(t, err)
	bus, stack := buses[0].Name, buses[0].Name[:len(buses[0].Name)-len("-bus")]

	for _, c := range []struct {
		name, bus, source, detail string
		want                      int
	}{
		{"match", bus, "carillon.test", `{"urgent":true,"at":6}`, 1},
		{"another source", bus, "carillon.other", `{"urgent":true,"at":6}`, 0},
		{"a string that looks like a boolean", bus, "carillon.test", `{"urgent":"true","at":6}`, 0},
		{"a number too small", bus, "carillon.test", `{"urgent":true,"at":5}`, 0},
		{"another bus", "default", "carillon.test", `{"urgent":true,"at":6}`, 0},
		{"one of a tag's values", "default", "aws.ses", `{"mail":{"tags":{"ses:configuration-set":["` + stack + `"]}}}`, 1},
		{"another tag", "default", "aws.ses", `{"mail":{"tags":{"ses:configuration-set":["other"]}}}`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := emulatortest.EventBridge().
				PutEvents(t.Context(), &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{
					{
						EventBusName: aws.String(c.bus),
						Source:       aws.String(c.source),
						DetailType:   aws.String("Test"),
						Detail:       aws.String(c.detail),
					},
				}})
			require.NoError(t, err)
			require.Zero(t, out.FailedEntryCount)
			received, err := emulatortest.SQS().
				ReceiveMessage(t.Context(), &sqs.ReceiveMessageInput{QueueUrl: aws.String(queue.Ref), MaxNumberOfMessages: 10})
			require.NoError(t, err)
			require.Len(t, received.Messages, c.want)
			if c.want == 0 {
				return
			}
			var event map[string]any
			require.NoError(t, json.Unmarshal([]byte(aws.ToString(received.Messages[0].Body)), &event))
			detail, err := json.Marshal(event["detail"])
			require.NoError(t, err)
			assert.JSONEq(t, c.detail, string(detail))
			assert.Equal(t, "Test", event["detail-type"])
			assert.Equal(t, "000000000000", event["account"])
		})
	}
}

func TestConfigurationSets(t *testing.T) {
	tpl, err := create(t, `
Resources: {Mails: {Type: AWS::SES::ConfigurationSet, Properties: {Name: !Sub "${AWS::StackName}-mail"}}}
`)
	require.NoError(t, err)
	sets, err := tpl.ConfigurationSets()
	require.NoError(t, err)
	assert.Equal(t, []template.ConfigurationSet{{LogicalID: "Mails", Name: sets[0].Name}}, sets)
	_, err = emulatortest.SESv2().
		CreateConfigurationSet(t.Context(), &sesv2.CreateConfigurationSetInput{ConfigurationSetName: aws.String(sets[0].Name)})
	assert.ErrorContains(t, err, "already exists", "the emulator can neither list sets nor describe one")
}
