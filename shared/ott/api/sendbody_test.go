package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
)

// Unknown members are ignored, however much they hold; those of a large body are not kept.
func TestSendWithMoreThanAskedFor(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	for name, more := range map[string]string{
		"small": `"unknown":[1e400]`, "large": `"unknown":"` + strings.Repeat("x", 4_000_000) + `"`,
	} {
		key := `"MESSAGE_KEY":"` + name + `"`
		body := instead(messengerMessage, messageKey, more+","+key)
		id := s.accepted(body)
		assert.Equal(t, id, s.accepted(body))
		changed := s.post(instead(body, "unknown", "Unknown"))
		assert.Equal(t, http.StatusConflict, changed.StatusCode, "all of a body counts")
		shown := s.get(bearer(t, sendScope), id).Body
		want := key + "," + messengerFrom
		if name == "small" {
			want = more + "," + want
		}
		assert.True(t, strings.HasPrefix(shown, `{"requestBody":{`+want), "%.200s", shown)
	}
}

// What is large and not a message's is read and not kept; what is a message's must fit.
func TestSendOfALargeBody(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	long := strings.Repeat("x", ott.MaxBody)
	for name, test := range map[string]struct {
		body   string
		status int
	}{
		"a long unknown name":     {`{"` + long + `":1,` + messengerMessage[1:], http.StatusCreated},
		"behind a mark":           {"\ufeff" + `{"unknown":"` + long + `",` + messengerMessage[1:], http.StatusCreated},
		"deep unknown members":    {`{"unknown":[{"to":[{"` + long + `":{}}]}],` + messengerMessage[1:], http.StatusCreated},
		"a text":                  {instead(messengerMessage, "thanks for purchase", long), http.StatusRequestEntityTooLarge},
		"many elements":           {`{"to":[` + strings.Repeat("1,", ott.MaxBody) + `1]}`, http.StatusRequestEntityTooLarge},
		"a name of a known value": {`{"to":{"` + long + `":1}}`, http.StatusRequestEntityTooLarge},
		"white space":             {strings.Repeat(" ", ott.MaxBody) + messengerMessage, http.StatusCreated},
		"a text, then broken":     {`{"to":"` + long + `"`, http.StatusBadRequest},
		"behind it more":          {messengerMessage + strings.Repeat(" ", ott.MaxBody) + "x", http.StatusBadRequest},
		"an array":                {`["` + long + `"]`, http.StatusBadRequest},
		"an unknown member twice": {`{"unknown":"` + long + `","unknown":1}`, http.StatusBadRequest},
		"a known member twice":    {`{"unknown":"` + long + `","to":1,"to":1}`, http.StatusBadRequest},
	} {
		key := `"messageKey":"` + name + `"`
		body := strings.Replace(test.body, messageKey, key, 1)
		answer := s.post(body)
		assert.Equal(t, test.status, answer.StatusCode, "%s: %.200s", name, answer.Body)
		if test.status == http.StatusCreated {
			assert.Equal(t, answer.Body, s.post(body).Body, name)
			shown := s.get(bearer(t, sendScope), s.accepted(body)).Body
			assert.Less(t, len(shown), 2000, name)
			assert.True(t, strings.HasPrefix(shown, `{"requestBody":{"`), "%s: %.100s", name, shown)
		}
	}
}

// A byte order mark is no part of the body: it is not shown.
func TestSendBehindAByteOrderMark(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	id := s.accepted("\ufeff" + messengerMessage)
	assert.Equal(t, id, s.accepted(messengerMessage))
	assert.True(t, strings.HasPrefix(s.get(bearer(t, sendScope), id).Body, `{"requestBody":{"`))
}

// The largest message is taken, and shown as it was sent.
func TestSendOfTheLargestMessage(t *testing.T) {
	t.Parallel()
	s := newSending(t)
	native := withContents(messengerMessage, `{"type":"native","nativePayload":{"text":"filler"}}`)
	text := strings.Repeat("x", ott.MaxBody-len(native)+len("filler"))
	body := instead(native, "filler", text)
	require.Len(t, body, 256<<10)
	id := s.accepted(body)
	answer := s.get(bearer(t, sendScope), id)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	shown := `{"requestBody":` + strings.TrimSuffix(body, "}") + `,"ottRequestId":"` + id + `"},"status":[`
	assert.True(t, strings.HasPrefix(answer.Body, shown))
	assert.Equal(t, http.StatusRequestEntityTooLarge, s.post(strings.Replace(body, text, text+"x", 1)).StatusCode)
}
