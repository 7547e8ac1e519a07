package template

import (
	"fmt"

	"go.yaml.in/yaml/v4"
)

// The resource types that the local run gives a meaning.
const (
	typeFunction = "AWS::Serverless::Function"
	typeAPI      = "AWS::Serverless::HttpApi"
	typeTable    = "AWS::DynamoDB::Table"
	typeSecret   = "AWS::SecretsManager::Secret"
	typeQueue    = "AWS::SQS::Queue"
	typeLogGroup = "AWS::Logs::LogGroup"
	typeRole     = "AWS::IAM::Role"

	typeEventBus             = "AWS::Events::EventBus"
	typeRule                 = "AWS::Events::Rule"
	typeConfigurationSet     = "AWS::SES::ConfigurationSet"
	typeMailEventDestination = "AWS::SES::ConfigurationSetEventDestination"
)

// knownTypes lists the properties that each type may have. Those of a type with nil are not looked at:
// permissions, logs and alarms do not exist on one machine.
var knownTypes = map[string][]string{
	typeFunction: {
		"FunctionName", "Timeout", "MemorySize", "Environment", "Events", "LoggingConfig", "RecursiveLoop",
		// The build decides about these, or they are about permissions, deployment and billing.
		"Description", "CodeUri", "Handler", "Runtime", "Architectures", "Role", "Policies", "PermissionsBoundary",
		"Tracing", "Tags", "PropagateTags", "EphemeralStorage", "AutoPublishAlias", "DeploymentPreference",
		"ReservedConcurrentExecutions", "ProvisionedConcurrencyConfig", "RuntimeManagementConfig",
		// Retries of asynchronous invocations: a schedule's next run is soon enough here.
		"EventInvokeConfig",
	},
	typeAPI: {
		"Name", "Description", "StageName", "FailOnWarnings", "DefaultRouteSettings", "RouteSettings",
		"AccessLogSettings", "Tags", "PropagateTags", "DisableExecuteApiEndpoint",
	},
	typeTable: {
		"TableName",
		"AttributeDefinitions",
		"KeySchema",
		"GlobalSecondaryIndexes",
		"BillingMode",
		"TimeToLiveSpecification",
		"PointInTimeRecoverySpecification",
		"SSESpecification",
		"DeletionProtectionEnabled",
		"TableClass",
		"Tags",
		"ContributorInsightsSpecification",
		"OnDemandThroughput",
		"WarmThroughput",
		"ResourcePolicy",
	},
	typeSecret: {
		"Name", "Description", "GenerateSecretString", "SecretString",
		"KmsKeyId", "Tags", "ReplicaRegions",
	},
	typeQueue: {
		"QueueName", "VisibilityTimeout", "MessageRetentionPeriod", "DelaySeconds", "MaximumMessageSize",
		"ReceiveMessageWaitTimeSeconds", "RedrivePolicy",
		"FifoQueue", "ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit",
		// About permissions, encryption and billing.
		"RedriveAllowPolicy", "SqsManagedSseEnabled", "KmsMasterKeyId", "KmsDataKeyReusePeriodSeconds", "Tags",
	},
	typeEventBus: {"Name", "Description", "Tags", "KmsKeyIdentifier", "DeadLetterConfig", "LogConfig", "Policy"},
	typeRule:     {"Name", "Description", "EventBusName", "EventPattern", "State", "Targets", "Tags"},
	typeConfigurationSet: {
		"Name",
		// Nothing leaves this machine: there is neither a connection to encrypt nor a reputation to lose.
		"DeliveryOptions", "ReputationOptions", "SendingOptions", "SuppressionOptions", "Tags",
	},
	typeMailEventDestination:              {"ConfigurationSetName", "EventDestination"},
	typeLogGroup:                          nil,
	typeRole:                              nil,
	"AWS::IAM::Policy":                    nil,
	"AWS::IAM::ManagedPolicy":             nil,
	"AWS::IAM::RolePolicy":                nil,
	"AWS::Lambda::Permission":             nil,
	"AWS::Logs::MetricFilter":             nil,
	"AWS::Logs::ResourcePolicy":           nil,
	"AWS::Logs::QueryDefinition":          nil,
	"AWS::CloudWatch::Alarm":              nil,
	"AWS::CloudWatch::CompositeAlarm":     nil,
	"AWS::CloudWatch::Dashboard":          nil,
	"AWS::SecretsManager::ResourcePolicy": nil,
	"AWS::SQS::QueuePolicy":               nil,
	"AWS::Events::EventBusPolicy":         nil,
}

