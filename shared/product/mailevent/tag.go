package mailevent

import "encoding/base64"

// RequestTag is the tag of a mail by which an event of SES names the request whose mail it is about.
const RequestTag = "request"

// EncodeTag writes a request's id in the characters of a tag's value: API Gateway's ids have others.
func EncodeTag(requestID string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(requestID))
}

// decodeTag reads what EncodeTag wrote, or returns "".
func decodeTag(value string) string {
	id, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	return string(id)
}
