package template_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestMailLeavesEncryptedAndUntracked(t *testing.T) {
	set := at(t, load(t).ofType(t, "AWS::SES::ConfigurationSet")["MailConfigurationSet"], "Properties").(map[string]any)
	assert.Equal(t, "!Sub ${AWS::StackName}-mail", text(at(t, set, "Name")))
	assert.Equal(t, "REQUIRE", at(t, set, "DeliveryOptions", "TlsPolicy"))
	assert.Equal(t, "true", at(t, set, "ReputationOptions", "ReputationMetricsEnabled"))
	assert.ElementsMatch(t, []string{"BOUNCE", "COMPLAINT"}, texts(at(t, set, "SuppressionOptions", "SuppressedReasons")))
	assert.NotContains(t, set, "TrackingOptions")
	assert.NotContains(t, set, "VdmOptions")
}

func TestMailGoesOutUnderOneAddress(t *testing.T) {
	role := at(t, load(t).ofType(t, "AWS::IAM::Role")["ProductMailRole"], "Properties")
	statements := at(t, at(t, role, "Policies").([]any)[0], "PolicyDocument", "Statement").([]any)
	found := false
	for _, statement := range statements {
		if text(at(t, statement, "Action")) != "ses:SendEmail" {
			continue
		}
		found = true
		condition := at(t, statement, "Condition").(map[string]any)
		assert.Equal(t, map[string]any{"StringEquals": map[string]any{"ses:FromAddress": map[string]any{"Ref": "MailFrom"}}}, condition)
	}
	assert.True(t, found)
}

// What becomes of a mail: SES, the default bus, this stack's rule, its queue.
func TestMailEventsComeBack(t *testing.T) {
	template := load(t)
	destination := at(t, template.ofType(t, "AWS::SES::ConfigurationSetEventDestination")["MailEventDestination"], "Properties")
	assert.Equal(t, "!Ref MailConfigurationSet", text(at(t, destination, "ConfigurationSetName")))
	event := at(t, destination, "EventDestination")
	assert.Equal(t, "true", at(t, event, "Enabled"))
	assert.ElementsMatch(t, []string{"delivery", "bounce", "complaint", "reject", "renderingFailure"}, texts(at(t, event, "MatchingEventTypes")))
	assert.Equal(t, "!Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default",
		text(at(t, event, "EventBridgeDestination", "EventBusArn")))

	rule := at(t, template.ofType(t, "AWS::Events::Rule")["MailEventRule"], "Properties").(map[string]any)
	assert.NotContains(t, rule, "EventBusName", "SES publishes to the default bus")
	assert.Equal(t, map[string]any{
		"source": []any{"aws.ses"},
		"detail": map[string]any{"mail": map[string]any{"tags": map[string]any{"ses:configuration-set": []any{map[string]any{"Ref": "MailConfigurationSet"}}}}},
	}, at(t, rule, "EventPattern"))
	targets := at(t, rule, "Targets").([]any)
	require.Len(t, targets, 1)
	assert.Equal(t, "!GetAtt MailEventQueue.Arn", text(at(t, targets[0], "Arn")))
	assert.Equal(t, "!GetAtt MailEventDeadLetterQueue.Arn", text(at(t, targets[0], "DeadLetterConfig", "Arn")))

	policies := template.ofType(t, "AWS::SQS::QueuePolicy")
	require.Len(t, policies, 1, "no other queue is open to a service")
	policy := at(t, policies["MailEventQueuePolicy"], "Properties")
	assert.Equal(t, []string{"!Ref MailEventDeadLetterQueue", "!Ref MailEventQueue"}, texts(at(t, policy, "Queues")))
	statements := at(t, policy, "PolicyDocument", "Statement").([]any)
	require.Len(t, statements, 1)
	assert.Equal(t, "events.amazonaws.com", at(t, statements[0], "Principal", "Service"))
	assert.Equal(t, "sqs:SendMessage", at(t, statements[0], "Action"))
	assert.Equal(t, []string{"!GetAtt MailEventDeadLetterQueue.Arn", "!GetAtt MailEventQueue.Arn"}, texts(at(t, statements[0], "Resource")))
	assert.Equal(t, "!GetAtt MailEventRule.Arn", text(at(t, statements[0], "Condition", "ArnEquals", "aws:SourceArn")))
}

func TestMailParameters(t *testing.T) {
	parameters := at(t, map[string]any(load(t)), "Parameters")
	for name, values := range map[string]map[string]bool{
		"MailFrom": {
			"activation@mail.example.com": true, "a.b+c@example.co": true, "": false, "mail.example.com": false,
			"Shop <activation@mail.example.com>": false, "a@b@example.com": false, "a@localhost": false, "a@example.com\nBcc: b@example.com": false,
		},
		"MailIdentity": {"mail.example.com": true, "activation@mail.example.com": true, "": false, "*": false, "identity/*": false, "example": false},
		"ActivationHosts": {
			"activate.example.com": true, "activate.example.com,*.example.net": true, "*": true, "": false, "*,activate.example.com": false,
			"a.example.com, b.example.com": false, "https://a.example.com": false, "*.*.example.com": false, "a.*.example.com": false, "example": false,
			"a.example.com,": false, "a.example.com:443": false,
		},
		"ResendWindow": {"1h": true, "1h30m": true, "90s": true, "1": false, "": false, "-1h": false},
	} {
		pattern := regexp.MustCompile(at(t, parameters, name, "AllowedPattern").(string))
		for value, want := range values {
			assert.Equal(t, want, pattern.MatchString(value), "%s %q", name, value)
		}
	}
	for _, name := range []string{"MailFrom", "MailIdentity", "ActivationHosts"} {
		assert.NotContains(t, at(t, parameters, name), "Default", "%s: nothing that is right for everybody", name)
	}
	for name, want := range map[string]string{"ResendWindow": "1h", "ResendsPerAccount": "10", "ResendsPerAddress": "30", "MailConcurrency": "5"} {
		assert.Equal(t, want, at(t, parameters, name, "Default"), name)
	}
}
