// Package template_test holds template.yaml to what the design promises of it: least privilege, encryption, retention,
// logs without secrets, and one function, one folder, one event for each endpoint.
package template_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
)

const (
	secrets = "!Sub arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}:secret:${AWS::StackName}/"
	ses     = "!Sub arn:${AWS::Partition}:ses:${AWS::Region}:${AWS::AccountId}:"
)

var (
	readClients    = grant{secrets + "client/*", "secretsmanager:GetSecretValue"}
	readSigningKey = grant{"!Ref TokenSigningKeySecret", "secretsmanager:GetSecretValue"}
	keepAnswers    = grant{"!GetAtt IdempotencyTable.Arn", "dynamodb:DeleteItem dynamodb:PutItem dynamodb:UpdateItem"}
	readContent    = grant{"!GetAtt ContentTable.Arn", "dynamodb:GetItem"}
	enqueue        = grant{"!GetAtt DeliveryQueue.Arn", "sqs:SendMessage"}
	readOttSecrets = grant{secrets + "ott/*", "secretsmanager:GetSecretValue"}
	getProperty    = grant{"!GetAtt RegistrationsTable.Arn", "dynamodb:GetItem"}
	updateProduct  = grant{"!GetAtt ProductsTable.Arn", "dynamodb:UpdateItem"}
)

type grant struct{ resource, actions string }

