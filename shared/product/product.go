// Package product is what the DXP product API (TMF637) is about: streaming products that a channel creates for a
// customer's billing account, and whose activation links it sends again (docs/contract.md §3, seed 003). It has the
// domain's types, what is read of a request, and the checks; its other rooms are store, provider, mail, mailqueue and
// api.
package product

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
)

// The values that seed 003 asks for: every product is of this type.
const (
	Type     = "OTT"     // @type
	BaseType = "product" // @baseType
)

// Product is a product as a channel asks for it.
type Product struct {
	SpecificationID string // productSpecification.id
	ReferredType    string // @referredType, DISNEY for instance
	BillingAccount  BillingAccount
}

// BillingAccount is who the product is for.
type BillingAccount struct {
	ID       string
	Contacts []Contact // at least one
	Email    string    // of the contact that is meant, when the product was asked for: where the activation link goes
	BaseType string    // @baseType, may be empty
	Type     string    // @type, may be empty
}

// Contact is one contact of a billing account, as far as it can be mailed to.
type Contact struct {
	Type   string   // contactType, may be empty
	Emails []string // the emailAddress of each contactMedium that is for mail, at least one
}

// Email returns where the activation link goes.
func (p Product) Email() string { return p.BillingAccount.Email }

// idNamespace is the UUID namespace of product ids. It must never change: a resend would no longer find its product.
var idNamespace = uuid.MustParse("6f1d2a86-0c0b-4d0e-9a55-5f0c52d3c7b1")

// ID returns the id of a tenant's product: a UUID that follows from its parts, so that a resend finds the product that
// it is about, and two creates at the same time are of one product.
func ID(tenant, businessID string, p Product) string {
	var data []byte
	for _, part := range []string{tenant, businessID, p.BillingAccount.ID, p.SpecificationID, p.ReferredType} {
		//nolint:gosec // every part is a few hundred characters at most
		data = binary.BigEndian.AppendUint32(data, uint32(len(part)))
		data = append(data, part...)
	}
	return uuid.NewSHA1(idNamespace, data).String()
}

// Limits of a product's members. Nothing in seed 003 limits them; DynamoDB's items of 400 KB do.
const (
	maxID       = 256 // characters of an id
	maxName     = 64  // characters of a type's name
	maxContacts = 10  // contacts of an account, and media of a contact
)

type productBody struct {
	ProductSpecification jsonbody.Object[specificationBody] `json:"productSpecification"`
	BaseType             jsonbody.Value                     `json:"@baseType"`
	Type                 jsonbody.Value                     `json:"@type"`
	ReferredType         jsonbody.Value                     `json:"@referredType"`
	BillingAccount       jsonbody.Object[accountBody]       `json:"billingAccount"`
}

type specificationBody struct {
	ID jsonbody.Value `json:"id"`
}

type accountBody struct {
	ID       jsonbody.Value                               `json:"id"`
	Contact  jsonbody.Array[jsonbody.Object[contactBody]] `json:"contact"`
	BaseType jsonbody.Value                               `json:"@baseType"`
	Type     jsonbody.Value                               `json:"@type"`
}

type contactBody struct {
	ContactType   jsonbody.Value                              `json:"contactType"`
	ValidFor      jsonbody.Object[periodBody]                 `json:"validFor"`
	ContactMedium jsonbody.Array[jsonbody.Object[mediumBody]] `json:"contactMedium"`
}

type mediumBody struct {
	MediumType     jsonbody.Value                      `json:"mediumType"`
	Preferred      jsonbody.Value                      `json:"preferred"`
	ValidFor       jsonbody.Object[periodBody]         `json:"validFor"`
	Characteristic jsonbody.Object[characteristicBody] `json:"characteristic"`
}

type periodBody struct {
	StartDateTime jsonbody.Value `json:"startDateTime"`
	EndDateTime   jsonbody.Value `json:"endDateTime"`
}

type characteristicBody struct {
	EmailAddress jsonbody.Value `json:"emailAddress"`
}

// The faults of a product's members beside those that every API has: docs/contract.md §3 gives them messages of their
// own.
const (
	WrongConstant fault.Code = "wrong_constant" // @type or @baseType
	InvalidEmail  fault.Code = "invalid_email"
)

