package local

import (
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"carillon/provision"
	"carillon/shared/engage"
	"carillon/shared/ott"
	"carillon/shared/product"
)

//go:embed demo.yaml
var demoContent []byte

// Demo is what a caller needs to know about a running bundle: .local/demo.json.
type Demo struct {
	BaseURL     string        `json:"baseUrl"`
	OTT         DemoClient    `json:"ott"`
	OTTOther    DemoClient    `json:"ottOther"` // of another tenant
	Engage      DemoEngage    `json:"engage"`
	EngageOther DemoEngage    `json:"engageOther"` // of another provider
	Product     DemoProduct   `json:"product"`
	Gateway     DemoGateway   `json:"gateway"`
	AWS         DemoEmulators `json:"aws"`
}

// DemoClient is an API client that may do all that its domain has.
type DemoClient struct {
	ClientID     string `json:"clientId"`
	ClientSecret string `json:"clientSecret"`
}

// DemoEngage is a provider's client and what the provider may push.
type DemoEngage struct {
	DemoClient
	ProgramContentUUID string   `json:"programContentUuid"`
	Variables          []string `json:"variables"`
	ANumbers           []string `json:"aNumbers"`
	ANumberGroupID     string   `json:"aNumberGroupId"`
}

// DemoProduct is a client and a product that it may resend.
type DemoProduct struct {
	DemoClient
	BusinessID   string `json:"businessId"`
	ProductID    string `json:"productId"`
	ReferredType string `json:"referredType"`
}

// DemoGateway is where pushes go, and what signs them.
type DemoGateway struct {
	URL    string `json:"url"`
	Secret string `json:"secret"`
}

// DemoEmulators say where the tables and secrets are. Endpoint is every service's but DynamoDB's.
type DemoEmulators struct {
	DynamoDB string `json:"dynamodb"`
	Endpoint string `json:"endpoint"`
	Region   string `json:"region"`
	Stack    string `json:"stack"`
}

// content is what the bundle serves: the demo file, and another tenant who must not reach the first one's.
func content() (provision.Content, error) {
	c, err := provision.ParseContent(bytes.NewReader(demoContent))
	if err != nil {
		return provision.Content{}, fmt.Errorf("the demo content: %w", err)
	}
	numbers := []string{randomNumber(), randomNumber()}
	c.Tenants = append(c.Tenants, provision.Tenant{
		ID:       "other-calls",
		ANumbers: numbers,
		Groups:   []provision.Group{{ID: uuid.NewString(), Name: "Service", ANumbers: numbers[:1]}},
		Programs: []provision.Program{{
			UUID: uuid.NewString(), Name: "Appointment", Complete: true,
			Variables: []string{"OTHER_VAR"}, Content: `{"headline":"Your appointment"}`,
		}},
	})
	return c, nil
}

// randomNumber makes up a number of the range that no subscriber of the demo tenant has.
func randomNumber() string {
	n, err := rand.Int(rand.Reader, big.NewInt(9_000_000))
	if err != nil {
		panic(err) // crypto/rand has no other failure than that of the machine
	}
	return fmt.Sprintf("+1555%07d", 1_000_000+n.Int64())
}

// productKeys are what the provider's stand-in sells: everything in the content.
func productKeys(c provision.Content) []string {
	var keys []string
	for _, business := range c.Businesses {
		for _, product := range business.Products {
			if !slices.Contains(keys, product.ProductKey) {
				keys = append(keys, product.ProductKey)
			}
		}
	}
	return keys
}

// addClients makes the demo clients; each run has secrets of its own.
func addClients(ctx context.Context, clients *provision.Clients, c provision.Content) (Demo, error) {
	var demo Demo
	demo.Engage = demoEngage(c.Tenants[0])
	demo.EngageOther = demoEngage(c.Tenants[1])
	business := c.Businesses[0]
	demo.Product.BusinessID = business.ID
	demo.Product.ProductID = business.Products[0].ProductSpecification
	demo.Product.ReferredType = business.Products[0].ReferredType
	for _, add := range []struct {
		into *DemoClient
		provision.Client
	}{
		{&demo.OTT, provision.Client{ID: "demo-ott", Tenant: "demo-brand", Scopes: ott.Scopes()}},
		{&demo.OTTOther, provision.Client{ID: "demo-ott-other", Tenant: "other-brand", Scopes: ott.Scopes()}},
		{
			&demo.Engage.DemoClient,
			provision.Client{ID: "demo-engage", Tenant: c.Tenants[0].ID, Scopes: engage.Scopes()},
		},
		{
			&demo.EngageOther.DemoClient,
			provision.Client{ID: "demo-engage-other", Tenant: c.Tenants[1].ID, Scopes: engage.Scopes()},
		},
		{
			&demo.Product.DemoClient,
			provision.Client{ID: "demo-product", Tenant: "demo-channel", Scopes: product.Scopes()},
		},
	} {
		secret, err := clients.Add(ctx, add.Client)
		if err != nil {
			return Demo{}, fmt.Errorf("adding the demo client %s: %w", add.ID, err)
		}
		*add.into = DemoClient{ClientID: add.ID, ClientSecret: secret}
	}
	return demo, nil
}

func demoEngage(t provision.Tenant) DemoEngage {
	return DemoEngage{
		ProgramContentUUID: t.Programs[0].UUID,
		Variables:          t.Programs[0].Variables,
		ANumbers:           t.ANumbers,
		ANumberGroupID:     t.Groups[0].ID,
	}
}

// write puts the demo file in place in one step, readable by its owner alone.
func (d Demo) write(path string) error {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+"-*") // made with mode 0600
	if err != nil {
		return err
	}
	_, werr := file.Write(append(raw, '\n'))
	err = errors.Join(werr, file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		_ = os.Remove(file.Name())
	}
	return err
}

// remove takes the demo file away again, unless another run has written its own since.
func (d Demo) remove(path string) {
	raw, err := os.ReadFile(path)
	var there Demo
	if err == nil && json.Unmarshal(raw, &there) == nil && there.BaseURL == d.BaseURL && there.AWS == d.AWS {
		_ = os.Remove(path)
	}
}