// functions is the bundle: what starts each function and all that it may do, its own log group and X-Ray aside.
var functions = map[string]struct {
	events []string
	may    []grant
}{
	"oauth-token":  {[]string{"POST /v2/token"}, []grant{readClients, readSigningKey}},
	"engage-token": {[]string{"POST /federated/content/v2/token"}, []grant{readClients, readSigningKey}},
	"engage-token-health": {
		[]string{"GET /federated/content/v2/token/health"}, []grant{readSigningKey},
	},
	"ott-register": {[]string{"POST /ott/v1/registration"}, []grant{
		readSigningKey,
		{secrets + "ott/*", "secretsmanager:CreateSecret secretsmanager:DeleteSecret"},
		{"!GetAtt RegistrationsTable.Arn", "dynamodb:UpdateItem"},
	}},
	"ott-list": {[]string{"GET /ott/v1/registration/{platform}"}, []grant{
		readSigningKey, {"!Sub ${RegistrationsTable.Arn}/index/tenant-platform", "dynamodb:Query"},
	}},
	"ott-get": {[]string{"GET /ott/v1/registration/{platform}/{ottPropertyId}"}, []grant{readSigningKey, getProperty}},
	"ott-delete": {[]string{"DELETE /ott/v1/registration/{platform}/{ottPropertyId}"}, []grant{
		readSigningKey,
		{secrets + "ott/*", "secretsmanager:DeleteSecret"},
		{"!GetAtt RegistrationsTable.Arn", "dynamodb:DeleteItem"},
	}},
	"ott-send": {[]string{"POST /ott/v1/send"}, []grant{
		readSigningKey, getProperty,
		{"!GetAtt MessagesTable.Arn", "dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem"},
		{"!GetAtt OutboundQueue.Arn", "sqs:SendMessage"},
	}},
	"ott-send-status": {[]string{"GET /ott/v1/send/{messageId}"}, []grant{
		readSigningKey, {"!GetAtt MessagesTable.Arn", "dynamodb:GetItem"},
	}},
	"ott-deliver": {[]string{"SQS !GetAtt OutboundQueue.Arn"}, []grant{
		readOttSecrets, getProperty,
		{"!GetAtt MessagesTable.Arn", "dynamodb:UpdateItem"},
		// Lambda polls the queue with the function's role.
		{"!GetAtt OutboundQueue.Arn", "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage"},
	}},
	"ott-callback": {
		[]string{"GET /ott/v1/callback/{platform}/{ottPropertyId}", "POST /ott/v1/callback/{platform}/{ottPropertyId}"},
		[]grant{readOttSecrets, getProperty, {"!GetAtt EventBus.Arn", "events:PutEvents"}},
	},
	"engage-batch": {[]string{"POST /federated/outbound/v2/batch"}, []grant{
		readSigningKey, readContent, keepAnswers, enqueue,
		{"!GetAtt PushesTable.Arn", "dynamodb:BatchWriteItem dynamodb:GetItem dynamodb:PutItem"},
	}},
	"engage-deliver": {[]string{"SQS !GetAtt DeliveryQueue.Arn"}, []grant{
		{"!Ref GatewaySecret", "secretsmanager:GetSecretValue"},
		{"!GetAtt PushesTable.Arn", "dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem"},
		// Lambda polls the queue with the function's role.
		{"!GetAtt DeliveryQueue.Arn", "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage"},
	}},
	"engage-schedule": {[]string{"ScheduleV2 rate(1 minute)"}, []grant{
		enqueue,
		{"!Sub ${PushesTable.Arn}/index/due", "dynamodb:Query"},
		{"!GetAtt PushesTable.Arn", "dynamodb:GetItem dynamodb:UpdateItem"},
	}},
	"engage-status": {[]string{"GET /federated/outbound/v2/batch/{requestId}"}, []grant{
		readSigningKey,
		{"!GetAtt PushesTable.Arn", "dynamodb:GetItem"},
	}},
	"engage-cancel": {[]string{"DELETE /federated/outbound/v2/batch/{requestId}"}, []grant{
		readSigningKey,
		{"!GetAtt PushesTable.Arn", "dynamodb:GetItem dynamodb:UpdateItem"},
	}},
	"product-create": {
		[]string{
			"DELETE /dxp-ux/v1/{businessId}/product", "HEAD /dxp-ux/v1/{businessId}/product", "OPTIONS /dxp-ux/v1/{businessId}/product",
			"PATCH /dxp-ux/v1/{businessId}/product", "POST /dxp-ux/v1/{businessId}/product", "PUT /dxp-ux/v1/{businessId}/product",
		},
		[]grant{
			readClients, readContent, keepAnswers, updateProduct,
			{"!Ref ProviderSecret", "secretsmanager:GetSecretValue"},
			{"!GetAtt MailsTable.Arn", "dynamodb:GetItem dynamodb:PutItem dynamodb:UpdateItem"},
			{"!GetAtt MailQueue.Arn", "sqs:SendMessage"},
		},
	},
	"product-list": {[]string{"GET /dxp-ux/v1/{businessId}/product"}, []grant{
		readClients, readContent,
		{"!GetAtt ProductsTable.Arn", "dynamodb:Query"},
	}},
	"product-get": {
		[]string{"ANY /dxp-ux/v1/{businessId}/product/{id}", "GET /dxp-ux/v1/{businessId}/product/{id}"},
		[]grant{readClients, readContent, {"!GetAtt ProductsTable.Arn", "dynamodb:GetItem"}},
	},
	"product-mail": {[]string{"SQS !GetAtt MailQueue.Arn"}, []grant{
		updateProduct,
		{"!GetAtt MailsTable.Arn", "dynamodb:UpdateItem"},
		{ses + "identity/${MailIdentity}", "ses:SendEmail"},
		{ses + "configuration-set/${MailConfigurationSet}", "ses:SendEmail"},
		{"!GetAtt MailQueue.Arn", "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage sqs:SendMessage"},
	}},
	"product-mail-event": {[]string{"SQS !GetAtt MailEventQueue.Arn"}, []grant{
		updateProduct,
		{"!GetAtt MailsTable.Arn", "dynamodb:GetItem dynamodb:UpdateItem"},
		{"!GetAtt MailEventQueue.Arn", "sqs:DeleteMessage sqs:GetQueueAttributes sqs:ReceiveMessage"},
	}},
}

func TestEveryFolderIsAFunctionWithAnEvent(t *testing.T) {
	want := slices.Sorted(maps.Keys(functions))
	assert.Equal(t, want, slices.Sorted(maps.Keys(load(t).functions(t))), "functions in template.yaml")

	var folders []string
	entries, err := os.ReadDir(filepath.Join(root, "functions"))
	require.NoError(t, err)
	for _, entry := range entries {
		folders = append(folders, entry.Name())
	}
	assert.ElementsMatch(t, want, folders, "folders in functions/")

	var events []string
	files, err := filepath.Glob(filepath.Join(root, "events", "*"))
	require.NoError(t, err)
	for _, file := range files {
		events = append(events, strings.TrimSuffix(filepath.Base(file), ".json"))
	}
	assert.ElementsMatch(t, want, events, "files in events/")
}

