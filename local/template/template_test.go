package template_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/template"
)

func load(t *testing.T, text string, change func(*template.Options)) (*template.Template, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "template.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	options := template.Options{StackName: "shop", Region: "eu-west-1", AccountID: "123456789012"}
	if change != nil {
		change(&options)
	}
	return template.Load(path, options)
}

// evaluate returns what a function's variable becomes.
func evaluate(t *testing.T, expression string) (string, error) {
	t.Helper()
	tpl, err := load(t, `
Parameters:
  Size: {Type: String, Default: small, AllowedValues: [small, large]}
  Level: {Type: String, Default: "1"}
Mappings:
  Sizes: {small: {memory: 128}, large: {memory: 512}}
Conditions:
  Small: !Equals [!Ref Size, small]
  Large: !Not [!Condition Small]
  Both: !And [!Condition Small, {Condition: Large}]
  Either: !Or [!Condition Large, !Condition Small]
  Circle: !Not [!Condition Circle]
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    Properties: {TableName: !Sub "${AWS::StackName}-things"}
  Key:
    Type: AWS::SecretsManager::Secret
    Properties: {Name: key}
  Unbound:
    Type: AWS::SecretsManager::Secret
    Properties: {Name: unbound}
  Absent:
    Type: AWS::DynamoDB::Table
    Condition: Large
    Properties: {TableName: absent}
  Fn:
    Type: AWS::Serverless::Function
    Properties: {Environment: {Variables: {V: `+expression+`}}}
`, nil)
	require.NoError(t, err)
	tpl.Bind("Key", template.Physical{Ref: "arn:key-a1b2c3", Attributes: map[string]string{"Id": "arn:key-a1b2c3"}})
	functions, err := tpl.Functions()
	if err != nil {
		return "", err
	}
	value, ok := functions[0].Environment["V"]
	if !ok {
		return "(none)", nil
	}
	return value, nil
}

