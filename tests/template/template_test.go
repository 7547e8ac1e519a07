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
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/tests/document"
)

const root = "../.."

// functions are the names of the template's, which are those of the folders in functions/ and of the files in events/.
func functions(t *testing.T) []string {
	t.Helper()
	return slices.Sorted(maps.Keys(document.Load(t).Functions(t)))
}

func TestEveryFolderIsAFunctionWithAnEvent(t *testing.T) {
	want := functions(t)

	var folders []string
	entries, err := os.ReadDir(filepath.Join(root, "functions"))
	require.NoError(t, err)
	for _, entry := range entries {
		folders = append(folders, entry.Name())
	}
	assert.ElementsMatch(
		t,
		want,
		folders,
		"each function of template.yaml has a folder in functions/ and each folder a function",
	)

	var events []string
	files, err := filepath.Glob(filepath.Join(root, "events", "*"))
	require.NoError(t, err)
	for _, file := range files {
		events = append(events, strings.TrimSuffix(filepath.Base(file), ".json"))
	}
	assert.ElementsMatch(t, want, events, "each function of template.yaml has an event in events/, to invoke it with")
}

func TestEventsMatchTheirRoutes(t *testing.T) {
	for name, function := range document.Load(t).Functions(t) {
		routes := document.Routes(t, function)
		if len(routes) == 0 {
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
			assert.Contains(t, routes, event.RouteKey)
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
	assert.Equal(
		t,
		map[string]string{"platform": string(registration.Platform), "ottPropertyId": registration.PropertyID},
		event.PathParameters,
	)
	assert.True(
		t,
		callback.Verify(
			registration.Platform,
			credentials,
			time.Now(),
			[]byte(event.Body),
			func(name string) string { return event.Headers[name] },
		),
	)
}

func TestFunctions(t *testing.T) {
	template := document.Load(t)
	for name, function := range template.Functions(t) {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, "provided.al2023", document.At(t, function, "Runtime"))
			assert.Equal(t, "bootstrap", document.At(t, function, "Handler"))
			assert.Equal(t, []string{"!Ref Architecture"}, document.Texts(document.At(t, function, "Architectures")))
			assert.Equal(t, "Active", document.At(t, function, "Tracing"))
			assert.Equal(t, "JSON", document.At(t, function, "LoggingConfig", "LogFormat"))
			assert.Equal(
				t,
				"!Ref "+document.Stem(name)+"LogGroup",
				document.Text(document.At(t, function, "LoggingConfig", "LogGroup")),
			)
			assert.Equal(t, "!GetAtt "+document.Stem(name)+"Role.Arn", document.Text(document.At(t, function, "Role")))
			assert.NotContains(t, function, "Policies", "SAM would add a role of its own")

			resource := document.At(t, map[string]any(template), "Resources", document.Stem(name)+"Function")
			assert.Equal(t, "makefile", document.At(t, resource, "Metadata", "BuildMethod"))

			kinds := map[string]bool{}
			for _, event := range document.At(t, function, "Events").(map[string]any) {
				properties := document.At(t, event, "Properties")
				kind := document.Text(document.At(t, event, "Type"))
				kinds[kind] = true
				switch kind {
				case "HttpApi":
					assert.Equal(t, "!Ref Api", document.Text(document.At(t, properties, "ApiId")))
					assert.Equal(t, "2.0", document.At(t, properties, "PayloadFormatVersion"))
				case "SQS":
					assert.Regexp(t, `^!GetAtt \w+Queue\.Arn$`, document.Text(document.At(t, properties, "Queue")))
				case "ScheduleV2":
				default:
					t.Errorf("an event of type %v", kind)
				}
			}
			assert.Len(t, kinds, 1, "a function is started in one way")
		})
	}
}

