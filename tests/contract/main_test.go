// Package contract_test holds the bundle to its contract: one bundle, started as `make run` starts it, is asked over
// HTTP, and every answer is checked against openapi.yaml as well as against the row of the contract that a test names.
package contract_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"carillon/local"
	"carillon/local/standin"
	"carillon/provision"
	"carillon/shared/ott"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

// parallelTests is how many tests run at once unless -parallel says otherwise: most of them wait for a function to
// start or for a refusal that takes its time.
const parallelTests = 4

// bundle is what every test asks.
var bundle *harness.Bundle

// Clients beside the demo's.
var (
	ottReader   local.DemoClient // the demo brand's, may only read registrations
	ottTeammate local.DemoClient // the demo brand's, may do all
	dxpTrinidad local.DemoClient // may ask for TT alone
)

// What the tests provision beside the demo content.
const (
	unknownUUID       = "00000000-1111-4222-8333-444444444444"
	incompleteProgram = "5b0c5f5e-7a47-4f0e-9a0e-3f0f4a4c1c11"
	// otherCountry is served. The provider does not know the key of otherProduct.
	otherCountry = "TT"
	otherProduct = "disney-plus-tt"
	// ownKeysProduct has a merchantAccountKey of its own, and the offerKey of otherCountry.
	ownKeysProduct = "disney-plus-own"
	// englishProduct can be had in otherCountry, under englishName; and so can a product of each hostileNames.
	englishProduct = "disney-plus-trinidad"
	englishName    = "Disney+ Trinidad & Tobago"
)

// hostileNames are names of services, by the products that have them, which do what they can to a mail.
var hostileNames = map[string]string{
	"line-breaks":   "Evil\r\nBcc: victim@example.com\r\n\r\nHello",
	"line-ends":     "Evil\u2028Bcc: victim@example.com\u0085\v\fHello\x00\x1b[31m",
	"markup":        `</a><script>alert("1")</script><img src="https://example.com/pixel.gif">`,
	"attribute":     `" onmouseover="alert(1)" href="https://example.com/`,
	"template":      `{{.Link}} {{template "x"}} ${Link} %s%n`,
	"right-to-left": "Evil \u202egnp.exe\u202c \u200b\ufeff",
	"encoded":       "=?UTF-8?Q?=0D=0ABcc:_victim=40example.com?=",
	"scripts":       "鐘 Καμπάνα \U0001f514",
	"long":          strings.Repeat("Disney+ ", 32),
	"blank":         " \t ",
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	harness.Beside(parallelTests)
	ctx := context.Background()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "the bundle does not start:", err)
		return 1
	}
	code := m.Run()
	err := errors.Join(addEverySecret(ctx), mailedOnce(ctx), nothingStored(ctx))
	bundle.Close()
	provider.close()
	if err = errors.Join(err, leaked()); err != nil {
		fmt.Fprintln(os.Stderr, "FAIL:", err)
		return 1
	}
	return code
}

func start(ctx context.Context) (err error) {
	if description, err = loadOpenAPI(); err != nil {
		return err
	}
	provider = newProviderProxy()
	bundle, err = harness.Start(ctx, local.Options{
		Stack:       "carillon-contract",
		ProviderURL: provider.url(),
		Parameters:  map[string]string{"ActivationHosts": activationHost + ",*.links.example.net"},
		Progress:    func(line string) { fmt.Fprintln(os.Stderr, line) },
	})
	if err != nil {
		return err
	}
	provider.forwardTo(bundle.Partners.URL("bango"))
	if err = provisionMore(ctx); err != nil {
		bundle.Close()
		return err
	}
	for _, client := range []local.DemoClient{
		bundle.Demo.OTT, bundle.Demo.OTTOther, bundle.Demo.Engage.DemoClient, bundle.Demo.EngageOther.DemoClient,
		bundle.Demo.Product.DemoClient, ottReader, ottTeammate, dxpTrinidad,
	} {
		secrets.add(client.ClientSecret)
	}
	secrets.add(bundle.ProviderPassword)
	return nil
}

func provisionMore(ctx context.Context) error {
	clients := provision.NewClients(bundle.SecretsManager(), bundle.Demo.AWS.Stack)
	for _, add := range []struct {
		into *local.DemoClient
		provision.Client
	}{
		{&ottReader, provision.Client{ID: "contract-ott-reader", Tenant: "demo-brand", Scopes: []string{ott.ScopeRegistrationRead}}},
		{&ottTeammate, provision.Client{ID: "contract-ott-teammate", Tenant: "demo-brand", Scopes: []string{ott.ScopeRegistrationRead, ott.ScopeRegistrationWrite}}},
		{&dxpTrinidad, provision.Client{ID: "contract-dxp-tt", Tenant: "contract-channel", Scopes: []string{"dxp_product:" + otherCountry}}},
	} {
		secret, err := clients.Add(ctx, add.Client)
		if err != nil {
			return err
		}
		*add.into = local.DemoClient{ClientID: add.ID, ClientSecret: secret}
	}
	engage := bundle.Demo.Engage
	table := stackname.ContentTable(bundle.Demo.AWS.Stack)
	_, err := provision.ApplyContent(ctx, bundle.DynamoDB(), table, provision.Content{
		Tenants: []provision.Tenant{{
			// The demo's content again, for a tenant's content is replaced as a whole, and a program that is not
			// complete.
			ID:       "demo-calls",
			ANumbers: engage.ANumbers,
			Groups:   []provision.Group{{ID: engage.ANumberGroupID, Name: "Sales", ANumbers: engage.ANumbers[:1]}},
			Programs: []provision.Program{
				{
					UUID:      engage.ProgramContentUUID,
					Name:      "Order status",
					Complete:  true,
					Variables: engage.Variables,
					Content:   `{"headline":"Hello"}`,
				},
				{UUID: incompleteProgram, Name: "Draft", Content: `{}`},
			},
		}},
		Businesses: []provision.Business{{
			ID:                 otherCountry,
			MerchantAccountKey: "contract-merchant-tt",
			OfferKey:           "CONTRACT_OFFER_TT",
			Products:           trinidad(),
		}},
	})
	return err
}

