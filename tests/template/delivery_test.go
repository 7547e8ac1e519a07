package template_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/tests/document"
)

func number(t *testing.T, value any) int {
	t.Helper()
	n, err := strconv.Atoi(document.Text(value))
	require.NoError(t, err)
	return n
}

// queues are those that a function takes from, by the name without Queue: the function and its event, the queue's name
// and that of its dead letters, the parameter that bounds the function's concurrency, and the batch size.
var queues = map[string]takenQueue{
	"Delivery":  {"engage-deliver", "Queue", "delivery", "Delivery", "DeliveryConcurrency", 10, false},
	"Retry":     {"engage-deliver", "Retries", "retry", "Delivery", "RetryConcurrency", 1, false},
	"Mail":      {"product-mail", "Queue", "mail", "Mail", "MailConcurrency", 10, false},
	"MailEvent": {"product-mail-event", "Queue", "mail-event", "MailEvent", "", 10, false},
	"Outbound":  {"ott-deliver", "Queue", "outbound", "Outbound", "OutboundConcurrency", 1, true},
}

type takenQueue struct {
	function, event, name, dead, concurrency string
	batch                                    int
	fifo                                     bool
}

// suffix ends the names of a FIFO queue and of its dead letters.
func (q takenQueue) suffix() string {
	if q.fifo {
		return ".fifo"
	}
	return ""
}

// fifo are the properties of a queue that keeps an order: as many conversations at once as there are, told apart in all
// that SQS does.
var fifo = map[string]any{
	"FifoQueue": "true", "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId",
}

// What a function cannot deal with ends where a person can look at it.
func TestQueues(t *testing.T) {
	template := document.Load(t)
	declared := template.OfType(t, "AWS::SQS::Queue")
	sources := map[string][]string{} // of dead letters
	for _, queue := range queues {
		arn := "!Sub arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${AWS::StackName}-" + queue.name +
			queue.suffix()
		sources[queue.dead] = append(sources[queue.dead], arn)
	}
	assert.Len(t, declared, len(queues)+len(sources), "each has dead letters")
	for id, want := range queues {
		t.Run(id, func(t *testing.T) {
			require.Contains(t, declared, id+"Queue")
			require.Contains(t, declared, want.dead+"DeadLetterQueue")
			live := document.At(t, declared[id+"Queue"], "Properties")
			dead := document.At(t, declared[want.dead+"DeadLetterQueue"], "Properties")
			name := func(queue any) string { return document.Text(document.At(t, queue, "QueueName")) }
			assert.Equal(t, "!Sub ${AWS::StackName}-"+want.name+want.suffix(), name(live))
			assert.Equal(t, "!Sub ${AWS::StackName}-"+queues[want.dead].name+"-dead"+want.suffix(), name(dead))
			for property, value := range fifo {
				if want.fifo {
					assert.Equal(t, value, document.At(t, live, property))
				} else {
					assert.NotContains(t, live, property)
				}
			}
			// Lambda's invocations for a FIFO queue that waits come from the queue: each is a receive.
			receives, times := 5, 6
			if want.fifo {
				receives, times = 1000, 3
				assert.Equal(t, "true", document.At(t, dead, "FifoQueue"))
			}
			assert.Equal(t, "true", document.At(t, live, "SqsManagedSseEnabled"))
			assert.Equal(t, "true", document.At(t, dead, "SqsManagedSseEnabled"))
			assert.Equal(t, "!GetAtt "+want.dead+"DeadLetterQueue.Arn",
				document.Text(document.At(t, live, "RedrivePolicy", "deadLetterTargetArn")))
			assert.Equal(t, receives, number(t, document.At(t, live, "RedrivePolicy", "maxReceiveCount")))
			assert.Greater(
				t,
				number(t, document.At(t, dead, "MessageRetentionPeriod")),
				number(t, document.At(t, live, "MessageRetentionPeriod")),
				"a dead letter keeps its age",
			)
			assert.Equal(t, "byQueue", document.At(t, dead, "RedriveAllowPolicy", "redrivePermission"))
			assert.ElementsMatch(t, sources[want.dead],
				document.Texts(document.At(t, dead, "RedriveAllowPolicy", "sourceQueueArns")))

			function := template.Functions(t)[want.function]
			assert.Equal(
				t,
				times*number(t, document.At(t, function, "Timeout")),
				number(t, document.At(t, live, "VisibilityTimeout")),
				"docs/design.md, waits",
			)
			mapping := document.At(t, function, "Events", want.event, "Properties").(map[string]any)
			assert.Equal(t, "!GetAtt "+id+"Queue.Arn", document.Text(document.At(t, mapping, "Queue")))
			assert.Equal(
				t,
				[]string{"ReportBatchItemFailures"},
				document.Texts(document.At(t, mapping, "FunctionResponseTypes")),
			)
			assert.Equal(t, want.batch, number(t, document.At(t, mapping, "BatchSize")))
			if want.fifo { // which has none
				assert.NotContains(t, mapping, "MaximumBatchingWindowInSeconds")
			} else {
				assert.Equal(t, 0, number(t, document.At(t, mapping, "MaximumBatchingWindowInSeconds")),
					"what is due does not wait for others")
			}
			if want.concurrency == "" {
				assert.NotContains(t, mapping, "ScalingConfig")
				return
			}
			assert.Equal(
				t,
				"!Ref "+want.concurrency,
				document.Text(document.At(t, mapping, "ScalingConfig", "MaximumConcurrency")),
			)
			concurrency := document.At(t, map[string]any(template), "Parameters", want.concurrency)
			assert.Equal(t, 2, number(t, document.At(t, concurrency, "MinValue")), "Lambda's own limits")
			assert.Equal(t, 1000, number(t, document.At(t, concurrency, "MaxValue")))
		})
	}
}

