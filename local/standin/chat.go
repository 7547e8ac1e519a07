package standin

import (
	"encoding/json"
	"slices"
	"time"
)

// chatsShown is how many messages the page shows.
const chatsShown = 30

// Chat is what a phone shows of what a page or channel sent at once.
type Chat struct {
	Platform, From, To string
	At                 time.Time
	Lines              []string // a text, or what it is and where
}

// Chats returns what phones show, newest first, at most n.
func (o *OTT) Chats(n int) []Chat {
	o.mu.Lock()
	defer o.mu.Unlock()
	chats := slices.Clone(o.chats[max(0, len(o.chats)-n):])
	slices.Reverse(chats)
	return chats
}

func (o *OTT) show(platform, from, to string, messages ...json.RawMessage) {
	chat := Chat{Platform: platform, From: from, To: to, At: time.Now().UTC()}
	for _, message := range messages {
		chat.Lines = append(chat.Lines, chatLine(message))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.chats = append(o.chats, chat)
}

// chatLine is a message in words: its text, or its kind and URL, or all of it.
func chatLine(raw json.RawMessage) string {
	var message struct {
		Type       string `json:"type"`
		Text       string `json:"text"`
		URL        string `json:"originalContentUrl"`
		Attachment struct {
			Type    string `json:"type"`
			Payload struct {
				URL string `json:"url"`
				ID  string `json:"attachment_id"`
			} `json:"payload"`
		} `json:"attachment"`
	}
	payload := &message.Attachment.Payload
	switch err := json.Unmarshal(raw, &message); {
	case err != nil:
		return string(raw)
	case message.Text != "":
		return message.Text
	case message.URL != "":
		return message.Type + " " + message.URL
	case payload.URL+payload.ID != "":
		return message.Attachment.Type + " " + payload.URL + payload.ID
	}
	return string(raw)
}