func TestEnvironmentHoldsNoSecret(t *testing.T) {
	// A name, an ARN or a prefix: what CloudFormation answers to Ref is never a secret's value.
	harmless := regexp.MustCompile(
		`^!Ref (AWS::NoValue|ClientRotationWindow|ProviderUrl|GatewayUrl|GatewayTimeout|\w+Concurrency|TokenSigningKeySecret|ProviderSecret|GatewaySecret|` +
			`MailFrom|MailConfigurationSet|ActivationHosts|ResendWindow|ResendsPerAccount|ResendsPerAddress|EventBus|\w+Table|\w+Queue)$|` +
			`^!Sub \$\{AWS::StackName\}/(client|ott)/$`,
	)
	for name, function := range document.Load(t).Functions(t) {
		for variable, value := range document.At(t, function, "Environment", "Variables").(map[string]any) {
			assert.Regexp(t, harmless, document.Text(value), "%s of %s", variable, name)
		}
	}
	raw, err := os.ReadFile(filepath.Join(root, "template.yaml"))
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "{{resolve:", "a resolved secret would stand in the function's configuration")
	for name, parameter := range document.At(t, map[string]any(document.Load(t)), "Parameters").(map[string]any) {
		assert.NotContains(
			t,
			parameter,
			"NoEcho",
			"%s: a secret is put into Secrets Manager, not passed as a parameter",
			name,
		)
	}
}

// may is what a function may do at most with a thing that its environment names, by what the thing is. Which of it a
// function does, and so has to be allowed, is what tests/permissions finds out.
var may = []struct{ variable, resource, actions string }{
	{`^\w+_TABLE$`, `^!GetAtt \w+Table\.Arn$`, `^dynamodb:(GetItem|PutItem|UpdateItem|DeleteItem|BatchWriteItem)$`},
	{`^\w+_TABLE$`, `^!Sub \$\{\w+Table\.Arn\}/index/[a-z-]+$`, `^dynamodb:Query$`},
	{
		`^PRODUCTS_TABLE$`,
		`^!GetAtt ProductsTable\.Arn$`,
		`^dynamodb:Query$`,
	}, // a tenant's are one partition
	{`^PRODUCTS_TABLE$`, `^!GetAtt ProductsTable\.Arn$`, `^dynamodb:ConditionCheckItem$`}, // a mail is the newest
	{`^\w+_QUEUE_URL$`, `^!GetAtt \w+Queue\.Arn$`, `^sqs:(SendMessage|GetQueueAttributes)$`},
	// What waits in a FIFO queue is held back by whoever received it.
	{`^OUTBOUND_QUEUE_URL$`, `^!GetAtt OutboundQueue\.Arn$`, `^sqs:ChangeMessageVisibility$`},
	{`^\w+_SECRET$`, `^!Ref \w+Secret$`, `^secretsmanager:GetSecretValue$`},
	{
		`^\w+_SECRET_PREFIX$`,
		`^!Sub arn:\$\{AWS::Partition\}:secretsmanager:.*:secret:\$\{AWS::StackName\}/[a-z]+/\*$`,
		`^secretsmanager:GetSecretValue$`,
	},
	{
		`^OTT_SECRET_PREFIX$`,
		`^!Sub arn:.*:secret:\$\{AWS::StackName\}/ott/\*$`,
		`^secretsmanager:(CreateSecret|DeleteSecret)$`,
	},
	// A registration names its secret.
	{`^REGISTRATIONS_TABLE$`, `^!Sub arn:.*:secret:\$\{AWS::StackName\}/ott/\*$`, `^secretsmanager:GetSecretValue$`},
	{`^EVENT_BUS$`, `^!GetAtt EventBus\.Arn$`, `^events:PutEvents$`},
	{
		`^MAIL_CONFIGURATION_SET$`,
		`^!Sub arn:.*:ses:.*:configuration-set/\$\{MailConfigurationSet\}$`,
		`^ses:SendEmail$`,
	},
	{`^MAIL_FROM$`, `^!Sub arn:.*:ses:.*:identity/\$\{MailIdentity\}$`, `^ses:SendEmail$`},
}

// polling is what Lambda does with a function's role to bring it the messages of a queue.
var polling = []string{"sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ReceiveMessage"}

// thing is what a variable or a resource of a policy is about: PushesTable, client/.
func thing(written string) string {
	written = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(written, "!GetAtt "), "!Ref "), ".Arn")
	if sub, is := strings.CutPrefix(written, "!Sub "); is {
		if _, after, secret := strings.Cut(sub, "${AWS::StackName}/"); secret {
			return strings.TrimSuffix(after, "*")
		}
		if _, after, ses := strings.Cut(sub, ":configuration-set/"); ses {
			sub = after
		}
		if strings.HasSuffix(sub, ":identity/${MailIdentity}") {
			return "MailFrom"
		}
		written, _, _ = strings.Cut(strings.TrimPrefix(sub, "${"), "}")
		written = strings.TrimSuffix(written, ".Arn")
	}
	return written
}

