// Package permits bounds how many calls to one side of a partner are under way, whoever makes them, so that a side that
// is slow takes no more than its share of a function's processes, and none while it is in trouble but the one that
// finds out whether it still is: a bulkhead and a circuit breaker. Processes share nothing but DynamoDB, so an item for
// each side counts: two write units a call.
package permits

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/sanitize"
)

const (
	// windows is how many attributes the windows take turns in: this window and the next, and those of a process whose
	// clock is a window ahead; and one that is empty.
	windows = 5
	// opensAfter is after how many troubles in a row a side is called one call at a time.
	opensAfter = 3
	// retention is how long an item is kept that nobody uses.
	retention = 24 * time.Hour
)

// Share is how many of a function's invocations one side may have at most: 60 %, and one at least.
func Share(invocations int) int { return max(1, invocations*6/10) }

// Pool is the permits of all sides of one kind. It is safe for concurrent use.
type Pool struct {
	Client *dynamodb.Client
	Table  string // its time to live is expiresAt
	// Key is the key of a side's item.
	Key func(side string) dynamo.Item
	// Limit is how many calls to a side are under way at most.
	Limit int
	// Window is as long as a permit can be held: the function's Timeout, at least. A permit counts in the window that
	// it was taken in and in the one after that, so one that was never given back, because its process died, is
	// forgotten by then.
	Window time.Duration
}

// Permit is the right to make one call. It must be given back by Return.
type Permit struct {
	// Troubles is how many calls in a row came to trouble before this one.
	Troubles  int
	held      bool // there may be some that wait for the side, see Outcome Well
	key       dynamo.Item
	now, next string // the attributes that count it
}

// Refused is the cause of Take's fault TooManyRequests.
type Refused struct {
	InTrouble bool      // the breaker is open; else all permits are taken
	Until     time.Time // when the side may be called again, by its own wish or ours; zero if that is not known
	Reason    string    // what the last trouble was, if that was said
}

// Error says why.
func (r *Refused) Error() string {
	if r.InTrouble {
		return "permits: in trouble: " + r.Reason
	}
	return "permits: none left"
}

// Outcome is what a call came to: Nothing, Well, or a Trouble.
type Outcome struct {
	well   bool
	update string
	values dynamo.Item
}

// Nothing is the outcome of a call that was not made, or tells nothing of the side.
func Nothing() Outcome { return Outcome{} }

// Well is the outcome of a call that was answered. It takes one from the item's held, where that counts what was taken
// for the side while it was in trouble.
func Well() Outcome { return Outcome{well: true, update: " REMOVE troubles, reason, openUntil"} }

// Trouble is the outcome of a call that tells that the side is in trouble. The third one in a row opens the breaker,
// until a time, which may be zero for at once, and from then on for all but one call at a time. The reason is kept as
// sanitize.Text has it; it may be empty.
func Trouble(reason string, until time.Time) Outcome {
	o := Outcome{update: ", troubles :one", values: dynamo.Item{":one": dynamo.Int(1)}}
	set := ""
	if reason != "" {
		set = ", reason = :reason"
		o.values[":reason"] = dynamo.String(sanitize.Text(reason, sanitize.MaxReason))
	}
	if !until.IsZero() {
		set += ", openUntil = :until"
		o.values[":until"] = dynamo.Int(until.UnixMilli())
	}
	if set != "" {
		o.update += " SET " + set[2:]
	}
	return o
}

// Take returns a permit for a side. It returns a fault TooManyRequests whose cause is Refused if there is none left, or
// the side is in trouble and must not be called yet, or another call is finding out whether it still is; or DynamoDB's
// error. An SDK that repeats a call whose answer was lost may count it twice, until the window after this one is over.
func (p *Pool) Take(ctx context.Context, side string, now time.Time) (Permit, error) {
	window := now.UnixMilli() / p.Window.Milliseconds()
	permit := Permit{key: p.Key(side), now: attribute(window), next: attribute(window + 1)}
	const some = "(attribute_not_exists(#now) OR #now < :limit) AND (attribute_not_exists(troubles) OR troubles < :opens)"
	const none = "(attribute_not_exists(#now) OR #now < :one) AND (attribute_not_exists(openUntil) OR openUntil <= :ms)"
	out, err := p.Client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:           aws.String(p.Table),
		Key:                 permit.key,
		UpdateExpression:    aws.String("SET expiresAt = :expires ADD #now :one, #next :one REMOVE #old"),
		ConditionExpression: aws.String("(" + some + ") OR (" + none + ")"),
		ExpressionAttributeNames: map[string]string{
			"#now": permit.now, "#next": permit.next, "#old": attribute(window - 2),
		},
		ExpressionAttributeValues: dynamo.Item{
			":one":     dynamo.Int(1),
			":limit":   dynamo.Int(p.Limit),
			":opens":   dynamo.Int(opensAfter),
			":ms":      dynamo.Int(now.UnixMilli()),
			":expires": dynamo.EpochSeconds(now.Add(retention)),
		},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, refused := dynamo.ConditionFailed(err); refused {
		return Permit{}, fault.Wrap(fault.TooManyRequests, errors.Join(refusal(kept), err))
	}
	if err != nil {
		return Permit{}, err
	}
	permit.Troubles = int(dynamo.GetInt(out.Attributes, "troubles"))
	permit.held = dynamo.GetInt(out.Attributes, "held") > 0
	return permit, nil
}

func refusal(kept dynamo.Item) *Refused {
	r := &Refused{
		InTrouble: IsOpen(kept), Reason: dynamo.GetString(kept, "reason"),
	}
	if ms := dynamo.GetInt(kept, "openUntil"); r.InTrouble && ms > 0 {
		r.Until = time.UnixMilli(ms)
	}
	return r
}

// IsOpen reports whether a side's breaker is open, by its item.
func IsOpen(item dynamo.Item) bool { return dynamo.GetInt(item, "troubles") >= opensAfter }

// Return gives a permit back, and says what the call came to. It returns DynamoDB's error: then the permit counts on
// until its window is over.
func (p *Pool) Return(ctx context.Context, permit Permit, outcome Outcome) error {
	values, add := dynamo.Item{":less": dynamo.Int(-1)}, "ADD #now :less, #next :less"
	if outcome.well && permit.held {
		add += ", held :less"
	}
	for name, value := range outcome.values {
		values[name] = value
	}
	_, err := p.Client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                 aws.String(p.Table),
		Key:                       permit.key,
		UpdateExpression:          aws.String(add + outcome.update),
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

// attribute is the one that counts the permits of a window and of the one before.
func attribute(window int64) string { return fmt.Sprintf("w%d", window%windows) }
