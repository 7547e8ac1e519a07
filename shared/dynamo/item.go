// Package dynamo is what every store on DynamoDB shares: the attributes of items, conditions that did not hold, and
// transactions that met others. It stands in for the SDK's attributevalue package, whose reflection a function's start
// would pay for.
package dynamo

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
)

// Item is a DynamoDB item, a key, or the values of an expression.
type Item = map[string]types.AttributeValue

// String returns a string attribute.
func String(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

// Int returns a number attribute.
func Int[N ~int | ~int64](n N) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(int64(n), 10)}
}

// Bytes returns a binary attribute.
func Bytes(b []byte) types.AttributeValue { return &types.AttributeValueMemberB{Value: b} }

// Bool returns a boolean attribute.
func Bool(b bool) types.AttributeValue { return &types.AttributeValueMemberBOOL{Value: b} }

// StringSet returns a set of strings, at least one: DynamoDB has no empty set.
func StringSet(values []string) types.AttributeValue {
	return &types.AttributeValueMemberSS{Value: values}
}

// StringList returns a list of strings.
func StringList(values []string) types.AttributeValue {
	list := make([]types.AttributeValue, len(values))
	for i, value := range values {
		list[i] = String(value)
	}
	return &types.AttributeValueMemberL{Value: list}
}

// Time returns a time as a string attribute, UTC with milliseconds, so that times sort as strings.
func Time(t time.Time) types.AttributeValue {
	return String(t.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
}

// EpochSeconds returns a time as DynamoDB's time to live wants it.
func EpochSeconds(t time.Time) types.AttributeValue { return Int(t.Unix()) }

// GetString returns a string attribute, or "" if the item has none of that name.
func GetString(item Item, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

// GetInt returns a number attribute, or 0 if the item has none of that name.
func GetInt(item Item, name string) int64 {
	if n, ok := item[name].(*types.AttributeValueMemberN); ok {
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i
		}
	}
	return 0
}

// GetBytes returns a binary attribute, or nil if the item has none of that name.
func GetBytes(item Item, name string) []byte {
	if b, ok := item[name].(*types.AttributeValueMemberB); ok {
		return b.Value
	}
	return nil
}

// GetBool returns a boolean attribute, or false if the item has none of that name.
func GetBool(item Item, name string) bool {
	b, ok := item[name].(*types.AttributeValueMemberBOOL)
	return ok && b.Value
}

// GetTime returns an attribute that Time wrote, or the zero time.
func GetTime(item Item, name string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, GetString(item, name))
	if err != nil {
		return time.Time{}
	}
	return t
}

// GetStrings returns a set or a list of strings, or nil if the item has neither of that name.
func GetStrings(item Item, name string) []string {
	switch v := item[name].(type) {
	case *types.AttributeValueMemberSS:
		return v.Value
	case *types.AttributeValueMemberL:
		var values []string
		for _, member := range v.Value {
			if s, ok := member.(*types.AttributeValueMemberS); ok {
				values = append(values, s.Value)
			}
		}
		return values
	}
	return nil
}
