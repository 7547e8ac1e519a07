package store

import (
	"context"
	"encoding/binary"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// receiptsRetention is longer than a message is kept, which a receipt may come for until then.
const receiptsRetention = messageRetention + 24*time.Hour

// AddReceipts keeps receipts of a conversation of a tenant's, whether or not anything is known that they are for: one
// may come before the answer to its message is recorded. Receipts that say nothing new cost no write. It returns a
// fault Unavailable if others write the same conversation's until ctx is over, or DynamoDB's error.
func (s *Messages) AddReceipts(ctx context.Context, tenant, conversation string, receipts ...ott.Receipt) error {
	key := receiptsID(tenant, conversation)
	return dynamo.Transact(ctx, s.clock, func() error {
		item, err := s.get(ctx, key, true)
		if fault.Ignore(err, fault.NotFound) != nil {
			return err
		}
		known := readReceipts(item)
		all := known
		for _, receipt := range receipts {
			all = all.Add(receipt)
		}
		if reflect.DeepEqual(all, known) {
			return nil
		}
		condition, version := "attribute_not_exists(id)", dynamo.GetInt(item, "version")
		values := dynamo.Item(nil)
		if len(item) > 0 {
			condition, values = "version = :version", dynamo.Item{":version": dynamo.Int(version)}
		}
		_, err = s.items.PutItem(ctx, &dynamodb.PutItemInput{
			TableName: aws.String(s.table),
			Item: dynamo.Item{
				"id":        dynamo.String(key),
				"delivered": dynamo.Bytes(encodeWatermarks(all.Delivered)),
				"read":      dynamo.Bytes(encodeWatermarks(all.Read)),
				"named":     dynamo.StringList(encodeNamed(all.Named)),
				"version":   dynamo.Int(version + 1),
				"expiresAt": dynamo.EpochSeconds(s.clock.Now().Add(receiptsRetention)),
			},
			ConditionExpression:       aws.String(condition),
			ExpressionAttributeValues: values,
		})
		if _, other := dynamo.ConditionFailed(err); other {
			return dynamo.ErrAgain
		}
		return err
	})
}

// receipts reads what is known of a conversation's receipts; nothing if there is no item of it.
func (s *Messages) receipts(ctx context.Context, tenant, conversation string) (ott.Receipts, error) {
	item, err := s.get(ctx, receiptsID(tenant, conversation), true)
	if err != nil {
		return ott.Receipts{}, fault.Ignore(err, fault.NotFound)
	}
	return readReceipts(item), nil
}

func readReceipts(item dynamo.Item) ott.Receipts {
	return ott.Receipts{
		Delivered: decodeWatermarks(dynamo.GetBytes(item, "delivered")),
		Read:      decodeWatermarks(dynamo.GetBytes(item, "read")),
		Named:     decodeNamed(dynamo.GetStrings(item, "named")),
	}
}

// watermarkSize is what a watermark takes, in bytes: two times, epoch ms, big-endian.
const watermarkSize = 16

func encodeWatermarks(marks []ott.Watermark) []byte {
	text := make([]byte, 0, len(marks)*watermarkSize)
	for _, mark := range marks {
		text = binary.BigEndian.AppendUint64(text, uint64(mark.UpTo.UnixMilli()))
		text = binary.BigEndian.AppendUint64(text, uint64(mark.At.UnixMilli()))
	}
	return text
}

func decodeWatermarks(text []byte) []ott.Watermark {
	var marks []ott.Watermark
	for ; len(text) >= watermarkSize; text = text[watermarkSize:] {
		marks = append(marks, ott.Watermark{UpTo: decodeTime(text), At: decodeTime(text[watermarkSize/2:])})
	}
	return marks
}

func decodeTime(text []byte) time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(text))).UTC() //nolint:gosec // G115: and back
}

// encodeNamed makes of each a mark, which has no space, and the time.
func encodeNamed(named []ott.Named) []string {
	texts := make([]string, len(named))
	for i, one := range named {
		texts[i] = one.Mark + " " + strconv.FormatInt(one.At.UnixMilli(), 10)
	}
	return texts
}

func decodeNamed(texts []string) []ott.Named {
	var named []ott.Named
	for _, text := range texts {
		mark, at, _ := strings.Cut(text, " ")
		if ms, err := strconv.ParseInt(at, 10, 64); err == nil {
			named = append(named, ott.Named{Mark: mark, At: time.UnixMilli(ms).UTC()})
		}
	}
	return named
}