// DecodeProduct reads the body of POST /dxp-ux/v1/{businessId}/product at the time now. Every address is checked,
// also those the link does not go to; contact media that are not for mail are left out. Where an object or array is
// missing, the mandatory members that it should hold are what is reported, for those are what the seed lists. It
// returns a fault Malformed, or Invalid with every fault, in the order of seed 003's table; or body's error.
func DecodeProduct(body io.Reader, now time.Time) (Product, error) {
	var b productBody
	if err := jsonbody.Decode(body, &b); err != nil {
		return Product{}, err
	}
	c := checker{now: now}
	var p Product
	if c.shape("productSpecification", b.ProductSpecification.Kind, '{', "productSpecification.id") {
		p.SpecificationID = c.text("productSpecification.id", b.ProductSpecification.Value.ID, maxID)
	}
	c.constant("@baseType", b.BaseType, BaseType)
	c.constant("@type", b.Type, Type)
	p.ReferredType = c.text("@referredType", b.ReferredType, maxName)
	if c.shape("billingAccount", b.BillingAccount.Kind, '{',
		"billingAccount.id", emailPath("billingAccount.contact[0].contactMedium[0]")) {
		p.BillingAccount = c.account("billingAccount", b.BillingAccount.Value)
	}
	if err := c.faults.Err(); err != nil {
		return Product{}, err
	}
	return p, nil
}

// checker reads members and collects what is wrong with them.
type checker struct {
	faults fault.Violations
	now    time.Time
	meant  meant
}

// shape reports whether a member is the object or array that it should be. If it is missing, that is reported of the
// mandatory members which it should hold.
func (c *checker) shape(path string, kind, want jsontext.Kind, mandatory ...string) bool {
	switch {
	case kind == want:
		return true
	case kind == 0 || kind == 'n':
		for _, member := range mandatory {
			c.faults.Add(fault.Missing, "%s must be provided", member)
		}
	case want == '[':
		c.faults.Add(fault.WrongType, "%s must be an array", path)
	default:
		c.faults.Add(fault.WrongType, "%s must be an object", path)
	}
	return false
}

func (c *checker) text(path string, v jsonbody.Value, limit int) string {
	switch {
	case v.Missing():
		c.faults.Add(fault.Missing, "%s must be provided", path)
	case !v.IsString():
		c.faults.Add(fault.WrongType, "%s must be a string", path)
	case utf8.RuneCountInString(v.Text) > limit:
		c.faults.Add(fault.BadValue, "%s must be at most %d characters", path, limit)
	case strings.ContainsFunc(v.Text, unicode.IsControl):
		c.faults.Add(fault.BadValue, "%s must not contain control characters", path)
	default:
		return v.Text
	}
	return ""
}

func (c *checker) optionalText(path string, v jsonbody.Value, limit int) string {
	if v.Missing() {
		return ""
	}
	return c.text(path, v, limit)
}

func (c *checker) constant(path string, v jsonbody.Value, expected string) {
	if !v.IsString() || v.Text != expected {
		c.faults.Add(WrongConstant,
			"Mandatory field %s is not specified or Incorrect value is received. The expected value is %s", path,
			expected)
	}
}

func (c *checker) email(path string, v jsonbody.Value) string {
	switch {
	case v.Missing():
		c.faults.Add(fault.Missing, "%s must be provided", path)
	case !v.IsString() || !isEmailAddress(v.Text):
		c.faults.Add(InvalidEmail, "%s must be an email address", path)
	default:
		return v.Text
	}
	return ""
}

func (c *checker) account(path string, b accountBody) BillingAccount {
	account := BillingAccount{ID: c.text(path+".id", b.ID, maxID)}
	before := len(c.faults)
	firstEmail := emailPath(path + ".contact[0].contactMedium[0]")
	for i, item := range present(c, path+".contact", b.Contact, firstEmail) {
		contactPath := fmt.Sprintf("%s.contact[%d]", path, i)
		if c.shape(contactPath, item.Kind, '{', emailPath(contactPath+".contactMedium[0]")) {
			if contact := c.contact(contactPath, item.Value); len(contact.Emails) > 0 {
				account.Contacts = append(account.Contacts, contact)
			}
		}
	}
	account.Email = c.meant.email
	switch {
	case len(c.faults) > before: // there may be more of them than were understood
	case len(account.Contacts) == 0:
		c.faults.Add(fault.Missing, "%s must be provided", firstEmail)
	case account.Email == "":
		c.faults.Add(fault.BadValue, "%s.contact must have an emailAddress that is valid now", path)
	}
	account.BaseType = c.optionalText(path+".@baseType", b.BaseType, maxName)
	account.Type = c.optionalText(path+".@type", b.Type, maxName)
	return account
}

