package harness

import (
	"context"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/require"
)

// Table is the name of one of the stack's tables, which package stackname knows: stackname.PushesTable.
func (b *Bundle) Table(named func(stack string) string) string { return named(b.Demo.AWS.Stack) }

// Scan reads one of the stack's tables to its end, as it is now.
func (b *Bundle) Scan(t testing.TB, named func(stack string) string) []map[string]types.AttributeValue {
	t.Helper()
	items, err := b.ScanAll(t.Context(), b.Table(named))
	require.NoError(t, err)
	return items
}

// ScanAll reads a table, by its whole name, where there is no test. It returns DynamoDB's error.
func (b *Bundle) ScanAll(ctx context.Context, table string) ([]map[string]types.AttributeValue, error) {
	var items []map[string]types.AttributeValue
	pages := dynamodb.NewScanPaginator(b.DynamoDB(), &dynamodb.ScanInput{
		TableName: aws.String(table), ConsistentRead: aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		items = append(items, page.Items...)
	}
	return items, nil
}

// Tables returns the names of all tables of the emulator, which are the stack's. It returns DynamoDB's error.
func (b *Bundle) Tables(ctx context.Context) ([]string, error) {
	var names []string
	pages := dynamodb.NewListTablesPaginator(b.DynamoDB(), &dynamodb.ListTablesInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		names = append(names, page.TableNames...)
	}
	return names, nil
}
