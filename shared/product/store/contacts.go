package store

import (
	"github.com/go-json-experiment/json"

	"carillon/shared/product"
)

// The contacts of a billing account are kept as one text, of the JSON that the first of them were kept as.
type (
	contact struct {
		ContactType   string   `json:"contactType,omitempty"`
		ContactMedium []medium `json:"contactMedium"`
	}
	medium struct {
		Characteristic characteristic `json:"characteristic"`
	}
	characteristic struct {
		EmailAddress string `json:"emailAddress"`
	}
)

func encodeContacts(contacts []product.Contact) (string, error) {
	kept := make([]contact, len(contacts))
	for i, c := range contacts {
		kept[i].ContactType = c.Type
		for _, email := range c.Emails {
			kept[i].ContactMedium = append(kept[i].ContactMedium, medium{characteristic{EmailAddress: email}})
		}
	}
	text, err := json.Marshal(kept)
	return string(text), err
}

func decodeContacts(text string) ([]product.Contact, error) {
	var kept []contact
	if err := json.Unmarshal([]byte(text), &kept); err != nil {
		return nil, err
	}
	contacts := make([]product.Contact, len(kept))
	for i, c := range kept {
		contacts[i].Type = c.ContactType
		for _, m := range c.ContactMedium {
			contacts[i].Emails = append(contacts[i].Emails, m.Characteristic.EmailAddress)
		}
	}
	return contacts, nil
}
