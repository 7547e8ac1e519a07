package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store/columns"
	"carillon/shared/environment"
	"carillon/shared/fault"
)

const (
	// partsPerWrite is how many items BatchWriteItem takes.
	partsPerWrite = 25
	// retention is how long a push can be looked up after its content has expired.
	retention = 30 * 24 * time.Hour
)

// leftOver is the wait before what throttling left over is written again.
var leftOver = backoff.Policy{Min: 50 * time.Millisecond, Max: 2 * time.Second}

// The parts of a push, in the table's sort key.
const (
	partMeta         = "meta"
	partPresentation = "content"
	partPermits      = "permits" // of a tenant, under a key of its own
)

func partChunk(i int) string  { return fmt.Sprintf("chunk#%05d", i) }
func partResult(i int) string { return fmt.Sprintf("result#%05d", i) }

// Pushes keeps pushes in DynamoDB: what handsets show and the chunks of destinations, which are written once and never
// change, then meta, which is small. Meta is the commit point: without it the rest is nothing, and expires.
type Pushes struct {
	client *dynamodb.Client
	table  string
	clock  clock.Clock
}

// NewPushes returns the pushes of a table with the keys requestId and part and the index due. The clock is what they
// wait on where DynamoDB throttles.
func NewPushes(client *dynamodb.Client, table string, clock clock.Clock) *Pushes {
	return &Pushes{client: client, table: table, clock: clock}
}

// OpenPushes returns the pushes of the table that PUSHES_TABLE names.
func OpenPushes(env *environment.Variables, config aws.Config) *Pushes {
	return NewPushes(dynamodb.NewFromConfig(config), env.String("PUSHES_TABLE"), clock.System{})
}

// Put makes a push durable and returns how many chunks it has. dueAt is when engage-schedule shall look at it. Doing it
// again under the same request id writes the other parts again and leaves meta as it is, so a crash anywhere in between
// is mended by a repeat. It returns DynamoDB's error, or the context's.
func (s *Pushes) Put(ctx context.Context, push *engage.Push, dueAt time.Time) (int, error) {
	chunks, err := columns.EncodeChunks(push.Destinations)
	if err != nil {
		return 0, err
	}
	expires := dynamo.EpochSeconds(push.DeliverBefore().Add(retention))
	aNumbers, err := columns.EncodeNumbers(push.ANumbers)
	if err != nil {
		return 0, err
	}
	presentation := dynamo.Item{
		"requestId":   dynamo.String(push.RequestID),
		"part":        dynamo.String(partPresentation),
		"programUuid": dynamo.String(push.Program.UUID),
		"programName": dynamo.String(push.Program.Name),
		"content":     dynamo.String(string(push.Program.Content)),
		"aNumbers":    dynamo.Bytes(aNumbers),
		"expiresAt":   expires,
	}
	addTerms(presentation, push.Terms)
	parts := []dynamo.Item{presentation}
	for i, chunk := range chunks {
		parts = append(parts, dynamo.Item{
			"requestId":    dynamo.String(push.RequestID),
			"part":         dynamo.String(partChunk(i)),
			"format":       dynamo.Int(columns.Format),
			"destinations": dynamo.Bytes(chunk.Encoded),
			"expiresAt":    expires,
		})
	}
	for group := range slices.Chunk(parts, partsPerWrite) {
		if err := s.write(ctx, group); err != nil {
			return 0, err
		}
	}
	return len(chunks), s.commit(ctx, push, chunks, dueAt, expires)
}

// write writes items. Writing them twice is harmless: under one request id the chunks are of one body, whose hash is
// checked, and what handsets show can only be what the Content Portal had at the one time or the other.
func (s *Pushes) write(ctx context.Context, items []dynamo.Item) error {
	requests := make([]types.WriteRequest, len(items))
	for i, item := range items {
		requests[i] = types.WriteRequest{PutRequest: &types.PutRequest{Item: item}}
	}
	for tries := 1; ; tries++ {
		out, err := s.client.BatchWriteItem(ctx, &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{s.table: requests},
		})
		if err != nil {
			return err
		}
		// What throttling left over comes back without an error.
		if requests = out.UnprocessedItems[s.table]; len(requests) == 0 {
			return nil
		}
		if err := leftOver.Sleep(ctx, s.clock, tries); err != nil {
			return err
		}
	}
}

func (s *Pushes) commit(
	ctx context.Context, push *engage.Push, chunks []columns.Chunk, dueAt time.Time, expires types.AttributeValue,
) error {
	item := encodeMeta(push, chunks, dueAt)
	item["expiresAt"] = expires
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName:           aws.String(s.table),
		Item:                item,
		ConditionExpression: aws.String("attribute_not_exists(requestId)"),
	})
	if _, committed := dynamo.ConditionFailed(err); committed {
		return nil
	}
	return err
}

// Meta returns the push of a tenant, of any if tenant is empty. It returns a fault NotFound for another tenant's as for
// none, or DynamoDB's error.
func (s *Pushes) Meta(ctx context.Context, tenant, requestID string) (*engage.Meta, error) {
	item, err := s.metaItem(ctx, tenant, requestID)
	if err != nil {
		return nil, err
	}
	return decodeMeta(item), nil
}

// metaItem is Meta as DynamoDB has it.
func (s *Pushes) metaItem(ctx context.Context, tenant, requestID string) (dynamo.Item, error) {
	item, err := s.part(ctx, requestID, partMeta)
	if err != nil {
		return nil, err
	}
	if item == nil || tenant != "" && dynamo.GetString(item, "tenant") != tenant {
		return nil, fault.New(fault.NotFound, "")
	}
	return item, nil
}

// Presentation returns what the chunks of a push have in common. It returns a fault NotFound if there is no such push,
// engage.ErrChunk, or DynamoDB's error.
func (s *Pushes) Presentation(ctx context.Context, requestID string) (*engage.Presentation, error) {
	item, err := s.part(ctx, requestID, partPresentation)
	if err != nil {
		return nil, err
	}
	if item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	aNumbers, err := columns.DecodeNumbers(dynamo.GetBytes(item, "aNumbers"))
	if err != nil {
		return nil, err
	}
	return &engage.Presentation{Terms: decodeTerms(item), ANumbers: aNumbers, Program: engage.Program{
		UUID:    dynamo.GetString(item, "programUuid"),
		Name:    dynamo.GetString(item, "programName"),
		Content: jsontext.Value(dynamo.GetString(item, "content")),
	}}, nil
}

// Destinations returns a chunk's destinations. It returns a fault NotFound if there is no such chunk, engage.ErrChunk,
// or DynamoDB's error.
func (s *Pushes) Destinations(ctx context.Context, requestID string, chunk int) ([]engage.Destination, error) {
	item, err := s.part(ctx, requestID, partChunk(chunk))
	if err != nil {
		return nil, err
	}
	if item == nil {
		return nil, fault.New(fault.NotFound, "")
	}
	return columns.DecodeChunk(dynamo.GetBytes(item, "destinations"))
}

// part reads a part of a push, nil if there is none.
func (s *Pushes) part(ctx context.Context, requestID, part string) (dynamo.Item, error) {
	out, err := s.client.GetItem(ctx, &dynamodb.GetItemInput{
		TableName:      aws.String(s.table),
		Key:            partKey(requestID, part),
		ConsistentRead: aws.Bool(true),
	})
	if err != nil {
		return nil, err
	}
	return out.Item, nil
}

func partKey(requestID, part string) dynamo.Item {
	return dynamo.Item{"requestId": dynamo.String(requestID), "part": dynamo.String(part)}
}
