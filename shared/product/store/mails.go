package store

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/product"
	"carillon/shared/sanitize"
	"carillon/shared/secret"
)

// mailRetention is how long a mail is kept: longer than any event of it may take.
const mailRetention = 30 * 24 * time.Hour

// Mails keeps the mails in DynamoDB, one item each, and on each product how its latest request's mail fares. What it
// writes of both it writes in one transaction, so that a crash leaves neither without the other. Beside the mails are
// the windows that limit them (Admit).
type Mails struct {
	client          *dynamodb.Client
	mails, products string // tables
	clock           clock.Clock
}

// NewMails returns the mails of a table with the key id and the time to live expiresAt, and the products' table.
// Between two tries of a transaction clock waits.
func NewMails(client *dynamodb.Client, mailsTable, productsTable string, clock clock.Clock) *Mails {
	return &Mails{client: client, mails: mailsTable, products: productsTable, clock: clock}
}

// OpenMails returns the mails of the table that MAILS_TABLE names, and of the products' that PRODUCTS_TABLE names.
func OpenMails(env *environment.Variables, config aws.Config) *Mails {
	client := dynamodb.NewFromConfig(config)
	return NewMails(client, env.String("MAILS_TABLE"), env.String("PRODUCTS_TABLE"), clock.System{})
}

// Get returns the mail of a request. It returns a fault NotFound if there is none, or DynamoDB's error.
func (s *Mails) Get(ctx context.Context, requestID string) (product.Mail, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.mails),
		Key:            requestKey(requestID),
		ConsistentRead: aws.Bool(true),
	})
	switch {
	case err != nil:
		return product.Mail{}, err
	case out.Item == nil:
		return product.Mail{}, fault.New(fault.NotFound, "")
	}
	return mailFromItem(out.Item), nil
}

// Keep writes a product, or renews its link and contacts, and with it the mail that the request is to bring about. If
// the mail is there already, the request's work has been done, and Keep does nothing.
//
// The provider is the authority on entitlements: a customer who cancelled there and buys again has a new one. The
// product takes it then, and Keep returns the one it had, which stays among its formerEntitlementIds. It returns the
// error of dynamo.Transact.
func (s *Mails) Keep(
	ctx context.Context, stored product.Stored, mail product.Mail,
) (formerEntitlement string, err error) {
	update, err := productUpdate(s.products, stored, mail)
	if err != nil {
		return "", err
	}
	put := &types.Put{
		TableName:           aws.String(s.mails),
		Item:                mailItem(mail),
		ConditionExpression: aws.String("attribute_not_exists(id)"),
	}
	err = dynamo.Transact(ctx, s.clock, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{{Update: update.replacing(formerEntitlement)}, {Put: put}},
		})
		if _, done := dynamo.ConditionFailedAt(err, 1); done {
			formerEntitlement = ""
			return nil
		}
		if kept, another := dynamo.ConditionFailedAt(err, 0); another {
			formerEntitlement = dynamo.GetString(kept, "entitlementId")
			return dynamo.ErrAgain
		}
		return err
	})
	return formerEntitlement, err
}

// superseded is why a mail that is not its product's newest never leaves.
const superseded = "a newer mail of the product was accepted before it could be sent"

// Claim makes a pending mail the caller's to send: it is for a claim that no other call has. The mail that it returns
// is "sending" then. If its product has had a later request it is "superseded" instead, has ended, and its link is
// gone: the same transaction looks at both, so a mail is claimed only while it is the product's newest.
//
// Claim returns a fault Conflict with the mail if it is not pending, NotFound if there is none, or the error of
// dynamo.Transact.
func (s *Mails) Claim(ctx context.Context, requestID, claim string, now time.Time) (product.Mail, error) {
	mail, err := s.Get(ctx, requestID)
	switch {
	case err != nil:
		return product.Mail{}, err
	case mail.State != product.MailPending:
		return claimedBy(mail, claim)
	}
	items := []types.TransactWriteItem{{Update: s.claimUpdate(requestID, claim, now)}, {ConditionCheck: s.newest(mail)}}
	err = dynamo.Transact(ctx, s.clock, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{TransactItems: items})
		return err
	})
	if kept, failed := dynamo.ConditionFailedAt(err, 0); failed {
		return notPending(kept, claim)
	}
	if _, later := dynamo.ConditionFailedAt(err, 1); later {
		return s.supersede(ctx, mail, now)
	}
	if err != nil {
		return product.Mail{}, err
	}
	mail.State, mail.Claim, mail.ClaimedAt = product.MailSending, claim, now
	return mail, nil
}