// Table is an AWS::DynamoDB::Table.
type Table struct {
	LogicalID   string
	Name        string
	BillingMode string
	Attributes  []Attribute
	Key         []KeyPart
	Indexes     []Index
	// TTLAttribute is empty for a table whose items never expire.
	TTLAttribute string
}

// Attribute is a key attribute's name and type: S, N or B.
type Attribute struct{ Name, Type string }

// KeyPart is an attribute of a key; its Type is HASH or RANGE.
type KeyPart struct{ Name, Type string }

// Index is a global secondary index; Projection is ALL, KEYS_ONLY or INCLUDE, the last with Include.
type Index struct {
	Name       string
	Key        []KeyPart
	Projection string
	Include    []string
}

// Secret is an AWS::SecretsManager::Secret: with a value, or with one to generate.
type Secret struct {
	LogicalID string
	Name      string
	// Value is SecretString.
	Value string
	// Generate is nil when the template gives the value, or none.
	Generate *GenerateSecret
}

// GenerateSecret is GenerateSecretString. With a Template, a JSON object, the password becomes its member Key.
type GenerateSecret struct {
	Template, Key, ExcludeCharacters                                       string
	Length                                                                 int64
	ExcludeLowercase, ExcludeUppercase, ExcludeNumbers, ExcludePunctuation bool
	IncludeSpace, RequireEachIncludedType                                  bool
}

// Tables returns the tables that this deployment has, in the template's order.
func (t *Template) Tables() ([]Table, error) {
	resources, err := t.live(typeTable)
	if err != nil {
		return nil, err
	}
	var tables []Table
	for _, resource := range resources {
		table, err := t.table(resource)
		if err != nil {
			return nil, err
		}
		tables = append(tables, table)
	}
	return tables, nil
}

func (t *Template) table(resource resource) (Table, error) {
	r := t.read(
		resource.node,
		resource.properties,
		"TableName",
		"AttributeDefinitions",
		"KeySchema",
		"GlobalSecondaryIndexes",
		"BillingMode",
		"TimeToLiveSpecification",
	)
	table := Table{
		LogicalID:   resource.id,
		Name:        r.text("TableName", r.properties["TableName"], t.generatedName(resource.id)),
		BillingMode: r.text("BillingMode", r.properties["BillingMode"], "PROVISIONED"),
		Key:         r.key("KeySchema", r.properties["KeySchema"]),
	}
	for _, element := range r.list("AttributeDefinitions", r.properties["AttributeDefinitions"]) {
		attribute := r.object("AttributeDefinitions", element)
		r.only("AttributeDefinitions", attribute, "AttributeName", "AttributeType")
		table.Attributes = append(
			table.Attributes,
			Attribute{text(attribute["AttributeName"]), text(attribute["AttributeType"])},
		)
	}
	for _, element := range r.list("GlobalSecondaryIndexes", r.properties["GlobalSecondaryIndexes"]) {
		index := r.object("GlobalSecondaryIndexes", element)
		r.only(
			"GlobalSecondaryIndexes",
			index,
			"IndexName",
			"KeySchema",
			"Projection",
			"ContributorInsightsSpecification",
			"OnDemandThroughput",
		)
		projection := r.object("Projection", index["Projection"])
		r.only("Projection", projection, "ProjectionType", "NonKeyAttributes")
		include, _ := stringsOf(projection["NonKeyAttributes"])
		table.Indexes = append(table.Indexes, Index{
			Name:       text(index["IndexName"]),
			Key:        r.key("KeySchema", index["KeySchema"]),
			Projection: text(projection["ProjectionType"]),
			Include:    include,
		})
	}
	ttl := r.object("TimeToLiveSpecification", r.properties["TimeToLiveSpecification"])
	r.only("TimeToLiveSpecification", ttl, "AttributeName", "Enabled")
	if r.boolean("Enabled", ttl["Enabled"], false) {
		table.TTLAttribute = text(ttl["AttributeName"])
	}
	if table.BillingMode != "PAY_PER_REQUEST" {
		r.fail("%s: the local run knows only tables with BillingMode PAY_PER_REQUEST", resource.id)
	}
	return table, r.err
}

func (r *reader) key(what string, value any) []KeyPart {
	var key []KeyPart
	for _, element := range r.list(what, value) {
		part := r.object(what, element)
		r.only(what, part, "AttributeName", "KeyType")
		key = append(key, KeyPart{text(part["AttributeName"]), text(part["KeyType"])})
	}
	if len(key) == 0 {
		r.fail("%s is missing", what)
	}
	return key
}

