package contract_test

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/stackname"
)

// The error codes of docs/contract.md §1.
const (
	wrongType = 10001
	missing   = 10002
	malformed = 10004
	badValue  = 10005
)

// fault is one element of validationErrors.
type fault struct {
	Message       string `json:"message"`
	ErrorCode     int    `json:"errorcode"`
	Documentation string `json:"documentation"`
}

func missingFaults(messages ...string) []fault {
	faults := make([]fault, len(messages))
	for i, message := range messages {
		faults[i] = fault{Message: message + " must be provided", ErrorCode: missing}
	}
	return faults
}

// messengerPage is a valid registration of a page that no other test registers.
func messengerPage() object {
	return object{"ottPlatformName": "messenger", "ottPlatformAttributes": object{
		"applicationId":       "1093076390764037",
		"applicationSecret":   "app-secret-" + unique(),
		"pageId":              unique(),
		"pageName":            "A page",
		"pageAccessToken":     "page-token-" + unique(),
		"endpointUrl":         "https://graph.facebook.com/v2.6/me/messages",
		"callbackVerifyToken": "verify-token-" + unique(),
		"isActive":            true,
	}}
}

// lineChannel is a valid registration of a channel that no other test registers.
func lineChannel() object {
	return object{"ottPlatformName": "line", "ottPlatformAttributes": object{
		"channelId": unique(), "channelName": "A channel", "channelSecret": "channel-secret-" + unique(),
		"customerConnectSecret": "connect-secret-" + unique(), "endpointUrl": "https://example.com/1732555047025799",
		"isTransactional": true, "isTestChannel": false, "isActive": true,
	}}
}

// register sends a registration of the demo brand.
func register(t *testing.T, body string, headers ...string) answer {
	t.Helper()
	for _, name := range []string{"applicationSecret", "pageAccessToken", "callbackVerifyToken", "channelSecret", "customerConnectSecret"} {
		for _, value := range membersNamed(body, name) {
			secrets.add(value)
		}
	}
	return send(
		t,
		registration,
		body,
		append([]string{"Authorization", ottBearer(t, bundle.Demo.OTT, "")}, headers...)...)
}

// membersNamed returns a member of ottPlatformAttributes if it is one of the long texts made up above.
func membersNamed(body, name string) []string {
	var sent struct {
		Attributes map[string]any `json:"ottPlatformAttributes"`
	}
	if json.Unmarshal([]byte(body), &sent) != nil {
		return nil
	}
	if value, ok := sent.Attributes[name].(string); ok && len(value) > 20 {
		return []string{value}
	}
	return nil
}

// requireFaults checks the aggregate error body: its texts, its codes and their order.
func requireFaults(t *testing.T, a answer, expected []fault) {
	t.Helper()
	require.Equal(t, 400, a.Status, "%s", a.Body)
	var body struct {
		fault
		ValidationErrors []fault `json:"validationErrors"`
	}
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body))
	require.Equal(t, fault{Message: "Please fix the following errors", ErrorCode: 10006}, body.fault)
	require.Equal(t, expected, body.ValidationErrors)
}

