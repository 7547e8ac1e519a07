package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
)

// memoryTable is DynamoDB as far as the reads ask it, without a network: items of one owner in the order of their ids,
// perPage at a time, the first of them by any key, and every business unit. It leaves filters to who asks.
type memoryTable struct {
	items   []dynamo.Item
	perPage int
	asked   string // the latest call
}

func (m *memoryTable) client() *dynamodb.Client {
	return dynamodb.New(dynamodb.Options{
		Region: emulatortest.Region, Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), HTTPClient: m, Retryer: aws.NopRetryer{},
	})
}

// Do implements dynamodb.HTTPClient.
func (m *memoryTable) Do(r *http.Request) (*http.Response, error) {
	var call struct {
		Key, ExclusiveStartKey map[string]map[string]string
		Limit                  int
		Select                 string
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	m.asked = string(body)
	if err := json.Unmarshal(body, &call); err != nil {
		return nil, err
	}
	answer := map[string]any{"Item": wireItem(dynamo.Item{"pk": dynamo.String("business#PA")})}
	switch {
	case call.Key["owner"] != nil:
		answer["Item"] = wireItem(m.items[0])
	case call.Key == nil:
		start := 0
		if after := call.ExclusiveStartKey["id"]["S"]; after != "" {
			start = 1 + slices.IndexFunc(m.items, func(item dynamo.Item) bool { return dynamo.GetString(item, "id") == after })
		}
		end := min(start+m.perPage, len(m.items))
		if call.Limit > 0 {
			end = min(end, start+call.Limit)
		}
		answer = map[string]any{"Count": end - start}
		if end < len(m.items) {
			answer["LastEvaluatedKey"] = wireItem(dynamo.Item{"owner": m.items[end-1]["owner"], "id": m.items[end-1]["id"]})
		}
		if call.Select != "COUNT" {
			items := []any{}
			for _, item := range m.items[start:end] {
				items = append(items, wireItem(item))
			}
			answer["Items"] = items
		}
	}
	text, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.0"}},
		Body: io.NopCloser(strings.NewReader(string(text))), Request: r,
	}, nil
}

func wireItem(item dynamo.Item) map[string]any {
	wire := map[string]any{}
	for name := range item {
		wire[name] = map[string]string{"S": dynamo.GetString(item, name)}
	}
	return wire
}
