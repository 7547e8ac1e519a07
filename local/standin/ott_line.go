package standin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// lineTokenLife is how long a stateless token is good.
	lineTokenLife = 15 * time.Minute
	// lineKeyLife is how long LINE remembers a retry key.
	lineKeyLife = 24 * time.Hour
)

type lineToken struct {
	channelID string
	until     time.Time
}

// lineAccepted is what LINE remembers of a push.
type lineAccepted struct {
	requestID string
	at        time.Time
	sent      []lineSent
}

type lineSent struct {
	ID string `json:"id"`
}

type lineAnswer struct {
	Message      string       `json:"message,omitempty"`
	Details      []lineDetail `json:"details,omitempty"`
	SentMessages []lineSent   `json:"sentMessages,omitempty"`
}

type lineDetail struct {
	Message  string `json:"message"`
	Property string `json:"property"`
}

type lineBody struct {
	To                   string            `json:"to"`
	ReplyToken           string            `json:"replyToken"`
	Messages             []json.RawMessage `json:"messages"`
	NotificationDisabled bool              `json:"notificationDisabled"`
}

// serveLINE answers the three calls that send a message.
func (o *OTT) serveLINE(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Line-Request-Id", uuid.NewString())
	switch r.Method + " " + r.URL.Path {
	case "POST /oauth2/v3/token":
		o.grant(w, r)
	case "POST /v2/bot/message/push":
		o.send(w, r, o.push)
	case "POST /v2/bot/message/reply":
		o.send(w, r, o.reply)
	default:
		writeJSON(w, http.StatusNotFound, lineAnswer{Message: "Not found"})
	}
}

// grant mints a stateless token for a channel's id and secret.
func (o *OTT) grant(w http.ResponseWriter, r *http.Request) {
	refuse := func(code, description string) {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
	}
	if mediaType, _, _ := strings.Cut(
		r.Header.Get("Content-Type"),
		";",
	); mediaType != "application/x-www-form-urlencoded" {
		refuse("invalid_request", "Content-Type must be application/x-www-form-urlencoded")
		return
	}
	if err := r.ParseForm(); err != nil {
		refuse("invalid_request", "the body is not a form")
		return
	}
	if r.PostForm.Get("grant_type") != "client_credentials" {
		refuse("unsupported_grant_type", "grant_type must be client_credentials")
		return
	}
	id := r.PostForm.Get("client_id")
	channel, err := o.channel(r.Context(), id)
	switch {
	case err != nil:
		writeJSON(w, http.StatusInternalServerError, map[string]string{"error": "server_error"})
		return
	case channel == nil:
		refuse("invalid_client", "invalid client_id")
		return
	case subtle.ConstantTimeCompare([]byte(r.PostForm.Get("client_secret")), []byte(channel.Secret)) == 0:
		refuse("invalid_client", "invalid client_secret")
		return
	}
	token := rand.Text() + rand.Text()
	o.mu.Lock()
	o.tokens[token] = lineToken{channelID: id, until: o.now().Add(lineTokenLife)}
	o.mu.Unlock()
	writeJSON(
		w,
		http.StatusOK,
		map[string]any{"token_type": "Bearer", "access_token": token, "expires_in": int(lineTokenLife / time.Second)},
	)
}

