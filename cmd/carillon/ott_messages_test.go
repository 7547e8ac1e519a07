package main_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/stackname"
)

// waiting makes messages of a page: one that waits, one that is not tried for others' sake, one that has expired while it
// waited, one that was sent after a wait, one that nobody has tried yet; and one of another page that waits.
func waiting(t *testing.T, stack string) map[string]string {
	t.Helper()
	messages := store.NewMessages(emulatortest.DynamoDB(), stackname.MessagesTable(stack), clock.System{})
	ids := map[string]string{}
	put := func(name, page string, created time.Time) *ott.StoredMessage {
		body := ott.SendBody{Kept: []byte(`{}`)}
		message := ott.Message{Key: name, Platform: ott.Messenger, SenderID: page, OttID: "1", Validity: time.Hour}
		_, place, _ := messages.Find(t.Context(), "acme", name, body, created)
		_, err := messages.Put(t.Context(), "acme", place, message, body, created, created)
		require.NoError(t, err)
		ids[name] = place.OttRequestID
		m, err := messages.Load(t.Context(), "acme", place.OttRequestID)
		require.NoError(t, err)
		return m
	}
	release := func(m *ott.StoredMessage, reason string) {
		require.NoError(t, messages.Claim(t.Context(), m, time.Now(), time.Now().Add(time.Minute)))
		m.Progress.Tries, m.Progress.Open, m.Progress.Reason = m.Progress.Tries+1, 0, reason
		require.NoError(t, messages.Release(t.Context(), m, time.Now()))
	}
	now := time.Now()
	release(put("waits", "1", now), "Messenger answered 503: \x1b[31mred")
	require.NoError(t, messages.Wait(t.Context(), put("held", "1", now.Add(time.Second)), "not sent yet"))
	release(put("expired", "1", now.Add(-2*time.Hour)), "Messenger answered 429")
	sent := put("sent", "1", now)
	release(sent, "Messenger answered 500")
	require.NoError(t, messages.Sent(t.Context(), sent, now))
	put("untried", "1", now)
	release(put("elsewhere", "2", now), "Messenger answered 503")
	return ids
}

func TestOttMessages(t *testing.T) {
	t.Parallel()
	stack := emulatortest.Deploy(t)
	none := run(t, "ott", "messages", "--stack", stack, "--property", "line/7")
	assert.Equal(t, "No message of line/7 waits for another try.\n", none.stdout)

	ids := waiting(t, stack)
	list := []string{"ott", "messages", "--stack", stack, "--property", "messenger/1"}
	lines := strings.Split(strings.TrimSpace(run(t, list...).stdout), "\n")
	require.Len(t, lines, 4, "%q", lines)
	assert.Equal(
		t,
		[]string{"OTTREQUESTID", "TENANT", "SINCE", "TRIES", "NEXT", "TRY", "REASON"},
		strings.Fields(lines[0]),
	)
	const at = `\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`
	for i, want := range []string{
		ids["expired"] + ` +acme +` + at + ` +1 +none: expired +Messenger answered 429`,
		ids["waits"] + ` +acme +` + at + ` +1 +` + at + ` +Messenger answered 503: \[31mred`,
		ids["held"] + ` +acme +` + at + ` +0 +undecided +not sent yet`,
	} {
		assert.Regexp(t, "^"+want+"$", lines[i+1])
	}

	var report struct {
		Messages []struct {
			OttRequestID, Tenant, MessageKey, Reason string
			Tries                                    int
			Expired                                  bool
			NextTry                                  *time.Time
		}
		More bool
	}
	require.NoError(t, json.Unmarshal([]byte(run(t, append(list, "-o", "json", "--limit", "2")...).stdout), &report))
	require.Len(t, report.Messages, 2)
	assert.True(t, report.More)
	assert.Equal(t, "waits", report.Messages[1].MessageKey)
	assert.NotNil(t, report.Messages[1].NextTry)
	assert.True(t, report.Messages[0].Expired)
}

func TestOttMessagesOfNoStack(t *testing.T) {
	t.Parallel()
	r := call{}.run(t, "ott", "messages", "--stack", "none-"+uuid.NewString()[:8], "--property", "line/7")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "-messages")
	for _, property := range []string{"7", "line/", "telegram/7", "/7"} {
		r := call{}.run(t, "ott", "messages", "--property", property)
		assert.NotZero(t, r.status)
		assert.Contains(t, r.stderr, "--property is messenger/PAGEID or line/CHANNELID", property)
	}
}
