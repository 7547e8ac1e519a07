package ott

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// Conversation names what a property and one person say to each other: messages of one leave in the order in which they
// were accepted (docs/contract.md §1). It is 43 characters that SQS takes as a message group, and tells nothing of the
// person.
func Conversation(tenant string, platform Platform, propertyID, person string) string {
	hash := sha256.New()
	for _, part := range []string{tenant, string(platform), propertyID, person} {
		hash.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // G115: texts of a request
		hash.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(hash.Sum(nil))
}

// Conversation names the conversation of a message of a tenant's.
func (m Message) Conversation(tenant string) string {
	person := m.OttID
	if person == "" {
		person = "\x00" + m.UserReference // which no id begins with
	}
	return Conversation(tenant, m.Platform, m.SenderID, person)
}
