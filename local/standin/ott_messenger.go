package standin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"slices"
)

// graphError is an error of the Graph API.
type graphError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    int    `json:"code"`
	TraceID string `json:"fbtrace_id"`
}

// The Graph API's kinds of errors.
const (
	graphOAuth  = "OAuthException"
	graphMethod = "GraphMethodException"
)

// messagingTypes are what messaging_type may be.
var messagingTypes = []string{"RESPONSE", "UPDATE", "MESSAGE_TAG"}

// graphMessage is the body of a message.
type graphMessage struct {
	Recipient struct {
		ID      string `json:"id"`
		UserRef string `json:"user_ref"`
	} `json:"recipient"`
	MessagingType string          `json:"messaging_type"`
	Tag           string          `json:"tag"`
	Message       json.RawMessage `json:"message"`
}

type graphSent struct {
	RecipientID string `json:"recipient_id,omitempty"` // not for a user_ref
	MessageID   string `json:"message_id"`
}

// serveMessenger answers a POST of a message to whatever path, as the Send API does.
func (o *OTT) serveMessenger(w http.ResponseWriter, r *http.Request) {
	refuse := func(status, code int, kind, message string) {
		writeJSON(w, status, map[string]graphError{"error": {message, kind, code, rand.Text()[:11]}})
	}
	query := r.URL.Query()
	token, proof := query.Get("access_token"), query.Get("appsecret_proof")
	if token == "" {
		refuse(http.StatusBadRequest, 104, graphOAuth, "An access token is required to request this resource.")
		return
	}
	page, err := o.page(r.Context(), token)
	switch {
	case err != nil:
		refuse(
			http.StatusInternalServerError,
			2,
			graphOAuth,
			"An unexpected error has occurred. Please retry your request later.",
		)
		return
	case page == nil:
		refuse(http.StatusBadRequest, 190, graphOAuth, "Invalid OAuth access token - Cannot parse access token")
		return
	case proof == "":
		refuse(http.StatusBadRequest, 100, graphMethod, "API calls from the server require an appsecret_proof argument")
		return
	case !hmac.Equal([]byte(proof), []byte(appsecretProof(token, page.ApplicationSecret))):
		refuse(http.StatusBadRequest, 100, graphMethod, "Invalid appsecret_proof provided in the API argument")
		return
	case r.Method != http.MethodPost:
		refuse(http.StatusBadRequest, 100, graphMethod, "Unsupported "+r.Method+" request.")
		return
	}
	var message graphMessage
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, &message)
	}
	switch {
	case err != nil:
		refuse(http.StatusBadRequest, 100, graphOAuth, "(#100) The body is not a message.")
	case message.Recipient.ID == "" && message.Recipient.UserRef == "":
		refuse(http.StatusBadRequest, 100, graphOAuth, "(#100) The parameter recipient is required")
	case !slices.Contains(messagingTypes, message.MessagingType):
		refuse(
			http.StatusBadRequest,
			100,
			graphOAuth,
			"(#100) Param messaging_type must be one of {RESPONSE, UPDATE, MESSAGE_TAG}",
		)
	case message.MessagingType == "MESSAGE_TAG" && message.Tag == "":
		refuse(http.StatusBadRequest, 100, graphOAuth, "(#100) The parameter tag is required")
	case !isObject(message.Message):
		refuse(http.StatusBadRequest, 100, graphOAuth, "(#100) Param message must be non-empty.")
	default:
		to := message.Recipient.ID
		if to == "" {
			to = message.Recipient.UserRef
		}
		o.show(platformMessenger, page.Name, to, message.Message)
		writeJSON(w, http.StatusOK, graphSent{RecipientID: message.Recipient.ID, MessageID: "m_" + rand.Text()})
	}
}

// appsecretProof is what shows Graph that the caller of a token holds the application's secret.
func appsecretProof(token, applicationSecret string) string {
	mac := hmac.New(sha256.New, []byte(applicationSecret))
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil))
}

func isObject(raw json.RawMessage) bool {
	var members map[string]json.RawMessage
	return json.Unmarshal(raw, &members) == nil && len(members) > 0
}
