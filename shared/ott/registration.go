// Package ott is what the OTT API is about: Messenger pages and LINE channels that a partner registers, and messages to
// people (docs/contract.md §1, seeds 000 and 001). It decodes and checks them, and imports nothing of AWS.
package ott

import (
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/fault"
	"carillon/shared/jsonbody"
	"carillon/shared/secret"
)

// Platform is an OTT network.
type Platform string

// The platforms that can be registered.
const (
	Messenger Platform = "messenger"
	LINE      Platform = "line"
)

// Registration is a page or channel as it is kept and shown: without its credentials.
type Registration struct {
	Platform        Platform
	PropertyID      string // Messenger's pageId, LINE's channelId
	Name            string // pageName, channelName
	ApplicationID   string // Messenger only
	EndpointURL     string
	IsActive        bool
	IsTransactional bool // LINE only
	IsTestChannel   bool // LINE only
}

// Credentials are the secrets of a registration. They are kept in Secrets Manager and nowhere else.
type Credentials struct {
	ApplicationSecret     secret.Text // Messenger
	PageAccessToken       secret.Text // Messenger
	CallbackVerifyToken   secret.Text // Messenger
	ChannelSecret         secret.Text // LINE
	CustomerConnectSecret secret.Text // LINE, optional
	// Former are the secrets that callbacks may still be signed with since the registration was overridden, the latest
	// end first. A registration that is decoded has none: they come from what it overrides.
	Former []FormerSecret
}

// Limits of a registration's members, in characters. Nothing in the seeds limits them; Secrets Manager and DynamoDB do.
const (
	maxName   = 255
	maxURL    = 2048
	maxSecret = 3072 // three of them, each character escaped to six bytes, fit the 64 KiB of a secret
)

// IsPropertyID reports whether an id can have been registered. What cannot is not asked for: DynamoDB would refuse a
// key that is too long.
func IsPropertyID(id string) bool {
	return id != "" && utf8.ValidString(id) && utf8.RuneCountInString(id) <= maxName && !hasControls(id)
}

// hasControls reports whether a text holds control characters: Unicode's category Cc. An id or a name holds none.
func hasControls(text string) bool { return strings.ContainsFunc(text, unicode.IsControl) }

type registrationBody struct {
	OttPlatformName       jsonbody.Value                 `json:"ottPlatformName"`
	OttPlatformAttributes jsonbody.Object[anyAttributes] `json:"ottPlatformAttributes"`
}

// anyAttributes tells an object of unknown members from an empty one.
type anyAttributes struct {
	registrationAttributes

	Unknown map[string]unread `json:",embed"`
}

// unread is a value that nobody asks for.
type unread struct{}

// UnmarshalJSONFrom implements json.UnmarshalerFrom. It fails only on what is no JSON.
func (*unread) UnmarshalJSONFrom(decoder *jsontext.Decoder) error { return decoder.SkipValue() }

type registrationAttributes struct {
	EndpointURL           jsonbody.Value `json:"endpointUrl"`
	IsActive              jsonbody.Value `json:"isActive"`
	ApplicationID         jsonbody.Value `json:"applicationId"`
	ApplicationSecret     jsonbody.Value `json:"applicationSecret"`
	PageID                jsonbody.Value `json:"pageId"`
	PageName              jsonbody.Value `json:"pageName"`
	PageAccessToken       jsonbody.Value `json:"pageAccessToken"`
	CallbackVerifyToken   jsonbody.Value `json:"callbackVerifyToken"`
	ChannelID             jsonbody.Value `json:"channelId"`
	ChannelName           jsonbody.Value `json:"channelName"`
	ChannelSecret         jsonbody.Value `json:"channelSecret"`
	CustomerConnectSecret jsonbody.Value `json:"customerConnectSecret"`
	IsTransactional       jsonbody.Value `json:"isTransactional"`
	IsTestChannel         jsonbody.Value `json:"isTestChannel"`
}