// notPending is for a mail that a condition found no longer pending.
func notPending(kept dynamo.Item, claim string) (product.Mail, error) {
	if len(kept) == 0 {
		return product.Mail{}, fault.New(fault.NotFound, "")
	}
	return claimedBy(mailFromItem(kept), claim)
}

// claimedBy returns a mail that is not pending: with a fault Conflict, unless it is this claim's own. That had reached
// the table then, and its answer was lost.
func claimedBy(mail product.Mail, claim string) (product.Mail, error) {
	if mail.State == product.MailSending && mail.Claim == claim {
		return mail, nil
	}
	return mail, fault.New(fault.Conflict, "")
}

func (s *Mails) claimUpdate(requestID, claim string, now time.Time) *types.Update {
	return &types.Update{
		TableName: aws.String(s.mails),
		Key:       requestKey(requestID),
		UpdateExpression: aws.String(
			"SET #state = :sending, claim = :claim, claimedAt = :now, updatedAt = :now"),
		ConditionExpression:      aws.String("#state = :pending"),
		ExpressionAttributeNames: stateName,
		ExpressionAttributeValues: dynamo.Item{
			":sending": dynamo.String(string(product.MailSending)),
			":pending": dynamo.String(string(product.MailPending)),
			":claim":   dynamo.String(claim),
			":now":     dynamo.Time(now),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	}
}

// newest is that no later request has been made for the mail's product.
func (s *Mails) newest(mail product.Mail) *types.ConditionCheck {
	return &types.ConditionCheck{
		TableName:                 aws.String(s.products),
		Key:                       productKey(mail.Tenant, mail.BusinessID, mail.ProductID),
		ConditionExpression:       aws.String("operationId = :request"),
		ExpressionAttributeValues: dynamo.Item{":request": dynamo.String(mail.RequestID)},
	}
}

// supersede ends a pending mail whose product has had a later request. No claim can come in between: a product never
// goes back to an earlier request.
func (s *Mails) supersede(ctx context.Context, mail product.Mail, now time.Time) (product.Mail, error) {
	out, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.mails),
		Key:       requestKey(mail.RequestID),
		UpdateExpression: aws.String(
			"SET #state = :superseded, reason = :reason, updatedAt = :now REMOVE link",
		),
		ConditionExpression:      aws.String("#state = :pending"),
		ExpressionAttributeNames: stateName,
		ExpressionAttributeValues: dynamo.Item{
			":superseded": dynamo.String(string(product.MailSuperseded)),
			":pending":    dynamo.String(string(product.MailPending)),
			":reason":     dynamo.String(superseded),
			":now":        dynamo.Time(now),
		},
		ReturnValues:                        types.ReturnValueAllNew,
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if kept, failed := dynamo.ConditionFailed(err); failed {
		return notPending(kept, "")
	}
	if err != nil {
		return product.Mail{}, err
	}
	return mailFromItem(out.Attributes), nil
}

var stateName = map[string]string{"#state": "state"}

// Release ends the claim of a mail of which it is certain that SES did not take it: it is pending again. It returns a
// fault Conflict if the mail is no longer under its claim, or DynamoDB's error.
func (s *Mails) Release(ctx context.Context, mail product.Mail, reason string, now time.Time) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                aws.String(s.mails),
		Key:                      requestKey(mail.RequestID),
		UpdateExpression:         aws.String("SET #state = :pending, reason = :reason, updatedAt = :now"),
		ConditionExpression:      aws.String("#state IN (:pending, :sending) AND claim = :claim"),
		ExpressionAttributeNames: stateName,
		ExpressionAttributeValues: dynamo.Item{
			":pending": dynamo.String(string(product.MailPending)),
			":sending": dynamo.String(string(product.MailSending)),
			":claim":   dynamo.String(mail.Claim),
			":reason":  dynamo.String(sanitize.Text(reason, sanitize.MaxReason)),
			":now":     dynamo.Time(now),
		},
	})
	if _, failed := dynamo.ConditionFailed(err); failed {
		return fault.New(fault.Conflict, "")
	}
	return err
}

// SetOutcome keeps what has become of a mail, and shows it on the product if no later request has been made for it. The
// activation link is removed: nothing needs it any more. A mail goes on only: SetOutcome returns a fault Conflict, and
// changes nothing, for an outcome that tells no more than what is kept; NotFound if there is no such mail; or the error
// of dynamo.Transact.
func (s *Mails) SetOutcome(ctx context.Context, mail product.Mail, outcome product.Outcome, now time.Time) error {
	update := s.outcomeUpdate(mail.RequestID, outcome, now)
	onProduct := s.outcomeOnProduct(mail, outcome, now)
	return dynamo.Transact(ctx, s.clock, func() error {
		_, err := s.client.TransactWriteItems(ctx, &dynamodb.TransactWriteItemsInput{
			TransactItems: []types.TransactWriteItem{{Update: update}, {Update: onProduct}},
		})
		if kept, failed := dynamo.ConditionFailedAt(err, 0); failed {
			return notSet(kept)
		}
		if _, later := dynamo.ConditionFailedAt(err, 1); later {
			return s.setOutcomeAlone(ctx, update)
		}
		return err
	})
}

