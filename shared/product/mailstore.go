package product

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
)

// MailStore keeps the mails in DynamoDB, one item each, and on each product how its latest request's mail fares. What it
// writes of both it writes in one transaction, so that a crash leaves neither without the other.
type MailStore struct {
	client          *dynamodb.Client
	mails, products string
}

// NewMailStore returns a store on a table with the key id and the time to live expiresAt, and on the products' table.
func NewMailStore(client *dynamodb.Client, mailsTable, productsTable string) *MailStore {
	return &MailStore{client: client, mails: mailsTable, products: productsTable}
}

// Get returns the mail of a request. It returns a fault NotFound if there is none, or DynamoDB's error.
func (s *MailStore) Get(ctx context.Context, requestID string) (Mail, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.mails),
		Key:            requestKey(requestID),
		ConsistentRead: aws.Bool(true),
	})
	switch {
	case err != nil:
		return Mail{}, err
	case out.Item == nil:
		return Mail{}, fault.New(fault.NotFound, "")
	}
	return mailFromItem(out.Item), nil
}

// Keep writes a product, or renews its link and contacts, and with it the mail that the request is to bring about. If the
// mail is there already, the request's work has been done, and Keep does nothing.
//
// The provider is the authority on entitlements: a customer who cancelled there and buys again has a new one. The product
// takes it then, and Keep returns the one it had, which stays among its formerEntitlementIds. Errors are DynamoDB's, and a
// fault Unavailable as transact's.
func (s *MailStore) Keep(ctx context.Context, record Record, mail Mail) (formerEntitlement string, err error) {
	update, err := productUpdate(s.products, record, mail)
	if err != nil {
		return "", err
	}
	put := &types.Put{TableName: aws.String(s.mails), Item: mail.item(), ConditionExpression: aws.String("attribute_not_exists(id)")}
	err = transact(ctx, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{{Update: update.replacing(formerEntitlement)}, {Put: put}},
		})
		reasons := cancellations(err)
		switch {
		case len(reasons) != 2:
			return err
		case isConditionFailed(reasons[1]):
			formerEntitlement = ""
			return nil
		case isConditionFailed(reasons[0]):
			formerEntitlement = dynamo.GetString(reasons[0].Item, "entitlementId")
			return errAgain
		}
		return err
	})
	return formerEntitlement, err
}

// Claim makes a pending mail the caller's to send: it is for a claim that no other call has. It returns a fault Conflict
// with the mail if it is not pending, NotFound if there is none, or DynamoDB's error.
func (s *MailStore) Claim(ctx context.Context, requestID, claim string, now time.Time) (Mail, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                aws.String(s.mails),
		Key:                      requestKey(requestID),
		UpdateExpression:         aws.String("SET #state = :sending, claim = :claim, claimedAt = :now, updatedAt = :now"),
		ConditionExpression:      aws.String("#state = :pending"),
		ExpressionAttributeNames: stateName,
		ExpressionAttributeValues: dynamo.Item{
			":sending": dynamo.String(string(MailSending)),
			":pending": dynamo.String(string(MailPending)),
			":claim":   dynamo.String(claim),
			":now":     dynamo.Time(now),
		},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	var failed *types.ConditionalCheckFailedException
	switch {
	case err == nil:
		return mailFromItem(out.Attributes), nil
	case !errors.As(err, &failed):
		return Mail{}, err
	case failed.Item == nil:
		return Mail{}, fault.New(fault.NotFound, "")
	}
	mail := mailFromItem(failed.Item)
	if mail.State == MailSending && mail.Claim == claim {
		return mail, nil // the SDK repeated a call that had reached the table
	}
	return mail, fault.New(fault.Conflict, "")
}

var stateName = map[string]string{"#state": "state"}

// Return makes a claimed mail pending again, of which it is certain that SES did not take it. It returns a fault Conflict
// if the mail is no longer under its claim, or DynamoDB's error.
func (s *MailStore) Return(ctx context.Context, mail Mail, reason string, now time.Time) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                aws.String(s.mails),
		Key:                      requestKey(mail.RequestID),
		UpdateExpression:         aws.String("SET #state = :pending, reason = :reason, updatedAt = :now"),
		ConditionExpression:      aws.String("#state IN (:pending, :sending) AND claim = :claim"),
		ExpressionAttributeNames: stateName,
		ExpressionAttributeValues: dynamo.Item{
			":pending": dynamo.String(string(MailPending)),
			":sending": dynamo.String(string(MailSending)),
			":claim":   dynamo.String(mail.Claim),
			":reason":  dynamo.String(printable(reason)),
			":now":     dynamo.Time(now),
		},
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return fault.New(fault.Conflict, "")
	}
	return err
}