func TestEventsMatchTheirRoutes(t *testing.T) {
	for name, declared := range functions {
		if !strings.Contains(declared.events[0], " /") {
			continue // nothing of HTTP
		}
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(root, "events", name+".json"))
			require.NoError(t, err)
			var event struct {
				Version, RouteKey, RawPath string
				Headers                    map[string]string
				RequestContext             struct {
					RouteKey, Stage string
					HTTP            struct{ Method, Path string }
				}
				Body string
			}
			require.NoError(t, json.Unmarshal(raw, &event))
			assert.Equal(t, "2.0", event.Version)
			assert.Contains(t, declared.events, event.RouteKey)
			assert.Equal(t, event.RouteKey, event.RequestContext.RouteKey)
			assert.Equal(t, "$default", event.RequestContext.Stage)
			assert.Equal(t, event.RawPath, event.RequestContext.HTTP.Path)

			method, path, _ := strings.Cut(event.RouteKey, " ")
			assert.Equal(t, method, event.RequestContext.HTTP.Method)
			pattern := regexp.MustCompile(`\\\{[^}]*\\\}`).ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
			assert.Regexp(t, "^"+pattern+"$", event.RawPath)
			for header := range event.Headers {
				assert.Equal(t, strings.ToLower(header), header, "API Gateway sends header names in lower case")
			}
			if method == "POST" {
				assert.True(t, json.Valid([]byte(event.Body)), "the body is JSON")
			}
		})
	}
}

// The callback is of the property that the other OTT events are about.
func TestCallbackEventIsSigned(t *testing.T) {
	var event struct {
		Body           string
		Headers        map[string]string
		PathParameters map[string]string
	}
	read := func(name string, into any) {
		raw, err := os.ReadFile(filepath.Join(root, "events", name+".json"))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(raw, into))
	}
	read("ott-register", &event)
	registration, credentials, err := ott.DecodeRegistration(strings.NewReader(event.Body))
	require.NoError(t, err)
	read("ott-callback", &event)
	assert.Equal(t, map[string]string{"platform": string(registration.Platform), "ottPropertyId": registration.PropertyID}, event.PathParameters)
	assert.True(t, callback.Verify(registration.Platform, credentials, []byte(event.Body), func(name string) string { return event.Headers[name] }))
}

func TestFunctions(t *testing.T) {
	template := load(t)
	for name, function := range template.functions(t) {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, "provided.al2023", at(t, function, "Runtime"))
			assert.Equal(t, "bootstrap", at(t, function, "Handler"))
			assert.Equal(t, []string{"!Ref Architecture"}, texts(at(t, function, "Architectures")))
			assert.Equal(t, "Active", at(t, function, "Tracing"))
			assert.Equal(t, "JSON", at(t, function, "LoggingConfig", "LogFormat"))
			assert.Equal(t, "!Ref "+stem(name)+"LogGroup", text(at(t, function, "LoggingConfig", "LogGroup")))
			assert.Equal(t, "!GetAtt "+stem(name)+"Role.Arn", text(at(t, function, "Role")))
			assert.NotContains(t, function, "Policies", "SAM would add a role of its own")

			resource := at(t, map[string]any(template), "Resources", stem(name)+"Function")
			assert.Equal(t, "makefile", at(t, resource, "Metadata", "BuildMethod"))

			var events []string
			for _, event := range at(t, function, "Events").(map[string]any) {
				properties := at(t, event, "Properties")
				switch kind := at(t, event, "Type"); kind {
				case "HttpApi":
					assert.Equal(t, "!Ref Api", text(at(t, properties, "ApiId")))
					assert.Equal(t, "2.0", at(t, properties, "PayloadFormatVersion"))
					events = append(events, text(at(t, properties, "Method"))+" "+text(at(t, properties, "Path")))
				case "SQS":
					events = append(events, "SQS "+text(at(t, properties, "Queue")))
				case "ScheduleV2":
					events = append(events, "ScheduleV2 "+text(at(t, properties, "ScheduleExpression")))
				default:
					t.Errorf("an event of type %v", kind)
				}
			}
			slices.Sort(events)
			assert.Equal(t, functions[name].events, events)
		})
	}
}

