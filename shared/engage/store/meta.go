package store

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/engage/store/columns"
)

// encodeMeta returns the meta of a push that nothing has been claimed of yet.
func encodeMeta(push *engage.Push, chunks []columns.Chunk, dueAt time.Time) dynamo.Item {
	item := dynamo.Item{
		"requestId":     dynamo.String(push.RequestID),
		"part":          dynamo.String(partMeta),
		"tenant":        dynamo.String(push.Tenant),
		"programUuid":   dynamo.String(push.Program.UUID),
		"createdAt":     dynamo.Int(engage.Millis(push.CreatedAt)),
		"notBefore":     dynamo.Int(engage.Millis(push.NotBefore)),
		"ttlSeconds":    dynamo.Int(push.TTLSeconds),
		"keepAfterCall": dynamo.Bool(push.KeepAfterCall),
		"chunks":        dynamo.Int(len(chunks)),
		"total":         dynamo.Int(len(push.Destinations)),
		"duePartition":  dynamo.String(duePartition(push.RequestID)),
		"dueAt":         dynamo.Int(engage.Millis(dueAt)),
	}
	sizes := make([]int, len(chunks))
	for i, chunk := range chunks {
		sizes[i] = chunk.Size
	}
	if text := encodeSizes(sizes); text != "" {
		item["sizes"] = dynamo.String(text)
	}
	return item
}

func decodeMeta(item dynamo.Item) *engage.Meta {
	m := &engage.Meta{
		RequestID:     dynamo.GetString(item, "requestId"),
		Tenant:        dynamo.GetString(item, "tenant"),
		ProgramUUID:   dynamo.GetString(item, "programUuid"),
		CreatedAt:     getMillis(item, "createdAt"),
		NotBefore:     getMillis(item, "notBefore"),
		TTLSeconds:    int(dynamo.GetInt(item, "ttlSeconds")),
		KeepAfterCall: dynamo.GetBool(item, "keepAfterCall"),
		CancelledAt:   getMillis(item, "cancelledAt"),
		DueAt:         getMillis(item, "dueAt"),
	}
	chunks, total := int(dynamo.GetInt(item, "chunks")), int(dynamo.GetInt(item, "total"))
	for i, size := range decodeSizes(dynamo.GetString(item, "sizes"), chunks, total) {
		chunk := engage.ChunkState{Size: size}
		switch state := item[chunkAttribute(i)].(type) {
		case *types.AttributeValueMemberN:
			chunk.LeasedUntil = decodeLease(state.Value)
		case *types.AttributeValueMemberS:
			chunk.Final = decodeFinal(state.Value, size)
		}
		m.Chunks = append(m.Chunks, chunk)
	}
	return m
}

// chunkAttribute is the attribute of a chunk's state: absent, a number (leased until, in epoch ms) or a string (final
// counts).
func chunkAttribute(i int) string { return "c" + strconv.Itoa(i) }

// encodeLease is the state of a chunk that is leased until a time. Behind the point is what tells it from another lease
// that ends in the same millisecond, so that of two who claim at once each knows its own write when the SDK repeats it.
// The last digit is no 0, which DynamoDB would drop.
func encodeLease(until time.Time) types.AttributeValue {
	const digits = "%d.%03d%d"
	return &types.AttributeValueMemberN{Value: fmt.Sprintf(digits, engage.Millis(until), rand.N(1000), 1+rand.N(9))}
}

// decodeLease returns when a lease ends, or the end of one that was released.
func decodeLease(state string) time.Time {
	text, _, _ := strings.Cut(state, ".")
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func encodeFinal(c engage.Counts) string {
	return fmt.Sprintf("%d,%d,%d,%d", c.Delivered, c.Rejected, c.Failed, c.Expired)
}

func decodeFinal(text string, size int) *engage.Counts {
	counts := engage.Counts{Total: size}
	_, err := fmt.Sscanf(text, "%d,%d,%d,%d", &counts.Delivered, &counts.Rejected, &counts.Failed, &counts.Expired)
	if err != nil {
		return nil
	}
	return &counts
}

// encodeSizes writes the chunks' sizes, or nothing where all but the last are as large as may be.
func encodeSizes(sizes []int) string {
	for _, size := range sizes[:len(sizes)-1] {
		if size != columns.ChunkSize {
			return strings.Trim(strings.ReplaceAll(fmt.Sprint(sizes), " ", ","), "[]")
		}
	}
	return ""
}

func decodeSizes(text string, chunks, total int) []int {
	sizes := make([]int, chunks)
	fields := strings.Split(text, ",")
	for i := range sizes {
		switch {
		case text != "" && i < len(fields):
			sizes[i], _ = strconv.Atoi(fields[i]) // what encodeSizes wrote
		case i < chunks-1:
			sizes[i] = columns.ChunkSize
		default:
			sizes[i] = total - columns.ChunkSize*(chunks-1)
		}
	}
	return sizes
}

func getMillis(item dynamo.Item, name string) time.Time {
	if ms := dynamo.GetInt(item, name); ms != 0 {
		return time.UnixMilli(ms).UTC()
	}
	return time.Time{}
}
