// Package mailqueue is the queue of activation mails between product-create and product-mail. It is a package of its own so
// that the functions that have no queue do not link SQS.
package mailqueue

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/go-json-experiment/json"
)

// maxDelay is what SQS delays a message at most.
const maxDelay = 15 * time.Minute

// Message says that a mail is to be sent. One that comes twice finds the mail claimed or sent.
type Message struct {
	RequestID string `json:"requestId"`
	Tries     int    `json:"tries,omitzero"` // how often SES did not take it, for the backoff
}

// Queue is the SQS queue that product-mail works through.
type Queue struct {
	client *sqs.Client
	url    string
}

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string) *Queue {
	return &Queue{client: client, url: url}
}

// Enqueue says that a request's mail is to be sent. It returns SQS's error.
func (q *Queue) Enqueue(ctx context.Context, requestID string) error {
	return q.Send(ctx, Message{RequestID: requestID}, 0)
}

// Send enqueues a message so that it arrives after delay: whole seconds, at most 15 minutes. It returns SQS's error.
func (q *Queue) Send(ctx context.Context, message Message, delay time.Duration) error {
	body, err := json.Marshal(message)
	if err != nil {
		return err
	}
	_, err = q.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:     aws.String(q.url),
		MessageBody:  aws.String(string(body)),
		DelaySeconds: int32(max(0, min(delay, maxDelay)) / time.Second),
	})
	return err
}

var errMessage = errors.New("mailqueue: a message is not what the mail queue holds")

// Decode reads the body of a message that Send wrote. It returns an error for any other.
func Decode(body string) (Message, error) {
	var m Message
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.RequestID == "" || m.Tries < 0 {
		return Message{}, errMessage // without the cause, which quotes the body
	}
	return m, nil
}
