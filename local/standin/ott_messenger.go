package standin

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
)

// graphError is an error of the Graph API.
type graphError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    int    `json:"code"`
	Subcode int    `json:"error_subcode,omitempty"`
	TraceID string `json:"fbtrace_id"`
}

// The Graph API's kinds of errors.
const (
	graphOAuth  = "OAuthException"
	graphMethod = "GraphMethodException"
)

// graphMessage is the body of a message.
type graphMessage struct {
	Recipient struct {
		ID      string `json:"id"`
		UserRef string `json:"user_ref"`
	} `json:"recipient"`
	MessagingType    string          `json:"messaging_type"`
	Tag              string          `json:"tag"`
	NotificationType string          `json:"notification_type"`
	Message          json.RawMessage `json:"message"`
}

type graphSent struct {
	RecipientID string `json:"recipient_id,omitempty"` // not for a user_ref
	MessageID   string `json:"message_id"`
}

// serveMessenger answers a POST of a message to whatever path, as the Send API does.
func (o *OTT) serveMessenger(w http.ResponseWriter, r *http.Request) {
	refuseWith := func(status, code, subcode int, kind, message string) {
		writeJSON(w, status, map[string]graphError{"error": {message, kind, code, subcode, rand.Text()[:11]}})
	}
	refuse := func(status, code int, kind, message string) {
		refuseWith(status, code, graphNoSubcode, kind, message)
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
	if err != nil {
		refuse(http.StatusBadRequest, 100, graphOAuth, "(#100) The body is not a message.")
		return
	}
	if subcode, wrong := message.wrong(); wrong != "" {
		refuseWith(http.StatusBadRequest, 100, subcode, graphOAuth, wrong)
		return
	}
	sent := graphSent{MessageID: "m_" + rand.Text()}
	to := message.Recipient.UserRef
	if to == "" {
		to, sent.RecipientID = message.Recipient.ID, message.Recipient.ID
	}
	o.show(platformMessenger, page.Name, to, message.Message)
	writeJSON(w, http.StatusOK, sent)
}

// appsecretProof is what shows Graph that the caller of a token holds the application's secret.
func appsecretProof(token, applicationSecret string) string {
	mac := hmac.New(sha256.New, []byte(applicationSecret))
	mac.Write([]byte(token))
	return hex.EncodeToString(mac.Sum(nil))
}
