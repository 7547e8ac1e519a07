package deliver

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/clock"
	"carillon/shared/httpclient"
	"carillon/shared/ott"
	"carillon/shared/secret"
)

// Messenger sends messages by Messenger's Send API, which is at the registration's endpointUrl. It is safe for
// concurrent use.
//
// The Send API knows no idempotency key. If a call ends without an answer, or the process dies before the answer is
// recorded, the message is sent again though Messenger may have taken it, three times at most: a further copy is
// possible.
type Messenger struct {
	client *http.Client
	clock  clock.Clock
}

// NewMessenger returns a client that sends by a transport, such as PublicTransport's. The clock tells what a time in
// Retry-After is from now.
func NewMessenger(transport http.RoundTripper, clock clock.Clock) *Messenger {
	return &Messenger{client: newClient(transport), clock: clock}
}

type messengerBody struct {
	Recipient        messengerRecipient   `json:"recipient"`
	MessagingType    string               `json:"messaging_type"`
	Tag              string               `json:"tag,omitempty"`
	NotificationType ott.NotificationType `json:"notification_type,omitempty"`
	Message          any                  `json:"message"`
}

type messengerRecipient struct {
	ID      string `json:"id,omitempty"`
	UserRef string `json:"user_ref,omitempty"`
}

type messengerText struct {
	Text string `json:"text"`
}

type messengerAttachment struct {
	Attachment struct {
		Type    ott.PartType `json:"type"`
		Payload any          `json:"payload"`
	} `json:"attachment"`
}

type messengerURL struct {
	URL        string `json:"url"`
	IsReusable bool   `json:"is_reusable"`
}

type messengerAttachmentID struct {
	AttachmentID string `json:"attachment_id"`
}

// Repeats is three tries: Messenger may take each one that it does not answer (docs/contract.md §1).
func (s *Messenger) Repeats() Repeats { return Repeats{Tries: 3} }

// Send sends a message, to its user reference where it has one, and returns Messenger's message_id. It returns an error
// that is *Refused or *Again.
func (s *Messenger) Send(ctx context.Context, d Delivery) ([]string, error) {
	body, err := messengerMessage(d.Message)
	if err != nil {
		return nil, &Refused{Reason: err.Error()}
	}
	token := d.Credentials.PageAccessToken
	proof := secret.NewText(appsecretProof(token, d.Credentials.ApplicationSecret))
	endpoint, err := url.Parse(d.Registration.EndpointURL)
	if err != nil {
		return nil, &Refused{Reason: "the registration's endpointUrl is no URL"}
	}
	query := endpoint.Query()
	query.Set("access_token", token.Reveal())
	query.Set("appsecret_proof", proof.Reveal())
	endpoint.RawQuery = query.Encode()
	var sent call
	request, err := http.NewRequestWithContext(
		sent.watch(ctx), http.MethodPost, endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return nil, &Refused{Reason: "the registration's endpointUrl is no URL"}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", userAgent)
	if err := d.expired(s.clock.Now()); err != nil {
		return nil, err
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, broken("Messenger", err, &sent)
	}
	defer func() { _ = response.Body.Close() }()
	answer, _ := io.ReadAll(response.Body) // wholeAnswers has read it
	if isSuccess(response) {
		return messageIDs(answer), nil
	}
	return nil, graphRefusal(response, answer, s.clock.Now(), token, proof, d.Credentials.ApplicationSecret)
}

// messageIDs reads the id that Messenger gave a message; whatever else its answer says, it took the message.
func messageIDs(answer []byte) []string {
	var body struct {
		MessageID string `json:"message_id"`
	}
	if lenient(answer, &body) != nil {
		return nil
	}
	return keptIDs(body.MessageID)
}

// appsecretProof shows Graph that the caller holds the application's secret as well as the token.
func appsecretProof(token, applicationSecret secret.Text) string {
	mac := hmac.New(sha256.New, []byte(applicationSecret.Reveal()))
	_, _ = mac.Write([]byte(token.Reveal())) // a hash never fails
	return hex.EncodeToString(mac.Sum(nil))
}

func messengerMessage(m ott.Message) ([]byte, error) {
	if len(m.Parts) != 1 {
		return nil, errors.New("a Messenger message has one content")
	}
	recipient := messengerRecipient{ID: m.OttID}
	if m.UserReference != "" {
		recipient = messengerRecipient{UserRef: m.UserReference}
	}
	return json.Marshal(messengerBody{
		Recipient: recipient, MessagingType: m.MessagingType, Tag: m.Tag, NotificationType: m.NotificationType,
		Message: messengerPart(m.Parts[0]),
	}, jsontext.PreserveRawStrings(true))
}

func messengerPart(p ott.Part) any {
	switch p.Type {
	case ott.NativePart:
		return p.NativePayload
	case ott.TextPart:
		return messengerText{Text: p.Text}
	}
	var m messengerAttachment
	m.Attachment.Type = p.Type
	m.Attachment.Payload = messengerURL{URL: p.URL, IsReusable: p.IsReusable}
	if p.AttachmentID != "" {
		m.Attachment.Payload = messengerAttachmentID{AttachmentID: p.AttachmentID}
	}
	return m
}

// graphError is the body of a refusal by Graph.
type graphError struct {
	Error struct {
		Message     string `json:"message"`
		Code        int64  `json:"code"`
		Subcode     int64  `json:"error_subcode"`
		IsTransient bool   `json:"is_transient"`
	} `json:"error"`
}

// graphRefusal tells the errors that go by, whatever their status is, from those that do not.
func graphRefusal(response *http.Response, answer []byte, now time.Time, hidden ...secret.Text) error {
	var body graphError
	said := ""
	err := lenient(answer, &body)
	if err == nil && body.Error.Message != "" {
		said = strings.TrimSpace(body.Error.Message) + fmt.Sprintf(" (code %d", body.Error.Code)
		if body.Error.Subcode != 0 {
			said += fmt.Sprintf(", subcode %d", body.Error.Subcode)
		}
		said += ")"
	}
	err = refusal("Messenger", response, said, now, hidden...)
	scope, passes := graphTemporary[body.Error.Code]
	if again, ok := errors.AsType[*Again](err); ok {
		again.Trouble = !passes || scope == ofProperty
		return again
	}
	refused, ok := errors.AsType[*Refused](err)
	switch {
	case !ok:
		return err
	case passes || body.Error.IsTransient:
		return &Again{
			After: httpclient.RetryAfter(response.Header, now), Cause: errors.New(refused.Reason),
			Trouble: scope == ofProperty,
		}
	}
	refused.Credentials = isCredentialError(body.Error.Code, body.Error.Message)
	return refused
}