// send checks what every message call has in common, and has the rest done by the call itself.
func (o *OTT) send(
	w http.ResponseWriter,
	r *http.Request,
	call func(w http.ResponseWriter, r *http.Request, channelID string, body lineBody),
) {
	bearer, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	o.mu.Lock()
	token, known := o.tokens[bearer]
	o.mu.Unlock()
	if !is || !known || !o.now().Before(token.until) {
		writeJSON(
			w,
			http.StatusUnauthorized,
			lineAnswer{
				Message: "Authentication failed. Confirm that the access token in the authorization header is valid.",
			},
		)
		return
	}
	contentType := r.Header.Get("Content-Type")
	if mediaType, _, _ := mime.ParseMediaType(contentType); mediaType != "application/json" {
		said := fmt.Sprintf("The content type, %s, is not supported", contentType)
		writeJSON(w, http.StatusUnsupportedMediaType, lineAnswer{Message: said})
		return
	}
	var body lineBody
	raw, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	if err != nil {
		writeJSON(
			w,
			http.StatusBadRequest,
			lineAnswer{Message: "The request body could not be parsed as JSON (line: 1, column: 1)"},
		)
		return
	}
	if details := wrongLINE(body.Messages); len(details) > 0 {
		writeJSON(
			w,
			http.StatusBadRequest,
			lineAnswer{Message: fmt.Sprintf("The request body has %d error(s)", len(details)), Details: details},
		)
		return
	}
	call(w, r, token.channelID, body)
}

func (o *OTT) push(w http.ResponseWriter, r *http.Request, channelID string, body lineBody) {
	if !lineRecipient.MatchString(body.To) {
		writeJSON(
			w,
			http.StatusBadRequest,
			lineAnswer{Message: "The property, 'to', in the request body is invalid (line: -, column: -)"},
		)
		return
	}
	key := r.Header.Get("X-Line-Retry-Key")
	if _, err := uuid.Parse(key); key != "" && (err != nil || len(key) != len(uuid.Nil.String())) {
		writeJSON(w, http.StatusBadRequest, lineAnswer{Message: "The retry key is invalid"})
		return
	}
	now, mark := o.now(), channelID+" "+strings.ToLower(key)
	accepted := lineAccepted{requestID: w.Header().Get("X-Line-Request-Id"), at: now, sent: sent(body.Messages)}
	o.mu.Lock()
	earlier, repeated := o.retryKeys[mark]
	repeated = repeated && key != "" && now.Sub(earlier.at) < lineKeyLife
	if !repeated {
		o.retryKeys[mark] = accepted
	}
	o.mu.Unlock()
	if repeated {
		w.Header().Set("X-Line-Accepted-Request-Id", earlier.requestID)
		writeJSON(
			w,
			http.StatusConflict,
			lineAnswer{Message: "The retry key is already accepted", SentMessages: earlier.sent},
		)
		return
	}
	o.deliver(w, r, channelID, body.To, body.Messages, accepted.sent)
}

// reply takes any reply token once: real ones come with LINE's events, and those of the local run are made up.
func (o *OTT) reply(w http.ResponseWriter, r *http.Request, channelID string, body lineBody) {
	if r.Header.Get("X-Line-Retry-Key") != "" {
		writeJSON(w, http.StatusBadRequest, lineAnswer{Message: "The retry key is not accepted"})
		return
	}
	o.mu.Lock()
	used := o.replyTokens[body.ReplyToken]
	o.replyTokens[body.ReplyToken] = true
	o.mu.Unlock()
	if used || !lineReplyToken.MatchString(body.ReplyToken) {
		writeJSON(w, http.StatusBadRequest, lineAnswer{Message: "Invalid reply token"})
		return
	}
	o.deliver(w, r, channelID, "who wrote", body.Messages, sent(body.Messages))
}

func (o *OTT) deliver(
	w http.ResponseWriter,
	r *http.Request,
	channelID, to string,
	messages []json.RawMessage,
	ids []lineSent,
) {
	name := channelID
	if channel, err := o.channel(r.Context(), channelID); err == nil && channel != nil {
		name = channel.Name
	}
	o.show(platformLINE, name, to, messages...)
	writeJSON(w, http.StatusOK, lineAnswer{SentMessages: ids})
}

// sent numbers messages, as LINE does.
func sent(messages []json.RawMessage) []lineSent {
	ids := make([]lineSent, len(messages))
	for i := range ids {
		ids[i].ID = fmt.Sprint(uuid.New().ID())
	}
	return ids
}
