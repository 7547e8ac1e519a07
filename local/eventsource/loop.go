package eventsource

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"carillon/local/trace"
)

// maxRounds is how often a function is invoked in one chain of events. AWS says about 16 times.
//
// https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
const maxRounds = 16

// unlooped takes out the messages that would invoke the function once too often in their chain, unless it may be in a
// loop. It returns the others, and the tracing header of their invocation.
func (m *Mapping) unlooped(messages []types.Message) ([]types.Message, trace.Header) {
	var rest []types.Message
	var headers []trace.Header
	for _, message := range messages {
		header := trace.Parse(message.Attributes[string(types.MessageSystemAttributeNameAWSTraceHeader)])
		if !m.config.RecursionAllowed && header.Invocations(m.config.Function.Name()) >= maxRounds {
			if err := m.stopLoop(m.ctx, message); err != nil {
				m.report("a message of a recursive loop comes again later", err)
			}
			continue
		}
		rest, headers = append(rest, message), append(headers, header)
	}
	return rest, trace.Merge(headers...)
}

// stopLoop moves a message to the dead-letter queue, or drops it where there is none.
func (m *Mapping) stopLoop(ctx context.Context, message types.Message) error {
	what := "dropped, for want of a dead-letter queue"
	if m.config.DeadLetterURL != "" {
		what = "moved to the dead-letter queue"
		in := &sqs.SendMessageInput{
			QueueUrl: aws.String(m.config.DeadLetterURL), MessageBody: message.Body,
			MessageAttributes: message.MessageAttributes,
			MessageSystemAttributes: map[string]types.MessageSystemAttributeValue{
				string(types.MessageSystemAttributeNameForSendsAWSTraceHeader): {
					DataType:    aws.String("String"),
					StringValue: aws.String(message.Attributes[string(types.MessageSystemAttributeNameAWSTraceHeader)]),
				},
			},
		}
		if group, ok := message.Attributes[string(types.MessageSystemAttributeNameMessageGroupId)]; ok {
			in.MessageGroupId = aws.String(group)
		}
		if isFIFO(m.config.ARN) { // then its dead-letter queue is one too
			in.MessageDeduplicationId = message.MessageId
		}
		if _, err := m.config.Client.SendMessage(ctx, in); err != nil {
			return err
		}
	}
	m.delete([]types.Message{message})
	m.logf("recursive loop: a message is %s, because it would invoke the function more than %d times in one chain of "+
		"events and its template does not say RecursiveLoop: Allow", what, maxRounds)
	return nil
}

func (m *Mapping) logf(format string, args ...any) {
	m.config.Log(m.config.Function.Label() + " | queue: " + fmt.Sprintf(format, args...))
}