func (c *checker) contact(path string, b contactBody) Contact {
	contact := Contact{Type: c.optionalText(path+".contactType", b.ContactType, maxName)}
	valid := c.validNow(path+".validFor", b.ValidFor)
	primary := strings.EqualFold(contact.Type, "primary")
	for i, item := range present(c, path+".contactMedium", b.ContactMedium, emailPath(path+".contactMedium[0]")) {
		mediumPath := fmt.Sprintf("%s.contactMedium[%d]", path, i)
		if !c.shape(mediumPath, item.Kind, '{', emailPath(mediumPath)) || !c.forMail(mediumPath, item.Value) {
			continue
		}
		characteristic := item.Value.Characteristic
		if !c.shape(mediumPath+".characteristic", characteristic.Kind, '{', emailPath(mediumPath)) {
			continue
		}
		email := c.email(emailPath(mediumPath), characteristic.Value.EmailAddress)
		contact.Emails = append(contact.Emails, email)
		preferred := c.flag(mediumPath+".preferred", item.Value.Preferred)
		if c.validNow(mediumPath+".validFor", item.Value.ValidFor) && valid {
			c.meant.take(email, primary, preferred)
		}
	}
	return contact
}

// meant is the address that is meant, of those that were taken: of a primary contact before others, then a preferred
// one, then the first.
type meant struct {
	email              string // empty if none was
	primary, preferred bool
}

func (m *meant) take(email string, primary, preferred bool) {
	better := primary && !m.primary || primary == m.primary && preferred && !m.preferred
	if m.email == "" || better {
		*m = meant{email, primary, preferred}
	}
}

// mailTypes are the mediumType of a medium that is for mail, without regard to case; so is one that says none.
var mailTypes = []string{"", "email", "e-mail", "emailAddress"}

// forMail reports whether a medium is for mail.
func (c *checker) forMail(path string, b mediumBody) bool {
	if b.MediumType.Missing() {
		return true
	}
	mediumType := c.text(path+".mediumType", b.MediumType, maxName)
	return slices.ContainsFunc(mailTypes, func(known string) bool { return strings.EqualFold(known, mediumType) })
}

func (c *checker) flag(path string, v jsonbody.Value) bool {
	if !v.Missing() && v.Kind != 't' && v.Kind != 'f' {
		c.faults.Add(fault.WrongType, "%s must be a boolean", path)
	}
	return v.Kind == 't'
}

// validNow reports whether now is within a period, both ends included. One that is not there has no end.
func (c *checker) validNow(path string, period jsonbody.Object[periodBody]) bool {
	if !c.shape(path, period.Kind, '{') {
		return true
	}
	start, bounded := c.moment(path+".startDateTime", period.Value.StartDateTime, false)
	if bounded && c.now.Before(start) {
		return false
	}
	end, bounded := c.moment(path+".endDateTime", period.Value.EndDateTime, true)
	return !bounded || !c.now.After(end)
}

// moment reads a time, and reports whether there is one.
func (c *checker) moment(path string, v jsonbody.Value, ends bool) (time.Time, bool) {
	if v.Missing() {
		return time.Time{}, false
	}
	at, ok := ReadMoment(v.Text, ends)
	if !v.IsString() || !ok {
		c.faults.Add(fault.BadValue, "%s must be a time as RFC 3339 has it", path)
		return time.Time{}, false
	}
	return at, true
}

// present returns an array's items, none if there is anything wrong with the array itself. An empty array is a missing
// one.
func present[T any](
	c *checker, path string, a jsonbody.Array[jsonbody.Object[T]], mandatory string,
) []jsonbody.Object[T] {
	kind := a.Kind
	if a.IsArray() && a.Count == 0 {
		kind = 0
	}
	switch {
	case !c.shape(path, kind, '[', mandatory):
		return nil
	case a.Count > maxContacts:
		c.faults.Add(fault.BadValue, "%s must have at most %d items", path, maxContacts)
		return nil
	}
	return a.Items
}

func emailPath(mediumPath string) string { return mediumPath + ".characteristic.emailAddress" }
