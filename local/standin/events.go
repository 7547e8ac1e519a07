package standin

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Events stands between the bundle and EventBridge: it passes every call on to the emulator, whose rules do the rest,
// and keeps each entry that the emulator accepts. Its methods are safe for concurrent use.
type Events struct {
	emulator emulator

	mu       sync.Mutex
	received []Event
}

// Event is an accepted entry as /_local/events shows it.
type Event struct {
	At         time.Time `json:"at"`
	Bus        string    `json:"bus"` // its name
	Source     string    `json:"source"`
	DetailType string    `json:"detailType"`
	// Detail is a JSON object, as it was sent.
	Detail json.RawMessage `json:"detail"`
}

// NewEvents makes a stand-in without an emulator: see Connect.
func NewEvents() *Events { return &Events{} }

// Connect names the emulator's endpoint. Until then every call is answered 503.
func (e *Events) Connect(endpoint string) error { return e.emulator.connect(endpoint) }

// Name is events.
func (e *Events) Name() string { return "events" }

// Received is every entry, as Events.
func (e *Events) Received() []any {
	events := e.Published()
	list := make([]any, len(events))
	for i, event := range events {
		list[i] = event
	}
	return list
}

// Published is every entry that was accepted since the last Empty, oldest first.
func (e *Events) Published() []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]Event{}, e.received...)
}

// Empty forgets them.
func (e *Events) Empty() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.received = nil
}

// ServeHTTP has the emulator do the call.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now().UTC()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	out := e.emulator.forward(w, r)
	if out.status == http.StatusOK && r.Header.Get("X-Amz-Target") == "AWSEvents.PutEvents" {
		e.keep(at, body, out.body.Bytes())
	}
}

// keep keeps the entries of a PutEvents that were accepted: a call can succeed for some of them alone.
func (e *Events) keep(at time.Time, request, response []byte) {
	var asked struct {
		Entries []struct{ EventBusName, Source, DetailType, Detail string }
	}
	var answered struct{ Entries []struct{ ErrorCode string } }
	if json.Unmarshal(request, &asked) != nil || json.Unmarshal(response, &answered) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, entry := range asked.Entries {
		if i >= len(answered.Entries) || answered.Entries[i].ErrorCode != "" {
			continue
		}
		bus := entry.EventBusName
		if bus == "" {
			bus = "default"
		}
		e.received = append(e.received, Event{
			At: at, Bus: bus[strings.LastIndexByte(bus, '/')+1:], // an ARN ends in the name
			Source: entry.Source, DetailType: entry.DetailType, Detail: json.RawMessage(entry.Detail),
		})
	}
}