func TestEnvironmentHoldsNoSecret(t *testing.T) {
	// A name, an ARN or a prefix: what CloudFormation answers to Ref is never a secret's value.
	harmless := regexp.MustCompile(`^!Ref (AWS::NoValue|ClientRotationWindow|ProviderUrl|GatewayUrl|TokenSigningKeySecret|ProviderSecret|GatewaySecret|` +
		`MailFrom|MailConfigurationSet|ActivationHosts|ResendWindow|ResendsPerAccount|ResendsPerAddress|EventBus|\w+Table|\w+Queue)$|` +
		`^!Sub \$\{AWS::StackName\}/(client|ott)/$`)
	for name, function := range load(t).functions(t) {
		for variable, value := range at(t, function, "Environment", "Variables").(map[string]any) {
			assert.Regexp(t, harmless, text(value), "%s of %s", variable, name)
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "{{resolve:", "a resolved secret would stand in the function's configuration")
	for name, parameter := range at(t, map[string]any(load(t)), "Parameters").(map[string]any) {
		assert.NotContains(t, parameter, "NoEcho", "%s: a secret is put into Secrets Manager, not passed as a parameter", name)
	}
}

func TestEveryRoleHoldsOnlyItsOwnRow(t *testing.T) {
	roles := load(t).ofType(t, "AWS::IAM::Role")
	require.Len(t, roles, len(functions), "one role per function, and no other")
	for name, declared := range functions {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, roles, stem(name)+"Role")
			role := at(t, roles[stem(name)+"Role"], "Properties")

			// X-Ray knows no resources: AWS's own policy is the narrowest there is.
			assert.Equal(t, []string{"!Sub arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess"}, texts(at(t, role, "ManagedPolicyArns")))
			trust := at(t, role, "AssumeRolePolicyDocument", "Statement").([]any)
			require.Len(t, trust, 1)
			assert.Equal(t, map[string]any{
				"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": map[string]any{"Service": "lambda.amazonaws.com"},
			}, trust[0])

			got := map[string][]string{}
			for _, policy := range at(t, role, "Policies").([]any) {
				for _, statement := range at(t, policy, "PolicyDocument", "Statement").([]any) {
					assert.Equal(t, "Allow", at(t, statement, "Effect"))
					assert.NotContains(t, statement, "NotAction")
					assert.NotContains(t, statement, "NotResource")
					for _, resource := range texts(at(t, statement, "Resource")) {
						got[resource] = append(got[resource], texts(at(t, statement, "Action"))...)
					}
				}
			}
			want := map[string][]string{
				"!GetAtt " + stem(name) + "LogGroup.Arn": {"logs:CreateLogStream", "logs:PutLogEvents"},
			}
			for _, grant := range declared.may {
				want[grant.resource] = strings.Fields(grant.actions)
			}
			assert.Equal(t, want, got)
			for resource, actions := range got {
				assert.NotContains(t, strings.Join(actions, " "), "*")
				assert.NotContains(t, strings.TrimSuffix(resource, "/*"), "*", "a star may stand only for names below a prefix of the stack's own")
			}
		})
	}
}

func TestLogGroupsExpire(t *testing.T) {
	groups := load(t).ofType(t, "AWS::Logs::LogGroup")
	assert.Len(t, groups, len(functions)+1, "one per function and the API's")
	for id, group := range groups {
		assert.Equal(t, "!Ref LogRetentionDays", text(at(t, group, "Properties", "RetentionInDays")), id)
	}
	for name := range functions {
		assert.Contains(t, groups, stem(name)+"LogGroup")
	}
}

