package local

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/local/standin"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
	"carillon/shared/stackname"
)

// platformAccounts lets the stand-ins for Messenger and LINE know the pages and channels that are registered here, as
// if their owners had them there.
type platformAccounts struct {
	items       *dynamodb.Client
	table       string
	credentials *store.Credentials
}

func (b *Bundle) platformAccounts() platformAccounts {
	items, table := b.DynamoDB(), stackname.RegistrationsTable(b.options.Stack)
	secrets := secret.NewUnthrottledCache(secretstore.New(b.SecretsManager()))
	return platformAccounts{
		items: items, table: table,
		credentials: store.NewCredentials(store.NewRegistrationReader(items, table), secrets),
	}
}

// Page implements standin.Accounts. It reads every page: Messenger knows tokens, the table does not.
func (a platformAccounts) Page(ctx context.Context, accessToken string) (*standin.Page, error) {
	pages := dynamodb.NewScanPaginator(a.items, &dynamodb.ScanInput{
		TableName:                 aws.String(a.table),
		ConsistentRead:            aws.Bool(true),
		FilterExpression:          aws.String("platform = :messenger"),
		ExpressionAttributeValues: dynamo.Item{":messenger": dynamo.String(string(ott.Messenger))},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			credentials, err := a.credentials.Get(ctx, dynamo.GetString(item, "secretName"))
			switch {
			case errors.Is(err, secret.ErrNotFound):
				continue // registered again, or deleted, since it was read
			case err != nil:
				return nil, err
			case credentials.PageAccessToken.Reveal() == accessToken:
				return &standin.Page{
					Name:              dynamo.GetString(item, "name"),
					ApplicationSecret: credentials.ApplicationSecret.Reveal(),
				}, nil
			}
		}
	}
	return nil, nil //nolint:nilnil // no such page: standin.Accounts has it so
}

// Channel implements standin.Accounts.
func (a platformAccounts) Channel(ctx context.Context, id string) (*standin.Channel, error) {
	registration, credentials, err := a.credentials.Load(ctx, ott.LINE, id)
	if fault.Is(err, fault.NotFound) {
		return nil, nil //nolint:nilnil // no such channel: standin.Accounts has it so
	}
	if err != nil {
		return nil, err
	}
	return &standin.Channel{Name: registration.Name, Secret: credentials.ChannelSecret.Reveal()}, nil
}
