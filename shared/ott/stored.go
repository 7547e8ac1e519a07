package ott

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// StoredRegistration is a registration with what the API does not show of it.
type StoredRegistration struct {
	Registration
	Tenant     string
	SecretName string // the secret with its credentials; another one after each registering
}

// MaySend reports whether messages of a tenant may go out through a registration.
func (r StoredRegistration) MaySend(tenant string) bool { return r.Tenant == tenant && r.IsActive }

// NotSendable is why a message is refused, or given up, whose sender has no active registration of its tenant's.
const NotSendable = "Sender Id provided is either unregistered or inactive"

// MaxBody is how large the kept body of a message is at most, in bytes. A DynamoDB item holds 400 KB, in which the
// message as it was decoded fits likewise: it is no larger than the body but for some fixed names.
const MaxBody = 256 << 10

// SendBody is the body of a POST /ott/v1/send.
type SendBody struct {
	// Kept is JSON: the body as sent, or if that is larger than MaxBody, without the members of the outermost object
	// that the API does not know.
	Kept []byte
	Hash [32]byte // of all of it, by its value: jsonbody.Digest
}

// StoredMessage is a message as it is kept.
type StoredMessage struct {
	OttRequestID string
	Tenant       string
	Body         []byte    // SendBody.Kept of its request; nil if the message was read to be sent
	Message      Message   // without its Validity; zero if the message was read to be shown
	ValidUntil   time.Time // likewise
	CreatedAt    time.Time
	QueuedAt     time.Time // zero until it is in the queue
	SentAt       time.Time // zero until the platform has taken it
	FailedAt     time.Time // zero until it is given up
	Reason       string    // why it was given up
	Tries        int       // that did not succeed, for the backoff
	NotBefore    time.Time // when the next try may be made: none before, for another is at it or the wait is not over
	Lease        string    // the store's own: who claimed it
}

// Final reports whether there is nothing left to do for a message.
func (m *StoredMessage) Final() bool { return !m.SentAt.IsZero() || !m.FailedAt.IsZero() }

// Accepted says under which id a message is durable, and whether it is in the queue, or has no more need to be.
type Accepted struct {
	OttRequestID string
	Queued       bool
}

// messageVersion is the version of the form in which messages are kept. A member that older releases may ignore needs
// no new one.
const messageVersion = 1

type keptMessage struct {
	Version int     `json:"version"`
	Message Message `json:"message"`
}

// EncodeMessage returns the JSON form in which a message is kept until it is sent: what was decoded when it was
// accepted, so that no later rule can refuse it. It returns an error for a native payload that is no JSON.
func EncodeMessage(m Message) ([]byte, error) {
	return json.Marshal(keptMessage{messageVersion, m}, jsontext.PreserveRawStrings(true))
}

// DecodeMessage reads what EncodeMessage wrote, without the Validity. It returns an error for anything else, and for a
// version that this release does not know.
func DecodeMessage(text []byte) (Message, error) {
	var kept keptMessage
	if err := json.Unmarshal(text, &kept); err != nil {
		return Message{}, errors.New("ott: a kept message cannot be read") // the cause could quote it
	}
	if kept.Version != messageVersion {
		return Message{}, fmt.Errorf("ott: a kept message has the version %d", kept.Version)
	}
	return kept.Message, nil
}
