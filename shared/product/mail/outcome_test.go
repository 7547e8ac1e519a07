package mail_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/product"
)

// lines returns the log's lines of that message, in their order.
func (b *bundle) lines(message string) []map[string]any {
	b.t.Helper()
	var lines []map[string]any
	for text := range strings.Lines(b.log.String()) {
		var line map[string]any
		require.NoError(b.t, json.Unmarshal([]byte(text), &line), text)
		if line["msg"] == message {
			lines = append(lines, line)
		}
	}
	return lines
}

// The alarms on mails (template.yaml) are made of these lines: CloudWatch finds the metric by what _aws says of it.
func TestAnOutcomesLineIsWhatTheAlarmIsMadeOf(t *testing.T) {
	before := lambdacontext.FunctionName
	lambdacontext.FunctionName = "the-function"
	defer func() { lambdacontext.FunctionName = before }()
	virus := event("Reject", `"reject":{"reason":"Bad content"}`, tagOf(request))
	delivery := event("Delivery", `"delivery":{}`, tagOf(request))
	for name, test := range map[string]struct {
		outcome func(b *bundle)
		state   product.MailState
		level   string
		refused int
	}{
		"product-mail, refused": {func(b *bundle) {
			b.play(answering(http.StatusBadRequest, "MessageRejected", ""))
			assert.Empty(b.t, b.deliver(messageOf(request)))
		}, product.MailRefused, "WARN", 1},
		"product-mail, unknown": {func(b *bundle) {
			b.play(answering(http.StatusInternalServerError, "InternalServiceErrorException", ""))
			assert.Empty(b.t, b.deliver(messageOf(request)))
		}, product.MailUnknown, "WARN", 1},
		"product-mail, sent": {func(b *bundle) {
			assert.Empty(b.t, b.deliver(messageOf(request)))
		}, product.MailSent, "INFO", 0},
		"product-mail-event, refused": {func(b *bundle) {
			assert.Empty(b.t, b.tell(virus))
		}, product.MailRefused, "WARN", 1},
		"product-mail-event, delivered": {func(b *bundle) {
			assert.Empty(b.t, b.tell(delivery))
		}, product.MailDelivered, "INFO", 0},
	} {
		t.Run(name, func(t *testing.T) {
			b := deploy(t)
			b.keep(request)
			test.outcome(b)
			lines := b.lines("mail")
			require.Len(t, lines, 1)
			line := lines[0]
			assert.Equal(t, test.level, line["level"])
			assert.Equal(t, string(test.state), line["state"])
			assert.Equal(t, request, line["request"])
			assert.EqualValues(t, test.refused, line["mailsRefused"])
			assert.Equal(t, "the-function", line["function"])
			embedded, ok := line["_aws"].(map[string]any)
			require.True(t, ok, "%v", line)
			assert.Greater(t, embedded["Timestamp"], 1e12, "in milliseconds")
			assert.Equal(t, []any{map[string]any{
				"Namespace":  "Carillon",
				"Dimensions": []any{[]any{"function"}},
				"Metrics":    []any{map[string]any{"Name": "mailsRefused", "Unit": "Count"}},
			}}, embedded["CloudWatchMetrics"])
		})
	}
}

// The alarm on the account (template.yaml) is made of the lines of mails that are put off.
func TestALineOfAMailThatIsPutOffIsWhatTheAlarmIsMadeOf(t *testing.T) {
	before := lambdacontext.FunctionName
	lambdacontext.FunctionName = "the-function"
	defer func() { lambdacontext.FunctionName = before }()
	for code, faults := range map[string]int{"SendingPausedException": 1, "TooManyRequestsException": 0} {
		t.Run(code, func(t *testing.T) {
			b := deploy(t)
			b.keep(request)
			b.play(answering(http.StatusBadRequest, code, ""))
			assert.Empty(t, b.deliver(messageOf(request)))
			lines := b.lines("a mail is put off")
			require.Len(t, lines, 1)
			line := lines[0]
			assert.Equal(t, "WARN", line["level"])
			assert.Equal(t, request, line["request"])
			assert.Equal(t, code, line["error"])
			assert.EqualValues(t, faults, line["mailAccountFaults"])
			assert.Equal(t, "the-function", line["function"])
			embedded, ok := line["_aws"].(map[string]any)
			require.True(t, ok, "%v", line)
			assert.Equal(t, []any{map[string]any{
				"Namespace":  "Carillon",
				"Dimensions": []any{[]any{"function"}},
				"Metrics":    []any{map[string]any{"Name": "mailAccountFaults", "Unit": "Count"}},
			}}, embedded["CloudWatchMetrics"])
		})
	}
}

// A job or an event of a mail that is not kept is done with, under one text.
func TestAnUnknownMailIsLogged(t *testing.T) {
	for name, come := range map[string]func(b *bundle) string{
		"a job": func(b *bundle) string { return b.deliver(messageOf(request)) },
		"an event": func(b *bundle) string {
			return b.tell(event("Delivery", `"delivery":{}`,
				tagOf(request)))
		},
		"an event without name": func(b *bundle) string { return b.tell(event("Delivery", `"delivery":{}`, "")) },
	} {
		t.Run(name, func(t *testing.T) {
			b := deploy(t)
			assert.Empty(t, come(b))
			assert.Contains(t, b.log.String(), `"msg":"unknown mail"`)
		})
	}
}