// trinidad is what can be had in otherCountry.
func trinidad() []provision.Product {
	products := []provision.Product{
		{
			ReferredType:         "DISNEY",
			ProductSpecification: ownKeysProduct,
			MerchantAccountKey:   "contract-merchant-own",
			ProductKey:           "DISNEY_PLUS_PA",
		},
		{
			ReferredType:         "DISNEY",
			ProductSpecification: otherProduct,
			ProductKey:           "NO_SUCH_KEY",
			OfferKey:             "NO_SUCH_OFFER",
		},
		{
			ReferredType:         "DISNEY",
			ProductSpecification: englishProduct,
			ProductKey:           "DISNEY_PLUS_PA",
			OfferKey:             "DISNEY_PLUS_TT_MONTHLY",
			Name:                 englishName,
		},
	}
	for id, name := range hostileNames {
		products = append(products, provision.Product{
			ReferredType:         "DISNEY",
			ProductSpecification: id,
			ProductKey:           "DISNEY_PLUS_PA",
			OfferKey:             "DISNEY_PLUS_TT_MONTHLY",
			Name:                 name,
		})
	}
	return products
}

// nothingStored searches every table for every secret of the run: they belong to Secrets Manager alone. Nor is any
// activation link left, for no mail is under way any more.
func nothingStored(ctx context.Context) error {
	tables, err := bundle.Tables(ctx)
	if err != nil {
		return err
	}
	for _, table := range tables {
		items, err := bundle.ScanAll(ctx, table)
		if err != nil {
			return err
		}
		for _, item := range items {
			content := itemText(item)
			for _, secret := range append(secrets.list(), activationHost) {
				if strings.Contains(content, secret) {
					return fmt.Errorf("the table %s holds the secret %s: %q", table, secret, content)
				}
			}
		}
	}
	return nil
}

// mailedOnce waits until no mail is under way, and compares what SES has accepted with what was accepted from clients:
// a mail for each request, whatever the tests did to bring about a second one, and none for what was superseded.
func mailedOnce(ctx context.Context) error {
	for deadline := time.Now().Add(time.Minute); ; {
		items, err := bundle.ScanAll(ctx, bundle.Table(stackname.MailsTable))
		if err != nil {
			return err
		}
		requests, waiting := map[string]int{}, 0
		for _, item := range items {
			switch stringOf(item["state"]) {
			case "pending", "sending":
				waiting++
			case "refused": // by SES at once, or later for what is in it
				if stringOf(item["sesMessageId"]) != "" {
					requests[stringOf(item["to"])]++
				}
			case "sent", "delayed", "delivered", "bounced", "suppressed", "complained":
				requests[stringOf(item["to"])]++
			}
		}
		if waiting == 0 {
			accepted := map[string]int{}
			for _, m := range bundle.Mail.Messages() {
				accepted[m.To]++
			}
			if !maps.Equal(requests, accepted) {
				return fmt.Errorf(
					"the clients' requests are not what SES accepted, by address:\n%v\n%v",
					requests,
					accepted,
				)
			}
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%d mails are still under way", waiting)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// leaked returns an error that shows the first log line with a secret, if there is one.
func leaked() error {
	all := strings.Join(bundle.Log.Lines(), "\n")
	for _, secret := range append(secrets.list(), activationHost) {
		if at := strings.Index(all, secret); at >= 0 {
			from := strings.LastIndexByte(all[:at], '\n') + 1
			line, _, _ := strings.Cut(all[from:], "\n")
			return fmt.Errorf("the log holds the secret %s: %s", secret, line)
		}
	}
	return nil
}

// secretTexts are the texts that must never show in a log line or in an answer that does not grant them.
type secretTexts struct {
	mu    sync.Mutex
	texts map[string]bool
}

// secrets are those that no table may hold either.
var secrets secretTexts

// activationHost is in every activation link of the run, and in nothing else: the links are secrets too, but a table
// holds one until its mail is sent.
const activationHost = standin.ActivationHost

func (s *secretTexts) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.texts == nil {
		s.texts = map[string]bool{}
	}
	s.texts[text] = true
}

func (s *secretTexts) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	texts := make([]string, 0, len(s.texts))
	for text := range s.texts {
		texts = append(texts, text)
	}
	return texts
}