// docs/contract.md §1: 201, empty body; flags 0, 1, true, false; unknown members ignored; names match in any case;
// customerConnectSecret optional.
func TestRegistrationIsAccepted(t *testing.T) {
	t.Parallel()
	attributes := "ottPlatformAttributes"
	for name, body := range map[string]string{
		"messenger": messengerPage().text(t),
		"line":      lineChannel().text(t),
		"flags 0 and 1": lineChannel().set(0, attributes, "isActive").set(1, attributes, "isTransactional").
			set(0, attributes, "isTestChannel").text(t),
		"flags true and false": lineChannel().set(false, attributes, "isActive").set(false, attributes, "isTransactional").
			set(true, attributes, "isTestChannel").text(t),
		"line without customerConnectSecret":         lineChannel().without(attributes, "customerConnectSecret").text(t),
		"line with an empty customerConnectSecret":   lineChannel().set("", attributes, "customerConnectSecret").text(t),
		"line with a null customerConnectSecret":     lineChannel().set(nil, attributes, "customerConnectSecret").text(t),
		"unknown members":                            messengerPage().set(object{"a": []any{1}}, "x").set("y", attributes, "y").text(t),
		"the other platform's attributes":            messengerPage().set(7, attributes, "channelId").text(t),
		"names in capitals":                          capitals(messengerPage().text(t)),
		"ids and secrets are any text":               lineChannel().set("not ten digits, "+unique(), attributes, "channelId").set("not hex", attributes, "channelSecret").text(t),
		"a page name of 255 characters":              messengerPage().set(strings.Repeat("é", 255), attributes, "pageName").text(t),
		"a large number where nobody looks":          strings.Replace(messengerPage().text(t), "{", `{"n":1e400,`, 1),
		"endpointUrl with a port":                    messengerPage().set("https://graph.facebook.com:8443/me", attributes, "endpointUrl").text(t),
		"endpointUrl with a query":                   messengerPage().set("https://graph.facebook.com/me?version=2", attributes, "endpointUrl").text(t),
		"endpointUrl at a public IPv4 address":       messengerPage().set("https://8.8.8.8/me", attributes, "endpointUrl").text(t),
		"endpointUrl at a public IPv6 address":       messengerPage().set("https://[2606:4700:4700::1111]/me", attributes, "endpointUrl").text(t),
		"endpointUrl of a name that begins like one": messengerPage().set("https://10.example.com/me", attributes, "endpointUrl").text(t),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := register(t, body)
			require.Equal(t, 201, a.Status, "%s", a.Body)
		})
	}
	t.Run("secrets as long as they may be", func(t *testing.T) {
		t.Parallel()
		long := strings.Repeat("\x01", 3072) // six bytes each in the secret's JSON
		body := messengerPage().set(long, attributes, "applicationSecret").
			set(long, attributes, "pageAccessToken").
			set(long, attributes, "callbackVerifyToken")
		require.Equal(t, 201, register(t, body.text(t)).Status)
		requireFaults(
			t,
			register(t, body.set(long+"x", attributes, "pageAccessToken").text(t)),
			[]fault{{Message: "PageAccessToken is invalid", ErrorCode: badValue}},
		)
		requireFaults(
			t,
			register(t, body.set(strings.Repeat("é", 256), attributes, "pageName").text(t)),
			[]fault{{Message: "PageName is invalid", ErrorCode: badValue}},
		)
	})
	t.Run("ids and names hold no control characters", func(t *testing.T) {
		t.Parallel()
		for name, shown := range map[string]string{"pageId": "PageId", "applicationId": "ApplicationId", "pageName": "PageName"} {
			requireFaults(t, register(t, messengerPage().set("a\u0085b", attributes, name).text(t)),
				[]fault{{Message: shown + " is invalid", ErrorCode: badValue}})
		}
	})
	t.Run("an id of digits keeps them", func(t *testing.T) {
		t.Parallel()
		const id = "00000000000000000000000000012345678901234567890"
		require.Equal(t, 201, register(t, messengerPage().set(id, attributes, "pageId").text(t)).Status)
		require.Equal(t, id, stringOf(registrationItem(t, "messenger", id)["propertyId"]))
	})
	t.Run("with a charset", func(t *testing.T) {
		t.Parallel()
		require.Equal(
			t,
			201,
			register(t, lineChannel().text(t), "Content-Type", "application/json; charset=utf-8").Status,
		)
	})
}

// capitals writes the member names of a registration in capitals.
func capitals(body string) string {
	for _, name := range []string{"ottPlatformName", "ottPlatformAttributes", "applicationId", "applicationSecret", "pageId", "pageName", "pageAccessToken", "endpointUrl", "callbackVerifyToken", "isActive"} {
		body = strings.Replace(body, `"`+name+`"`, `"`+strings.ToUpper(name)+`"`, 1)
	}
	return body
}

