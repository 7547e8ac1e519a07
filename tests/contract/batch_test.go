package contract_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The texts of docs/contract.md §2.
const (
	mustSendANumbers = "Must send aNumbers or a valid ANumberGroupId"
	invalidProgram   = "Invalid program setup on this program"
	notAllowed       = "Not allowed to use one or more anumbers."
	eitherOr         = "Send either aNumbers or aNumberGroupId, not both"
	pushFailed       = "Batch push could not complete push successfully."
	noNumbersFailed  = "Batch could not complete push successfully."
)

func withProgram(uuid string) endpoint { return batch.at(batch.path + "?programContentUuid=" + uuid) }

func demoProgram() endpoint { return withProgram(bundle.Demo.Engage.ProgramContentUUID) }

// demoBatch is a valid batch of the demo provider.
func demoBatch() object {
	return object{
		"destinations": []any{
			object{
				"bNumber":          "+15018902005",
				"personalization":  object{"MY_VAR": "Put Custom Text Here"},
				"customTrackingId": "custom-tracking-1",
			},
			object{"bNumber": "+14258309029"},
		},
		"aNumbers":      []any{"+5014008029", "+5013509988"},
		"notBefore":     "2020-02-10T16:00:00Z",
		"ttlSeconds":    "3600",
		"keepAfterCall": "false",
	}
}

// push sends a batch of the demo provider.
func push(t *testing.T, e endpoint, body string, headers ...string) answer {
	t.Helper()
	return send(
		t,
		e,
		body,
		append([]string{"Authorization", engageBearer(t, bundle.Demo.Engage.DemoClient)}, headers...)...)
}

// requirePushed checks the answer to an accepted push and returns its requestId.
func requirePushed(t *testing.T, a answer) string {
	t.Helper()
	require.Equal(t, 200, a.Status, "%s", a.Body)
	body := a.Object(t)
	require.Equal(
		t,
		map[string]any{"response": "success", "message": nil, "errorCode": "", "requestId": body["requestId"]},
		body,
	)
	return body["requestId"].(string)
}

// requireNotPushed checks the error body of a batch.
func requireNotPushed(t *testing.T, a answer, status int, response, message string) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	require.Equal(t, map[string]any{
		"response":  response,
		"message":   message,
		"errorCode": json.Number(fmt.Sprint(status)),
		"requestId": a.RequestID(),
	}, a.Object(t))
}

