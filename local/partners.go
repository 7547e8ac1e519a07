package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sesv2"

	"carillon/local/stack"
	"carillon/local/standin"
	"carillon/local/template"
)

// mailIdentity is the domain that mails are sent from.
const mailIdentity = "mail.example.com"

// standIn starts the partners.
func (b *Bundle) standIn(productKeys []string) error {
	b.Demo.Gateway.Secret = standin.NewWebhookSecret()
	var err error
	if b.Gateway, err = standin.NewGateway(b.Demo.Gateway.Secret); err != nil {
		return err
	}
	b.ProviderUsername, b.ProviderPassword = "demo", rand.Text()
	b.Mail, b.Events, b.OTT = standin.NewMail(), standin.NewEvents(), standin.NewOTT(time.Now)
	bango := standin.NewBango(b.ProviderUsername, b.ProviderPassword, productKeys)
	b.Partners, err = standin.Start(b.Gateway, bango, b.Mail, b.Events, b.OTT)
	return err
}

func (b *Bundle) providerURL() string {
	if b.options.ProviderURL != "" {
		return b.options.ProviderURL
	}
	return b.Partners.URL("bango")
}

// activationHosts are the hosts that activation links may have: the stand-in's, and any of a provider that is not ours.
func (b *Bundle) activationHosts() string {
	if b.options.ProviderURL != "" {
		return "*"
	}
	return standin.ActivationHost
}

func (b *Bundle) gatewayURL() string {
	if b.options.GatewayURL != "" {
		return b.options.GatewayURL
	}
	return b.Partners.URL("gateway")
}

// connect puts the stand-ins for AWS in front of the emulator, and tells those for the platforms who is registered.
// What mails are sent from is no part of a stack: whoever deploys has it verified before.
func (b *Bundle) connect(ctx context.Context, t *template.Template, clients stack.Clients) error {
	_, err := clients.SESv2.CreateEmailIdentity(
		ctx,
		&sesv2.CreateEmailIdentityInput{EmailIdentity: aws.String(mailIdentity)},
	)
	if err != nil {
		return fmt.Errorf("verifying %s: %w", mailIdentity, err)
	}
	sets, err := t.ConfigurationSets()
	if err != nil {
		return err
	}
	published := map[string][]string{}
	for _, set := range sets {
		published[set.Name] = set.EventTypes
	}
	b.OTT.Connect(b.platformAccounts())
	return errors.Join(
		b.Events.Connect(b.emulators.AWS),
		b.Mail.Connect(standin.MailConfig{
			Endpoint: b.emulators.AWS, Events: clients.EventBridge, EventTypes: published,
			AccountID: accountID, Region: region, Log: b.options.Log,
		}),
	)
}