// docs/contract.md §1, row "field empty or missing": 10006 › 10002.
func TestRegistrationFieldMissing(t *testing.T) {
	t.Parallel()
	messenger := map[string]string{
		"endpointUrl":         "EndpointUrl",
		"isActive":            "IsActive",
		"applicationId":       "ApplicationId",
		"applicationSecret":   "ApplicationSecret",
		"pageId":              "PageId",
		"pageName":            "PageName",
		"pageAccessToken":     "PageAccessToken",
		"callbackVerifyToken": "CallbackVerifyToken",
	}
	line := map[string]string{
		"endpointUrl": "EndpointUrl", "isActive": "IsActive", "channelId": "ChannelId", "channelName": "ChannelName",
		"channelSecret": "ChannelSecret", "isTransactional": "isTransactional", "isTestChannel": "isTestChannel",
	}
	for _, platform := range []struct {
		name   string
		valid  func() object
		fields map[string]string
	}{{"messenger", messengerPage, messenger}, {"line", lineChannel, line}} {
		for member, field := range platform.fields {
			t.Run(platform.name+" "+member, func(t *testing.T) {
				t.Parallel()
				for _, body := range []object{
					platform.valid().without("ottPlatformAttributes", member),
					platform.valid().set(nil, "ottPlatformAttributes", member),
					platform.valid().set("", "ottPlatformAttributes", member),
					platform.valid().set(" \t\n", "ottPlatformAttributes", member),
				} {
					requireFaults(t, register(t, body.text(t)), missingFaults(field))
				}
			})
		}
	}
	t.Run("ottPlatformName", func(t *testing.T) {
		t.Parallel()
		for _, body := range []object{
			lineChannel().without("ottPlatformName"), lineChannel().set(nil, "ottPlatformName"), lineChannel().set("", "ottPlatformName"),
		} {
			requireFaults(t, register(t, body.text(t)), missingFaults("OttPlatformName"))
		}
	})
}

// docs/contract.md §1: order of aggregated errors.
func TestRegistrationFaultsInOrder(t *testing.T) {
	t.Parallel()
	invalid := func(code int, fields ...string) []fault {
		faults := make([]fault, len(fields))
		for i, field := range fields {
			faults[i] = fault{Message: field + " is invalid", ErrorCode: code}
		}
		return faults
	}
	for name, test := range map[string]struct {
		body     string
		expected []fault
	}{
		"everything of messenger is missing": {
			`{"ottPlatformName":"messenger","ottPlatformAttributes":{"isActive":null}}`,
			missingFaults("EndpointUrl", "IsActive", "ApplicationId", "ApplicationSecret", "PageId", "PageName", "PageAccessToken", "CallbackVerifyToken"),
		},
		"everything of LINE is missing": {
			`{"ottPlatformAttributes":{"isActive":""},"ottPlatformName":"line"}`,
			missingFaults("EndpointUrl", "IsActive", "ChannelId", "ChannelName", "ChannelSecret", "isTransactional", "isTestChannel"),
		},
		"without a platform its own attributes are not asked for": {
			`{"ottPlatformAttributes":{"pageId":"1"}}`,
			missingFaults("EndpointUrl", "IsActive", "OttPlatformName"),
		},
		"an invalid platform": {
			`{"ottPlatformName":"telegram","ottPlatformAttributes":{"isActive":7}}`,
			append(missingFaults("EndpointUrl"), invalid(badValue, "IsActive", "OttPlatformName")...),
		},
		"missing, wrong type and bad value together": {
			lineChannel().set("http://example.com", "ottPlatformAttributes", "endpointUrl").without("ottPlatformAttributes", "channelId").
				set(5, "ottPlatformAttributes", "channelName").set(2, "ottPlatformAttributes", "isTestChannel").text(t),
			append(append(append(invalid(badValue, "EndpointUrl"), missingFaults("ChannelId")...), invalid(wrongType, "ChannelName")...), invalid(badValue, "isTestChannel")...),
		},
		"neither name nor attributes": {
			`{}`, append(missingFaults("OttPlatformName"), invalid(badValue, "OttPlatformAttributes")...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			requireFaults(t, register(t, test.body), test.expected)
		})
	}
}

// docs/contract.md §1, rows "ottPlatformName not line or messenger" and "ottPlatformAttributes missing, empty or not an
// object": 10006 › 10005.
func TestRegistrationPlatformInvalid(t *testing.T) {
	t.Parallel()
	for _, name := range []any{"telegram", "Messenger ", "messenger,line", "\u0000", strings.Repeat("line", 1000)} {
		requireFaults(
			t,
			register(t, lineChannel().set(name, "ottPlatformName").text(t)),
			[]fault{{Message: "OttPlatformName is invalid", ErrorCode: badValue}},
		)
	}
	for _, attributes := range []any{nil, object{}, []any{}, []any{object{}}, "text", 5, true} {
		requireFaults(t, register(t, lineChannel().set(attributes, "ottPlatformAttributes").text(t)),
			[]fault{{Message: "OttPlatformAttributes is invalid", ErrorCode: badValue}})
	}
	requireFaults(t, register(t, `{"ottPlatformName":"line","ottPlatformAttributes":{"unknown":{}}}`), missingFaults(
		"EndpointUrl", "IsActive", "ChannelId", "ChannelName", "ChannelSecret", "isTransactional", "isTestChannel"))
	requireFaults(
		t,
		register(t, `{"ottPlatformName":"line"}`),
		[]fault{{Message: "OttPlatformAttributes is invalid", ErrorCode: badValue}},
	)
}

