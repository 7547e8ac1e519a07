package contract_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/stretchr/testify/require"

	"carillon/shared/stackname"
)

// itemText writes an item's values, so that they can be searched.
func itemText(item map[string]types.AttributeValue) string {
	var b strings.Builder
	for name, value := range item {
		switch value := value.(type) {
		case *types.AttributeValueMemberS:
			fmt.Fprintf(&b, "%s=%s\n", name, value.Value)
		case *types.AttributeValueMemberB:
			fmt.Fprintf(&b, "%s=%s\n", name, value.Value)
		default:
			fmt.Fprintf(&b, "%s=%+v\n", name, value)
		}
	}
	return b.String()
}

func stringOf(value types.AttributeValue) string {
	text, _ := value.(*types.AttributeValueMemberS)
	if text == nil {
		return ""
	}
	return text.Value
}

func secretString(t *testing.T, name string) string {
	t.Helper()
	out, err := bundle.SecretsManager().
		GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(name)})
	require.NoError(t, err)
	return aws.ToString(out.SecretString)
}

// atOnce sends n requests at the same time.
func atOnce(t *testing.T, n int, ask func(i int) (answer, error)) []answer {
	t.Helper()
	answers, errs := make([]answer, n), make([]error, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		done.Go(func() {
			ready.Done()
			<-start
			answers[i], errs[i] = ask(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return answers
}

// pushParts returns a push's items by their part.
func pushParts(t *testing.T, requestID string) map[string]map[string]types.AttributeValue {
	t.Helper()
	pages := dynamodb.NewQueryPaginator(bundle.DynamoDB(), &dynamodb.QueryInput{
		TableName:              aws.String(bundle.Table(stackname.PushesTable)),
		KeyConditionExpression: aws.String("requestId = :id"),
		ExpressionAttributeValues: map[string]types.AttributeValue{
			":id": &types.AttributeValueMemberS{Value: requestID},
		},
		ConsistentRead: aws.Bool(true),
	})
	parts := map[string]map[string]types.AttributeValue{}
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, item := range page.Items {
			parts[stringOf(item["part"])] = item
		}
	}
	return parts
}

// productItem returns what is kept of a customer's one product, nil if there is none.
func productItem(t *testing.T, customer string) map[string]types.AttributeValue {
	t.Helper()
	for _, item := range bundle.Scan(t, stackname.ProductsTable) {
		if stringOf(item["billingAccountId"]) == customer {
			return item
		}
	}
	return nil
}
