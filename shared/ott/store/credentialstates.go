package store

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"carillon/shared/dynamo"
	"carillon/shared/environment"
	"carillon/shared/ott"
	"carillon/shared/sanitize"
)

// CredentialStates keeps with registrations what the platforms say of their credentials.
type CredentialStates struct {
	items *dynamodb.Client
	table string
}

// NewCredentialStates returns the states that are kept in the table of registrations.
func NewCredentialStates(items *dynamodb.Client, table string) *CredentialStates {
	return &CredentialStates{items: items, table: table}
}

// OpenCredentialStates returns those that are kept in the table that REGISTRATIONS_TABLE names.
func OpenCredentialStates(env *environment.Variables, config aws.Config) *CredentialStates {
	return NewCredentialStates(dynamodb.NewFromConfig(config), env.String("REGISTRATIONS_TABLE"))
}

// Set keeps what a platform said of the credentials that a registration has, unless it has others by now, or is gone,
// or the same was kept by another. The reason is kept as sanitize.Text has it. It returns DynamoDB's error.
func (s *CredentialStates) Set(ctx context.Context, r ott.StoredRegistration, state ott.CredentialState) error {
	_, err := s.items.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: aws.String(s.table),
		Key:       dynamo.Item{"pk": dynamo.String(registrationKey(r.Platform, r.PropertyID))},
		UpdateExpression: aws.String("SET credentialsState = :state, credentialsSince = :since, " +
			"credentialsReason = :reason"),
		ConditionExpression: aws.String("secretName = :secretName AND " +
			"(attribute_not_exists(credentialsState) OR credentialsState <> :state)"),
		ExpressionAttributeValues: dynamo.Item{
			":secretName": dynamo.String(r.SecretName),
			":state":      dynamo.String(string(state.Name)),
			":since":      dynamo.Time(state.Since),
			":reason":     dynamo.String(sanitize.Text(state.Reason, sanitize.MaxReason)),
		},
	})
	if _, other := dynamo.ConditionFailed(err); other {
		return nil
	}
	return err
}

// credentialState reads what a registration's item says of its credentials.
func credentialState(item dynamo.Item) ott.CredentialState {
	state := ott.CredentialState{
		Name:   ott.CredentialStateName(dynamo.GetString(item, "credentialsState")),
		Since:  dynamo.GetTime(item, "credentialsSince"),
		Reason: dynamo.GetString(item, "credentialsReason"),
	}
	if state.Name == "" {
		state.Name = ott.CredentialsUnknown
	}
	return state
}