// docs/contract.md §1, row "wrong JSON type": 10006 › 10001.
func TestRegistrationWrongType(t *testing.T) {
	t.Parallel()
	wrong := []any{
		5,
		true,
		object{"a": "b"},
		[]any{"text"},
		json.Number("1e400"),
		json.Number(strings.Repeat("9", 400)),
	}
	for _, platform := range []struct {
		name    string
		valid   func() object
		members map[string]string
	}{
		{"messenger", messengerPage, map[string]string{
			"endpointUrl": "EndpointUrl", "applicationId": "ApplicationId", "applicationSecret": "ApplicationSecret", "pageId": "PageId",
			"pageName": "PageName", "pageAccessToken": "PageAccessToken", "callbackVerifyToken": "CallbackVerifyToken",
		}},
		{"line", lineChannel, map[string]string{
			"channelId": "ChannelId", "channelName": "ChannelName", "channelSecret": "ChannelSecret", "customerConnectSecret": "CustomerConnectSecret",
		}},
	} {
		for member, field := range platform.members {
			t.Run(platform.name+" "+member, func(t *testing.T) {
				t.Parallel()
				for _, value := range wrong {
					requireFaults(t, register(t, platform.valid().set(value, "ottPlatformAttributes", member).text(t)),
						[]fault{{Message: field + " is invalid", ErrorCode: wrongType}})
				}
			})
		}
	}
	t.Run("flags", func(t *testing.T) {
		t.Parallel()
		for _, value := range []any{object{}, []any{1}} {
			requireFaults(t, register(t, messengerPage().set(value, "ottPlatformAttributes", "isActive").text(t)),
				[]fault{{Message: "IsActive is invalid", ErrorCode: wrongType}})
		}
	})
	t.Run("ottPlatformName", func(t *testing.T) {
		t.Parallel()
		requireFaults(
			t,
			register(t, messengerPage().set(5, "ottPlatformName").text(t)),
			[]fault{{Message: "OttPlatformName is invalid", ErrorCode: wrongType}},
		)
	})
}

// docs/contract.md §1, row "flag not 0, 1, true, false": 10006 › 10005.
func TestRegistrationFlagInvalid(t *testing.T) {
	t.Parallel()
	for member, field := range map[string]string{"isActive": "IsActive", "isTransactional": "isTransactional", "isTestChannel": "isTestChannel"} {
		t.Run(member, func(t *testing.T) {
			t.Parallel()
			for _, value := range []json.Number{"2", "-1", "0.5", "10", "1e400", json.Number(strings.Repeat("1", 400))} {
				requireFaults(t, register(t, lineChannel().set(value, "ottPlatformAttributes", member).text(t)),
					[]fault{{Message: field + " is invalid", ErrorCode: badValue}})
			}
		})
	}
}