// A role is its function's row: what the function's environment names and what starts it, its log group and X-Ray, and
// nothing else.
func TestEveryRoleHoldsOnlyItsOwnRow(t *testing.T) {
	template := document.Load(t)
	roles := template.OfType(t, "AWS::IAM::Role")
	require.Len(t, roles, len(functions(t)), "one role per function, and no other")
	for name, function := range template.Functions(t) {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, roles, document.Stem(name)+"Role")
			role := document.At(t, roles[document.Stem(name)+"Role"], "Properties")

			// X-Ray knows no resources: AWS's own policy is the narrowest there is.
			assert.Equal(
				t,
				[]string{"!Sub arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess"},
				document.Texts(document.At(t, role, "ManagedPolicyArns")),
			)
			trust := document.At(t, role, "AssumeRolePolicyDocument", "Statement").([]any)
			require.Len(t, trust, 1)
			assert.Equal(t, map[string]any{
				"Effect":    "Allow",
				"Action":    "sts:AssumeRole",
				"Principal": map[string]any{"Service": "lambda.amazonaws.com"},
			}, trust[0])

			got := map[string][]string{}
			for _, policy := range document.At(t, role, "Policies").([]any) {
				for _, statement := range document.At(t, policy, "PolicyDocument", "Statement").([]any) {
					assert.Equal(t, "Allow", document.At(t, statement, "Effect"))
					assert.NotContains(t, statement, "NotAction")
					assert.NotContains(t, statement, "NotResource")
					for _, resource := range document.Texts(document.At(t, statement, "Resource")) {
						got[resource] = append(got[resource], document.Texts(document.At(t, statement, "Action"))...)
					}
				}
			}
			logs := "!GetAtt " + document.Stem(name) + "LogGroup.Arn"
			assert.Equal(t, []string{"logs:CreateLogStream", "logs:PutLogEvents"}, got[logs])
			delete(got, logs)
			for _, queue := range document.Queues(t, function) { // Lambda polls it with the function's role
				arn := "!GetAtt " + queue + ".Arn"
				assert.Subset(t, got[arn], polling)
				got[arn] = slices.DeleteFunc(
					got[arn],
					func(action string) bool { return slices.Contains(polling, action) },
				)
				if len(got[arn]) == 0 {
					delete(got, arn)
				}
			}
			variables := map[string]string{} // by what they name
			for variable, value := range document.Environment(t, function) {
				variables[thing(value)] = variable
			}
			if variable := variables["RegistrationsTable"]; variable != "" && variables["ott/"] == "" {
				variables["ott/"] = variable
			}
			granted := map[string]bool{}
			for resource, actions := range got {
				variable := variables[thing(resource)]
				assert.NotEmpty(
					t,
					variable,
					"the role reaches %s, which the function's environment does not name",
					resource,
				)
				granted[variable] = true
				for _, action := range actions {
					assert.True(
						t,
						slices.ContainsFunc(may, func(row struct{ variable, resource, actions string }) bool {
							return regexp.MustCompile(row.variable).MatchString(variable) &&
								regexp.MustCompile(row.resource).MatchString(resource) &&
								regexp.MustCompile(row.actions).MatchString(action)
						}),
						"no function has to do %s on %s",
						action,
						resource,
					)
				}
			}
			for _, variable := range variables {
				if slices.ContainsFunc(may, func(row struct{ variable, resource, actions string }) bool {
					return regexp.MustCompile(row.variable).MatchString(variable)
				}) {
					assert.True(t, granted[variable], "the role reaches nothing of what %s names", variable)
				}
			}
		})
	}
}

func TestLogGroupsExpire(t *testing.T) {
	groups := document.Load(t).OfType(t, "AWS::Logs::LogGroup")
	assert.Len(t, groups, len(functions(t))+1, "one per function and the API's")
	for id, group := range groups {
		assert.Equal(
			t,
			"!Ref LogRetentionDays",
			document.Text(document.At(t, group, "Properties", "RetentionInDays")),
			id,
		)
	}
	for _, name := range functions(t) {
		assert.Contains(t, groups, document.Stem(name)+"LogGroup")
	}
}