// DecodeRegistration reads the body of POST /ott/v1/registration. It returns a fault Malformed, or Invalid with every
// fault in the order of docs/contract.md §1: the attributes that every platform has, ottPlatformName and
// ottPlatformAttributes, the platform's own attributes in the order of seed 000.
func DecodeRegistration(body io.Reader) (Registration, Credentials, error) {
	var b registrationBody
	if err := jsonbody.Decode(body, &b, jsonbody.AnyCase); err != nil {
		return Registration{}, Credentials{}, err
	}
	var c checker
	var registration Registration
	var credentials Credentials
	attributes := b.OttPlatformAttributes.Value.registrationAttributes
	hasAttributes := attributes != (registrationAttributes{}) || len(b.OttPlatformAttributes.Value.Unknown) > 0
	// Where there are no attributes at all, that one fault stands for those of its members.
	if hasAttributes {
		registration.EndpointURL = c.endpointURL("EndpointUrl", attributes.EndpointURL)
		registration.IsActive = c.flag("IsActive", attributes.IsActive)
	}
	registration.Platform = c.platform("OttPlatformName", b.OttPlatformName)
	if !hasAttributes {
		c.faults.Add(fault.BadValue, "OttPlatformAttributes is invalid")
		return Registration{}, Credentials{}, c.faults.Err()
	}
	switch registration.Platform {
	case Messenger:
		registration.ApplicationID = c.name("ApplicationId", attributes.ApplicationID)
		credentials.ApplicationSecret = c.secret("ApplicationSecret", attributes.ApplicationSecret)
		registration.PropertyID = c.name("PageId", attributes.PageID)
		registration.Name = c.name("PageName", attributes.PageName)
		credentials.PageAccessToken = c.secret("PageAccessToken", attributes.PageAccessToken)
		credentials.CallbackVerifyToken = c.secret("CallbackVerifyToken", attributes.CallbackVerifyToken)
	case LINE:
		registration.PropertyID = c.name("ChannelId", attributes.ChannelID)
		registration.Name = c.name("ChannelName", attributes.ChannelName)
		credentials.ChannelSecret = c.secret("ChannelSecret", attributes.ChannelSecret)
		if !attributes.CustomerConnectSecret.Missing() {
			credentials.CustomerConnectSecret = c.secret("CustomerConnectSecret", attributes.CustomerConnectSecret)
		}
		registration.IsTransactional = c.flag("isTransactional", attributes.IsTransactional)
		registration.IsTestChannel = c.flag("isTestChannel", attributes.IsTestChannel)
	}
	return registration, credentials, c.faults.Err()
}

// checker reads members and collects what is wrong with them, under the names and in the words of seed 000.
type checker struct{ faults fault.Violations }

func (c *checker) text(name string, v jsonbody.Value, limit int) string {
	switch {
	case v.Missing():
		c.faults.Add(fault.Missing, "%s must be provided", name)
	case !v.IsString():
		c.faults.Add(fault.WrongType, "%s is invalid", name)
	case utf8.RuneCountInString(v.Text) > limit:
		c.faults.Add(fault.BadValue, "%s is invalid", name)
	default:
		return v.Text
	}
	return ""
}

// name reads an id or a name.
func (c *checker) name(name string, v jsonbody.Value) string {
	text := c.text(name, v, maxName)
	if hasControls(text) {
		c.faults.Add(fault.BadValue, "%s is invalid", name)
	}
	return text
}

func (c *checker) secret(name string, v jsonbody.Value) secret.Text {
	return secret.NewText(c.text(name, v, maxSecret))
}

// flag takes 0, 1, true and false: the seed's tables say integer, its examples have booleans. Any other number or text
// is a wrong value; an object or array is of a wrong type.
func (c *checker) flag(name string, v jsonbody.Value) bool {
	switch {
	case v.Missing():
		c.faults.Add(fault.Missing, "%s must be provided", name)
	case v.Kind == 't' || v.Kind == '0' && v.Text == "1":
		return true
	case v.Kind == 'f' || v.Kind == '0' && v.Text == "0":
		return false
	case v.Kind == '0' || v.IsString():
		c.faults.Add(fault.BadValue, "%s is invalid", name)
	default:
		c.faults.Add(fault.WrongType, "%s is invalid", name)
	}
	return false
}

func (c *checker) platform(name string, v jsonbody.Value) Platform {
	text := c.text(name, v, maxName)
	if text == "" || text == string(Messenger) || text == string(LINE) {
		return Platform(text)
	}
	c.faults.Add(fault.BadValue, "%s is invalid", name)
	return ""
}

func (c *checker) endpointURL(name string, v jsonbody.Value) string {
	text := c.text(name, v, maxURL)
	if text != "" && !isPublicHTTPS(text) {
		c.faults.Add(fault.BadValue, "%s is invalid", name)
	}
	return text
}