// docs/contract.md §1, row "endpointUrl not absolute https, or with userinfo, or to a private, loopback, link-local or
// metadata host": 10006 › 10005.
func TestRegistrationEndpointURLInvalid(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"http://graph.facebook.com/me", "ftp://graph.facebook.com/me", "//graph.facebook.com/me", "/me", "graph.facebook.com/me", "https:",
		"https://", "https:///me", "https:graph.facebook.com", "mailto:a@example.com", "javascript:alert(1)", "https://exa mple.com/", "https://%zz/", "not a url",
		"https://user@graph.facebook.com/me", "https://user:password@graph.facebook.com/me", "https://@graph.facebook.com/me",
		"https://localhost/me", "https://LOCALHOST./me", "https://a.localhost/me", "https://printer.local/me", "https://intranet/me",
		"https://127.0.0.1/me", "https://127.8.9.10:8443/me", "https://0.0.0.0/me", "https://10.1.2.3/me", "https://172.16.0.1/me", "https://172.31.255.255/me",
		"https://192.168.1.1/me", "https://169.254.1.1/me", "https://100.64.0.1/me", "https://224.0.0.1/me", "https://255.255.255.255/me",
		"https://127.1/me", "https://2130706433/me", "https://0x7f000001/me", "https://0177.0.0.1/me", "https://0x7f.0.0.1/me",
		"https://[::1]/me", "https://[::]/me", "https://[fe80::1]/me", "https://[fe80::1%25eth0]/me", "https://[fc00::1]/me", "https://[fd00:ec2::254]/me",
		"https://[::ffff:127.0.0.1]/me", "https://[::ffff:a9fe:a9fe]/me", "https://[64:ff9b::7f00:1]/me", "https://[::127.0.0.1]/me",
		"https://169.254.169.254/latest/meta-data/", "https://metadata.google.internal/computeMetadata/v1/", "https://169.254.170.2/v2/credentials",
		"https://" + strings.Repeat("a", 64) + ".com/me", "https://example.com/" + strings.Repeat("a", 2048),
	} {
		t.Run(url[:min(len(url), 60)], func(t *testing.T) {
			t.Parallel()
			requireFaults(t, register(t, messengerPage().set(url, "ottPlatformAttributes", "endpointUrl").text(t)),
				[]fault{{Message: "EndpointUrl is invalid", ErrorCode: badValue}})
		})
	}
}

// docs/contract.md §1, row "not application/json": 415, no body.
func TestRegistrationNotJSONMediaType(t *testing.T) {
	t.Parallel()
	for _, contentType := range []string{"", "text/plain", "text/json", "application/xml", "application/x-www-form-urlencoded", "application/octet-stream", "application/jsonx", "json"} {
		require.Equal(t, 415, register(t, messengerPage().text(t), "Content-Type", contentType).Status, contentType)
	}
}

// docs/contract.md §1, row "no, bad or expired token": 401, errorcode 0, `Not Authorized`.
func TestRegistrationUnauthorized(t *testing.T) {
	t.Parallel()
	for name, bearer := range badBearers(t, ottBearer(t, bundle.Demo.OTT, "")) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{messengerPage().text(t), "not JSON", `{}`} { // who is unknown learns nothing of the body
				a := send(t, registration, body, "Authorization", bearer)
				require.Equal(t, 401, a.Status, "%s", a.Body)
				require.JSONEq(t, `{"message":"Not Authorized","errorcode":0,"documentation":""}`, a.Body)
				require.True(t, strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Bearer"))
			}
		})
	}
	t.Run("the scheme's case does not matter", func(t *testing.T) {
		t.Parallel()
		bearer := strings.Replace(ottBearer(t, bundle.Demo.OTT, ""), "Bearer", "bearer", 1)
		require.Equal(t, 201, send(t, registration, messengerPage().text(t), "Authorization", bearer).Status)
	})
}

const insufficientPrivileges = `{"message":"Insufficient Privileges","errorcode":20002,"documentation":""}`

// docs/contract.md §1, row "token lacks the scope": 403, errorcode 20002, `Insufficient Privileges`.
func TestRegistrationLacksTheScope(t *testing.T) {
	t.Parallel()
	for name, bearer := range map[string]string{
		"a token for less":               ottBearer(t, bundle.Demo.OTT, "ott_registration_read ott_send"),
		"the token of a client for less": ottBearer(t, ottReader, ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{messengerPage().text(t), "not JSON"} {
				a := send(t, registration, body, "Authorization", bearer)
				require.Equal(t, 403, a.Status)
				require.JSONEq(t, insufficientPrivileges, a.Body)
			}
		})
	}
}

// docs/contract.md §1, row "the id belongs to another tenant": 403; the same tenant overrides (seed 000).
func TestRegistrationOverride(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]func() object{"messenger": messengerPage, "line": lineChannel} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nameMember, idMember := "pageName", "pageId"
			if name == "line" {
				nameMember, idMember = "channelName", "channelId"
			}
			first := valid()
			id := dig(first, []any{"ottPlatformAttributes", idMember}).(string)
			require.Equal(t, 201, register(t, first.text(t)).Status)
			before := registrationItem(t, name, id)
			require.Equal(t, "demo-brand", stringOf(before["tenant"]))

			foreign := send(
				t,
				registration,
				first.set("Stolen", "ottPlatformAttributes", nameMember).text(t),
				"Authorization",
				ottBearer(t, bundle.Demo.OTTOther, ""),
			)
			require.Equal(t, 403, foreign.Status)
			require.JSONEq(t, insufficientPrivileges, foreign.Body)
			require.Equal(t, before, registrationItem(t, name, id), "a refused override changes nothing")

			second := valid().set(id, "ottPlatformAttributes", idMember).
				set("Renamed", "ottPlatformAttributes", nameMember).
				set(0, "ottPlatformAttributes", "isActive")
			teammate := send(t, registration, second.text(t), "Authorization", ottBearer(t, ottTeammate, ""))
			require.Equal(t, 201, teammate.Status, "another client of the same tenant: %s", teammate.Body)
			after := registrationItem(t, name, id)
			assert.Contains(t, itemText(after), "Renamed")
			assert.NotEqual(t, before, after)
			assert.Equal(t, "demo-brand", stringOf(after["tenant"]))
		})
	}
}

