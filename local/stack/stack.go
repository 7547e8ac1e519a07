// Package stack creates on the emulators what a template declares, as CloudFormation would.
package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	ddbtypes "github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"golang.org/x/sync/errgroup"

	"carillon/local/template"
)

// atOnce bounds the calls in flight: the emulators are one process each.
const atOnce = 8

// Clients are the services that hold what is created.
type Clients struct {
	DynamoDB       *dynamodb.Client
	SecretsManager *secretsmanager.Client
	SQS            *sqs.Client
	EventBridge    *eventbridge.Client
	SESv2          *sesv2.Client
}

// Create makes every table, queue, secret, event bus, rule and configuration set of the template, and binds the queues'
// URLs and the secrets' ARNs in it. Values, by secret name, replace what the template generates for a secret: the local
// run knows the credentials of its own stand-ins. A value for a secret that the template does not declare is not used.
// It returns what is wrong with the template, or AWS's error.
func Create(ctx context.Context, t *template.Template, clients Clients, values map[string]string) error {
	tables, terr := t.Tables()
	secrets, serr := t.Secrets()
	queues, qerr := t.Queues()
	buses, berr := t.EventBuses()
	rules, rerr := t.Rules()
	sets, merr := t.ConfigurationSets()
	if err := errors.Join(terr, serr, qerr, berr, rerr, merr); err != nil {
		return err
	}
	arns := make([]string, len(secrets))
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	var queuesMade map[string]template.Physical
	group.Go(func() (err error) {
		queuesMade, err = createQueues(gctx, clients.SQS, queues)
		return err
	})
	group.Go(func() error { return createEvents(gctx, clients.EventBridge, buses, rules) })
	group.Go(func() error { return createConfigurationSets(gctx, clients.SESv2, sets) })
	for _, table := range tables {
		group.Go(func() error {
			if err := createTable(gctx, clients.DynamoDB, table); err != nil {
				return fmt.Errorf("creating table %s: %w", table.LogicalID, err)
			}
			return nil
		})
	}
	for i, secret := range secrets {
		value, given := values[secret.Name]
		if given {
			secret.Value, secret.Generate = value, nil
		}
		group.Go(func() error {
			var err error
			if arns[i], err = createSecret(gctx, clients.SecretsManager, secret); err != nil {
				return fmt.Errorf("creating secret %s: %w", secret.LogicalID, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for id, queue := range queuesMade {
		t.Bind(id, queue)
	}
	for i, secret := range secrets {
		t.Bind(secret.LogicalID, template.Physical{Ref: arns[i], Attributes: map[string]string{"Id": arns[i]}})
	}
	return nil
}

func createTable(ctx context.Context, client *dynamodb.Client, table template.Table) error {
	in := &dynamodb.CreateTableInput{
		TableName:   aws.String(table.Name),
		BillingMode: ddbtypes.BillingMode(table.BillingMode),
		KeySchema:   key(table.Key),
	}
	for _, attribute := range table.Attributes {
		in.AttributeDefinitions = append(in.AttributeDefinitions, ddbtypes.AttributeDefinition{
			AttributeName: aws.String(attribute.Name),
			AttributeType: ddbtypes.ScalarAttributeType(attribute.Type),
		})
	}
	for _, index := range table.Indexes {
		in.GlobalSecondaryIndexes = append(in.GlobalSecondaryIndexes, ddbtypes.GlobalSecondaryIndex{
			IndexName: aws.String(index.Name),
			KeySchema: key(index.Key),
			Projection: &ddbtypes.Projection{
				ProjectionType:   ddbtypes.ProjectionType(index.Projection),
				NonKeyAttributes: index.Include,
			},
		})
	}
	if _, err := client.CreateTable(ctx, in); err != nil {
		return err
	}
	if table.TTLAttribute == "" {
		return nil
	}
	_, err := client.UpdateTimeToLive(ctx, &dynamodb.UpdateTimeToLiveInput{
		TableName: aws.String(table.Name),
		TimeToLiveSpecification: &ddbtypes.TimeToLiveSpecification{
			AttributeName: aws.String(table.TTLAttribute),
			Enabled:       aws.Bool(true),
		},
	})
	return err
}

func key(parts []template.KeyPart) []ddbtypes.KeySchemaElement {
	elements := make([]ddbtypes.KeySchemaElement, len(parts))
	for i, part := range parts {
		elements[i] = ddbtypes.KeySchemaElement{
			AttributeName: aws.String(part.Name),
			KeyType:       ddbtypes.KeyType(part.Type),
		}
	}
	return elements
}

func createSecret(ctx context.Context, client *secretsmanager.Client, secret template.Secret) (string, error) {
	in := &secretsmanager.CreateSecretInput{Name: aws.String(secret.Name)}
	value := secret.Value
	if secret.Generate != nil {
		var err error
		if value, err = generate(ctx, client, *secret.Generate); err != nil {
			return "", err
		}
	}
	if value != "" {
		in.SecretString = aws.String(value)
	}
	out, err := client.CreateSecret(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ARN), nil
}

// generate asks Secrets Manager for the password, as CloudFormation does.
func generate(ctx context.Context, client *secretsmanager.Client, g template.GenerateSecret) (string, error) {
	in := &secretsmanager.GetRandomPasswordInput{
		PasswordLength:          aws.Int64(g.Length),
		ExcludeLowercase:        aws.Bool(g.ExcludeLowercase),
		ExcludeUppercase:        aws.Bool(g.ExcludeUppercase),
		ExcludeNumbers:          aws.Bool(g.ExcludeNumbers),
		ExcludePunctuation:      aws.Bool(g.ExcludePunctuation),
		IncludeSpace:            aws.Bool(g.IncludeSpace),
		RequireEachIncludedType: aws.Bool(g.RequireEachIncludedType),
	}
	if g.ExcludeCharacters != "" {
		in.ExcludeCharacters = aws.String(g.ExcludeCharacters)
	}
	out, err := client.GetRandomPassword(ctx, in)
	if err != nil {
		return "", err
	}
	password := aws.ToString(out.RandomPassword)
	if g.Template == "" {
		return password, nil
	}
	object := map[string]any{}
	if err := json.Unmarshal([]byte(g.Template), &object); err != nil {
		return "", fmt.Errorf("SecretStringTemplate is not a JSON object: %w", err)
	}
	object[g.Key] = password
	raw, err := json.Marshal(object)
	return string(raw), err
}