// Lambda ends a function's loop with itself after 16 rounds. A wait of ours is such a loop; where there is none, a loop
// is a mistake, and better ended.
func TestOnlyWhatSendsToItsOwnQueueMayLoop(t *testing.T) {
	template := document.Load(t)
	roles := template.OfType(t, "AWS::IAM::Role")
	loops := 0
	for name, function := range template.Functions(t) {
		var sends []string
		for _, policy := range document.At(t, roles[document.Stem(name)+"Role"], "Properties", "Policies").([]any) {
			for _, statement := range document.At(t, policy, "PolicyDocument", "Statement").([]any) {
				if slices.Contains(document.Texts(document.At(t, statement, "Action")), "sqs:SendMessage") {
					sends = append(sends, document.Texts(document.At(t, statement, "Resource"))...)
				}
			}
		}
		own := slices.ContainsFunc(document.Queues(t, function), func(queue string) bool {
			return slices.Contains(sends, "!GetAtt "+queue+".Arn")
		})
		if !own {
			assert.NotContains(t, function, "RecursiveLoop", name)
			continue
		}
		loops++
		assert.Equal(t, "Allow", function["RecursiveLoop"], name)
	}
	assert.Positive(t, loops, "some function waits by its queue")
}

func TestEventBus(t *testing.T) {
	buses := document.Load(t).OfType(t, "AWS::Events::EventBus")
	require.Len(t, buses, 1)
	assert.Equal(
		t,
		"!Sub ${AWS::StackName}-ott",
		document.Text(document.At(t, buses["EventBus"], "Properties", "Name")),
	)
}

func TestScheduleRunsEveryMinuteAndNeverTwiceAtOnce(t *testing.T) {
	function := document.Load(t).Functions(t)["engage-schedule"]
	assert.Less(t, number(t, document.At(t, function, "Timeout")), 60)
	assert.Equal(
		t,
		0,
		number(t, document.At(t, function, "EventInvokeConfig", "MaximumRetryAttempts")),
		"the next run does what this one left",
	)
	schedule := document.At(t, function, "Events", "EveryMinute", "Properties")
	assert.Equal(t, "rate(1 minute)", document.At(t, schedule, "ScheduleExpression"))
	assert.Equal(t, 60, number(t, document.At(t, schedule, "RetryPolicy", "MaximumEventAgeInSeconds")))
	assert.Equal(
		t,
		"!Sub ${AWS::StackName}-engage-schedule",
		document.Text(document.At(t, schedule, "Name")),
		"SAM's own name is the same in every stack",
	)
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
		"Delivery": {
			"requestId",
			"chunk",
			"notBefore",
		}, "Mail": {"requestId"}, "MailEvent": {"source", "detail-type", "detail"},
		"Outbound": {"tenant", "ottRequestId", "platform", "propertyId", "conversation", "queuedAt", "validUntil"},
	}
	for id, queue := range queues {
		if queue.event != "Queue" { // a function has one example
			continue
		}
		record := document.At(t, read(queue.function), "Records").([]any)[0]
		assert.Equal(t, "aws:sqs", document.At(t, record, "eventSource"))
		assert.Regexp(
			t,
			`^arn:aws:sqs:[a-z0-9-]+:\d{12}:carillon-`+queue.name+regexp.QuoteMeta(queue.suffix())+`$`,
			document.At(t, record, "eventSourceARN"),
		)
		var message map[string]any
		require.NoError(t, json.Unmarshal([]byte(document.At(t, record, "body").(string)), &message))
		assert.Subset(t, slices.Collect(maps.Keys(message)), members[id])
	}

	schedule := read("engage-schedule")
	assert.Equal(t, "aws.scheduler", document.At(t, schedule, "source"))
	assert.Equal(t, "Scheduled Event", document.At(t, schedule, "detail-type"))
}