// docs/contract.md §1: 20 registrations of one page at the same time leave one whole registration.
func TestRegistrationConcurrentOverrides(t *testing.T) {
	t.Parallel()
	id := unique()
	ottBearer(t, bundle.Demo.OTT, "")
	bodies := make([]string, 20)
	for i := range bodies {
		bodies[i] = messengerPage().set(id, "ottPlatformAttributes", "pageId").text(t)
	}
	for _, a := range atOnce(t, len(bodies), func(i int) (answer, error) {
		return exchange(registration, bodies[i], "Authorization", ottBearer(t, bundle.Demo.OTT, ""))
	}) {
		require.Equal(t, 201, a.Status, "%s", a.Body)
	}
	registrationItem(t, "messenger", id)
}

// docs/contract.md §1: isActive, isTransactional, isTestChannel are kept as booleans; credentials go to Secrets
// Manager, never to DynamoDB.
func TestRegistrationIsKept(t *testing.T) {
	t.Parallel()
	var credentials []string
	for _, body := range []object{
		messengerPage().set(1, "ottPlatformAttributes", "isActive"),
		lineChannel().set(0, "ottPlatformAttributes", "isActive").set(1, "ottPlatformAttributes", "isTransactional").set(false, "ottPlatformAttributes", "isTestChannel"),
	} {
		require.Equal(t, 201, register(t, body.text(t)).Status)
		attributes := body["ottPlatformAttributes"].(object)
		for _, name := range []string{"applicationSecret", "pageAccessToken", "callbackVerifyToken", "channelSecret", "customerConnectSecret"} {
			if value, ok := attributes[name].(string); ok {
				credentials = append(credentials, value)
			}
		}
		id, _ := attributes["pageId"].(string)
		if id == "" {
			id = attributes["channelId"].(string)
		}
		item := registrationItem(t, body["ottPlatformName"].(string), id)
		for member, value := range map[string]bool{"isActive": body["ottPlatformName"] == "messenger", "isTransactional": body["ottPlatformName"] == "line", "isTestChannel": false} {
			assert.Equal(t, &types.AttributeValueMemberBOOL{Value: value}, item[member], member)
		}
		assert.Equal(t, attributes["endpointUrl"], stringOf(item["endpointUrl"]))
		assert.Contains(t, []any{attributes["pageName"], attributes["channelName"]}, stringOf(item["name"]))
		name := stringOf(item["secretName"])
		kept := secretString(t, name)
		for _, member := range []string{"applicationSecret", "pageAccessToken", "callbackVerifyToken", "channelSecret", "customerConnectSecret"} {
			if value, ok := attributes[member].(string); ok {
				assert.Contains(t, kept, value, member)
			}
		}
	}
	require.Len(t, credentials, 5)
	for _, item := range bundle.Scan(t, stackname.RegistrationsTable) {
		for _, credential := range credentials {
			require.NotContains(t, itemText(item), credential)
		}
	}
}

func registrationItem(t *testing.T, platform, id string) map[string]types.AttributeValue {
	t.Helper()
	out, err := bundle.DynamoDB().GetItem(context.Background(), &dynamodb.GetItemInput{
		TableName:      aws.String(bundle.Table(stackname.RegistrationsTable)),
		Key:            map[string]types.AttributeValue{"pk": &types.AttributeValueMemberS{Value: platform + "#" + id}},
		ConsistentRead: aws.Bool(true),
	})
	require.NoError(t, err)
	require.NotEmpty(t, out.Item, "%s %s is not registered", platform, id)
	return maps.Clone(out.Item)
}
