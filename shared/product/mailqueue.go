package product

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

// MailMessage says that a mail is to be sent. One that comes twice finds the mail claimed or sent.
type MailMessage struct {
	RequestID string `json:"requestId"`
	Tries     int    `json:"tries,omitzero"` // how often SES did not take it, for the backoff
}

// MailQueue is the SQS queue that product-mail works through.
type MailQueue struct {
	client *sqs.Client
	url    string
}

// NewMailQueue returns the queue of that URL.
func NewMailQueue(client *sqs.Client, url string) *MailQueue {
	return &MailQueue{client: client, url: url}
}

// Send enqueues a message so that it arrives after delay: whole seconds, at most 15 minutes. It returns SQS's error.
func (q *MailQueue) Send(ctx context.Context, message MailMessage, delay time.Duration) error {
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

var errMailMessage = errors.New("product: a message is not what the mail queue holds")

// DecodeMailMessage reads the body of a message that Send wrote. It returns an error for any other.
func DecodeMailMessage(body string) (MailMessage, error) {
	var m MailMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.RequestID == "" || m.Tries < 0 {
		return MailMessage{}, errMailMessage // without the cause, which quotes the body
	}
	return m, nil
}