func notSet(kept dynamo.Item) error {
	if len(kept) == 0 {
		return fault.New(fault.NotFound, "")
	}
	return fault.New(fault.Conflict, "")
}

// setOutcomeAlone is for a mail whose product has had a later request.
func (s *Mails) setOutcomeAlone(ctx context.Context, update *types.Update) error {
	_, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName:                           update.TableName,
		Key:                                 update.Key,
		UpdateExpression:                    update.UpdateExpression,
		ConditionExpression:                 update.ConditionExpression,
		ExpressionAttributeNames:            update.ExpressionAttributeNames,
		ExpressionAttributeValues:           update.ExpressionAttributeValues,
		ReturnValuesOnConditionCheckFailure: update.ReturnValuesOnConditionCheckFailure,
	})
	if kept, failed := dynamo.ConditionFailed(err); failed {
		return notSet(kept)
	}
	return err
}

func (s *Mails) outcomeUpdate(requestID string, outcome product.Outcome, now time.Time) *types.Update {
	set := "SET #state = :state, reason = :reason, updatedAt = :now"
	values := dynamo.Item{
		":state":  dynamo.String(string(outcome.State)),
		":reason": dynamo.String(sanitize.Text(outcome.Reason, sanitize.MaxReason)),
		":now":    dynamo.Time(now),
	}
	if outcome.MessageID != "" {
		set += ", sesMessageId = :messageId"
		values[":messageId"] = dynamo.String(outcome.MessageID)
	}
	var earlier []string
	for i, state := range outcome.State.Before() {
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

func (s *Mails) outcomeOnProduct(mail product.Mail, outcome product.Outcome, now time.Time) *types.Update {
	return &types.Update{
		TableName:           aws.String(s.products),
		Key:                 productKey(mail.Tenant, mail.BusinessID, mail.ProductID),
		UpdateExpression:    aws.String("SET mailState = :state, mailReason = :reason, mailAt = :now"),
		ConditionExpression: aws.String("operationId = :request"),
		ExpressionAttributeValues: dynamo.Item{
			":state":   dynamo.String(string(outcome.State)),
			":reason":  dynamo.String(sanitize.Text(outcome.Reason, sanitize.MaxReason)),
			":now":     dynamo.Time(now),
			":request": dynamo.String(mail.RequestID),
		},
	}
}

func requestKey(requestID string) dynamo.Item {
	return dynamo.Item{"id": dynamo.String("request#" + requestID)}
}

// mailItem is a mail as it is kept first.
func mailItem(m product.Mail) dynamo.Item {
	item := requestKey(m.RequestID)
	for name, value := range map[string]string{
		"requestId": m.RequestID, "tenant": m.Tenant, "businessId": m.BusinessID, "productId": m.ProductID,
		"to": m.To, "service": m.Service, "link": m.Link.Reveal(), "state": string(m.State),
	} {
		if value != "" {
			item[name] = dynamo.String(value)
		}
	}
	if !m.LinkExpires.IsZero() {
		item["linkExpires"] = dynamo.Time(m.LinkExpires)
	}
	item["createdAt"], item["updatedAt"] = dynamo.Time(m.CreatedAt), dynamo.Time(m.CreatedAt)
	item["expiresAt"] = dynamo.EpochSeconds(m.CreatedAt.Add(mailRetention))
	return item
}

func mailFromItem(item dynamo.Item) product.Mail {
	return product.Mail{
		RequestID:   dynamo.GetString(item, "requestId"),
		Tenant:      dynamo.GetString(item, "tenant"),
		BusinessID:  dynamo.GetString(item, "businessId"),
		ProductID:   dynamo.GetString(item, "productId"),
		To:          dynamo.GetString(item, "to"),
		Service:     dynamo.GetString(item, "service"),
		Link:        secret.NewText(dynamo.GetString(item, "link")),
		LinkExpires: dynamo.GetTime(item, "linkExpires"),
		State:       product.MailState(dynamo.GetString(item, "state")),
		Reason:      dynamo.GetString(item, "reason"),
		Claim:       dynamo.GetString(item, "claim"),
		ClaimedAt:   dynamo.GetTime(item, "claimedAt"),
		CreatedAt:   dynamo.GetTime(item, "createdAt"),
	}
}
