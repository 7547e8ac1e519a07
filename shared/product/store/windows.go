package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/product"
)

// accountKey and addressKey are keys of the mails table. They are hashed: an account's id may be long, and neither is
// anybody's to read there.
func accountKey(a product.Admission) string {
	return "account#" + a.Tenant + "#" + a.BusinessID + "#" + hash(a.AccountID)
}

func addressKey(a product.Admission) string { return "address#" + hash(strings.ToLower(a.Address)) }

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// window is a sliding window log: the requests that were counted, and when.
type window struct {
	key     string
	version int64
	counted map[string]time.Time // by request
}

func windowFromItem(key string, item dynamo.Item, since time.Time) window {
	w := window{key: key, version: dynamo.GetInt(item, "version"), counted: map[string]time.Time{}}
	requests, _ := item["requests"].(*types.AttributeValueMemberM)
	if requests == nil {
		return w
	}
	for id := range requests.Value {
		if at := time.UnixMilli(dynamo.GetInt(requests.Value, id)); at.After(since) {
			w.counted[id] = at
		}
	}
	return w
}

// room returns how long it takes until one more request can be counted: 0 if one can be now, or if this one is already.
func (w window) room(requestID string, limit int, length time.Duration, now time.Time) time.Duration {
	if _, known := w.counted[requestID]; known || len(w.counted) < limit {
		return 0
	}
	times := make([]time.Time, 0, len(w.counted))
	for _, at := range w.counted {
		times = append(times, at)
	}
	slices.SortFunc(times, time.Time.Compare)
	// Usually the oldest; a later one if the limit was lowered meanwhile.
	return times[len(times)-limit].Add(length).Sub(now)
}

// put is the write of the window with one more request, on condition that nobody else has written it since.
func (w window) put(table, requestID string, length time.Duration, now time.Time) types.TransactWriteItem {
	if _, known := w.counted[requestID]; !known {
		w.counted[requestID] = now
	}
	requests, latest := dynamo.Item{}, now
	for id, at := range w.counted {
		requests[id] = dynamo.Int(at.UnixMilli())
		if at.After(latest) {
			latest = at
		}
	}
	return types.TransactWriteItem{Put: &types.Put{
		TableName: aws.String(table),
		Item: dynamo.Item{
			"id":        dynamo.String(w.key),
			"requests":  &types.AttributeValueMemberM{Value: requests},
			"version":   dynamo.Int(w.version + 1),
			"expiresAt": dynamo.EpochSeconds(latest.Add(length + time.Second)),
		},
		ConditionExpression:       aws.String("attribute_not_exists(id) OR version = :seen"),
		ExpressionAttributeValues: dynamo.Item{":seen": dynamo.Int(w.version)},
	}}
}

// Admit counts a request against its account's limit and its address's, both or neither. If the request's mail is kept
// already, Admit returns it and counts nothing; a request that is counted already is not counted again. It returns a
// fault TooManyRequests over a limit, which says when there is room; or the error of dynamo.Transact.
func (s *Mails) Admit(
	ctx context.Context, a product.Admission, limits product.Limits, now time.Time,
) (*product.Mail, error) {
	var kept *product.Mail
	err := dynamo.Transact(ctx, s.clock, func() error {
		mail, account, address, err := s.counted(ctx, a, now.Add(-limits.Window))
		if err != nil || mail != nil {
			kept = mail
			return err
		}
		wait := max(
			account.room(a.RequestID, limits.PerAccount, limits.Window, now),
			address.room(a.RequestID, limits.PerAddress, limits.Window, now))
		if wait > 0 {
			return &fault.Error{Code: fault.TooManyRequests, RetryAfter: wait}
		}
		_, err = s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{
				account.put(s.mails, a.RequestID, limits.Window, now),
				address.put(s.mails, a.RequestID, limits.Window, now),
			},
		})
		if anyConditionFailed(err) {
			return dynamo.ErrAgain // who else counted was faster
		}
		return err
	})
	return kept, err
}

// counted returns a request's mail, or nil, and the windows that the request counts in, all as of one moment.
func (s *Mails) counted(
	ctx context.Context, a product.Admission, since time.Time,
) (mail *product.Mail, account, address window, err error) {
	get := func(key dynamo.Item) types.TransactGetItem {
		return types.TransactGetItem{Get: &types.Get{TableName: aws.String(s.mails), Key: key}}
	}
	out, err := s.client.TransactGetItems(ctx, &dynamodb.TransactGetItemsInput{TransactItems: []types.TransactGetItem{
		get(requestKey(a.RequestID)), get(windowKey(accountKey(a))), get(windowKey(addressKey(a))),
	}})
	if err != nil {
		return nil, window{}, window{}, err
	}
	if item := out.Responses[0].Item; item != nil {
		kept := mailFromItem(item)
		mail = &kept
	}
	account = windowFromItem(accountKey(a), out.Responses[1].Item, since)
	address = windowFromItem(addressKey(a), out.Responses[2].Item, since)
	return mail, account, address, nil
}

func windowKey(key string) dynamo.Item { return dynamo.Item{"id": dynamo.String(key)} }

// GiveBack takes back what Admit counted for a request that no mail comes of. What is not counted is no error. It
// returns the error of dynamo.Transact.
func (s *Mails) GiveBack(ctx context.Context, a product.Admission) error {
	remove := func(key string) types.TransactWriteItem {
		return types.TransactWriteItem{Update: &types.Update{
			TableName:                 aws.String(s.mails),
			Key:                       windowKey(key),
			UpdateExpression:          aws.String("SET version = version + :one REMOVE requests.#request"),
			ConditionExpression:       aws.String("attribute_exists(requests.#request)"),
			ExpressionAttributeNames:  map[string]string{"#request": a.RequestID},
			ExpressionAttributeValues: dynamo.Item{":one": dynamo.Int(1)},
		}}
	}
	err := dynamo.Transact(ctx, s.clock, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{remove(accountKey(a)), remove(addressKey(a))},
		})
		return err
	})
	if anyConditionFailed(err) {
		return nil
	}
	return err
}

// anyConditionFailed reports whether a transaction on two windows was cancelled because one of them is not as it was.
func anyConditionFailed(err error) bool {
	_, account := dynamo.ConditionFailedAt(err, 0)
	_, address := dynamo.ConditionFailedAt(err, 1)
	return account || address
}
