package engage

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
)

const (
	// partsPerWrite is how many items BatchWriteItem takes.
	partsPerWrite = 25
	// retention is how long a push can be looked up after its content has expired.
	retention = 30 * 24 * time.Hour
	// duePartitions spread what is due at the same time over the due index.
	duePartitions = 4
	// backoff between two tries of what DynamoDB took none or a part of, doubled up to maxBackoff.
	minBackoff = 50 * time.Millisecond
	maxBackoff = 2 * time.Second
)

// The parts of a push, in the table's sort key.
const (
	partMeta    = "meta"
	partContent = "content"
)

func partChunk(i int) string  { return fmt.Sprintf("chunk#%05d", i) }
func partResult(i int) string { return fmt.Sprintf("result#%05d", i) }

// PushStore keeps pushes in DynamoDB: what handsets show and the chunks of destinations, which are written once and never
// change, then meta, which is small. Meta is the commit point: without it the rest is nothing, and expires.
type PushStore struct {
	client *dynamodb.Client
	table  string
}

// NewPushStore returns a store on a table with the keys requestId and part and the index due.
func NewPushStore(client *dynamodb.Client, table string) *PushStore {
	return &PushStore{client: client, table: table}
}

// Put makes a push durable and returns how many chunks it has. dueAt is when engage-schedule shall look at it. Doing it
// again under the same request id writes the same parts again and leaves meta as it is, so a crash anywhere in between
// is mended by a repeat. It returns DynamoDB's error, or the context's.
func (s *PushStore) Put(ctx context.Context, push *Push, dueAt time.Time) (int, error) {
	chunks, err := EncodeChunks(push.Destinations)
	if err != nil {
		return 0, err
	}
	expires := dynamo.EpochSeconds(push.NotBefore.Add(time.Duration(push.TTLSeconds)*time.Second + retention))
	aNumbers, err := encodeNumbers(push.ANumbers)
	if err != nil {
		return 0, err
	}
	parts := []dynamo.Item{{
		"requestId":   dynamo.String(push.RequestID),
		"part":        dynamo.String(partContent),
		"programUuid": dynamo.String(push.Program.UUID),
		"programName": dynamo.String(push.Program.Name),
		"content":     dynamo.String(string(push.Program.Content)),
		"aNumbers":    dynamo.Bytes(aNumbers),
		"expiresAt":   expires,
	}}
	for i, chunk := range chunks {
		parts = append(parts, dynamo.Item{
			"requestId":    dynamo.String(push.RequestID),
			"part":         dynamo.String(partChunk(i)),
			"format":       dynamo.Int(columnsFormat),
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

// write writes items whose content depends on their key alone, so writing one twice is harmless.
func (s *PushStore) write(ctx context.Context, items []dynamo.Item) error {
	requests := make([]types.WriteRequest, len(items))
	for i, item := range items {
		requests[i] = types.WriteRequest{PutRequest: &types.PutRequest{Item: item}}
	}
	for backoff := minBackoff; ; backoff = min(2*backoff, maxBackoff) {
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
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *PushStore) commit(ctx context.Context, push *Push, chunks []Chunk, dueAt time.Time, expires types.AttributeValue) error {
	item := dynamo.Item{
		"requestId":     dynamo.String(push.RequestID),
		"part":          dynamo.String(partMeta),
		"tenant":        dynamo.String(push.Tenant),
		"programUuid":   dynamo.String(push.Program.UUID),
		"createdAt":     dynamo.Int(millis(push.CreatedAt)),
		"notBefore":     dynamo.Int(millis(push.NotBefore)),
		"ttlSeconds":    dynamo.Int(push.TTLSeconds),
		"keepAfterCall": dynamo.Bool(push.KeepAfterCall),
		"chunks":        dynamo.Int(len(chunks)),
		"total":         dynamo.Int(len(push.Destinations)),
		"duePartition":  dynamo.String(duePartition(push.RequestID)),
		"dueAt":         dynamo.Int(millis(dueAt)),
		"expiresAt":     expires,
	}
	sizes := make([]int, len(chunks))
	for i, chunk := range chunks {
		sizes[i] = chunk.Size
	}
	if text := encodeSizes(sizes); text != "" {
		item["sizes"] = dynamo.String(text)
	}
	_, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{
		TableName:           aws.String(s.table),
		Item:                item,
		ConditionExpression: aws.String("attribute_not_exists(requestId)"),
	})
	var committed *types.ConditionalCheckFailedException
	if errors.As(err, &committed) {
		return nil
	}
	return err
}

func duePartition(requestID string) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(requestID)) // never fails
	return partitionName(int(hash.Sum32() % duePartitions))
}

func partitionName(i int) string { return fmt.Sprintf("due#%d", i) }