func TestTables(t *testing.T) {
	tables := document.Load(t).OfType(t, "AWS::DynamoDB::Table")
	keys := map[string]string{
		"RegistrationsTable": "pk",
		"ProductsTable":      "owner id",
		"ContentTable":       "pk sk",
		"PushesTable":        "requestId part",
		"MailsTable":         "id",
		"IdempotencyTable":   "key",
		"MessagesTable":      "id",
	}
	assert.ElementsMatch(t, slices.Collect(maps.Keys(keys)), slices.Collect(maps.Keys(tables)))
	for id, table := range tables {
		t.Run(id, func(t *testing.T) {
			assert.Equal(t, "Retain", document.At(t, table, "DeletionPolicy"))
			assert.Equal(t, "Retain", document.At(t, table, "UpdateReplacePolicy"))
			properties := document.At(t, table, "Properties")
			name := strings.ToLower(strings.TrimSuffix(id, "Table"))
			assert.Equal(t, "!Sub ${AWS::StackName}-"+name, document.Text(document.At(t, properties, "TableName")))
			assert.Equal(t, "PAY_PER_REQUEST", document.At(t, properties, "BillingMode"))
			assert.Equal(t, "true", document.At(t, properties, "SSESpecification", "SSEEnabled"))
			assert.Equal(
				t,
				"true",
				document.At(t, properties, "PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"),
			)
			assert.Equal(
				t,
				"!Ref DeletionProtection",
				document.Text(document.At(t, properties, "DeletionProtectionEnabled")),
			)
			var key []string
			for _, element := range document.At(t, properties, "KeySchema").([]any) {
				key = append(key, document.At(t, element, "AttributeName").(string))
			}
			assert.Equal(t, keys[id], strings.Join(key, " "))
		})
	}
	for _, id := range []string{"PushesTable", "MailsTable", "MessagesTable", "IdempotencyTable"} {
		assert.Equal(
			t,
			map[string]any{"AttributeName": "expiresAt", "Enabled": "true"},
			document.At(t, tables[id], "Properties", "TimeToLiveSpecification"),
			id,
		)
	}
}

func TestAPIThrottlesAndLogsNoSecret(t *testing.T) {
	apis := document.Load(t).OfType(t, "AWS::Serverless::HttpApi")
	require.Len(t, apis, 1)
	api := document.At(t, apis["Api"], "Properties")
	assert.Equal(
		t,
		"!Ref ThrottlingRateLimit",
		document.Text(document.At(t, api, "DefaultRouteSettings", "ThrottlingRateLimit")),
	)
	assert.Equal(
		t,
		"!Ref ThrottlingBurstLimit",
		document.Text(document.At(t, api, "DefaultRouteSettings", "ThrottlingBurstLimit")),
	)
	assert.Equal(
		t,
		"!GetAtt ApiLogGroup.Arn",
		document.Text(document.At(t, api, "AccessLogSettings", "DestinationArn")),
	)

	var format map[string]string
	require.NoError(
		t,
		json.Unmarshal([]byte(document.At(t, api, "AccessLogSettings", "Format").(string)), &format),
		"the access log is JSON",
	)
	var logged []string
	for _, variable := range format {
		logged = append(logged, strings.TrimPrefix(variable, "$context."))
	}
	// The whole list, not a list of what is forbidden: nothing here carries a header, a body or a query string.
	assert.ElementsMatch(t, []string{
		"requestTimeEpoch",
		"requestId",
		"identity.sourceIp",
		"httpMethod",
		"routeKey",
		"path",
		"status",
		"responseLength",
		"responseLatency",
		"integrationStatus",
		"integrationLatency",
		"integration.requestId",
		"error.responseType",
		"integrationErrorMessage",
	}, logged)
}

func TestPartnersAreReachedByHTTPS(t *testing.T) {
	parameters := document.At(t, map[string]any(document.Load(t)), "Parameters")
	provider := regexp.MustCompile(document.At(t, parameters, "ProviderUrl", "AllowedPattern").(string))
	gateway := regexp.MustCompile(document.At(t, parameters, "GatewayUrl", "AllowedPattern").(string))
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
