package deliver

import "strings"

// scope is whom an error of a platform is about.
type scope string

const (
	ofMessage  scope = "message"
	ofProperty scope = "property" // others of the property's messages would fare alike
)

// graphTemporary are Graph's errors that go by, by their code, whatever the status is that they come with. Where an
// error has is_transient it goes by as well.
//
//   - https://developers.facebook.com/docs/graph-api/guides/error-handling: 1 "possibly a temporary issue", 2
//     "temporary issue due to downtime", 4 and 17 "too many calls" of an app and of a user
//   - https://developers.facebook.com/docs/graph-api/overview/rate-limiting: 32 calls of a page, 613 a custom limit,
//     80006 calls of a Messenger account
//   - https://developers.facebook.com/docs/messenger-platform/error-codes: 1200 "temporary send message failure, please
//     try again later"
//
// LINE says it by the status alone, as HTTP has it
// (https://developers.line.biz/en/reference/messaging-api/#status-codes): 429 for its rates and for the messages of a
// month, and 5xx.
var graphTemporary = map[int64]scope{
	1:     ofProperty,
	2:     ofProperty,
	4:     ofProperty,
	17:    ofProperty,
	32:    ofProperty,
	613:   ofProperty,
	1200:  ofMessage,
	80006: ofProperty,
}

// graphInvalidToken is Graph's code of an access token that is expired, revoked or otherwise wrong.
const graphInvalidToken = 190

// isCredentialError reports whether Graph's error is about the page access token, or about the application's secret,
// which its appsecret_proof is made with.
func isCredentialError(code int64, message string) bool {
	return code == graphInvalidToken || strings.Contains(message, "appsecret_proof")
}