func TestTables(t *testing.T) {
	tables := load(t).ofType(t, "AWS::DynamoDB::Table")
	keys := map[string]string{
		"RegistrationsTable": "pk", "ProductsTable": "owner id", "ContentTable": "pk sk", "PushesTable": "requestId part", "MailsTable": "id",
		"IdempotencyTable": "key", "MessagesTable": "id",
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(keys)), slices.Collect(maps.Keys(tables)))
	for id, table := range tables {
		t.Run(id, func(t *testing.T) {
			assert.Equal(t, "Retain", at(t, table, "DeletionPolicy"))
			assert.Equal(t, "Retain", at(t, table, "UpdateReplacePolicy"))
			properties := at(t, table, "Properties")
			name := strings.ToLower(strings.TrimSuffix(id, "Table"))
			assert.Equal(t, "!Sub ${AWS::StackName}-"+name, text(at(t, properties, "TableName")))
			assert.Equal(t, "PAY_PER_REQUEST", at(t, properties, "BillingMode"))
			assert.Equal(t, "true", at(t, properties, "SSESpecification", "SSEEnabled"))
			assert.Equal(t, "true", at(t, properties, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"))
			assert.Equal(t, "!Ref DeletionProtection", text(at(t, properties, "DeletionProtectionEnabled")))
			var key []string
			for _, element := range at(t, properties, "KeySchema").([]any) {
				key = append(key, at(t, element, "AttributeName").(string))
			}
			assert.Equal(t, keys[id], strings.Join(key, " "))
		})
	}
	for _, id := range []string{"PushesTable", "MailsTable", "MessagesTable", "IdempotencyTable"} {
		assert.Equal(t, map[string]any{"AttributeName": "expiresAt", "Enabled": "true"}, at(t, tables[id], "Properties", "TimeToLiveSpecification"), id)
	}
}

func TestAPIThrottlesAndLogsNoSecret(t *testing.T) {
	apis := load(t).ofType(t, "AWS::Serverless::HttpApi")
	require.Len(t, apis, 1)
	api := at(t, apis["Api"], "Properties")
	assert.Equal(t, "!Ref ThrottlingRateLimit", text(at(t, api, "DefaultRouteSettings", "ThrottlingRateLimit")))
	assert.Equal(t, "!Ref ThrottlingBurstLimit", text(at(t, api, "DefaultRouteSettings", "ThrottlingBurstLimit")))
	assert.Equal(t, "!GetAtt ApiLogGroup.Arn", text(at(t, api, "AccessLogSettings", "DestinationArn")))

	var format map[string]string
	require.NoError(t, json.Unmarshal([]byte(at(t, api, "AccessLogSettings", "Format").(string)), &format), "the access log is JSON")
	var logged []string
	for _, variable := range format {
		logged = append(logged, strings.TrimPrefix(variable, "$context."))
	}
	// The whole list, not a list of what is forbidden: nothing here carries a header, a body or a query string.
	assert.ElementsMatch(t, []string{
		"requestTimeEpoch", "requestId", "identity.sourceIp", "httpMethod", "routeKey", "path", "status", "responseLength", "responseLatency",
		"integrationStatus", "integrationLatency", "integration.requestId", "error.responseType", "integrationErrorMessage",
	}, logged)
}

func TestPartnersAreReachedByHTTPS(t *testing.T) {
	parameters := at(t, map[string]any(load(t)), "Parameters")
	provider := regexp.MustCompile(at(t, parameters, "ProviderUrl", "AllowedPattern").(string))
	gateway := regexp.MustCompile(at(t, parameters, "GatewayUrl", "AllowedPattern").(string))
	assert.True(t, gateway.MatchString("https://gateway.example.com/push/"), "a whole URL, unlike the provider's base")
	for url, want := range map[string]bool{
		"https://api.example.com":          true,
		"https://api.example.com:8443/v2":  true,
		"http://api.example.com":           false,
		"https://user:pw@api.example.com":  false,
		"https://api.example.com/?a=b":     false,
		"https://api.example.com/v2/":      false,
		"https://api.example.com/v2#there": false,
		"":                                 false,
	} {
		assert.Equal(t, want, provider.MatchString(url), url)
		if url != "https://api.example.com/v2/" {
			assert.Equal(t, want, gateway.MatchString(url), url)
		}
	}
}
