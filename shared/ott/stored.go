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
	Tenant      string
	SecretName  string // the secret with its credentials; another one after each registering
	Credentials CredentialState
}

// CredentialState is what a platform last said of a registration's credentials.
type CredentialState struct {
	Name   CredentialStateName
	Since  time.Time // zero while nothing is known
	Reason string    // why they are refused
}

// CredentialStateName is the state of a registration's credentials, as the API shows it.
type CredentialStateName string

// The states of credentials. A registration begins with the first.
const (
	CredentialsUnknown  CredentialStateName = "unknown"
	CredentialsAccepted CredentialStateName = "accepted"
	CredentialsRefused  CredentialStateName = "refused"
)

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

// StoredMessage is a message as it is kept, which never changes, and what has become of it.
type StoredMessage struct {
	OttRequestID string
	Tenant       string
	Body         []byte    // SendBody.Kept of its request
	Message      Message   // without its Validity
	ValidUntil   time.Time // it may not be sent from then on
	CreatedAt    time.Time
	QueuedAt     time.Time
	Progress     Progress
	Receipts     Receipts // of its conversation; empty if it was read to be sent
}

// Progress is what has become of a message so far.
type Progress struct {
	Tries       int       // that did not succeed, for the backoff
	Open        int       // tries that were begun and of which no answer is known, with the one under way
	OpenSince   time.Time // when the first of these began
	Reason      string    // what the platform said last, or why it was given up
	NotBefore   time.Time // when the next try may be made: none before, for another is at it or the wait is not over
	Lease       string    // the store's own: who claimed it
	BegunAt     time.Time // when the call began that the platform took it by; zero until it has
	SentAt      time.Time // when the platform's answer was there
	FailedAt    time.Time // zero until it is given up
	PlatformIDs []string  // what the platform calls it; a LINE message has one for each of its contents
}

// Final reports whether there is nothing left to do for a message.
func (p Progress) Final() bool { return !p.SentAt.IsZero() || !p.FailedAt.IsZero() }

// skew is how far two clocks may differ, for who tells the end of a lease that another holds.
const skew = time.Second

// IsExpired reports whether a message can be sent no more at a time, though nobody may have given it up: its validity
// is over, and so is the lease of whoever could still be sending it.
func (m *StoredMessage) IsExpired(now time.Time) bool {
	over := m.ValidUntil.Add(skew)
	if m.Progress.Lease != "" && m.Progress.NotBefore.Add(skew).After(over) {
		over = m.Progress.NotBefore.Add(skew)
	}
	return !m.Progress.Final() && !now.Before(over)
}

// ExpiredReason is why a message is given up whose validity period is over: what the platform said last, if it was
// asked.
func (p Progress) ExpiredReason() string {
	if p.Reason == "" {
		return "expired"
	}
	return "expired; " + p.Reason
}

// Accepted is a message that is durable.
type Accepted struct {
	OttRequestID string
	Conflict     bool           // its body is another one
	Lost         *StoredMessage // that the queue should have brought by now, and has not: it is to be put there again
}

// Place is where a new message is put: under which id, and after how many others of its key.
type Place struct {
	OttRequestID string
	Uses         int64
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
