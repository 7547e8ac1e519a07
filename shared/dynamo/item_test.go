package dynamo_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"carillon/shared/dynamo"
)

func TestRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "string")
		n := rapid.Int64().Draw(t, "int")
		b := rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")
		flag := rapid.Bool().Draw(t, "bool")
		// Years of four digits: what RFC 3339 writes.
		at := time.UnixMilli(rapid.Int64Range(-62135596800000, 253402300799999).Draw(t, "time")).
			In(time.FixedZone("", rapid.IntRange(-12*3600, 14*3600).Draw(t, "offset")))
		item := dynamo.Item{
			"string": dynamo.String(
				s,
			),
			"int":     dynamo.Int(n),
			"bytes":   dynamo.Bytes(b),
			"bool":    dynamo.Bool(flag),
			"time":    dynamo.Time(at),
			"seconds": dynamo.EpochSeconds(at),
		}
		assert.Equal(t, s, dynamo.GetString(item, "string"))
		assert.Equal(t, n, dynamo.GetInt(item, "int"))
		assert.Equal(t, b, dynamo.GetBytes(item, "bytes"))
		assert.Equal(t, flag, dynamo.GetBool(item, "bool"))
		got := dynamo.GetTime(item, "time")
		assert.True(t, at.Equal(got), "%v is not %v", got, at)
		assert.Equal(t, time.UTC, got.Location())
		assert.Equal(t, at.Unix(), dynamo.GetInt(item, "seconds"))
	})
}

func TestTimesSortAsStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instant := rapid.Custom(func(t *rapid.T) time.Time {
			return time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "ms")).
				In(time.FixedZone("", rapid.IntRange(-12*3600, 14*3600).Draw(t, "offset")))
		})
		times := rapid.SliceOfN(instant, 2, 10).Draw(t, "times")
		slices.SortFunc(times, time.Time.Compare)
		var texts []string
		for _, at := range times {
			texts = append(texts, dynamo.GetString(dynamo.Item{"a": dynamo.Time(at)}, "a"))
		}
		assert.True(t, slices.IsSorted(texts), "%v", texts)
	})
}

func TestTimeIsInUTCWithMilliseconds(t *testing.T) {
	at := time.Date(2026, 2, 10, 16, 0, 0, 123_999_999, time.FixedZone("", -5*3600))
	assert.Equal(t, dynamo.String("2026-02-10T21:00:00.123Z"), dynamo.Time(at))
	assert.Equal(
		t,
		dynamo.String("2026-02-10T21:00:00.000Z"),
		dynamo.Time(at.Truncate(time.Second)),
		"as long with a full second",
	)
}

func TestIntTakesEveryIntegerItIsFor(t *testing.T) {
	type state int
	assert.Equal(t, &types.AttributeValueMemberN{Value: "-3"}, dynamo.Int(state(-3)))
	assert.Equal(t, &types.AttributeValueMemberN{Value: "9223372036854775807"}, dynamo.Int(int64(math.MaxInt64)))
	assert.Equal(t, &types.AttributeValueMemberN{Value: "-9223372036854775808"}, dynamo.Int(int64(math.MinInt64)))
	assert.Equal(t, &types.AttributeValueMemberN{Value: "1000000000"}, dynamo.Int(time.Second))
}

// What an item lacks, or has in another type, reads as the zero value.
func TestGetOfWhatIsNotThere(t *testing.T) {
	items := map[string]dynamo.Item{
		"nil item":         nil,
		"empty item":       {},
		"nil value":        {"a": nil},
		"null":             {"a": &types.AttributeValueMemberNULL{Value: true}},
		"a map":            {"a": &types.AttributeValueMemberM{Value: dynamo.Item{"a": dynamo.String("x")}}},
		"a set of numbers": {"a": &types.AttributeValueMemberNS{Value: []string{"1"}}},
	}
	for name, item := range items {
		t.Run(name, func(t *testing.T) { assertZero(t, item, "") })
	}
	for kind, value := range map[string]types.AttributeValue{
		"string": dynamo.String("x"), "int": dynamo.Int(7), "bytes": dynamo.Bytes([]byte("x")), "bool": dynamo.Bool(true),
		"strings": dynamo.StringSet([]string{"x"}),
	} {
		t.Run(kind+" is no other type", func(t *testing.T) { assertZero(t, dynamo.Item{"a": value}, kind) })
	}
}

func assertZero(t *testing.T, item dynamo.Item, but string) {
	t.Helper()
	if but != "string" {
		assert.Empty(t, dynamo.GetString(item, "a"))
	}
	if but != "int" {
		assert.Zero(t, dynamo.GetInt(item, "a"))
	}
	if but != "bytes" {
		assert.Nil(t, dynamo.GetBytes(item, "a"))
	}
	if but != "bool" {
		assert.False(t, dynamo.GetBool(item, "a"))
	}
	if but != "strings" {
		assert.Nil(t, dynamo.GetStrings(item, "a"))
	}
	assert.True(t, dynamo.GetTime(item, "a").IsZero())
}

func TestGetIntOfOtherNumbers(t *testing.T) {
	for _, number := range []string{"1.5", "1E3", "9223372036854775808", "", "x"} {
		assert.Zero(t, dynamo.GetInt(dynamo.Item{"a": &types.AttributeValueMemberN{Value: number}}, "a"), number)
	}
}

func TestGetTimeOfOtherTexts(t *testing.T) {
	for _, text := range []string{"", "now", "2026-02-10", "2026-02-10T16:00:00", "2026-13-10T16:00:00Z"} {
		assert.True(t, dynamo.GetTime(dynamo.Item{"a": dynamo.String(text)}, "a").IsZero(), text)
	}
}

func TestGetStrings(t *testing.T) {
	for name, value := range map[string]types.AttributeValue{
		"set":  dynamo.StringSet([]string{"b", "a"}),
		"list": dynamo.StringList([]string{"b", "a"}),
	} {
		assert.Equal(t, []string{"b", "a"}, dynamo.GetStrings(dynamo.Item{"a": value}, "a"), name)
	}
	list := &types.AttributeValueMemberL{
		Value: []types.AttributeValue{dynamo.String("b"), dynamo.Int(1), dynamo.String("b"), nil},
	}
	assert.Equal(t, []string{"b", "b"}, dynamo.GetStrings(dynamo.Item{"a": list}, "a"), "what is no string is left out")
	assert.Empty(t, dynamo.GetStrings(dynamo.Item{"a": dynamo.StringList(nil)}, "a"))
}
