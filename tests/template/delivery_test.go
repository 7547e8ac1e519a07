package template_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func number(t *testing.T, value any) int {
	t.Helper()
	n, err := strconv.Atoi(text(value))
	require.NoError(t, err)
	return n
}

// queues are those that a function takes from, by the name without Queue: the function, the queue's name, and the
// parameter that bounds the function's concurrency.
var queues = map[string]struct{ function, name, concurrency string }{
	"Delivery":  {"engage-deliver", "delivery", "DeliveryConcurrency"},
	"Mail":      {"product-mail", "mail", "MailConcurrency"},
	"MailEvent": {"product-mail-event", "mail-event", ""},
	"Outbound":  {"ott-deliver", "outbound", "OutboundConcurrency"},
}

// What a function cannot deal with ends where a person can look at it.
func TestQueues(t *testing.T) {
	template := load(t)
	declared := template.ofType(t, "AWS::SQS::Queue")
	assert.Len(t, declared, 2*len(queues), "one of dead letters for each")
	for id, want := range queues {
		t.Run(id, func(t *testing.T) {
			require.Contains(t, declared, id+"Queue")
			require.Contains(t, declared, id+"DeadLetterQueue")
			live := at(t, declared[id+"Queue"], "Properties")
			dead := at(t, declared[id+"DeadLetterQueue"], "Properties")
			assert.Equal(t, "!Sub ${AWS::StackName}-"+want.name, text(at(t, live, "QueueName")))
			assert.Equal(t, "!Sub ${AWS::StackName}-"+want.name+"-dead", text(at(t, dead, "QueueName")))
			assert.Equal(t, "true", at(t, live, "SqsManagedSseEnabled"))
			assert.Equal(t, "true", at(t, dead, "SqsManagedSseEnabled"))
			assert.Equal(t, "!GetAtt "+id+"DeadLetterQueue.Arn", text(at(t, live, "RedrivePolicy", "deadLetterTargetArn")))
			assert.Equal(t, 5, number(t, at(t, live, "RedrivePolicy", "maxReceiveCount")))
			assert.Greater(t, number(t, at(t, dead, "MessageRetentionPeriod")), number(t, at(t, live, "MessageRetentionPeriod")),
				"a dead letter keeps its age")
			assert.Equal(t, "byQueue", at(t, dead, "RedriveAllowPolicy", "redrivePermission"))
			assert.Equal(t, []string{"!Sub arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-" + want.name},
				texts(at(t, dead, "RedriveAllowPolicy", "sourceQueueArns")))

			function := template.functions(t)[want.function]
			assert.Equal(t, 6*number(t, at(t, function, "Timeout")), number(t, at(t, live, "VisibilityTimeout")), "as AWS recommends")
			mapping := at(t, function, "Events", "Queue", "Properties").(map[string]any)
			assert.Equal(t, "!GetAtt "+id+"Queue.Arn", text(at(t, mapping, "Queue")))
			assert.Equal(t, []string{"ReportBatchItemFailures"}, texts(at(t, mapping, "FunctionResponseTypes")))
			assert.Equal(t, 10, number(t, at(t, mapping, "BatchSize")))
			assert.Equal(t, 0, number(t, at(t, mapping, "MaximumBatchingWindowInSeconds")), "what is due does not wait for others")
			if want.concurrency == "" {
				assert.NotContains(t, mapping, "ScalingConfig")
				return
			}
			assert.Equal(t, "!Ref "+want.concurrency, text(at(t, mapping, "ScalingConfig", "MaximumConcurrency")))
			concurrency := at(t, map[string]any(template), "Parameters", want.concurrency)
			assert.Equal(t, 2, number(t, at(t, concurrency, "MinValue")), "Lambda's own limits")
			assert.Equal(t, 1000, number(t, at(t, concurrency, "MaxValue")))
		})
	}
}

