// Package stackname knows what the parts of a deployed stack are called: its tables, queues, secrets and the like. A
// function of the bundle reads such names from its environment. Everything else, the command line, the local run and
// the tests, knows the stack alone and asks here.
package stackname

import (
	"fmt"
	"regexp"
)

var valid = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,127}$`)

// Check refuses what cannot be the name of a CloudFormation stack, and with it no part of one: a name is a letter, then
// letters, digits and hyphens, at most 128 in all. The error quotes the name and says so.
func Check(stack string) error {
	if valid.MatchString(stack) {
		return nil
	}
	return fmt.Errorf("stack %q is not a stack name: a letter, then letters, digits and hyphens, at most 128", stack)
}

// ContentTable has what is provisioned: programs, numbers and groups of tenants, products of businesses.
func ContentTable(stack string) string { return stack + "-content" }

// IdempotencyTable has the records of operations that must not happen twice.
func IdempotencyTable(stack string) string { return stack + "-idempotency" }

// MailsTable has the activation mails, and how many were asked for within a window.
func MailsTable(stack string) string { return stack + "-mails" }

// MessagesTable has the OTT messages to persons.
func MessagesTable(stack string) string { return stack + "-messages" }

// ProductsTable has the products of customers.
func ProductsTable(stack string) string { return stack + "-products" }

// PushesTable has the pushes with their chunks.
func PushesTable(stack string) string { return stack + "-pushes" }

// RegistrationsTable has the registered Messenger pages and LINE channels, without their credentials.
func RegistrationsTable(stack string) string { return stack + "-registrations" }

// DeliveryQueue has the jobs that deliver chunks of pushes.
func DeliveryQueue(stack string) string { return stack + "-delivery" }

// RetryQueue has the jobs of chunks that wait for another try.
func RetryQueue(stack string) string { return stack + "-retry" }

// DeliveryDeadLetterQueue has the jobs of DeliveryQueue and RetryQueue that failed too often.
func DeliveryDeadLetterQueue(stack string) string { return stack + "-delivery-dead" }

// OutboundQueue is the name of the queue of OTT messages that ott-deliver works through.
func OutboundQueue(stack string) string { return stack + "-outbound.fifo" }

// MailQueue has the jobs that send activation mails.
func MailQueue(stack string) string { return stack + "-mail" }

// MailEventQueue has what SES tells about sent mails.
func MailEventQueue(stack string) string { return stack + "-mail-event" }

// MailConfigurationSet is the set under which SES sends the activation mails.
func MailConfigurationSet(stack string) string { return stack + "-mail" }

// EventBus has the events of registered Messenger pages and LINE channels.
func EventBus(stack string) string { return stack + "-ott" }

// ClientSecretPrefix begins the name of every API client's secret.
func ClientSecretPrefix(stack string) string { return stack + "/client/" }

// ClientSecret has the client's secret, tenant and scopes.
func ClientSecret(stack, clientID string) string { return ClientSecretPrefix(stack) + clientID }

// RegistrationSecretPrefix begins the names of the secrets with the credentials of registered pages and channels.
func RegistrationSecretPrefix(stack string) string { return stack + "/ott/" }

// GatewaySecret has the key that signs what the device gateway gets.
func GatewaySecret(stack string) string { return stack + "/gateway" }

// ProviderSecret has the credentials for the entitlement provider.
func ProviderSecret(stack string) string { return stack + "/provider/bango" }

// SigningKeySecret has the key that signs access tokens.
func SigningKeySecret(stack string) string { return stack + "/token-signing-key" }