// docs/contract.md §2: POST /federated/outbound/v2/batch → 200 `success`, once the push is durable.
func TestBatchIsAccepted(t *testing.T) {
	t.Parallel()
	soon := time.Now().UTC()
	many := make([]any, 400)
	for i := range many {
		many[i] = "+5014008029"
	}
	long := strings.Repeat("é", 256)
	for name, test := range map[string]struct {
		body  object
		total int
	}{
		"as the guide has it":                {demoBatch(), 2},
		"a group":                            {demoBatch().without("aNumbers").set(bundle.Demo.Engage.ANumberGroupID, "aNumberGroupId"), 2},
		"a group in capitals":                {demoBatch().without("aNumbers").set(strings.ToUpper(bundle.Demo.Engage.ANumberGroupID), "aNumberGroupId"), 2},
		"a group beside an empty list":       {demoBatch().set([]any{}, "aNumbers").set(bundle.Demo.Engage.ANumberGroupID, "aNumberGroupId"), 2},
		"a list beside an empty group":       {demoBatch().set("", "aNumberGroupId"), 2},
		"a list beside a null group":         {demoBatch().set(nil, "aNumberGroupId"), 2},
		"400 aNumbers":                       {demoBatch().set(many, "aNumbers"), 2},
		"only what is required":              {demoBatch().without("notBefore").without("ttlSeconds").without("keepAfterCall"), 2},
		"null where a member is optional":    {demoBatch().set(nil, "notBefore").set(nil, "ttlSeconds").set(nil, "keepAfterCall").set(nil, "destinations", 0, "personalization").set(nil, "destinations", 0, "customTrackingId"), 2},
		"ttlSeconds as a number":             {demoBatch().set(960, "ttlSeconds"), 2},
		"the shortest ttlSeconds":            {demoBatch().set(1, "ttlSeconds"), 2},
		"the longest ttlSeconds":             {demoBatch().set("2419200", "ttlSeconds"), 2},
		"ttlSeconds 3600.0":                  {demoBatch().set(json.Number("3600.0"), "ttlSeconds"), 2},
		"ttlSeconds 3.6e3":                   {demoBatch().set(json.Number("3.6e3"), "ttlSeconds"), 2},
		"ttlSeconds 3600.0 as a text":        {demoBatch().set("3600.0", "ttlSeconds"), 2},
		"keepAfterCall as a boolean":         {demoBatch().set(true, "keepAfterCall"), 2},
		"keepAfterCall as text":              {demoBatch().set("true", "keepAfterCall"), 2},
		"notBefore with another offset":      {demoBatch().set("2020-02-10T11:00:00.123-05:00", "notBefore"), 2},
		"notBefore with small t and z":       {demoBatch().set("2020-02-10t16:00:00z", "notBefore"), 2},
		"notBefore with the largest offset":  {demoBatch().set("2020-02-10T16:00:00+23:59", "notBefore"), 2},
		"notBefore with a long fraction":     {demoBatch().set("2020-02-10T16:00:00.12345678901234567890Z", "notBefore"), 2},
		"notBefore a leap second":            {demoBatch().set("2016-12-31T23:59:60Z", "notBefore"), 2},
		"a text from right to left":          {demoBatch().set("\u2067שלום\u2069 😀\u00a0", "destinations", 0, "personalization", "MY_VAR"), 2},
		"notBefore in 29 days":               {demoBatch().set(soon.Add(29*24*time.Hour).Format(time.RFC3339), "notBefore"), 2},
		"notBefore in almost 30 days":        {demoBatch().set(soon.Add(30*24*time.Hour-time.Hour).Format(time.RFC3339), "notBefore"), 2},
		"personalization of 256 characters":  {demoBatch().set(long, "destinations", 0, "personalization", "MY_VAR"), 2},
		"an empty personalization":           {demoBatch().set(object{}, "destinations", 0, "personalization"), 2},
		"an empty text":                      {demoBatch().set("", "destinations", 0, "personalization", "MY_VAR"), 2},
		"customTrackingId of 128 characters": {demoBatch().set(long[:256], "destinations", 0, "customTrackingId"), 2},
		"bNumber of 7 digits":                {demoBatch().set("+1234567", "destinations", 0, "bNumber"), 2},
		"bNumber of 15 digits":               {demoBatch().set("+123456789012345", "destinations", 0, "bNumber"), 2},
		"the same bNumber twice":             {demoBatch().set("+14258309029", "destinations", 0, "bNumber"), 1},
		"unknown members":                    {demoBatch().set(object{"x": json.Number("1e400")}, "x").set([]any{1}, "destinations", 1, "y"), 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := push(t, demoProgram(), test.body.text(t))
			id := requirePushed(t, a)
			assert.Equal(t, a.RequestID(), id)
			requireDurable(t, id, test.total, 1)
		})
	}
	t.Run("defaults", func(t *testing.T) {
		t.Parallel()
		id := requirePushed(
			t,
			push(
				t,
				demoProgram(),
				demoBatch().without("notBefore").without("ttlSeconds").without("keepAfterCall").text(t),
			),
		)
		meta := pushParts(t, id)["meta"]
		assert.Equal(t, &types.AttributeValueMemberN{Value: "3600"}, meta["ttlSeconds"])
		assert.Equal(t, &types.AttributeValueMemberBOOL{Value: false}, meta["keepAfterCall"])
		assert.Equal(t, meta["createdAt"], meta["notBefore"], "absent is now")
	})
	t.Run("programContentUuid in capitals", func(t *testing.T) {
		t.Parallel()
		requirePushed(
			t,
			push(t, withProgram(strings.ToUpper(bundle.Demo.Engage.ProgramContentUUID)), demoBatch().text(t)),
		)
	})
	t.Run("another provider", func(t *testing.T) {
		t.Parallel()
		other := bundle.Demo.EngageOther
		body := demoBatch().set([]any{other.ANumbers[0]}, "aNumbers").without("destinations", 0, "personalization")
		requirePushed(
			t,
			send(
				t,
				withProgram(other.ProgramContentUUID),
				body.text(t),
				"Authorization",
				engageBearer(t, other.DemoClient),
			),
		)
	})
}

