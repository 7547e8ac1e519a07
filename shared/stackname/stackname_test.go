package stackname_test

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/template"
	"carillon/shared/stackname"
)

const stack = "acme-7"

// functions are this package's, by the logical id of what they name.
var functions = map[string]func(string) string{
	"ContentTable":            stackname.ContentTable,
	"IdempotencyTable":        stackname.IdempotencyTable,
	"MailsTable":              stackname.MailsTable,
	"MessagesTable":           stackname.MessagesTable,
	"ProductsTable":           stackname.ProductsTable,
	"PushesTable":             stackname.PushesTable,
	"RegistrationsTable":      stackname.RegistrationsTable,
	"DeliveryQueue":           stackname.DeliveryQueue,
	"RetryQueue":              stackname.RetryQueue,
	"DeliveryDeadLetterQueue": stackname.DeliveryDeadLetterQueue,
	"OutboundQueue":           stackname.OutboundQueue,
	"MailQueue":               stackname.MailQueue,
	"MailEventQueue":          stackname.MailEventQueue,
	"MailConfigurationSet":    stackname.MailConfigurationSet,
	"EventBus":                stackname.EventBus,
	"GatewaySecret":           stackname.GatewaySecret,
	"ProviderSecret":          stackname.ProviderSecret,
	"TokenSigningKeySecret":   stackname.SigningKeySecret,
}

// unasked are what nobody asks for by name, so that there is no function for them.
var unasked = []string{"OutboundDeadLetterQueue", "MailDeadLetterQueue", "MailEventDeadLetterQueue"}

// load evaluates the template for the stack.
func load(t *testing.T) *template.Template {
	t.Helper()
	declared, err := template.Load(filepath.Join("..", "..", "template.yaml"), template.Options{
		StackName: stack, Region: "us-east-1", AccountID: "000000000000",
		Parameters: map[string]string{
			"ProviderUrl": "https://provider.example.com", "GatewayUrl": "https://gateway.example.com",
			"MailFrom": "a@example.com", "MailIdentity": "example.com", "ActivationHosts": "activate.example.com",
		},
	})
	require.NoError(t, err)
	return declared
}

// declared are the names in the template by logical id.
func declared(t *testing.T) map[string]string {
	t.Helper()
	names, of := map[string]string{}, load(t)
	tables, err := of.Tables()
	require.NoError(t, err)
	for _, table := range tables {
		names[table.LogicalID] = table.Name
	}
	queues, err := of.Queues()
	require.NoError(t, err)
	for _, queue := range queues {
		names[queue.LogicalID] = queue.Name
	}
	secrets, err := of.Secrets()
	require.NoError(t, err)
	for _, secret := range secrets {
		names[secret.LogicalID] = secret.Name
	}
	buses, err := of.EventBuses()
	require.NoError(t, err)
	for _, bus := range buses {
		names[bus.LogicalID] = bus.Name
	}
	sets, err := of.ConfigurationSets()
	require.NoError(t, err)
	for _, set := range sets {
		names[set.LogicalID] = set.Name
	}
	return names
}

func TestNamesAreTheTemplates(t *testing.T) {
	names := declared(t)
	for id, name := range names {
		function, ok := functions[id]
		switch {
		case ok:
			assert.Equal(t, name, function(stack), id)
		case !slices.Contains(unasked, id):
			t.Errorf("%s, which is called %s, has no function in this package", id, name)
		}
	}
	for _, id := range append(slices.Collect(maps.Keys(functions)), unasked...) {
		assert.Contains(t, names, id, "the template declares it no more")
	}
}

// Clients and registrations have secrets of their own, which the template does not declare: it tells functions how
// their names begin.
func TestPrefixesAreTheTemplates(t *testing.T) {
	of := load(t)
	for _, id := range []string{
		"DeliveryQueue", "RetryQueue", "OutboundQueue", "MailQueue", "TokenSigningKeySecret", "ProviderSecret", "GatewaySecret",
	} {
		of.Bind(id, template.Physical{Ref: id, Attributes: map[string]string{"Id": id, "Arn": id}})
	}
	functions, err := of.Functions()
	require.NoError(t, err)
	found := map[string]map[string]bool{}
	for _, function := range functions {
		for variable, value := range function.Environment {
			if strings.HasSuffix(variable, "_SECRET_PREFIX") {
				if found[variable] == nil {
					found[variable] = map[string]bool{}
				}
				found[variable][value] = true
			}
		}
	}
	assert.Equal(t, map[string]map[string]bool{
		"CLIENT_SECRET_PREFIX": {stackname.ClientSecretPrefix(stack): true},
		"OTT_SECRET_PREFIX":    {stackname.RegistrationSecretPrefix(stack): true},
	}, found)
	assert.Equal(t, "acme-7/client/acme-ott", stackname.ClientSecret(stack, "acme-ott"))
}

func TestCheck(t *testing.T) {
	for _, name := range []string{"a", "carillon", "Carillon-2", strings.Repeat("a", 128)} {
		assert.NoError(t, stackname.Check(name), name)
	}
	for _, name := range []string{"", "2a", "-a", "a_b", "a/b", "a b", "ä", "a\n", strings.Repeat("a", 129)} {
		assert.ErrorContains(t, stackname.Check(name), "is not a stack name", name)
	}
}
