package eventsource

import (
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
)

// event is what Lambda hands to a function for a batch of messages.
type event struct {
	Records []record `json:"Records"`
}

type record struct {
	MessageID              string                      `json:"messageId"`
	ReceiptHandle          string                      `json:"receiptHandle"`
	Body                   string                      `json:"body"`
	Attributes             map[string]string           `json:"attributes"`
	MessageAttributes      map[string]messageAttribute `json:"messageAttributes"`
	MD5OfMessageAttributes string                      `json:"md5OfMessageAttributes,omitempty"`
	MD5OfBody              string                      `json:"md5OfBody"`
	EventSource            string                      `json:"eventSource"`
	EventSourceARN         string                      `json:"eventSourceARN"`
	AWSRegion              string                      `json:"awsRegion"`
}

// messageAttribute is one that the sender named; a BinaryValue is base64 in JSON.
type messageAttribute struct {
	StringValue      *string  `json:"stringValue,omitempty"`
	BinaryValue      []byte   `json:"binaryValue,omitempty"`
	StringListValues []string `json:"stringListValues"`
	BinaryListValues []string `json:"binaryListValues"`
	DataType         string   `json:"dataType"`
}

// encodeEvent makes the function's payload of messages of the queue with this ARN.
func encodeEvent(queueARN string, messages []types.Message) ([]byte, error) {
	region := ""
	if parts := strings.Split(queueARN, ":"); len(parts) > 3 {
		region = parts[3]
	}
	e := event{Records: make([]record, len(messages))}
	for i, m := range messages {
		attributes := make(map[string]messageAttribute, len(m.MessageAttributes))
		for name, a := range m.MessageAttributes {
			attributes[name] = messageAttribute{
				StringValue: a.StringValue, BinaryValue: a.BinaryValue,
				StringListValues: []string{}, BinaryListValues: []string{}, DataType: aws.ToString(a.DataType),
			}
		}
		system := m.Attributes
		if system == nil {
			system = map[string]string{}
		}
		e.Records[i] = record{
			MessageID: aws.ToString(
				m.MessageId,
			),
			ReceiptHandle:          aws.ToString(m.ReceiptHandle),
			Body:                   aws.ToString(m.Body),
			Attributes:             system,
			MessageAttributes:      attributes,
			MD5OfMessageAttributes: aws.ToString(m.MD5OfMessageAttributes),
			MD5OfBody:              aws.ToString(m.MD5OfBody),
			EventSource:            "aws:sqs",
			EventSourceARN:         queueARN,
			AWSRegion:              region,
		}
	}
	return json.Marshal(e)
}

// succeeded returns the messages to delete after an invocation that returned this response, as Lambda reads it when the
// mapping has ReportBatchItemFailures: a response without failures is a success of all; one that it cannot read, or
// that names no message of the batch, is a failure of all, and ok is false.
func succeeded(response []byte, messages []types.Message) (done []types.Message, ok bool) {
	var answer struct {
		BatchItemFailures []struct {
			ItemIdentifier *string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	}
	if len(response) > 0 && json.Unmarshal(response, &answer) != nil {
		return nil, false
	}
	failed := map[string]bool{}
	for _, failure := range answer.BatchItemFailures {
		failed[aws.ToString(failure.ItemIdentifier)] = true
	}
	for _, m := range messages {
		if id := aws.ToString(m.MessageId); failed[id] {
			delete(failed, id)
		} else {
			done = append(done, m)
		}
	}
	if len(failed) > 0 {
		return nil, false
	}
	return done, true
}
