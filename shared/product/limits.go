package product

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
)

// Limits are how many mails may be asked for within any stretch of time as long as Window (contract.md §3, too many
// resends). The first mail of a product counts as well as a resend.
type Limits struct {
	Window     time.Duration
	PerAccount int // mails to one billing account of one tenant's business
	PerAddress int // mails to one address, whoever asks: it protects a mailbox
}

// Admission is a request for a mail, as far as Limits are concerned.
type Admission struct {
	RequestID  string // the operation's id: it is counted once
	Tenant     string
	BusinessID string
	AccountID  string // the billing account's
	Address    string
}

// accountKey and addressKey are keys of the mails table. They are hashed: an account's id may be long, and neither is
// anybody's to read there.
func (a Admission) accountKey() string {
	return "account#" + a.Tenant + "#" + a.BusinessID + "#" + hash(a.AccountID)
}

func (a Admission) addressKey() string { return "address#" + hash(strings.ToLower(a.Address)) }

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
// already, Admit returns it and counts nothing; a request that is counted already is not counted again. Over a limit, Admit
// returns a fault TooManyRequests that says when there is room; if too many count at the same time, Unavailable. Else it
// returns DynamoDB's error.
func (s *MailStore) Admit(ctx context.Context, a Admission, limits Limits, now time.Time) (*Mail, error) {
	var kept *Mail
	err := transact(ctx, func() error {
		out, err := s.client.TransactGetItems(ctx, &dynamodb.TransactGetItemsInput{TransactItems: []types.TransactGetItem{
			{Get: &types.Get{TableName: aws.String(s.mails), Key: requestKey(a.RequestID)}},
			{Get: &types.Get{TableName: aws.String(s.mails), Key: dynamo.Item{"id": dynamo.String(a.accountKey())}}},
			{Get: &types.Get{TableName: aws.String(s.mails), Key: dynamo.Item{"id": dynamo.String(a.addressKey())}}},
		}})
		if err != nil {
			return err
		}
		if item := out.Responses[0].Item; item != nil {
			mail := mailFromItem(item)
			kept = &mail
			return nil
		}
		since := now.Add(-limits.Window)
		account := windowFromItem(a.accountKey(), out.Responses[1].Item, since)
		address := windowFromItem(a.addressKey(), out.Responses[2].Item, since)
		wait := max(account.room(a.RequestID, limits.PerAccount, limits.Window, now), address.room(a.RequestID, limits.PerAddress, limits.Window, now))
		if wait > 0 {
			return &fault.Error{Code: fault.TooManyRequests, RetryAfter: wait}
		}
		_, err = s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: []types.TransactWriteItem{
			account.put(s.mails, a.RequestID, limits.Window, now),
			address.put(s.mails, a.RequestID, limits.Window, now),
		}})
		if reasons := cancellations(err); slices.ContainsFunc(reasons, isConditionFailed) {
			return errAgain // who else counted was faster
		}
		return err
	})
	return kept, err
}

// GiveBack takes back what Admit counted for a request that no mail comes of. What is not counted is no error; DynamoDB's is.
func (s *MailStore) GiveBack(ctx context.Context, a Admission) error {
	remove := func(key string) types.TransactWriteItem {
		return types.TransactWriteItem{Update: &types.Update{
			TableName:                 aws.String(s.mails),
			Key:                       dynamo.Item{"id": dynamo.String(key)},
			UpdateExpression:          aws.String("SET version = version + :one REMOVE requests.#request"),
			ConditionExpression:       aws.String("attribute_exists(requests.#request)"),
			ExpressionAttributeNames:  map[string]string{"#request": a.RequestID},
			ExpressionAttributeValues: dynamo.Item{":one": dynamo.Int(1)},
		}}
	}
	err := transact(ctx, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{remove(a.accountKey()), remove(a.addressKey())},
		})
		return err
	})
	if slices.ContainsFunc(cancellations(err), isConditionFailed) {
		return nil
	}
	return err
}
