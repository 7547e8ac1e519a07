package template_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/template"
)

func TestEventBusesAndRules(t *testing.T) {
	tpl, err := load(t, `
Resources:
  Bus: {Type: AWS::Events::EventBus, Properties: {Name: shop-bus}}
  Work: {Type: AWS::SQS::Queue}
  Own:
    Type: AWS::Events::Rule
    Properties:
      Name: own
      EventBusName: !Ref Bus
      EventPattern: {source: [shop], detail: {n: [1], yes: [true], none: [null], text: ["1", !Ref AWS::StackName], there: [{exists: false}]}}
      Targets:
        - {Id: q, Arn: !GetAtt Work.Arn, RetryPolicy: {MaximumRetryAttempts: 1}, DeadLetterConfig: {Arn: !GetAtt Work.Arn}}
  Default:
    Type: AWS::Events::Rule
    Properties: {EventPattern: {source: [shop]}, State: DISABLED}
  Policy:
    Type: AWS::SQS::QueuePolicy
    Properties: {Queues: [!Ref Work], PolicyDocument: {Statement: [{Condition: {ArnEquals: {aws:SourceArn: !GetAtt Own.Arn}}}]}}
  F:
    Type: AWS::Serverless::Function
    Properties:
      Environment:
        Variables: {BUS: !Ref Bus, BUS_ARN: !GetAtt Bus.Arn, OWN: !Ref Own, OWN_ARN: !GetAtt Own.Arn, DEFAULT: !Ref Default, DEFAULT_ARN: !GetAtt Default.Arn}
`, nil)
	require.NoError(t, err)
	buses, err := tpl.EventBuses()
	require.NoError(t, err)
	assert.Equal(t, []template.EventBus{{LogicalID: "Bus", Name: "shop-bus"}}, buses)

	rules, err := tpl.Rules()
	require.NoError(t, err)
	require.Len(t, rules, 2)
	assert.JSONEq(
		t,
		`{"source":["shop"],"detail":{"n":[1],"yes":[true],"none":[null],"text":["1","shop"],"there":[{"exists":false}]}}`,
		rules[0].Pattern,
	)
	rules[0].Pattern, rules[1].Pattern = "", ""
	assert.Equal(t, []template.Rule{
		{
			LogicalID: "Own",
			Name:      "own",
			Bus:       "shop-bus",
			Targets:   []template.RuleTarget{{ID: "q", ARN: "arn:aws:sqs:eu-west-1:123456789012:shop-Work"}},
		},
		{LogicalID: "Default", Name: "shop-Default", Bus: template.DefaultBus, Disabled: true},
	}, rules)

	functions, err := tpl.Functions()
	require.NoError(t, err)
	const arn = "arn:aws:events:eu-west-1:123456789012:"
	assert.Equal(t, map[string]string{
		"BUS": "shop-bus", "BUS_ARN": arn + "event-bus/shop-bus",
		"OWN": "shop-bus|own", "OWN_ARN": arn + "rule/shop-bus/own",
		"DEFAULT": "shop-Default", "DEFAULT_ARN": arn + "rule/shop-Default",
	}, functions[0].Environment)
}

func TestConfigurationSets(t *testing.T) {
	const destination = `{Type: AWS::SES::ConfigurationSetEventDestination, Properties: {ConfigurationSetName: !Ref Mails, EventDestination: {
		Enabled: %s, MatchingEventTypes: [%s], EventBridgeDestination: {EventBusArn: !Sub "arn:aws:events:${AWS::Region}:${AWS::AccountId}:event-bus/default"}}}}`
	tpl, err := load(t, `
Resources:
  Mails: {Type: AWS::SES::ConfigurationSet, Properties: {Name: mails, DeliveryOptions: {TlsPolicy: REQUIRE}}}
  Other: {Type: AWS::SES::ConfigurationSet}
  One: `+fmt.Sprintf(destination, "true", "bounce, complaint")+`
  Two: `+fmt.Sprintf(destination, "true", "delivery")+`
  Off: `+fmt.Sprintf(destination, "false", "send")+`
  F: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {SET: !Ref Mails}}}}
`, nil)
	require.NoError(t, err)
	sets, err := tpl.ConfigurationSets()
	require.NoError(t, err)
	assert.Equal(t, []template.ConfigurationSet{
		{LogicalID: "Mails", Name: "mails", EventTypes: []string{"bounce", "complaint", "delivery"}},
		{LogicalID: "Other", Name: "shop-Other"},
	}, sets)
	functions, err := tpl.Functions()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"SET": "mails"}, functions[0].Environment)
}

func TestEventsThatTheLocalRunDoesNotKnow(t *testing.T) {
	rule := func(properties string) string {
		return "Resources: {R: {Type: 'AWS::Events::Rule', Properties: " + properties + "}}"
	}
	for name, c := range map[string]struct{ text, want string }{
		"schedule":          {rule("{ScheduleExpression: rate(1 minute)}"), "does not know property ScheduleExpression"},
		"no pattern":        {rule("{State: ENABLED}"), "R: the local run knows rules with an EventPattern alone"},
		"state":             {rule("{EventPattern: {source: [a]}, State: OFF}"), "neither ENABLED nor DISABLED"},
		"another target":    {rule("{EventPattern: {source: [a]}, Targets: [{Id: a, Arn: 'arn:aws:lambda:x'}]}"), `rules that send to queues, not to "arn:aws:lambda:x"`},
		"input transformer": {rule("{EventPattern: {source: [a]}, Targets: [{Id: a, Arn: 'arn:aws:sqs:x', InputTransformer: {}}]}"), "does not know R.Targets.InputTransformer"},
		"bus without name":  {"Resources: {B: {Type: 'AWS::Events::EventBus'}}", "B: Name is missing"},
		"another bus": {
			"Resources: {D: {Type: 'AWS::SES::ConfigurationSetEventDestination', Properties: {ConfigurationSetName: a, EventDestination: {MatchingEventTypes: [send], EventBridgeDestination: {EventBusArn: other}}}}}",
			"D: SES publishes to arn:aws:events:eu-west-1:123456789012:event-bus/default alone",
		},
		"another destination": {
			"Resources: {D: {Type: 'AWS::SES::ConfigurationSetEventDestination', Properties: {ConfigurationSetName: a, EventDestination: {SnsDestination: {}}}}}",
			"does not know D.EventDestination.SnsDestination",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := load(t, c.text, nil)
			require.NoError(t, err)
			_, err = tpl.Rules()
			if err == nil {
				_, err = tpl.EventBuses()
			}
			if err == nil {
				_, err = tpl.ConfigurationSets()
			}
			assert.ErrorContains(t, err, c.want)
		})
	}
}
