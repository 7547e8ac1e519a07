package api

import (
	"bytes"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/product"
)

// createdJSON is a product as a create shows it: seed 003's response model, with href, TMF637's mandatory
// productOffering, and the arrays of TMF637 that it leaves empty.
type createdJSON struct {
	ID                    string          `json:"id"`
	Href                  string          `json:"href"`
	Status                string          `json:"status"`
	ProductSpecification  referenceJSON   `json:"productSpecification"`
	ProductOffering       referenceJSON   `json:"productOffering"`
	BaseType              string          `json:"@baseType"`
	Type                  string          `json:"@type"`
	ReferredType          string          `json:"@referredType"`
	BillingAccount        accountJSON     `json:"billingAccount"`
	ProductCharacteristic []referenceJSON `json:"productCharacteristic"`
	ProductPrice          []referenceJSON `json:"productPrice"`
	RelatedParty          []referenceJSON `json:"relatedParty"`
}

type referenceJSON struct {
	ID string `json:"id"`
}

type accountJSON struct {
	ID       string        `json:"id"`
	Contact  []contactJSON `json:"contact"`
	BaseType string        `json:"@baseType,omitempty"`
	Type     string        `json:"@type,omitempty"`
}

type contactJSON struct {
	ContactType   string       `json:"contactType,omitempty"`
	ContactMedium []mediumJSON `json:"contactMedium"`
}

type mediumJSON struct {
	Characteristic addressJSON `json:"characteristic"`
}

type addressJSON struct {
	EmailAddress string `json:"emailAddress"`
}

// shownJSON is a product as the reads show it: as a create does, with what became of the activation mail.
type shownJSON struct {
	createdJSON
	ProductCharacteristic []characteristicJSON `json:"productCharacteristic"`
}

// characteristicJSON is TMF637's Characteristic.
type characteristicJSON struct {
	Name      string `json:"name"`
	ValueType string `json:"valueType"`
	Value     string `json:"value"`
}

// The characteristics of a product. A product whose mail nothing is known of has none.
const (
	activationMail       = "activationMail"       // what became of the latest mail: a product.MailState
	activationMailDate   = "activationMailDate"   // since when, RFC 3339 in UTC
	activationMailReason = "activationMailReason" // why, if there is a reason
)

// newCreatedJSON returns a product under the URL of its collection. offering is its productOffering's id.
func newCreatedJSON(collection, id, status, offering string, p product.Product) createdJSON {
	return createdJSON{
		ID:                   id,
		Href:                 collection + "/" + id,
		Status:               status,
		ProductSpecification: referenceJSON{ID: p.SpecificationID},
		ProductOffering:      referenceJSON{ID: offering},
		BaseType:             product.BaseType,
		Type:                 product.Type,
		ReferredType:         p.ReferredType,
		BillingAccount: accountJSON{
			ID:       p.BillingAccount.ID,
			Contact:  contactsJSON(p.BillingAccount.Contacts),
			BaseType: p.BillingAccount.BaseType,
			Type:     p.BillingAccount.Type,
		},
	}
}

func contactsJSON(contacts []product.Contact) []contactJSON {
	list := make([]contactJSON, len(contacts))
	for i, contact := range contacts {
		list[i].ContactType = contact.Type
		for _, email := range contact.Emails {
			list[i].ContactMedium = append(list[i].ContactMedium, mediumJSON{addressJSON{EmailAddress: email}})
		}
	}
	return list
}

// show returns a product as the reads show it, under the URL of its collection. offering is its productOffering's id.
func show(p product.Shown, collection, offering string) *shownJSON {
	shown := &shownJSON{createdJSON: newCreatedJSON(collection, p.ID, p.Status, offering, p.Product)}
	if p.MailState == "" {
		return shown
	}
	shown.add(activationMail, "string", string(p.MailState))
	if !p.MailAt.IsZero() {
		shown.add(activationMailDate, "dateTime", p.MailAt.UTC().Format(time.RFC3339Nano))
	}
	if p.MailReason != "" {
		shown.add(activationMailReason, "string", p.MailReason)
	}
	return shown
}

func (p *shownJSON) add(name, valueType, value string) {
	p.ProductCharacteristic = append(p.ProductCharacteristic,
		characteristicJSON{Name: name, ValueType: valueType, Value: value})
}

// text returns the product as JSON, with the first-level members that are asked for.
func (p *shownJSON) text(fields fieldSet) (jsontext.Value, error) {
	whole, err := json.Marshal(p)
	if err != nil || fields == nil {
		return whole, err
	}
	from := jsontext.NewDecoder(bytes.NewReader(whole))
	var part bytes.Buffer
	to := jsontext.NewEncoder(&part)
	if err := copyToken(to, from); err != nil { // {
		return nil, err
	}
	for from.PeekKind() == '"' {
		name, err := from.ReadToken()
		if err != nil {
			return nil, err
		}
		member := name.String() // before the value is read, which ends the token's life
		value, err := from.ReadValue()
		if err != nil {
			return nil, err
		}
		if !fields.has(member) {
			continue
		}
		if err := to.WriteToken(jsontext.String(member)); err != nil {
			return nil, err
		}
		if err := to.WriteValue(value); err != nil {
			return nil, err
		}
	}
	if err := copyToken(to, from); err != nil { // }
		return nil, err
	}
	return bytes.TrimSpace(part.Bytes()), nil // the encoder ends a text with a line break
}

func copyToken(to *jsontext.Encoder, from *jsontext.Decoder) error {
	token, err := from.ReadToken()
	if err != nil {
		return err
	}
	return to.WriteToken(token)
}
