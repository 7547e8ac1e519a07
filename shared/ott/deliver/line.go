package deliver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/line/line-bot-sdk-go/v8/linebot/messaging_api"

	"carillon/shared/clock"
	"carillon/shared/ott"
)

// LINE sends messages by LINE's Messaging API. It is safe for concurrent use.
//
// A push carries the message's id as its retry key, so LINE takes it once however often it is sent, for the 24 hours
// that LINE remembers a key. A reply has no such key: if one ends without an answer it is sent again, LINE refuses the
// used reply token, and the push that follows may be a second copy. Nothing is lost.
type LINE struct {
	client *http.Client
	tokens *lineTokens
	clock  clock.Clock
}

// NewLINE returns a client that sends by a transport, such as PublicTransport's. The clock tells when a token is over.
func NewLINE(transport http.RoundTripper, clock clock.Clock) *LINE {
	client := newClient(transport)
	return &LINE{client: client, tokens: newLINETokens(client, clock), clock: clock}
}

// Repeats is for less than the 24 hours that LINE remembers a retry key, which are a minute of a call and its clocks
// longer (https://developers.line.biz/en/docs/messaging-api/retrying-api-request/).
func (s *LINE) Repeats() Repeats { return Repeats{For: 24*time.Hour - time.Minute} }

// Send sends a message: as a reply if it has a reply token, and if LINE refuses that, or there is none, as a push. It
// returns LINE's ids, one for each content, or an error that is *Refused or *Again.
func (s *LINE) Send(ctx context.Context, d Delivery) ([]string, error) {
	messages := make([]messaging_api.MessageInterface, len(d.Message.Parts))
	for i, part := range d.Message.Parts {
		messages[i] = lineMessage(part)
	}
	quiet := d.Message.NotificationType == ott.NotifySilent || d.Message.NotificationType == ott.NotifyNot
	if d.Message.UserReference != "" {
		ids, err := s.call(ctx, d, func(api *messaging_api.MessagingApiAPI) (*http.Response, []string, error) {
			response, answer, err := api.ReplyMessageWithHttpInfo(&messaging_api.ReplyMessageRequest{
				ReplyToken: d.Message.UserReference, Messages: messages, NotificationDisabled: quiet,
			})
			if answer == nil {
				return response, nil, err
			}
			return response, sentIDs(answer.SentMessages), err
		})
		if refused, ok := errors.AsType[*Refused](err); !ok || refused.Credentials || refused.Expired {
			return ids, err
		}
	}
	return s.call(ctx, d, func(api *messaging_api.MessagingApiAPI) (*http.Response, []string, error) {
		response, answer, err := api.PushMessageWithHttpInfo(&messaging_api.PushMessageRequest{
			To: d.Message.OttID, Messages: messages, NotificationDisabled: quiet,
		}, d.OttRequestID)
		if response != nil && response.StatusCode == http.StatusConflict {
			return response, acceptedIDs(response), nil // it took the message under this retry key before
		}
		if answer == nil {
			return response, nil, err
		}
		return response, sentIDs(answer.SentMessages), err
	})
}

func sentIDs(sent []messaging_api.SentMessage) []string {
	ids := make([]string, len(sent))
	for i, message := range sent {
		ids[i] = message.Id
	}
	return keptIDs(ids...)
}

// acceptedIDs reads what LINE says of a message that it took before.
func acceptedIDs(response *http.Response) []string {
	answer, _ := io.ReadAll(response.Body) // wholeAnswers has read it
	var body struct {
		SentMessages []messaging_api.SentMessage `json:"sentMessages"`
	}
	if lenient(answer, &body) != nil {
		return nil
	}
	return sentIDs(body.SentMessages)
}

// call makes a call with the channel's token, and once more with a new one if LINE does not know the first any more.
func (s *LINE) call(
	ctx context.Context, d Delivery, send func(*messaging_api.MessagingApiAPI) (*http.Response, []string, error),
) ([]string, error) {
	for first := true; ; first = false {
		token, err := s.tokens.get(ctx, d)
		if err != nil {
			return nil, err
		}
		api, err := messaging_api.NewMessagingApiAPI(token.Reveal(), messaging_api.WithHTTPClient(s.client))
		if err != nil {
			return nil, &Again{Cause: errors.New("LINE granted an empty token")} // the one thing it checks
		}
		if err := d.expired(s.clock.Now()); err != nil { // while the token was minted
			return nil, err
		}
		var sent call
		response, ids, err := send(api.WithContext(sent.watch(ctx))) //nolint:bodyclose // wholeAnswers has closed it
		switch {
		case response == nil:
			return nil, broken("LINE", err, &sent)
		case err == nil || isSuccess(response): // whatever its body is
			return ids, nil
		case response.StatusCode == http.StatusUnauthorized && first:
			s.tokens.drop(d, token)
			continue
		}
		err = refusal("LINE", response, lineError(response), s.clock.Now(), token, d.Credentials.ChannelSecret)
		if refused, ok := errors.AsType[*Refused](err); ok {
			refused.Credentials = response.StatusCode == http.StatusUnauthorized
		}
		return nil, err
	}
}

// nativeMessage is a message in LINE's own words, which the SDK is to pass on as they are.
type nativeMessage struct{ payload jsontext.Value }

// GetType implements messaging_api.MessageInterface.
func (nativeMessage) GetType() string { return "" }

// MarshalJSON implements json.Marshaler.
func (m nativeMessage) MarshalJSON() ([]byte, error) { return m.payload, nil }

func lineMessage(p ott.Part) messaging_api.MessageInterface {
	preview := p.AltURL
	if preview == "" {
		preview = p.URL
	}
	switch p.Type {
	case ott.ImagePart:
		return &messaging_api.ImageMessage{OriginalContentUrl: p.URL, PreviewImageUrl: preview}
	case ott.VideoPart:
		return &messaging_api.VideoMessage{OriginalContentUrl: p.URL, PreviewImageUrl: preview}
	case ott.AudioPart:
		return &messaging_api.AudioMessage{OriginalContentUrl: p.URL, Duration: p.Duration}
	case ott.NativePart:
		return nativeMessage{payload: p.NativePayload}
	default:
		return &messaging_api.TextMessage{Text: p.Text}
	}
}

// lineError reads what LINE says of a refusal: of a message with its details, or of a token as OAuth has it.
func lineError(response *http.Response) string {
	answer, _ := io.ReadAll(response.Body)
	var body struct {
		Message string `json:"message"`
		Details []struct {
			Message  string `json:"message"`
			Property string `json:"property"`
		} `json:"details"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if lenient(answer, &body) != nil { // it is not LINE's
		return ""
	}
	said := []string{}
	for _, text := range []string{body.Message, body.Error, body.Description} {
		if text != "" {
			said = append(said, text)
		}
	}
	for _, detail := range body.Details {
		said = append(said, detail.Property+": "+detail.Message)
	}
	return strings.Join(said, "; ")
}
