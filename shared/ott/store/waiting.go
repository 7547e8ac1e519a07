package store

import (
	"context"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
)

// Waiting calls found with each message of a property, whoever's it is, that waits for another try, or for its first
// one because others of the property came to trouble; the oldest first, until found returns false. What is behind such
// a message in its conversation is not listed: it waits for it. It reads the index waiting, which follows the table
// within a second as a rule. It returns found's error, or DynamoDB's.
func (s *Messages) Waiting(
	ctx context.Context, platform ott.Platform, propertyID string, found func(m *ott.StoredMessage) (bool, error),
) error {
	pages := dynamodb.NewQueryPaginator(s.items, &dynamodb.QueryInput{
		TableName:                 aws.String(s.table),
		IndexName:                 aws.String("waiting"),
		KeyConditionExpression:    aws.String("waiting = :waiting"),
		ExpressionAttributeValues: dynamo.Item{":waiting": dynamo.String(registrationKey(platform, propertyID))},
	})
	for pages.HasMorePages() {
		out, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range out.Items {
			tenant, rest, _ := strings.Cut(dynamo.GetString(item, "id"), "#progress#")
			id, _, _ := strings.Cut(rest, "#")
			m, err := s.Load(ctx, tenant, id)
			if fault.Is(err, fault.NotFound) { // a job whose message never came
				continue
			}
			if err != nil {
				return err
			}
			if !m.CreatedAt.Equal(getMilliseconds(item, "createdAt")) { // likewise, under the id of another
				continue
			}
			m.Progress = readProgress(item)
			if more, err := found(m); err != nil || !more {
				return err
			}
		}
	}
	return nil
}