// Secrets returns the secrets that this deployment has, in the template's order.
func (t *Template) Secrets() ([]Secret, error) {
	resources, err := t.live(typeSecret)
	if err != nil {
		return nil, err
	}
	var secrets []Secret
	for _, resource := range resources {
		r := t.read(resource.node, resource.properties, "Name", "SecretString", "GenerateSecretString")
		secret := Secret{
			LogicalID: resource.id,
			Name:      r.text("Name", r.properties["Name"], t.generatedName(resource.id)),
			Value:     r.text("SecretString", r.properties["SecretString"], ""),
		}
		if g := r.object("GenerateSecretString", r.properties["GenerateSecretString"]); g != nil {
			secret.Generate = r.generate(g)
		}
		if r.err != nil {
			return nil, r.err
		}
		secrets = append(secrets, secret)
	}
	return secrets, nil
}

func (r *reader) generate(g map[string]any) *GenerateSecret {
	r.only(
		"GenerateSecretString",
		g,
		"SecretStringTemplate",
		"GenerateStringKey",
		"PasswordLength",
		"ExcludeCharacters",
		"ExcludeLowercase",
		"ExcludeUppercase",
		"ExcludeNumbers",
		"ExcludePunctuation",
		"IncludeSpace",
		"RequireEachIncludedType",
	)
	return &GenerateSecret{
		Template:                r.text("SecretStringTemplate", g["SecretStringTemplate"], ""),
		Key:                     r.text("GenerateStringKey", g["GenerateStringKey"], ""),
		ExcludeCharacters:       r.text("ExcludeCharacters", g["ExcludeCharacters"], ""),
		Length:                  int64(r.integer("PasswordLength", g["PasswordLength"], 32)),
		ExcludeLowercase:        r.boolean("ExcludeLowercase", g["ExcludeLowercase"], false),
		ExcludeUppercase:        r.boolean("ExcludeUppercase", g["ExcludeUppercase"], false),
		ExcludeNumbers:          r.boolean("ExcludeNumbers", g["ExcludeNumbers"], false),
		ExcludePunctuation:      r.boolean("ExcludePunctuation", g["ExcludePunctuation"], false),
		IncludeSpace:            r.boolean("IncludeSpace", g["IncludeSpace"], false),
		RequireEachIncludedType: r.boolean("RequireEachIncludedType", g["RequireEachIncludedType"], true),
	}
}

// predict says what a resource answers that nothing was bound for.
func (t *Template) predict(node *yaml.Node, r resource) (Physical, error) {
	arn := func(service, resource string) map[string]string {
		return map[string]string{
			"Arn": fmt.Sprintf("arn:aws:%s:%s:%s:%s", service, t.options.Region, t.options.AccountID, resource),
		}
	}
	nameOf := func(property string) (string, error) {
		reader := t.read(r.node, r.properties, property)
		return reader.text(property, reader.properties[property], t.generatedName(r.id)), reader.err
	}
	var name string
	var err error
	switch r.kind {
	case typeTable:
		name, err = nameOf("TableName")
		return Physical{name, arn("dynamodb", "table/"+name)}, err
	case typeAPI:
		return Physical{Ref: t.generatedName(r.id)}, nil
	case typeFunction:
		name, err = nameOf("FunctionName")
		return Physical{name, arn("lambda", "function:"+name)}, err
	case typeLogGroup:
		name, err = nameOf("LogGroupName")
		return Physical{name, arn("logs", "log-group:"+name+":*")}, err
	case typeQueue:
		reader := t.read(r.node, r.properties, "QueueName", "FifoQueue")
		name = t.queueName(reader, r.id)
		attributes := arn("sqs", name)
		attributes["QueueName"] = name
		return Physical{Attributes: attributes}, reader.err // its URL is known once it exists
	case typeConfigurationSet:
		name, err = nameOf("Name")
		return Physical{Ref: name}, err
	case typeEventBus:
		name, err = nameOf("Name")
		attributes := arn("events", "event-bus/"+name)
		attributes["Name"] = name
		return Physical{name, attributes}, err
	case typeRule:
		rule, err := t.rule(r)
		return Physical{rule.qualifiedName("|"), arn("events", "rule/"+rule.qualifiedName("/"))}, err
	case typeRole:
		name, err = nameOf("RoleName")
		return Physical{
			name,
			map[string]string{"Arn": fmt.Sprintf("arn:aws:iam::%s:role/%s", t.options.AccountID, name)},
		}, err
	}
	return Physical{}, t.errorf(node, "the local run cannot say what %s is: it was not created", r.id)
}

// generatedName stands for the name that CloudFormation makes up; a new stack every run needs no random part.
func (t *Template) generatedName(id string) string { return t.options.StackName + "-" + id }
