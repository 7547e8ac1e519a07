package emulatortest_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

func TestDeployGivesEachTestAStackOfItsOwn(t *testing.T) {
	one, other := emulatortest.Deploy(t), emulatortest.Deploy(t)
	assert.NotEqual(t, one, other)
	for _, stack := range []string{one, other} {
		_, err := emulatortest.DynamoDB().DescribeTable(t.Context(), &dynamodb.DescribeTableInput{
			TableName: aws.String(stackname.ContentTable(stack)),
		})
		require.NoError(t, err)
		_, err = emulatortest.SecretsManager().DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{
			SecretId: aws.String(stackname.SigningKeySecret(stack)),
		})
		require.NoError(t, err)
	}
}

func TestBetween(t *testing.T) {
	table := aws.String(stackname.ProductsTable(emulatortest.Deploy(t)))
	key := dynamo.Item{"owner": dynamo.String("o"), "id": dynamo.String("i")}
	var mu sync.Mutex
	var seen []string
	client := emulatortest.DynamoDBAt(
		emulatortest.Between(
			t,
			emulatortest.DynamoDBEndpoint(),
			func(w http.ResponseWriter, call emulatortest.Call) bool {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, call.Operation)
				switch call.Operation {
				case "PutItem":
					assert.Equal(
						t,
						http.StatusOK,
						call.Send(strings.Replace(call.Body, "as asked", "as the test has it", 1)).Code,
					)
				case "DeleteItem":
				default:
					return false
				}
				w.WriteHeader(http.StatusServiceUnavailable)
				return true
			},
		),
	)

	_, err := client.PutItem(t.Context(), &dynamodb.PutItemInput{TableName: table, Item: dynamo.Item{
		"owner": key["owner"], "id": key["id"], "text": dynamo.String("as asked"),
	}})
	require.Error(t, err, "the call is carried out and its answer lost")
	_, err = client.DeleteItem(t.Context(), &dynamodb.DeleteItemInput{TableName: table, Key: key})
	require.Error(t, err, "the call is not carried out")
	out, err := client.GetItem(t.Context(), &dynamodb.GetItemInput{TableName: table, Key: key})
	require.NoError(t, err)
	assert.Equal(t, "as the test has it", dynamo.GetString(out.Item, "text"))
	assert.Equal(t, []string{"PutItem", "DeleteItem", "GetItem"}, seen, "each is tried once")
}
