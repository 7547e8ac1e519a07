// Package outbound is the queue of OTT messages between ott-send and ott-deliver. It is a package of its own so that the
// functions that have no queue do not link SQS.
package outbound

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/go-json-experiment/json"
)

// MaxDelay is how long SQS delays a message at most.
const MaxDelay = 15 * time.Minute

// Message says that an OTT message is to be sent. One that comes twice finds the OTT message leased or final. The tries
// so far are counted with the OTT message, so a repeat does not start the backoff anew.
type Message struct {
	Tenant       string `json:"tenant"`
	OttRequestID string `json:"ottRequestId"`
}

// Queue is the SQS queue that ott-deliver works through.
type Queue struct {
	client *sqs.Client
	url    string
}

// NewQueue returns the queue of that URL.
func NewQueue(client *sqs.Client, url string) *Queue { return &Queue{client: client, url: url} }

// Enqueue says that an OTT message is to be sent, once delay has passed, or at MaxDelay if that is sooner. It returns SQS's error.
func (q *Queue) Enqueue(ctx context.Context, tenant, ottRequestID string, delay time.Duration) error {
	body, err := json.Marshal(Message{Tenant: tenant, OttRequestID: ottRequestID})
	if err != nil {
		return err
	}
	_, err = q.client.SendMessage(ctx, &sqs.SendMessageInput{
		QueueUrl:     aws.String(q.url),
		MessageBody:  aws.String(string(body)),
		DelaySeconds: delaySeconds(delay),
	})
	return err
}

// delaySeconds rounds up: a message that comes early goes round the queue once more.
func delaySeconds(delay time.Duration) int32 {
	delay = max(0, min(delay, MaxDelay))
	return int32((delay + time.Second - 1) / time.Second)
}

var errMessage = errors.New("outbound: a message is not what the queue holds")

// Decode reads the body of an SQS message. It returns an error if Enqueue did not write it.
func Decode(body string) (Message, error) {
	var m Message
	if err := json.Unmarshal([]byte(body), &m); err != nil || m.Tenant == "" || m.OttRequestID == "" {
		return Message{}, errMessage
	}
	return m, nil
}
