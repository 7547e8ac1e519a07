package ott_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
)

// What is kept is the form that later releases read: neither a name nor a value of it may change under the same
// version.
func TestKeptMessage(t *testing.T) {
	for name, test := range map[string]struct {
		message ott.Message
		kept    string
	}{
		"Messenger": {
			ott.Message{
				Key: "k", Platform: ott.Messenger, SenderID: "1", OttID: "2", UserReference: "3",
				Parts: []ott.Part{{
					Type: ott.ImagePart, URL: "https://example.com/?a&b", IsReusable: true, AttachmentID: "4",
				}},
				MessagingType: "MESSAGE_TAG", Tag: "HUMAN_AGENT", NotificationType: ott.NotifySilent,
			},
			`{"version":1,"message":{"key":"k","platform":"messenger","senderId":"1","ottId":"2","userReference":"3",` +
				`"parts":[{"type":"image","url":"https://example.com/?a&b","isReusable":true,"attachmentId":"4"}],` +
				`"messagingType":"MESSAGE_TAG","tag":"HUMAN_AGENT","notificationType":"SILENT_PUSH"}}`,
		},
		"LINE": {
			ott.Message{
				Key: "k", Platform: ott.LINE, SenderID: "1", OttID: "2",
				Parts: []ott.Part{
					{Type: ott.TextPart, Text: "<é> \"\n"},
					{Type: ott.AudioPart, URL: "u", Duration: 13141},
					{Type: ott.VideoPart, URL: "u", AltURL: "p"},
					{Type: ott.NativePart, NativePayload: []byte(`{"n":12345678901234567890.50,"x":"\u003c"}`)},
				},
			},
			`{"version":1,"message":{"key":"k","platform":"line","senderId":"1","ottId":"2","parts":[` +
				`{"type":"text","text":"<é> \"\n"},{"type":"audio","url":"u","duration":13141},` +
				`{"type":"video","url":"u","altUrl":"p"},` +
				`{"type":"native","nativePayload":{"n":12345678901234567890.50,"x":"\u003c"}}]}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			valid := test.message
			valid.Validity = time.Hour
			kept, err := ott.EncodeMessage(valid)
			require.NoError(t, err)
			assert.Equal(t, test.kept, string(kept))
			read, err := ott.DecodeMessage(kept)
			require.NoError(t, err)
			assert.Equal(t, test.message, read)
		})
	}
}

func TestKeptMessageOfAnotherRelease(t *testing.T) {
	const later = `{"version":1,"new":[],"message":{"key":"k","parts":[{"new":1}],"new":{}}}`
	message, err := ott.DecodeMessage([]byte(later))
	require.NoError(t, err, "what a later release adds may be ignored, or has a version of its own")
	assert.Equal(t, "k", message.Key)
	for text, want := range map[string]string{
		`{"version":2,"message":{}}`: "ott: a kept message has the version 2",
		`{}`:                         "ott: a kept message has the version 0",
		``:                           "ott: a kept message cannot be read",
		`{"version":1,"message":{"key":["hello"]}}`: "ott: a kept message cannot be read",
	} {
		_, err := ott.DecodeMessage([]byte(text))
		assert.EqualError(t, err, want)
	}
}

// Nobody sends a message any more whose validity is over and whom no process can still have under way, within a second
// of difference between two clocks.
func TestIsExpired(t *testing.T) {
	end := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		progress ott.Progress
		at       time.Duration // from its end
		want     bool
	}{
		"valid":                             {ott.Progress{}, -ms, false},
		"at its end, by another's clock":    {ott.Progress{}, time.Second - ms, false},
		"over":                              {ott.Progress{}, time.Second, true},
		"sent":                              {ott.Progress{SentAt: end}, time.Hour, false},
		"given up":                          {ott.Progress{FailedAt: end}, time.Hour, false},
		"it waited for longer than that":    {ott.Progress{NotBefore: end.Add(time.Hour)}, time.Second, true},
		"a lease that is over before":       {ott.Progress{Lease: "l", NotBefore: end.Add(-time.Minute)}, time.Second, true},
		"a lease that is not over":          {ott.Progress{Lease: "l", NotBefore: end.Add(20 * time.Second)}, 21*time.Second - ms, false},
		"a lease that was over by then":     {ott.Progress{Lease: "l", NotBefore: end.Add(20 * time.Second)}, 21 * time.Second, true},
		"a lease, of a message still valid": {ott.Progress{Lease: "l", NotBefore: end.Add(-time.Hour)}, -ms, false},
	} {
		m := &ott.StoredMessage{ValidUntil: end, Progress: test.progress}
		assert.Equal(t, test.want, m.IsExpired(end.Add(test.at)), name)
	}
}

func TestExpiredReason(t *testing.T) {
	assert.Equal(t, "expired", ott.Progress{}.ExpiredReason())
	assert.Equal(t, "expired; LINE answered 429", ott.Progress{Reason: "LINE answered 429"}.ExpiredReason())
}

func TestFinal(t *testing.T) {
	for name, test := range map[string]struct {
		progress ott.Progress
		want     bool
	}{
		"new":      {ott.Progress{}, false},
		"waiting":  {ott.Progress{Tries: 3, Reason: "r", NotBefore: time.Now(), Lease: "l"}, false},
		"sent":     {ott.Progress{SentAt: time.Now()}, true},
		"given up": {ott.Progress{FailedAt: time.Now()}, true},
	} {
		assert.Equal(t, test.want, test.progress.Final(), name)
	}
}

func TestMaySend(t *testing.T) {
	r := ott.StoredRegistration{Registration: ott.Registration{IsActive: true}, Tenant: "acme"}
	assert.True(t, r.MaySend("acme"))
	assert.False(t, r.MaySend("globex"))
	r.IsActive = false
	assert.False(t, r.MaySend("acme"))
}