// alarms is what a person is woken up for: each alarm's metrics, as namespace/name of what, statistic.
var alarms = map[string][]string{
	"FunctionErrorsAlarm": nil, // see TestEveryFunctionIsUnderAnAlarm
	"DeliveryErrorsAlarm": nil,
	"OttErrorsAlarm":      nil,
	"ScheduleSilentAlarm": {"AWS/Lambda/Invocations of !Ref EngageScheduleFunction, Sum"},
	"DeadLettersAlarm": {
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt DeliveryDeadLetterQueue.QueueName, Maximum",
	},
	"DeliveryQueueAgeAlarm": {
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt DeliveryQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt DeliveryQueue.QueueName, Minimum",
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt RetryQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt RetryQueue.QueueName, Minimum",
	},
	"OutboundDeadLettersAlarm": {
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt OutboundDeadLetterQueue.QueueName, Maximum",
	},
	"OutboundQueueAgeAlarm": {
		"AWS/SQS/ApproximateAgeOfOldestMessage of !GetAtt OutboundQueue.QueueName, Maximum",
		"AWS/SQS/ApproximateNumberOfMessagesVisible of !GetAtt OutboundQueue.QueueName, Minimum",
		"AWS/Lambda/ConcurrentExecutions of !Ref OttDeliverFunction, Maximum",
		"AWS/Lambda/Invocations of !Ref OttDeliverFunction, Sum",
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
	"MailAccountFaultsAlarm": {"Carillon/mailAccountFaults of !Ref ProductMailFunction, Sum"},
	"ApiServerErrorsAlarm":   {"AWS/ApiGateway/5xx of !Ref Api, Sum", "AWS/ApiGateway/5xx of !Ref Api, Sum"},
}

func TestAlarms(t *testing.T) {
	declared := document.Load(t).OfType(t, "AWS::CloudWatch::Alarm")
	assert.ElementsMatch(t, slices.Collect(maps.Keys(alarms)), slices.Collect(maps.Keys(declared)))
	for id, alarm := range declared {
		t.Run(id, func(t *testing.T) {
			properties := document.At(t, alarm, "Properties")
			for _, actions := range []string{"AlarmActions", "OKActions"} {
				assert.Equal(t, "HasAlarmTopic", document.At(t, properties, actions, "Fn::If").([]any)[0])
			}
			missing := "notBreaching"
			if id == "ScheduleSilentAlarm" {
				missing = "breaching"
			}
			assert.Equal(t, missing, document.At(t, properties, "TreatMissingData"))
			if alarms[id] != nil {
				assert.ElementsMatch(t, alarms[id], metrics(t, properties))
			}
		})
	}
}

func TestEveryFunctionIsUnderAnAlarm(t *testing.T) {
	declared := document.Load(t).OfType(t, "AWS::CloudWatch::Alarm")
	var watched []string
	for _, id := range []string{"FunctionErrorsAlarm", "DeliveryErrorsAlarm", "MailErrorsAlarm", "OttErrorsAlarm"} {
		of := metrics(t, document.At(t, declared[id], "Properties"))
		assert.LessOrEqual(t, len(of), 10, "CloudWatch's limit for one alarm")
		for _, metric := range of {
			logicalID, ok := strings.CutPrefix(metric, "AWS/Lambda/Errors of !Ref ")
			assert.True(t, ok, metric)
			watched = append(watched, document.Folder(strings.TrimSuffix(logicalID, ", Sum")))
		}
	}
	assert.ElementsMatch(t, functions(t), watched, "template.yaml: each function is under one of the alarms on errors")
}

// metrics reads what an alarm looks at, expressions aside.
func metrics(t *testing.T, alarm any) []string {
	t.Helper()
	describe := func(metric any, stat any) string {
		dimensions := document.At(t, metric, "Dimensions").([]any)
		return document.At(t, metric, "Namespace").(string) + "/" + document.At(t, metric, "MetricName").(string) + " of " + document.Text(
			document.At(t, dimensions[0], "Value"),
		) + ", " + document.Text(
			stat,
		)
	}
	properties := alarm.(map[string]any)
	if stat, ok := properties["Statistic"]; ok {
		return []string{describe(alarm, stat)}
	}
	if stat, ok := properties["ExtendedStatistic"]; ok {
		return []string{describe(alarm, stat)}
	}
	var all []string
	for _, query := range document.At(t, alarm, "Metrics").([]any) {
		if stat, ok := query.(map[string]any)["MetricStat"]; ok {
			all = append(all, describe(document.At(t, stat, "Metric"), document.At(t, stat, "Stat")))
		}
	}
	return all
}

func TestSecretsOutliveTheirStack(t *testing.T) {
	for id, secret := range document.Load(t).OfType(t, "AWS::SecretsManager::Secret") {
		if id == "TokenSigningKeySecret" {
			continue // nobody outside knows it: a new stack makes a new one
		}
		assert.Equal(t, "Retain", document.At(t, secret, "DeletionPolicy"), id)
		assert.Equal(t, "Retain", document.At(t, secret, "UpdateReplacePolicy"), id)
		assert.Contains(
			t,
			document.At(t, secret, "Properties"),
			"GenerateSecretString",
			"%s: a placeholder until an operator puts the real one",
			id,
		)
	}
}
