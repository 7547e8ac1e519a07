// Package contract_test holds the bundle to its contract: one bundle, started as `make run` starts it, is asked over
// HTTP, and every answer is checked against openapi.yaml as well as against the row of the contract that a test names.
package contract_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"carillon/local"
	"carillon/provision"
	"carillon/shared/apiclient"
)

// parallelTests is how many tests run at once unless -parallel says otherwise: most of them wait for a function to start
// or for a refusal that takes its time.
const parallelTests = "4"

// bundle is what every test asks.
var bundle *local.Bundle

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
	// otherCountry is served, and the provider does not know the key of its one product.
	otherCountry = "TT"
	otherProduct = "disney-plus-tt"
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	explicit := false
	flag.Visit(func(f *flag.Flag) { explicit = explicit || f.Name == "test.parallel" })
	ctx := context.Background()
	var err error
	if !explicit {
		err = flag.Set("test.parallel", parallelTests)
	}
	if err = errors.Join(err, start(ctx)); err != nil {
		fmt.Fprintln(os.Stderr, "the bundle does not start:", err)
		return 1
	}
	code := m.Run()
	err = nothingStored(ctx)
	bundle.Close()
	provider.close()
	if err = errors.Join(err, logs.leaked()); err != nil {
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
	bundle, err = local.Start(ctx, local.Options{
		Root:        "../..",
		Stack:       "carillon-contract",
		ProviderURL: provider.url(),
		Progress:    func(line string) { fmt.Fprintln(os.Stderr, line) },
		Log:         logs.add,
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
		{&ottReader, provision.Client{ID: "contract-ott-reader", Tenant: "demo-brand", Scopes: []string{apiclient.ScopeOTTRegistrationRead}}},
		{&ottTeammate, provision.Client{ID: "contract-ott-teammate", Tenant: "demo-brand", Scopes: []string{apiclient.ScopeOTTRegistrationRead, apiclient.ScopeOTTRegistrationWrite}}},
		{&dxpTrinidad, provision.Client{ID: "contract-dxp-tt", Tenant: "contract-channel", Scopes: []string{apiclient.ScopeDXPProduct + ":" + otherCountry}}},
	} {
		secret, err := clients.Add(ctx, add.Client)
		if err != nil {
			return err
		}
		*add.into = local.DemoClient{ClientID: add.ID, ClientSecret: secret}
	}
	engage := bundle.Demo.Engage
	_, err := provision.ApplyContent(ctx, bundle.DynamoDB(), provision.ContentTable(bundle.Demo.AWS.Stack), provision.Content{
		Providers: []provision.Provider{{
			// The demo's content again, for a provider's content is replaced as a whole, and a program that is not complete.
			Tenant:   "demo-calls",
			ANumbers: engage.ANumbers,
			Groups:   []provision.Group{{ID: engage.ANumberGroupID, Name: "Sales", ANumbers: engage.ANumbers[:1]}},
			Programs: []provision.Program{
				{UUID: engage.ProgramContentUUID, Name: "Order status", Complete: true, Variables: engage.Variables, Content: `{"headline":"Hello"}`},
				{UUID: incompleteProgram, Name: "Draft", Content: `{}`},
			},
		}},
		Businesses: []provision.Business{{
			ID:                 otherCountry,
			MerchantAccountKey: "contract-merchant-tt",
			Products: []provision.Product{{
				ReferredType: "DISNEY", ProductSpecification: otherProduct, ProductKey: "NO_SUCH_KEY", OfferKey: "NO_SUCH_OFFER",
			}},
		}},
	})
	return err
}

// nothingStored searches every table for every secret of the run: they belong to Secrets Manager alone.
func nothingStored(ctx context.Context) error {
	for _, table := range tables {
		items, err := scan(ctx, table)
		if err != nil {
			return err
		}
		for _, item := range items {
			content := itemText(item)
			for _, secret := range secrets.list() {
				if strings.Contains(content, secret) {
					return fmt.Errorf("the table %s holds the secret %s: %q", table, secret, content)
				}
			}
		}
	}
	return nil
}

// logLines keeps what the functions and the API log.
type logLines struct {
	mu    sync.Mutex
	lines []string
}

var logs logLines

func (l *logLines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

// leaked returns an error that shows the first log line with a secret, if there is one.
func (l *logLines) leaked() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Join(l.lines, "\n")
	for _, secret := range append(secrets.list(), activationLinks.list()...) {
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

// secrets are those that no table may hold either; an activation link is kept with its product, to be mailed.
var secrets, activationLinks secretTexts

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
