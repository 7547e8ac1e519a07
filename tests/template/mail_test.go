package template_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/document"
)

func TestMailLeavesEncryptedAndUntracked(t *testing.T) {
	set := document.At(t, document.Load(t).OfType(t, "AWS::SES::ConfigurationSet")["MailConfigurationSet"], "Properties").(map[string]any)
	assert.Equal(t, "!Sub ${AWS::StackName}-mail", document.Text(document.At(t, set, "Name")))
	assert.Equal(t, "REQUIRE", document.At(t, set, "DeliveryOptions", "TlsPolicy"))
	assert.Equal(t, "true", document.At(t, set, "ReputationOptions", "ReputationMetricsEnabled"))
	assert.ElementsMatch(
		t,
		[]string{"BOUNCE", "COMPLAINT"},
		document.Texts(document.At(t, set, "SuppressionOptions", "SuppressedReasons")),
	)
	assert.NotContains(t, set, "TrackingOptions")
	assert.NotContains(t, set, "VdmOptions")
}

func TestMailGoesOutUnderOneAddress(t *testing.T) {
	role := document.At(t, document.Load(t).OfType(t, "AWS::IAM::Role")["ProductMailRole"], "Properties")
	statements := document.At(t, document.At(t, role, "Policies").([]any)[0], "PolicyDocument", "Statement").([]any)
	found := false
	for _, statement := range statements {
		if document.Text(document.At(t, statement, "Action")) != "ses:SendEmail" {
			continue
		}
		found = true
		condition := document.At(t, statement, "Condition").(map[string]any)
		assert.Equal(
			t,
			map[string]any{"StringEquals": map[string]any{"ses:FromAddress": map[string]any{"Ref": "MailFrom"}}},
			condition,
		)
	}
	assert.True(t, found)
}

// What becomes of a mail: SES, the default bus, this stack's rule, its queue.
func TestMailEventsComeBack(t *testing.T) {
	template := document.Load(t)
	destination := document.At(
		t,
		template.OfType(t, "AWS::SES::ConfigurationSetEventDestination")["MailEventDestination"],
		"Properties",
	)
	assert.Equal(t, "!Ref MailConfigurationSet", document.Text(document.At(t, destination, "ConfigurationSetName")))
	event := document.At(t, destination, "EventDestination")
	assert.Equal(t, "true", document.At(t, event, "Enabled"))
	assert.ElementsMatch(
		t,
		[]string{"delivery", "deliveryDelay", "bounce", "complaint", "reject", "renderingFailure"},
		document.Texts(document.At(t, event, "MatchingEventTypes")),
	)
	assert.Equal(t, "!Sub arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default",
		document.Text(document.At(t, event, "EventBridgeDestination", "EventBusArn")))

	rule := document.At(t, template.OfType(t, "AWS::Events::Rule")["MailEventRule"], "Properties").(map[string]any)
	assert.NotContains(t, rule, "EventBusName", "SES publishes to the default bus")
	assert.Equal(t, map[string]any{
		"source": []any{"aws.ses"},
		"detail": map[string]any{
			"mail": map[string]any{
				"tags": map[string]any{"ses:configuration-set": []any{map[string]any{"Ref": "MailConfigurationSet"}}},
			},
		},
	}, document.At(t, rule, "EventPattern"))
	targets := document.At(t, rule, "Targets").([]any)
	require.Len(t, targets, 1)
	assert.Equal(t, "!GetAtt MailEventQueue.Arn", document.Text(document.At(t, targets[0], "Arn")))
	assert.Equal(
		t,
		"!GetAtt MailEventDeadLetterQueue.Arn",
		document.Text(document.At(t, targets[0], "DeadLetterConfig", "Arn")),
	)

	policies := template.OfType(t, "AWS::SQS::QueuePolicy")
	require.Len(t, policies, 1, "no other queue is open to a service")
	policy := document.At(t, policies["MailEventQueuePolicy"], "Properties")
	assert.Equal(
		t,
		[]string{"!Ref MailEventDeadLetterQueue", "!Ref MailEventQueue"},
		document.Texts(document.At(t, policy, "Queues")),
	)
	statements := document.At(t, policy, "PolicyDocument", "Statement").([]any)
	require.Len(t, statements, 1)
	assert.Equal(t, "events.amazonaws.com", document.At(t, statements[0], "Principal", "Service"))
	assert.Equal(t, "sqs:SendMessage", document.At(t, statements[0], "Action"))
	assert.Equal(
		t,
		[]string{"!GetAtt MailEventDeadLetterQueue.Arn", "!GetAtt MailEventQueue.Arn"},
		document.Texts(document.At(t, statements[0], "Resource")),
	)
	assert.Equal(
		t,
		"!GetAtt MailEventRule.Arn",
		document.Text(document.At(t, statements[0], "Condition", "ArnEquals", "aws:SourceArn")),
	)
}

func TestMailParameters(t *testing.T) {
	parameters := document.At(t, map[string]any(document.Load(t)), "Parameters")
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
		pattern := regexp.MustCompile(document.At(t, parameters, name, "AllowedPattern").(string))
		for value, want := range values {
			assert.Equal(t, want, pattern.MatchString(value), "%s %q", name, value)
		}
	}
	for _, name := range []string{"MailFrom", "MailIdentity", "ActivationHosts"} {
		assert.NotContains(
			t,
			document.At(t, parameters, name),
			"Default",
			"%s: nothing that is right for everybody",
			name,
		)
	}
	for name, want := range map[string]string{"ResendWindow": "1h", "ResendsPerAccount": "10", "ResendsPerAddress": "30", "MailConcurrency": "5"} {
		assert.Equal(t, want, document.At(t, parameters, name, "Default"), name)
	}
}