// requireDurable finds a push in the table, whole.
func requireDurable(t *testing.T, requestID string, total, chunks int) {
	t.Helper()
	parts := pushParts(t, requestID)
	meta := parts["meta"]
	require.NotEmpty(t, meta, "the push %s is not durable", requestID)
	require.Equal(t, &types.AttributeValueMemberN{Value: fmt.Sprint(total)}, meta["total"])
	for i := range chunks {
		require.Contains(t, parts, fmt.Sprintf("chunk#%05d", i))
	}
	require.NotContains(t, parts, fmt.Sprintf("chunk#%05d", chunks))
}

// docs/contract.md §2, row "neither aNumbers nor aNumberGroupId, or empty, or a group that is not the provider's". It
// comes before every other.
func TestBatchMustSendANumbers(t *testing.T) {
	t.Parallel()
	without := demoBatch().without("aNumbers")
	for name, body := range map[string]object{
		"neither":                       without,
		"aNumbers null":                 without.set(nil, "aNumbers"),
		"aNumbers empty":                without.set([]any{}, "aNumbers"),
		"aNumberGroupId null":           without.set(nil, "aNumberGroupId"),
		"aNumberGroupId empty":          without.set("", "aNumberGroupId"),
		"both empty":                    without.set([]any{}, "aNumbers").set("", "aNumberGroupId"),
		"a group that nobody has":       without.set(unknownUUID, "aNumberGroupId"),
		"another provider's group":      without.set(bundle.Demo.EngageOther.ANumberGroupID, "aNumberGroupId"),
		"a group that is no UUID":       without.set("sales", "aNumberGroupId"),
		"a group that is a number":      without.set(5, "aNumberGroupId"),
		"everything else is wrong, too": {"destinations": 5, "ttlSeconds": -1},
		"nothing at all":                {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireNotPushed(t, push(t, demoProgram(), body.text(t)), 400, mustSendANumbers, noNumbersFailed)
			requireNotPushed(t, push(t, batch, body.text(t)), 400, mustSendANumbers, noNumbersFailed)
		})
	}
}

// docs/contract.md §2: aNumbers and aNumberGroupId both sent → 400 `Send either aNumbers or aNumberGroupId, not both`.
func TestBatchMustNotSendBoth(t *testing.T) {
	t.Parallel()
	both := demoBatch().set(bundle.Demo.Engage.ANumberGroupID, "aNumberGroupId")
	requireNotPushed(t, push(t, demoProgram(), both.text(t)), 400, eitherOr, pushFailed)
	requireNotPushed(
		t,
		push(t, demoProgram(), both.set(unknownUUID, "aNumberGroupId").text(t)),
		400,
		eitherOr,
		pushFailed,
	)
}

// docs/contract.md §2, row "programContentUuid missing, not a UUID, unknown, another provider's, or a program that is
// not complete".
func TestBatchInvalidProgram(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]endpoint{
		"missing":            batch,
		"empty":              withProgram(""),
		"not a UUID":         withProgram("3e1b9b27"),
		"a UUID and more":    withProgram(bundle.Demo.Engage.ProgramContentUUID + "0"),
		"a UUID in braces":   withProgram("%7B" + bundle.Demo.Engage.ProgramContentUUID + "%7D"),
		"unknown":            withProgram(unknownUUID),
		"another provider's": withProgram(bundle.Demo.EngageOther.ProgramContentUUID),
		"not complete":       withProgram(incompleteProgram),
		"badly encoded":      withProgram("%zz"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []object{
				demoBatch(),
				demoBatch().set([]any{}, "destinations").set(-1, "ttlSeconds"),               // before bad fields
				demoBatch().set([]any{bundle.Demo.EngageOther.ANumbers[0]}, "aNumbers"),      // before aNumbers that are not allowed
				demoBatch().set([]any{"no number"}, "aNumbers").set("tomorrow", "notBefore"), // before both
			} {
				requireNotPushed(t, push(t, e, body.text(t)), 400, invalidProgram, pushFailed)
			}
		})
	}
}

