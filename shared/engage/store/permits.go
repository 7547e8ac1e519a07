package store

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/fault"
)

const (
	// permitWindow is as long as a permit can be held: engage-deliver's Timeout. A permit counts in the window that it
	// was taken in and in the one after that, so one that was never given back, because its process died, is forgotten
	// by then.
	permitWindow = 45 * time.Second
	// windows is how many attributes the windows take turns in: this window and the next, and those of a process whose
	// clock is a window ahead; and one that is empty.
	windows = 5
	// hangsAfter is after how many time-outs in a row a tenant's side of the gateway hangs.
	hangsAfter = 3
	// permitRetention is how long an item is kept that nobody uses.
	permitRetention = 24 * time.Hour
)

// Permits bound how many POSTs of one tenant are under way in one lane, whoever sends them, so that a tenant whose side
// of the gateway is slow takes no more than its share of the lane; and while that side hangs, to a single one: that is
// the breaker. An item of the pushes table for each tenant and lane counts them, by windows of time.
type Permits struct {
	pushes *Pushes
	lane   string
	limit  int
}

// NewPermits returns the permits of a lane, of which a tenant has at most limit.
func NewPermits(pushes *Pushes, lane string, limit int) *Permits {
	return &Permits{pushes: pushes, lane: lane, limit: limit}
}

// Permit is the right to send one POST. It must be given back by Return.
type Permit struct {
	key       string
	now, next string // the attributes that count it
}

// Take returns a permit of a tenant's. It returns a fault TooManyRequests if there is none left, or the tenant's side
// of the gateway hangs and another POST is finding out whether it still does; or DynamoDB's error. An SDK that repeats
// a call whose answer was lost may count it twice, until the window after this one is over.
func (p *Permits) Take(ctx context.Context, tenant string, now time.Time) (Permit, error) {
	window := now.UnixMilli() / permitWindow.Milliseconds()
	permit := Permit{
		key: "permits#" + p.lane + "#" + tenant, now: windowAttribute(window), next: windowAttribute(window + 1),
	}
	const some = "(attribute_not_exists(#now) OR #now < :limit) AND (attribute_not_exists(timeouts) OR timeouts < :hangs)"
	const none = "attribute_not_exists(#now) OR #now < :one"
	_, err := p.pushes.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(p.pushes.table),
		Key:                 partKey(permit.key, partPermits),
		UpdateExpression:    aws.String("SET expiresAt = :expires ADD #now :one, #next :one REMOVE #old"),
		ConditionExpression: aws.String("(" + some + ") OR " + none),
		ExpressionAttributeNames: map[string]string{
			"#now": permit.now, "#next": permit.next, "#old": windowAttribute(window - 2),
		},
		ExpressionAttributeValues: dynamo.Item{
			":one":     dynamo.Int(1),
			":limit":   dynamo.Int(p.limit),
			":hangs":   dynamo.Int(hangsAfter),
			":expires": dynamo.EpochSeconds(now.Add(permitRetention)),
		},
	})
	if _, refused := dynamo.ConditionFailed(err); refused {
		return Permit{}, fault.Wrap(fault.TooManyRequests, err)
	}
	return permit, err
}

// Return gives a permit back, and says what the POST came to; engage.NoAnswerYet if none was sent. It returns
// DynamoDB's error: then the permit counts on until its window is over.
func (p *Permits) Return(ctx context.Context, permit Permit, said engage.GatewayAnswer) error {
	update, values := "ADD #now :less, #next :less", dynamo.Item{":less": dynamo.Int(-1)}
	switch said {
	case engage.NoAnswerYet, engage.Unsigned:
	case engage.TimedOut:
		update += ", timeouts :one"
		values[":one"] = dynamo.Int(1)
	default:
		update += " REMOVE timeouts"
	}
	_, err := p.pushes.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(p.pushes.table),
		Key:                       partKey(permit.key, partPermits),
		UpdateExpression:          aws.String(update),
		ConditionExpression:       aws.String("attribute_exists(#now)"),
		ExpressionAttributeNames:  map[string]string{"#now": permit.now, "#next": permit.next},
		ExpressionAttributeValues: values,
		ReturnValues:              types.ReturnValueNone,
	})
	if _, forgotten := dynamo.ConditionFailed(err); forgotten {
		return nil
	}
	return err
}

// windowAttribute is the attribute that counts the permits of a window and of the one before.
func windowAttribute(window int64) string { return fmt.Sprintf("w%d", window%windows) }
