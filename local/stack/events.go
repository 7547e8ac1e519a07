package stack

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"carillon/local/template"
)

// createEvents makes the buses before the rules on them. A rule may send to a queue that does not exist yet.
func createEvents(
	ctx context.Context,
	client *eventbridge.Client,
	buses []template.EventBus,
	rules []template.Rule,
) error {
	for _, bus := range buses {
		if _, err := client.CreateEventBus(
			ctx,
			&eventbridge.CreateEventBusInput{Name: aws.String(bus.Name)},
		); err != nil {
			return fmt.Errorf("creating event bus %s: %w", bus.LogicalID, err)
		}
	}
	for _, rule := range rules {
		if rule.Disabled {
			continue // the emulator would not look at the rule's state
		}
		if err := createRule(ctx, client, rule); err != nil {
			return fmt.Errorf("creating rule %s: %w", rule.LogicalID, err)
		}
	}
	return nil
}

func createRule(ctx context.Context, client *eventbridge.Client, rule template.Rule) error {
	_, err := client.PutRule(ctx, &eventbridge.PutRuleInput{
		Name: aws.String(rule.Name), EventBusName: aws.String(rule.Bus), EventPattern: aws.String(rule.Pattern),
	})
	if err != nil || len(rule.Targets) == 0 {
		return err
	}
	targets := make([]ebtypes.Target, len(rule.Targets))
	for i, target := range rule.Targets {
		targets[i] = ebtypes.Target{Id: aws.String(target.ID), Arn: aws.String(target.ARN)}
	}
	_, err = client.PutTargets(ctx, &eventbridge.PutTargetsInput{
		Rule: aws.String(rule.Name), EventBusName: aws.String(rule.Bus), Targets: targets,
	})
	return err
}

func createConfigurationSets(ctx context.Context, client *sesv2.Client, sets []template.ConfigurationSet) error {
	for _, set := range sets {
		_, err := client.CreateConfigurationSet(
			ctx,
			&sesv2.CreateConfigurationSetInput{ConfigurationSetName: aws.String(set.Name)},
		)
		if err != nil {
			return fmt.Errorf("creating configuration set %s: %w", set.LogicalID, err)
		}
	}
	return nil
}
