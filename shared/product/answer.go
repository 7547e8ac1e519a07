package product

import (
	"net/http"

	"carillon/shared/httpapi"
)

// productJSON is a product as the API shows it: seed 003's response model, with href and the arrays of TMF637 that it leaves empty.
type productJSON struct {
	ID                    string          `json:"id"`
	Href                  string          `json:"href"`
	Status                string          `json:"status"`
	ProductSpecification  referenceJSON   `json:"productSpecification"`
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
	Characteristic characteristicJSON `json:"characteristic"`
}

type characteristicJSON struct {
	EmailAddress string `json:"emailAddress"`
}

// created is the answer to a create or a resend.
func created(r *httpapi.Request, businessID, id string, p Product) *httpapi.Response {
	href := r.BaseURL() + "/dxp-ux/v1/" + businessID + "/product/" + id
	return withCorrelation(r, httpapi.JSON(http.StatusCreated, productJSON{
		ID:                   id,
		Href:                 href,
		Status:               statusCreated,
		ProductSpecification: referenceJSON{ID: p.SpecificationID},
		BaseType:             productBaseType,
		Type:                 productType,
		ReferredType:         p.ReferredType,
		BillingAccount: accountJSON{
			ID:       p.BillingAccount.ID,
			Contact:  contactsJSON(p.BillingAccount.Contacts),
			BaseType: p.BillingAccount.BaseType,
			Type:     p.BillingAccount.Type,
		},
	}).With("location", href))
}

func contactsJSON(contacts []Contact) []contactJSON {
	list := make([]contactJSON, len(contacts))
	for i, contact := range contacts {
		list[i].ContactType = contact.Type
		for _, email := range contact.Emails {
			list[i].ContactMedium = append(list[i].ContactMedium, mediumJSON{Characteristic: characteristicJSON{EmailAddress: email}})
		}
	}
	return list
}