func TestEventBus(t *testing.T) {
	buses := load(t).ofType(t, "AWS::Events::EventBus")
	require.Len(t, buses, 1)
	assert.Equal(t, "!Sub ${AWS::StackName}-ott", text(at(t, buses["EventBus"], "Properties", "Name")))
}

func TestScheduleRunsEveryMinuteAndNeverTwiceAtOnce(t *testing.T) {
	function := load(t).functions(t)["engage-schedule"]
	assert.Less(t, number(t, at(t, function, "Timeout")), 60)
	assert.Equal(t, 0, number(t, at(t, function, "EventInvokeConfig", "MaximumRetryAttempts")), "the next run does what this one left")
	schedule := at(t, function, "Events", "EveryMinute", "Properties")
	assert.Equal(t, "rate(1 minute)", at(t, schedule, "ScheduleExpression"))
	assert.Equal(t, 60, number(t, at(t, schedule, "RetryPolicy", "MaximumEventAgeInSeconds")))
	assert.Equal(t, "!Sub ${AWS::StackName}-engage-schedule", text(at(t, schedule, "Name")), "SAM's own name is the same in every stack")
	assert.NotContains(t, schedule, "RoleArn", "the role that SAM makes is for this function alone")
}

func TestEventsThatAreNoRequests(t *testing.T) {
	read := func(name string) map[string]any {
		raw, err := os.ReadFile(filepath.Join(root, "events", name+".json"))
		require.NoError(t, err)
		var event map[string]any
		require.NoError(t, json.Unmarshal(raw, &event))
		return event
	}
	members := map[string][]string{
		"Delivery": {"requestId", "chunk", "notBefore"}, "Mail": {"requestId"}, "MailEvent": {"source", "detail-type", "detail"},
		"Outbound": {"tenant", "ottRequestId"},
	}
	for id, queue := range queues {
		record := at(t, read(queue.function), "Records").([]any)[0]
		assert.Equal(t, "aws:sqs", at(t, record, "eventSource"))
		assert.Regexp(t, `^arn:aws:sqs:[a-z0-9-]+:\d{12}:carillon-`+queue.name+`$`, at(t, record, "eventSourceARN"))
		var message map[string]any
		require.NoError(t, json.Unmarshal([]byte(at(t, record, "body").(string)), &message))
		assert.Subset(t, slices.Collect(maps.Keys(message)), members[id])
	}

	schedule := read("engage-schedule")
	assert.Equal(t, "aws.scheduler", at(t, schedule, "source"))
	assert.Equal(t, "Scheduled Event", at(t, schedule, "detail-type"))
}

// alarms is what a person is woken up for: each alarm's metrics, as namespace/name of what, statistic.
var alarms = map[string][]string{
	"FunctionErrorsAlarm": nil, // see TestEveryFunctionIsUnderAnAlarm
	"DeliveryErrorsAlarm": nil,
	"OttErrorsAlarm":      nil,
	"ScheduleSilentAlarm": {"AWS/Lambda/Invocations of !Ref EngageScheduleFunction, Sum"},
	"DeadLettersAlarm":    {"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt DeliveryDeadLetterQueue.QueueName, Maximum"},
	"DeliveryQueueAgeAlarm": {
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt DeliveryQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt DeliveryQueue.QueueName, Minimum",
	},
	"OutboundDeadLettersAlarm": {"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt OutboundDeadLetterQueue.QueueName, Maximum"},
	"OutboundQueueAgeAlarm": {
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt OutboundQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt OutboundQueue.QueueName, Minimum",
	},
	"PlatformErrorsAlarm":    {"Carillon/platformErrors of !Ref OttDeliverFunction, Sum"},
	"RefusedSignaturesAlarm": {"Carillon/refusedSignatures of !Ref OttCallbackFunction, Sum"},
	"LatenessAlarm":          {"Carillon/latenessMs of !Ref EngageDeliverFunction, p99"},
	"GatewayErrorsAlarm":     {"Carillon/gatewayErrors of !Ref EngageDeliverFunction, Sum"},
	"MailErrorsAlarm":        nil,
	"MailDeadLettersAlarm": {
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt MailDeadLetterQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt MailEventDeadLetterQueue.QueueName, Maximum",
	},
	"MailQueueAgeAlarm": {
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt MailQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt MailQueue.QueueName, Minimum",
	},
	"MailsRefusedAlarm": {
		"Carillon/mailsRefused of !Ref ProductMailFunction, Sum",
		"Carillon/mailsRefused of !Ref ProductMailEventFunction, Sum",
	},
	"ApiServerErrorsAlarm": {"AWS/ApiGateway/5xx of !Ref Api, Sum", "AWS/ApiGateway/5xx of !Ref Api, Sum"},
}