// docs/contract.md §2, row "an aNumber not associated with the provider": 200, errorCode is the number 200.
func TestBatchANumberNotAllowed(t *testing.T) {
	t.Parallel()
	for name, numbers := range map[string][]any{
		"nobody's":            {"+15550001111"},
		"another provider's":  {bundle.Demo.EngageOther.ANumbers[0]},
		"one of two":          {"+5014008029", "+15550001111"},
		"a number and a half": {"+50140080290"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := push(t, demoProgram(), demoBatch().set(numbers, "aNumbers").text(t))
			requireNotPushed(t, a, 200, notAllowed, pushFailed)
			require.Empty(t, pushParts(t, a.RequestID()), "nothing is pushed")
		})
	}
}

// docs/contract.md §2, row "any other bad field": what is wrong and where.
func TestBatchBadField(t *testing.T) {
	t.Parallel()
	digits := json.Number(strings.Repeat("9", 400))
	for name, test := range map[string]struct {
		body  object
		where string
	}{
		"destinations missing":                 {demoBatch().without("destinations"), "destinations"},
		"destinations null":                    {demoBatch().set(nil, "destinations"), "destinations"},
		"destinations empty":                   {demoBatch().set([]any{}, "destinations"), "destinations"},
		"destinations an object":               {demoBatch().set(object{"bNumber": "+15018902005"}, "destinations"), "destinations"},
		"a destination that is text":           {demoBatch().set("+15018902005", "destinations", 1), "destinations[1]"},
		"a destination that is null":           {demoBatch().set(nil, "destinations", 0), "destinations[0]"},
		"bNumber missing":                      {demoBatch().without("destinations", 1, "bNumber"), "destinations[1].bNumber"},
		"bNumber without +":                    {demoBatch().set("15018902005", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber a number":                     {demoBatch().set(15018902005, "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber of 6 digits":                  {demoBatch().set("+123456", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber of 16 digits":                 {demoBatch().set("+1234567890123456", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber with a leading 0":             {demoBatch().set("+05018902005", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber with hyphens":                 {demoBatch().set("+1-501-890-2005", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber with other digits":            {demoBatch().set("+١٢٣٤٥٦٧٨", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"bNumber with a line break":            {demoBatch().set("+15018902005\n", "destinations", 0, "bNumber"), "destinations[0].bNumber"},
		"personalization a list":               {demoBatch().set([]any{"x"}, "destinations", 0, "personalization"), "destinations[0].personalization"},
		"personalization of 257 characters":    {demoBatch().set(strings.Repeat("é", 257), "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"personalization a number":             {demoBatch().set(5, "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"a variable not declared":              {demoBatch().set("x", "destinations", 0, "personalization", "YOUR_VAR"), "destinations[0].personalization.YOUR_VAR"},
		"a variable in another case":           {demoBatch().set("x", "destinations", 0, "personalization", "my_var"), "destinations[0].personalization.my_var"},
		"customTrackingId of 129 characters":   {demoBatch().set(strings.Repeat("é", 129), "destinations", 0, "customTrackingId"), "destinations[0].customTrackingId"},
		"a text with a line break":             {demoBatch().set("a\nb", "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"a text with a NUL":                    {demoBatch().set("\x00", "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"a text with a C1 control":             {demoBatch().set("a\u0085", "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"a text with the first override":       {demoBatch().set("a\u202ab", "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"a text with the last override":        {demoBatch().set("\u202e", "destinations", 0, "personalization", "MY_VAR"), "destinations[0].personalization.MY_VAR"},
		"customTrackingId with a control":      {demoBatch().set("a\tb", "destinations", 0, "customTrackingId"), "destinations[0].customTrackingId"},
		"customTrackingId a number":            {demoBatch().set(1, "destinations", 0, "customTrackingId"), "destinations[0].customTrackingId"},
		"aNumbers a text":                      {demoBatch().set("+5014008029", "aNumbers"), "aNumbers"},
		"aNumbers an object":                   {demoBatch().set(object{}, "aNumbers"), "aNumbers"},
		"401 aNumbers":                         {demoBatch().set(make401(), "aNumbers"), "aNumbers"},
		"an aNumber that is a UUID":            {demoBatch().set(bundle.Demo.Engage.ANumberGroupID, "aNumbers", 1), "aNumbers[1]"},
		"an aNumber that is null":              {demoBatch().set(nil, "aNumbers", 0), "aNumbers[0]"},
		"an aNumber that is a number":          {demoBatch().set(json.Number("5014008029"), "aNumbers", 0), "aNumbers[0]"},
		"notBefore without an offset":          {demoBatch().set("2020-02-10T16:00:00", "notBefore"), "notBefore"},
		"notBefore a date":                     {demoBatch().set("2020-02-10", "notBefore"), "notBefore"},
		"notBefore on the 31st of February":    {demoBatch().set("2020-02-31T16:00:00Z", "notBefore"), "notBefore"},
		"notBefore blank":                      {demoBatch().set(" ", "notBefore"), "notBefore"},
		"notBefore empty":                      {demoBatch().set("", "notBefore"), "notBefore"},
		"notBefore 24 hours from UTC":          {demoBatch().set("2020-02-10T16:00:00+24:00", "notBefore"), "notBefore"},
		"notBefore 60 minutes from UTC":        {demoBatch().set("2020-02-10T16:00:00-00:60", "notBefore"), "notBefore"},
		"notBefore a leap second at noon":      {demoBatch().set("2016-12-31T12:59:60Z", "notBefore"), "notBefore"},
		"notBefore a number":                   {demoBatch().set(1581350400, "notBefore"), "notBefore"},
		"notBefore in 30 days and an hour":     {demoBatch().set(time.Now().UTC().Add(30*24*time.Hour+time.Hour).Format(time.RFC3339), "notBefore"), "notBefore"},
		"notBefore in the year 9999":           {demoBatch().set("9999-12-31T23:59:59Z", "notBefore"), "notBefore"},
		"ttlSeconds 0":                         {demoBatch().set(0, "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds negative":                  {demoBatch().set("-1", "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds too long":                  {demoBatch().set(2419201, "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds a fraction":                {demoBatch().set(json.Number("960.5"), "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds a fraction of a millionth": {demoBatch().set(json.Number("3600.000001"), "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds 2.4192001e6":               {demoBatch().set(json.Number("2.4192001e6"), "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds with blanks":               {demoBatch().set(" 3600 ", "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds text":                      {demoBatch().set("an hour", "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds empty":                     {demoBatch().set("", "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds a boolean":                 {demoBatch().set(true, "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds 1e400":                     {demoBatch().set(json.Number("1e400"), "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds of 400 digits":             {demoBatch().set(digits, "ttlSeconds"), "ttlSeconds"},
		"ttlSeconds of 400 digits, as a text":  {demoBatch().set(string(digits), "ttlSeconds"), "ttlSeconds"},
		"keepAfterCall 1":                      {demoBatch().set(1, "keepAfterCall"), "keepAfterCall"},
		"keepAfterCall yes":                    {demoBatch().set("yes", "keepAfterCall"), "keepAfterCall"},
		"keepAfterCall in capitals":            {demoBatch().set("TRUE", "keepAfterCall"), "keepAfterCall"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := push(t, demoProgram(), test.body.text(t))
			response := a.Object(t)["response"].(string)
			requireNotPushed(t, a, 400, response, pushFailed)
			assert.True(t, strings.HasPrefix(response, test.where+" "), response)
			assert.NotContains(t, response, "; ", "one fault is reported once")
			require.Empty(t, pushParts(t, a.RequestID()), "nothing is pushed")
		})
	}
	t.Run("the contract's own example", func(t *testing.T) {
		t.Parallel()
		four := []any{
			object{"bNumber": "+15018902005"},
			object{"bNumber": "+15018902006"},
			object{"bNumber": "+15018902007"},
			object{"bNumber": "15018902008"},
		}
		requireNotPushed(t, push(t, demoProgram(), demoBatch().set(four, "destinations").text(t)), 400,
			"destinations[3].bNumber must be an E.164 number", pushFailed)
	})
}

// docs/contract.md §2: half a surrogate pair is answered with its destination's index.
func TestBatchHalfOfASurrogatePair(t *testing.T) {
	t.Parallel()
	const unicode = " must be valid Unicode"
	for name, test := range map[string]struct {
		destination string
		response    string
	}{
		"in a text": {
			`{"bNumber":"+15018902006","personalization":{"MY_VAR":"\ud800"}}`,
			"destinations[2].personalization.MY_VAR" + unicode,
		},
		"in a variable's name": {
			`{"bNumber":"+15018902006","personalization":{"MY_\udc00":"x"}}`,
			"destinations[2].personalization.MY_\ufffd" + unicode,
		},
		"in customTrackingId": {
			`{"bNumber":"+15018902006","customTrackingId":"a\ude00\ud83d"}`, "destinations[2].customTrackingId" + unicode,
		},
		"in bNumber": {`{"bNumber":"+15018902006\ud83d"}`, "destinations[2].bNumber must be an E.164 number"},
		"in an unknown member": {
			`{"bNumber":"+15018902006","trackingId":"\ud83d"}`, "destinations[2]" + unicode,
		},
		"beside another fault": {
			`{"bNumber":"15018902006","customTrackingId":"\ud83d"}`,
			"destinations[2].bNumber must be an E.164 number; destinations[2].customTrackingId" + unicode,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const second = `{"bNumber":"+14258309029"}`
			body := strings.Replace(demoBatch().text(t), second, second+","+test.destination, 1)
			a := push(t, demoProgram(), body)
			requireNotPushed(t, a, 400, test.response, pushFailed)
			require.Empty(t, pushParts(t, a.RequestID()), "nothing is pushed")
		})
	}
	t.Run("in an aNumber", func(t *testing.T) {
		t.Parallel()
		body := strings.Replace(demoBatch().text(t), `"+5013509988"`, `"\ud800"`, 1)
		requireNotPushed(t, push(t, demoProgram(), body), 400, "aNumbers[1] must be an E.164 number", pushFailed)
	})
	t.Run("in aNumberGroupId", func(t *testing.T) {
		t.Parallel()
		body := strings.Replace(demoBatch().without("aNumbers").text(t), "{", `{"aNumberGroupId":"\ud800",`, 1)
		requireNotPushed(t, push(t, demoProgram(), body), 400, mustSendANumbers, noNumbersFailed)
	})
	t.Run("a whole pair", func(t *testing.T) {
		t.Parallel()
		body := strings.Replace(demoBatch().text(t), "Put Custom Text Here", `\ud83d\ude00`, 1)
		requirePushed(t, push(t, demoProgram(), body))
	})
}

func make401() []any {
	numbers := make([]any, 401)
	for i := range numbers {
		numbers[i] = "+5014008029"
	}
	return numbers
}

// docs/contract.md, common: every validation failure is reported at once; 20 of them, for there may be 25,000.
func TestBatchReportsFaultsTogether(t *testing.T) {
	t.Parallel()
	t.Run("several fields", func(t *testing.T) {
		t.Parallel()
		body := demoBatch().set("x", "destinations", 0, "bNumber").
			set("no number", "aNumbers", 0).
			set("never", "notBefore").
			set(0, "ttlSeconds").
			set("maybe", "keepAfterCall")
		a := push(t, demoProgram(), body.text(t))
		faults := strings.Split(a.Object(t)["response"].(string), "; ")
		require.Len(t, faults, 5)
		for _, where := range []string{"destinations[0].bNumber", "aNumbers[0]", "notBefore", "ttlSeconds", "keepAfterCall"} {
			assert.Contains(t, strings.Join(faults, "\n"), where+" must")
		}
	})
	for count, expected := range map[int]int{20: 20, 21: 21, 1000: 21} {
		t.Run(fmt.Sprintf("%d faults", count), func(t *testing.T) {
			t.Parallel()
			destinations := make([]any, count)
			for i := range destinations {
				destinations[i] = object{"bNumber": "x"}
			}
			a := push(t, demoProgram(), demoBatch().set(destinations, "destinations").text(t))
			faults := strings.Split(a.Object(t)["response"].(string), "; ")
			require.Len(t, faults, expected)
			assert.Equal(t, "destinations[19].bNumber must be an E.164 number", faults[19])
			if count > 20 {
				assert.Equal(t, fmt.Sprintf("and %d more", count-20), faults[20])
			}
		})
	}
	t.Run("25,000 destinations with four faults each", func(t *testing.T) {
		t.Parallel()
		destination := `{"bNumber":"1","customTrackingId":7,"personalization":{"X":"x","MY_VAR":"\u0007"}}`
		body := `{"aNumbers":["+5014008029"],"destinations":[` + strings.Repeat(
			destination+",",
			24_999,
		) + destination + `]}`
		a := push(t, demoProgram(), zipped(body), "Content-Encoding", "gzip")
		response := a.Object(t)["response"].(string)
		requireNotPushed(t, a, 400, response, pushFailed)
		faults := strings.Split(response, "; ")
		require.Len(t, faults, 21)
		assert.Equal(t, "destinations[0].bNumber must be an E.164 number", faults[0])
		assert.True(t, strings.HasPrefix(faults[19], "destinations[4].personalization.MY_VAR "), faults[19])
		assert.Equal(t, "and 99980 more", faults[20])
	})
	t.Run("before aNumbers that are not allowed", func(t *testing.T) {
		t.Parallel()
		body := demoBatch().set([]any{"+15550001111"}, "aNumbers").set("never", "notBefore")
		require.Equal(t, 400, push(t, demoProgram(), body.text(t)).Status)
	})
}

// docs/contract.md §2: 1–25,000 destinations.
func TestBatchLimitOfDestinations(t *testing.T) {
	t.Parallel()
	t.Run("25,000", func(t *testing.T) {
		t.Parallel()
		id := requirePushed(t, push(t, demoProgram(), zipped(largeBatch(25_000)), "Content-Encoding", "gzip"))
		requireDurable(t, id, 25_000, 50)
	})
	t.Run("25,001", func(t *testing.T) {
		t.Parallel()
		a := push(t, demoProgram(), zipped(largeBatch(25_001)), "Content-Encoding", "gzip")
		response := a.Object(t)["response"].(string)
		requireNotPushed(t, a, 400, response, pushFailed)
		assert.True(t, strings.HasPrefix(response, "destinations "), response)
	})
}

// largeBatch is a body of that many destinations, about 6 MB for 25,000.
func largeBatch(destinations int) string {
	var b strings.Builder
	b.WriteString(`{"aNumbers":["+5014008029"],"destinations":[`)
	for i := range destinations {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(
			&b,
			`{"bNumber":"+1501%07d","personalization":{"MY_VAR":"Hello %07d, %0140d"},"customTrackingId":"tracking-%d"}`,
			i,
			i,
			i,
			i,
		)
	}
	b.WriteString(`]}`)
	return b.String()
}

// docs/contract.md §2, Idempotency-Key: same key and body → the first answer with its requestId, nothing is pushed;
// other body → 409.
func TestBatchIdempotencyKey(t *testing.T) {
	t.Parallel()
	t.Run("replay and conflict", func(t *testing.T) {
		t.Parallel()
		key := unique()
		first := push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key)
		id := requirePushed(t, first)
		again := push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key)
		require.Equal(t, first.Body, again.Body)
		require.NotEqual(t, first.RequestID(), again.RequestID(), "x-request-id is each request's own")
		require.Empty(t, pushParts(t, again.RequestID()), "nothing is pushed again")
		requireDurable(t, id, 2, 1)

		for name, conflict := range map[string]answer{
			"other body":    push(t, demoProgram(), demoBatch().set("7200", "ttlSeconds").text(t), "Idempotency-Key", key),
			"other program": push(t, withProgram(incompleteProgram), demoBatch().text(t), "Idempotency-Key", key),
			"no program":    push(t, batch, demoBatch().text(t), "Idempotency-Key", key),
		} {
			body := conflict.Object(t)
			requireNotPushed(t, conflict, 409, body["response"].(string), pushFailed)
			require.Empty(t, pushParts(t, conflict.RequestID()), name)
		}
		require.Equal(
			t,
			first.Body,
			push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key).Body,
			"a conflict changes nothing",
		)
	})
	t.Run("the same body in gzip", func(t *testing.T) {
		t.Parallel()
		key := unique()
		first := push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key)
		again := push(t, demoProgram(), zipped(demoBatch().text(t)), "Idempotency-Key", key, "Content-Encoding", "gzip")
		require.Equal(t, first.Body, again.Body)
	})
	t.Run("the same program in capitals", func(t *testing.T) {
		t.Parallel()
		key := unique()
		first := push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key)
		requirePushed(t, first)
		capitals := withProgram(strings.ToUpper(bundle.Demo.Engage.ProgramContentUUID))
		require.Equal(t, first.Body, push(t, capitals, demoBatch().text(t), "Idempotency-Key", key).Body)
	})
	t.Run("gzip first, of the same body at another level", func(t *testing.T) {
		t.Parallel()
		key, body := unique(), demoBatch().text(t)
		first := push(t, demoProgram(), zipped(body), "Idempotency-Key", key, "Content-Encoding", "gzip")
		requirePushed(t, first)
		parts := zipped(body[:20]) + zipped(body[20:])
		again := push(t, demoProgram(), parts, "Idempotency-Key", key, "Content-Encoding", "gzip")
		require.Equal(t, first.Body, again.Body)
		require.Equal(t, first.Body, push(t, demoProgram(), body, "Idempotency-Key", key).Body)
	})
	t.Run("another client's key", func(t *testing.T) {
		t.Parallel()
		key, other := unique(), bundle.Demo.EngageOther
		first := requirePushed(t, push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key))
		body := demoBatch().set([]any{other.ANumbers[0]}, "aNumbers").without("destinations", 0, "personalization")
		second := send(
			t,
			withProgram(other.ProgramContentUUID),
			body.text(t),
			"Idempotency-Key",
			key,
			"Authorization",
			engageBearer(t, other.DemoClient),
		)
		require.NotEqual(t, first, requirePushed(t, second))
	})
	t.Run("a refused batch leaves its key to a corrected one", func(t *testing.T) {
		t.Parallel()
		key := unique()
		require.Equal(
			t,
			400,
			push(t, demoProgram(), demoBatch().set(0, "ttlSeconds").text(t), "Idempotency-Key", key).Status,
		)
		requireNotPushed(
			t,
			push(t, demoProgram(), demoBatch().set([]any{"+15550001111"}, "aNumbers").text(t), "Idempotency-Key", key),
			200,
			notAllowed,
			pushFailed,
		)
		requirePushed(t, push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key))
	})
	t.Run("without a key every request is a push", func(t *testing.T) {
		t.Parallel()
		first := requirePushed(t, push(t, demoProgram(), demoBatch().text(t)))
		require.NotEqual(t, first, requirePushed(t, push(t, demoProgram(), demoBatch().text(t))))
	})
	t.Run("255 characters, no more", func(t *testing.T) {
		t.Parallel()
		key := unique() + strings.Repeat("k", 255-36)
		id := requirePushed(t, push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key))
		require.Equal(t, id, requirePushed(t, push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key)))
		a := push(t, demoProgram(), demoBatch().text(t), "Idempotency-Key", key+"k")
		response := a.Object(t)["response"].(string)
		requireNotPushed(t, a, 400, response, pushFailed)
		assert.Contains(t, response, "Idempotency-Key")
	})
	t.Run("20 at the same time", func(t *testing.T) {
		t.Parallel()
		key, bearer, body := unique(), engageBearer(t, bundle.Demo.Engage.DemoClient), demoBatch().text(t)
		ids, pushed := map[string]bool{}, 0
		for _, a := range atOnce(t, 20, func(int) (answer, error) {
			return exchange(demoProgram(), body, "Idempotency-Key", key, "Authorization", bearer)
		}) {
			ids[requirePushed(t, a)] = true
			if len(pushParts(t, a.RequestID())) > 0 {
				pushed++
			}
		}
		require.Len(t, ids, 1)
		require.Equal(t, 1, pushed)
	})
}

// docs/contract.md §2 has no row for another Content-Type: the body alone decides.
func TestBatchOfAnyMediaType(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"", "application/json; charset=utf-8", "text/plain", "application/octet-stream"} {
		requirePushed(t, push(t, demoProgram(), demoBatch().text(t), "Content-Type", contentType))
	}
}