func TestIntrinsics(t *testing.T) {
	for expression, want := range map[string]string{
		`plain`:                                  "plain",
		`"010"`:                                  "010",
		`true`:                                   "true",
		`!Ref Size`:                              "small",
		`{Ref: Size}`:                            "small",
		`!Ref AWS::StackName`:                    "shop",
		`!Ref AWS::Region`:                       "eu-west-1",
		`!Ref AWS::AccountId`:                    "123456789012",
		`!Ref AWS::NoValue`:                      "(none)",
		`!Ref Things`:                            "shop-things",
		`!Ref Key`:                               "arn:key-a1b2c3",
		`!GetAtt Things.Arn`:                     "arn:aws:dynamodb:eu-west-1:123456789012:table/shop-things",
		`{"Fn::GetAtt": [Things, Arn]}`:          "arn:aws:dynamodb:eu-west-1:123456789012:table/shop-things",
		`!Sub "${AWS::StackName}/${Size}"`:       "shop/small",
		`!Sub "${Things} ${Things.Arn}"`:         "shop-things arn:aws:dynamodb:eu-west-1:123456789012:table/shop-things",
		`!Sub "${!Literal} ${Size}"`:             "${Literal} small",
		`!Sub ["${A}-${Size}", {A: !Ref Level}]`: "1-small",
		`{"Fn::Sub": "${Size}"}`:                 "small",
		`!Join ["-", [a, !Ref Size]]`:            "a-small",
		`!Select [1, [a, b]]`:                    "b",
		`!Select [1, !Split [",", "a,b"]]`:       "b",
		`!If [Small, yes, no]`:                   "yes",
		`!If [Large, yes, no]`:                   "no",
		`!If [Both, yes, no]`:                    "no",
		`!If [Either, yes, no]`:                  "yes",
		`!If [Large, x, !Ref AWS::NoValue]`:      "(none)",
		`!FindInMap [Sizes, !Ref Size, memory]`:  "128",
		`!Base64 abc`:                            "YWJj",
	} {
		t.Run(expression, func(t *testing.T) {
			got, err := evaluate(t, expression)
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestIntrinsicsThatFailSayWhere(t *testing.T) {
	for expression, want := range map[string]string{
		`!Ref Nothing`:                   "template.yaml:29: Nothing is neither a parameter nor a resource",
		`!Ref Unbound`:                   "cannot say what Unbound is",
		`!Ref Absent`:                    "its condition does not hold",
		`!GetAtt Things.StreamArn`:       "does not know the attribute StreamArn of Things",
		`!Sub "${Nothing}"`:              "Nothing is neither",
		`!ImportValue x`:                 "does not know the intrinsic function ImportValue",
		`{"Fn::Cidr": [a, b]}`:           "does not know the intrinsic function Cidr",
		`!If [Unknown, a, b]`:            "condition Unknown is not declared",
		`!If [Circle, a, b]`:             "condition Circle depends on itself",
		`!Select [2, [a, b]]`:            "index within its list",
		`!FindInMap [Sizes, tiny, none]`: "finds nothing under Sizes.tiny.none",
		`!Join [a]`:                      "wants 2 arguments",
		`[a]`:                            "Environment.Variables.V must be a string",
	} {
		t.Run(expression, func(t *testing.T) {
			_, err := evaluate(t, expression)
			assert.ErrorContains(t, err, want)
		})
	}
}

func TestWhatItDoesNotKnowIsAnError(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"section":         {"Hooks: {}", "section Hooks is unknown"},
		"resource type":   {"Resources: {Q: {Type: 'AWS::SNS::Topic'}}", "Q: the local run does not know resources of type AWS::SNS::Topic"},
		"property":        {"Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Layers: [a]}}}", "does not know property Layers"},
		"global property": {"Globals: {Function: {Layers: [a]}}\nResources: {F: {Type: 'AWS::Serverless::Function'}}", "does not know property Layers"},
		"attribute":       {"Resources: {F: {Type: 'AWS::Serverless::Function', CreationPolicy: {}}}", "F.CreationPolicy is unknown"},
		"event type":      {"Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Events: {E: {Type: SNS, Properties: {}}}}}}", "does not know events of type SNS"},
		"queue property":  {"Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {FifoQueues: true}}}", "does not know property FifoQueues"},
		"no queue":        {function("SQS", "{}"), "F.E: Queue is missing"},
		"large batch":     {function("SQS", "{Queue: arn, BatchSize: 11}"), "BatchSize of 1 to 10"},
		"batching window": {function("SQS", "{Queue: arn, MaximumBatchingWindowInSeconds: 1}"), "MaximumBatchingWindowInSeconds must be 0"},
		"response type":   {function("SQS", "{Queue: arn, FunctionResponseTypes: [Other]}"), "does not know the response type Other"},
		"filter":          {function("SQS", "{Queue: arn, FilterCriteria: {}}"), "does not know F.E.FilterCriteria"},
		"cron":            {function("ScheduleV2", "{ScheduleExpression: 'cron(0 * * * ? *)'}"), "such as rate(1 minute)"},
		"no rate":         {function("ScheduleV2", "{ScheduleExpression: rate(0 minutes)}"), "such as rate(1 minute)"},
		"flexible window": {function("ScheduleV2", "{ScheduleExpression: rate(1 minute), FlexibleTimeWindow: {Mode: FLEXIBLE}}"), "must be OFF"},
		"schedule state":  {function("ScheduleV2", "{ScheduleExpression: rate(1 minute), State: OFF}"), "neither ENABLED nor DISABLED"},
		"event property":  {"Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Events: {E: {Type: HttpApi, Properties: {Path: /, Auth: {}}}}}}}", "does not know F.E.Auth"},
		"payload format":  {"Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Events: {E: {Type: HttpApi, Properties: {Path: /, PayloadFormatVersion: '1.0'}}}}}}", "speaks payload format 2.0"},
		"second API":      {"Resources: {A: {Type: 'AWS::Serverless::HttpApi'}, B: {Type: 'AWS::Serverless::HttpApi'}}", "serves one HTTP API"},
		"twice":           {"Resources: {A: {Type: 'AWS::Serverless::HttpApi', Type: x}}", "twice"},
		"no mapping":      {"Resources: [a]", "must be a mapping"},
		"not YAML":        {"a: [", "template.yaml"},
		"parameter":       {"Parameters: {P: {Type: String}}", "parameter P has no default"},
	} {
		t.Run(name, func(t *testing.T) {
			tpl, err := load(t, c.text, nil)
			if err == nil {
				_, err = tpl.Functions()
			}
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// function is a template with one function and its event E.
func function(kind, properties string) string {
	return "Resources: {F: {Type: 'AWS::Serverless::Function', Properties: {Events: {E: {Type: " + kind + ", Properties: " + properties + "}}}}}"
}

func TestParameters(t *testing.T) {
	const text = "Parameters: {P: {Type: String, Default: a, AllowedValues: [a, b]}}"
	_, err := load(t, text, func(o *template.Options) { o.Parameters = map[string]string{"P": "b"} })
	require.NoError(t, err)
	_, err = load(t, text, func(o *template.Options) { o.Parameters = map[string]string{"P": "c"} })
	require.ErrorContains(t, err, `parameter P cannot be "c"`)
	_, err = load(t, text, func(o *template.Options) { o.Parameters = map[string]string{"Q": "c"} })
	require.ErrorContains(t, err, "declares no parameter Q")
	_, err = load(t, text, func(o *template.Options) { o.Offered = map[string]string{"P": "b", "Q": "c"} })
	require.NoError(t, err)
}

func TestFunctionHasTheGlobals(t *testing.T) {
	tpl, err := load(t, `
Globals:
  Function:
    Timeout: 10
    MemorySize: 256
    LoggingConfig: {LogFormat: JSON, ApplicationLogLevel: WARN}
    Environment: {Variables: {SHARED: all, OWN: global}}
Resources:
  Api: {Type: AWS::Serverless::HttpApi}
  OneFunction:
    Type: AWS::Serverless::Function
    Properties:
      FunctionName: one
      Timeout: 20
      RecursiveLoop: Allow
      LoggingConfig: {LogGroup: somewhere}
      Environment: {Variables: {OWN: mine}}
      Events:
        A: {Type: HttpApi, Properties: {ApiId: !Ref Api, Path: "/a/{id}", Method: post, TimeoutInMillis: 5000}}
        B: {Type: HttpApi, Properties: {ApiId: !Ref Api, Path: /b}}
  TwoFunction:
    Type: AWS::Serverless::Function
`, nil)
	require.NoError(t, err)
	functions, err := tpl.Functions()
	require.NoError(t, err)
	assert.Equal(t, []template.Function{
		{
			LogicalID:   "OneFunction",
			Name:        "one",
			Timeout:     20 * time.Second,
			MemoryMB:    256,
			LogFormat:   "JSON",
			LogLevel:    "WARN",
			Environment: map[string]string{"SHARED": "all", "OWN": "mine"},
			Routes: []template.Route{
				{Method: "POST", Path: "/a/{id}", Timeout: 5 * time.Second},
				{Method: "ANY", Path: "/b"},
			},
			RecursionAllowed: true,
		},
		{
			LogicalID:   "TwoFunction",
			Name:        "shop-TwoFunction",
			Timeout:     10 * time.Second,
			MemoryMB:    256,
			LogFormat:   "JSON",
			LogLevel:    "WARN",
			Environment: map[string]string{"SHARED": "all", "OWN": "global"},
		},
	}, functions)
	ids, err := tpl.FunctionIDs()
	require.NoError(t, err)
	assert.Equal(t, []string{"OneFunction", "TwoFunction"}, ids)
}

func TestTablesAndSecrets(t *testing.T) {
	tpl, err := load(t, `
Conditions: {Never: !Equals [a, b]}
Resources:
  Things:
    Type: AWS::DynamoDB::Table
    DeletionPolicy: Retain
    Properties:
      TableName: things
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: &definitions
        - {AttributeName: pk, AttributeType: S}
        - {AttributeName: at, AttributeType: N}
      KeySchema: [{AttributeName: pk, KeyType: HASH}]
      GlobalSecondaryIndexes:
        - IndexName: due
          KeySchema: [{AttributeName: at, KeyType: HASH}]
          Projection: {ProjectionType: INCLUDE, NonKeyAttributes: [x]}
      TimeToLiveSpecification: {AttributeName: expiresAt, Enabled: true}
  Never:
    Type: AWS::DynamoDB::Table
    Condition: Never
  Key:
    Type: AWS::SecretsManager::Secret
    Properties:
      Name: key
      GenerateSecretString: {PasswordLength: 64, ExcludePunctuation: true, SecretStringTemplate: '{"user":"a"}', GenerateStringKey: password}
  Given:
    Type: AWS::SecretsManager::Secret
    Properties: {SecretString: value}
`, nil)
	require.NoError(t, err)
	tables, err := tpl.Tables()
	require.NoError(t, err)
	assert.Equal(t, []template.Table{{
		LogicalID: "Things", Name: "things", BillingMode: "PAY_PER_REQUEST", TTLAttribute: "expiresAt",
		Attributes: []template.Attribute{{Name: "pk", Type: "S"}, {Name: "at", Type: "N"}},
		Key:        []template.KeyPart{{Name: "pk", Type: "HASH"}},
		Indexes: []template.Index{
			{
				Name:       "due",
				Key:        []template.KeyPart{{Name: "at", Type: "HASH"}},
				Projection: "INCLUDE",
				Include:    []string{"x"},
			},
		},
	}}, tables)
	secrets, err := tpl.Secrets()
	require.NoError(t, err)
	assert.Equal(t, []template.Secret{
		{LogicalID: "Key", Name: "key", Generate: &template.GenerateSecret{
			Template:                `{"user":"a"}`,
			Key:                     "password",
			Length:                  64,
			ExcludePunctuation:      true,
			RequireEachIncludedType: true,
		}},
		{LogicalID: "Given", Name: "shop-Given", Value: "value"},
	}, secrets)
}

func TestQueues(t *testing.T) {
	tpl, err := load(t, `
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub "${AWS::StackName}-work"
      VisibilityTimeout: 360
      DelaySeconds: 5
      SqsManagedSseEnabled: true
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}
  Dead: {Type: AWS::SQS::Queue, Properties: {RedriveAllowPolicy: {redrivePermission: denyAll}}}
  F: {Type: AWS::Serverless::Function, Properties: {Environment: {Variables: {URL: !Ref Work, NAME: !GetAtt Work.QueueName}}}}
`, nil)
	require.NoError(t, err)
	queues, err := tpl.Queues()
	require.NoError(t, err)
	assert.Equal(t, []template.Queue{
		{
			LogicalID:       "Work",
			Name:            "shop-work",
			Attributes:      map[string]string{"VisibilityTimeout": "360", "DelaySeconds": "5"},
			DeadLetterARN:   "arn:aws:sqs:eu-west-1:123456789012:shop-Dead",
			MaxReceiveCount: 5,
		},
		{LogicalID: "Dead", Name: "shop-Dead", Attributes: map[string]string{}},
	}, queues)

	_, err = tpl.Functions()
	require.ErrorContains(t, err, "cannot say what Work is: it was not created", "only a queue that exists has a URL")
	bound := template.Physical{Ref: "http://sqs/work", Attributes: map[string]string{"QueueName": "shop-work"}}
	tpl.Bind("Work", bound)
	functions, err := tpl.Functions()
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"URL": "http://sqs/work", "NAME": "shop-work"}, functions[0].Environment)
	physical, ok := tpl.Bound("Work")
	assert.True(t, ok)
	assert.Equal(t, bound, physical)
}

func TestFIFOQueues(t *testing.T) {
	tpl, err := load(t, `
Resources:
  Work:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: !Sub "${AWS::StackName}-work.fifo"
      FifoQueue: true
      ContentBasedDeduplication: false
      DeduplicationScope: messageGroup
      FifoThroughputLimit: perMessageGroupId
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 1000}
  Dead:
    Type: AWS::SQS::Queue
    Properties: {FifoQueue: true, RedriveAllowPolicy: {redrivePermission: byQueue, sourceQueueArns: [!GetAtt Work.Arn]}}
`, nil)
	require.NoError(t, err)
	queues, err := tpl.Queues()
	require.NoError(t, err)
	assert.Equal(t, []template.Queue{
		{
			LogicalID: "Work",
			Name:      "shop-work.fifo",
			FIFO:      true,
			Attributes: map[string]string{
				"FifoQueue":                 "true",
				"ContentBasedDeduplication": "false",
				"DeduplicationScope":        "messageGroup",
				"FifoThroughputLimit":       "perMessageGroupId",
			},
			DeadLetterARN:   "arn:aws:sqs:eu-west-1:123456789012:shop-Dead.fifo",
			MaxReceiveCount: 1000,
		},
		{LogicalID: "Dead", Name: "shop-Dead.fifo", FIFO: true, Attributes: map[string]string{"FifoQueue": "true"}},
	}, queues)
}

func TestQueuesThatAWSRefuses(t *testing.T) {
	for properties, want := range map[string]string{
		`FifoQueue: true, QueueName: a`:                                                     "Q: a FIFO queue has a name that ends in .fifo",
		`QueueName: a.fifo`:                                                                 "Q: only a FIFO queue has a name that ends in .fifo",
		`FifoQueue: false`:                                                                  "Q: FifoQueue is true or left out",
		`ContentBasedDeduplication: true`:                                                   "Q: only a FIFO queue has ContentBasedDeduplication",
		`FifoQueue: true, ContentBasedDeduplication: 1`:                                     "Q: ContentBasedDeduplication must be one of true, false",
		`FifoQueue: true, DeduplicationScope: group`:                                        "Q: DeduplicationScope must be one of queue, messageGroup",
		`FifoQueue: true, FifoThroughputLimit: none`:                                        "Q: FifoThroughputLimit must be one of",
		`FifoQueue: true, FifoThroughputLimit: perMessageGroupId`:                           "perMessageGroupId wants DeduplicationScope messageGroup",
		`FifoQueue: true, RedrivePolicy: {deadLetterTargetArn: a:dead, maxReceiveCount: 1}`: "Q: the dead-letter queue of a FIFO queue",
		`RedrivePolicy: {deadLetterTargetArn: a:dead.fifo, maxReceiveCount: 1}`:             "Q: the dead-letter queue of a FIFO queue",
	} {
		t.Run(properties, func(t *testing.T) {
			tpl, err := load(t, "Resources: {Q: {Type: 'AWS::SQS::Queue', Properties: {"+properties+"}}}", nil)
			require.NoError(t, err)
			_, err = tpl.Queues()
			assert.ErrorContains(t, err, want)
		})
	}
}

func TestFunctionsOfQueuesAndSchedules(t *testing.T) {
	tpl, err := load(t, `
Parameters: {Most: {Type: Number, Default: 20}}
Resources:
  Work: {Type: AWS::SQS::Queue}
  F:
    Type: AWS::Serverless::Function
    Properties:
      EventInvokeConfig: {MaximumRetryAttempts: 0}
      Events:
        A:
          Type: SQS
          Properties:
            Queue: !GetAtt Work.Arn
            BatchSize: 3
            MaximumBatchingWindowInSeconds: 0
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {MaximumConcurrency: !Ref Most}
        B: {Type: SQS, Properties: {Queue: "arn:aws:sqs:eu-west-1:123456789012:other", Enabled: false}}
        C: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(1 minute), RetryPolicy: {MaximumRetryAttempts: 2}}}
        D: {Type: ScheduleV2, Properties: {ScheduleExpression: rate(2 hours), Name: daily, Input: '{"a":1}', State: DISABLED, FlexibleTimeWindow: {Mode: "OFF"}}}
`, nil)
	require.NoError(t, err)
	functions, err := tpl.Functions()
	require.NoError(t, err)
	assert.Equal(t, []template.Mapping{
		{
			QueueARN:                "arn:aws:sqs:eu-west-1:123456789012:shop-Work",
			BatchSize:               3,
			MaximumConcurrency:      20,
			ReportBatchItemFailures: true,
		},
		{QueueARN: "arn:aws:sqs:eu-west-1:123456789012:other", BatchSize: 10, Disabled: true},
	}, functions[0].Mappings)
	assert.Equal(t, []template.Schedule{
		{Name: "FC", Every: time.Minute},
		{Name: "daily", Every: 2 * time.Hour, Input: `{"a":1}`, Disabled: true},
	}, functions[0].Schedules)
}