func TestAlarms(t *testing.T) {
	declared := load(t).ofType(t, "AWS::CloudWatch::Alarm")
	assert.ElementsMatch(t, slices.Collect(maps.Keys(alarms)), slices.Collect(maps.Keys(declared)))
	for id, alarm := range declared {
		t.Run(id, func(t *testing.T) {
			properties := at(t, alarm, "Properties")
			for _, actions := range []string{"AlarmActions", "OKActions"} {
				assert.Equal(t, "HasAlarmTopic", at(t, properties, actions, "Fn::If").([]any)[0])
			}
			missing := "notBreaching"
			if id == "ScheduleSilentAlarm" {
				missing = "breaching"
			}
			assert.Equal(t, missing, at(t, properties, "TreatMissingData"))
			if alarms[id] != nil {
				assert.ElementsMatch(t, alarms[id], metrics(t, properties))
			}
		})
	}
}

func TestEveryFunctionIsUnderAnAlarm(t *testing.T) {
	declared := load(t).ofType(t, "AWS::CloudWatch::Alarm")
	var watched []string
	for _, id := range []string{"FunctionErrorsAlarm", "DeliveryErrorsAlarm", "MailErrorsAlarm", "OttErrorsAlarm"} {
		of := metrics(t, at(t, declared[id], "Properties"))
		assert.LessOrEqual(t, len(of), 10, "CloudWatch's limit for one alarm")
		for _, metric := range of {
			logicalID, ok := strings.CutPrefix(metric, "AWS/Lambda/Errors of !Ref ")
			assert.True(t, ok, metric)
			watched = append(watched, folder(strings.TrimSuffix(logicalID, ", Sum")))
		}
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(functions)), watched)
}

// metrics reads what an alarm looks at, expressions aside.
func metrics(t *testing.T, alarm any) []string {
	t.Helper()
	describe := func(metric any, stat any) string {
		dimensions := at(t, metric, "Dimensions").([]any)
		return at(t, metric, "Namespace").(string) + "/" + at(t, metric, "MetricName").(string) + " of " + text(at(t, dimensions[0], "Value")) + ", " + text(stat)
	}
	properties := alarm.(map[string]any)
	if stat, ok := properties["Statistic"]; ok {
		return []string{describe(alarm, stat)}
	}
	if stat, ok := properties["ExtendedStatistic"]; ok {
		return []string{describe(alarm, stat)}
	}
	var all []string
	for _, query := range at(t, alarm, "Metrics").([]any) {
		if stat, ok := query.(map[string]any)["MetricStat"]; ok {
			all = append(all, describe(at(t, stat, "Metric"), at(t, stat, "Stat")))
		}
	}
	return all
}

func TestSecretsOutliveTheirStack(t *testing.T) {
	for id, secret := range load(t).ofType(t, "AWS::SecretsManager::Secret") {
		if id == "TokenSigningKeySecret" {
			continue // nobody outside knows it: a new stack makes a new one
		}
		assert.Equal(t, "Retain", at(t, secret, "DeletionPolicy"), id)
		assert.Equal(t, "Retain", at(t, secret, "UpdateReplacePolicy"), id)
		assert.Contains(t, at(t, secret, "Properties"), "GenerateSecretString", "%s: a placeholder until an operator puts the real one", id)
	}
}