// Outcome is what has become of a mail.
type Outcome struct {
	State     MailState
	Reason    string // may be empty; its first 256 printable characters are kept
	MessageID string // SES's, empty if there is none
}

// Record keeps a mail's outcome, and shows it on the product if no later request has been made for it. The activation link
// is removed: nothing needs it any more. A mail goes on only: Record returns a fault Conflict, and changes nothing, for an
// outcome that tells no more than what is kept; NotFound if there is no such mail; Unavailable as transact does; or
// DynamoDB's error.
func (s *MailStore) Record(ctx context.Context, mail Mail, outcome Outcome, now time.Time) error {
	update := s.outcomeUpdate(mail.RequestID, outcome, now)
	onProduct := s.outcomeOnProduct(mail, outcome, now)
	return transact(ctx, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{{Update: update}, {Update: onProduct}},
		})
		reasons := cancellations(err)
		switch {
		case len(reasons) != 2:
			return err
		case isConditionFailed(reasons[0]):
			return notRecorded(reasons[0].Item)
		case isConditionFailed(reasons[1]):
			return s.recordAlone(ctx, update)
		}
		return err
	})
}

func notRecorded(kept dynamo.Item) error {
	if kept == nil {
		return fault.New(fault.NotFound, "")
	}
	return fault.New(fault.Conflict, "")
}

// recordAlone is for a mail whose product has had a later request.
func (s *MailStore) recordAlone(ctx context.Context, update *types.Update) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           update.TableName,
		Key:                                 update.Key,
		UpdateExpression:                    update.UpdateExpression,
		ConditionExpression:                 update.ConditionExpression,
		ExpressionAttributeNames:            update.ExpressionAttributeNames,
		ExpressionAttributeValues:           update.ExpressionAttributeValues,
		ReturnValuesOnConditionCheckFailure: update.ReturnValuesOnConditionCheckFailure,
	})
	var failed *types.ConditionalCheckFailedException
	if errors.As(err, &failed) {
		return notRecorded(failed.Item)
	}
	return err
}

func (s *MailStore) outcomeUpdate(requestID string, outcome Outcome, now time.Time) *types.Update {
	set := "SET #state = :state, reason = :reason, updatedAt = :now"
	values := dynamo.Item{
		":state":  dynamo.String(string(outcome.State)),
		":reason": dynamo.String(printable(outcome.Reason)),
		":now":    dynamo.Time(now),
	}
	if outcome.MessageID != "" {
		set += ", sesMessageId = :messageId"
		values[":messageId"] = dynamo.String(outcome.MessageID)
	}
	var earlier []string
	for i, state := range outcome.State.before() {
		name := ":earlier" + strconv.Itoa(i)
		values[name] = dynamo.String(string(state))
		earlier = append(earlier, name)
	}
	return &types.Update{
		TableName:                           aws.String(s.mails),
		Key:                                 requestKey(requestID),
		UpdateExpression:                    aws.String(set + " REMOVE link"),
		ConditionExpression:                 aws.String("#state IN (" + strings.Join(earlier, ", ") + ")"),
		ExpressionAttributeNames:            stateName,
		ExpressionAttributeValues:           values,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

func (s *MailStore) outcomeOnProduct(mail Mail, outcome Outcome, now time.Time) *types.Update {
	return &types.Update{
		TableName:           aws.String(s.products),
		Key:                 productKey(mail.Tenant, mail.BusinessID, mail.ProductID),
		UpdateExpression:    aws.String("SET mailState = :state, mailReason = :reason, mailAt = :now"),
		ConditionExpression: aws.String("operationId = :request"),
		ExpressionAttributeValues: dynamo.Item{
			":state":   dynamo.String(string(outcome.State)),
			":reason":  dynamo.String(printable(outcome.Reason)),
			":now":     dynamo.Time(now),
			":request": dynamo.String(mail.RequestID),
		},
	}
}
