package contract_test

import (
	"context"
	"encoding/json"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"carillon/local/standin"
)

// addEverySecret adds to secrets what tests did not add by themselves: all that Secrets Manager holds of the stack, in
// every version that can still be read, and what the platforms got to prove who sends.
func addEverySecret(ctx context.Context) error {
	client := bundle.SecretsManager()
	pages := secretsmanager.NewListSecretsPaginator(client, &secretsmanager.ListSecretsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, kept := range page.SecretList {
			for version := range kept.SecretVersionsToStages {
				out, err := client.GetSecretValue(
					ctx,
					&secretsmanager.GetSecretValueInput{SecretId: kept.ARN, VersionId: aws.String(version)},
				)
				if err != nil {
					return err
				}
				addSecretsOf(aws.ToString(out.SecretString))
			}
		}
	}
	for _, request := range bundle.OTT.Requests() {
		addPresented(request)
	}
	return nil
}

// notSecret are the members of a secret's JSON that anybody may know.
var notSecret = map[string]bool{"tenant": true, "username": true, "scopes": true}

// addSecretsOf adds a secret's text, or the texts in it if it is a JSON object.
func addSecretsOf(text string) {
	var members map[string]any
	if json.Unmarshal([]byte(text), &members) != nil {
		addLong(text)
		return
	}
	for name, member := range members {
		if value, ok := member.(string); ok && !notSecret[name] {
			addLong(value)
		}
	}
}

func addPresented(request standin.PlatformRequest) {
	addLong(strings.TrimPrefix(request.Headers["authorization"], "Bearer "))
	addLong(request.Query["access_token"])
	addLong(request.Query["appsecret_proof"])
}

// addLong leaves out what a test chose to be so short that it stands in other texts by chance.
func addLong(secret string) {
	if len(secret) > 12 {
		secrets.add(secret)
	}
}
