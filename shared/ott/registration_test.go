package ott_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
)

func TestDecodeRegistrationOfTheSeedsExamples(t *testing.T) {
	registration, credentials, err := ott.DecodeRegistration(strings.NewReader(otttest.SeedMessenger))
	require.NoError(t, err)
	assert.Equal(t, ott.Registration{
		Platform: ott.Messenger, PropertyID: "1732555047025799", Name: "SFMC Engineers",
		ApplicationID: "1093076390764037",
		EndpointURL:   "https://graph.facebook.com/v2.6/me/messages", IsActive: true,
	}, registration)
	assertCredentials(t, credentials, "03d537gg656gvkbe9b430f002e9c4517",
		"someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb", "this_is_the_verify_token", "", "")

	registration, credentials, err = ott.DecodeRegistration(strings.NewReader(otttest.SeedLINE))
	require.NoError(t, err)
	assert.Equal(t, ott.Registration{
		Platform: ott.LINE, PropertyID: "23493453984234345", Name: "SFMC Engineers",
		EndpointURL: "https://example.com/1732555047025799", IsActive: true, IsTransactional: true,
	}, registration)
	assertCredentials(t, credentials, "", "", "", "03d537gg656gvkbe9b430f002e9c4517",
		"31234arajcauoherbasuhb213ijqjohbjhb123")
}

func assertCredentials(t *testing.T, c ott.Credentials, application, page, verify, channel, customer string) {
	t.Helper()
	for name, pair := range map[string]struct {
		got  secret.Text
		want string
	}{
		"applicationSecret": {c.ApplicationSecret, application}, "pageAccessToken": {c.PageAccessToken, page},
		"callbackVerifyToken": {c.CallbackVerifyToken, verify},
		"channelSecret":       {c.ChannelSecret, channel}, "customerConnectSecret": {c.CustomerConnectSecret, customer},
	} {
		assert.Equal(t, pair.want, pair.got.Reveal(), name)
	}
}

// faultsOf lists a refusal as "code message".
func faultsOf(t testing.TB, text string) []string {
	t.Helper()
	registration, _, err := ott.DecodeRegistration(strings.NewReader(text))
	if err == nil {
		require.NotEmpty(t, registration.PropertyID)
		return nil
	}
	var failure *fault.Error
	require.ErrorAs(t, err, &failure)
	require.Equal(t, fault.Invalid, failure.Code, "%v", err)
	var faults []string
	for _, v := range failure.Violations {
		faults = append(faults, fmt.Sprintf("%s %s", v.Code, v.Message))
	}
	return faults
}

// names has each attribute and what its faults call it.
var names = map[string]map[string]string{
	otttest.SeedMessenger: {
		"endpointUrl": "EndpointUrl", "isActive": "IsActive", "applicationId": "ApplicationId",
		"applicationSecret": "ApplicationSecret", "pageId": "PageId",
		"pageName": "PageName", "pageAccessToken": "PageAccessToken", "callbackVerifyToken": "CallbackVerifyToken",
	},
	otttest.SeedLINE: {
		"endpointUrl": "EndpointUrl", "isActive": "IsActive", "channelId": "ChannelId", "channelName": "ChannelName",
		"channelSecret":   "ChannelSecret",
		"isTransactional": "isTransactional", "isTestChannel": "isTestChannel",
	},
}

// docs/contract.md §1: field empty or missing.
func TestContractFieldEmptyOrMissing(t *testing.T) {
	for seed, attributes := range names {
		for name, shown := range attributes {
			for kind, value := range map[string]string{
				"missing": "", "null": "null", "empty": `""`, "blank": `" \t\u00a0"`,
			} {
				t.Run(shown+" "+kind, func(t *testing.T) {
					assert.Equal(t, []string{"missing " + shown + " must be provided"},
						faultsOf(t, otttest.Body(t, seed, name, value)))
				})
			}
		}
	}
	for kind, value := range map[string]string{"missing": "", "null": "null", "empty": `""`, "blank": `"  "`} {
		t.Run("OttPlatformName "+kind, func(t *testing.T) {
			assert.Equal(t, []string{"missing OttPlatformName must be provided"},
				faultsOf(t, otttest.Body(t, otttest.SeedLINE, otttest.Platform, value)))
		})
	}
}

// docs/contract.md §1: ottPlatformName not line or messenger.
func TestContractPlatformNameNotLineOrMessenger(t *testing.T) {
	for _, name := range []string{
		"whatsapp", "Line", "MESSENGER", " line", "line ", "line,messenger", strings.Repeat("x", 300),
	} {
		assert.Equal(t, []string{"bad_value OttPlatformName is invalid"},
			faultsOf(t, otttest.Body(t, otttest.SeedLINE, otttest.Platform, fmt.Sprintf("%q", name))), name)
	}
}

// docs/contract.md §1: ottPlatformAttributes missing, empty or not an object.
func TestContractAttributesMissingEmptyOrNotAnObject(t *testing.T) {
	for kind, value := range map[string]string{
		"missing": "", "null": "null", "empty": "{}", "empty text": `""`, "text": `"x"`, "number": "1", "true": "true",
		"array": "[{}]", "an empty object with white space": "{ \n\t }",
	} {
		t.Run(kind, func(t *testing.T) {
			assert.Equal(t, []string{"bad_value OttPlatformAttributes is invalid"},
				faultsOf(t, otttest.Body(t, otttest.SeedLINE, otttest.Attributes, value)))
		})
	}
	assert.Equal(t,
		[]string{"missing OttPlatformName must be provided", "bad_value OttPlatformAttributes is invalid"},
		faultsOf(t, `{}`), "one fault stands for those of its members")
}

// docs/contract.md §1: wrong JSON type.
func TestContractWrongJSONType(t *testing.T) {
	flags := map[string]bool{"isActive": true, "isTransactional": true, "isTestChannel": true}
	for seed, attributes := range names {
		for name, shown := range attributes {
			values := []string{"12", "1e400", "{}", `{"a":1}`, "[]", `["x"]`, "true"}
			if flags[name] {
				values = []string{"{}", `{"a":1}`, "[]", "[1]"}
			}
			for _, value := range values {
				t.Run(shown+" "+value, func(t *testing.T) {
					assert.Equal(t, []string{"wrong_type " + shown + " is invalid"},
						faultsOf(t, otttest.Body(t, seed, name, value)))
				})
			}
		}
	}
	assert.Equal(t, []string{"wrong_type OttPlatformName is invalid"},
		faultsOf(t, otttest.Body(t, otttest.SeedLINE, otttest.Platform, "1")))
	assert.Equal(t, []string{"wrong_type CustomerConnectSecret is invalid"},
		faultsOf(t, otttest.Body(t, otttest.SeedLINE, "customerConnectSecret", "1")))
}

// docs/contract.md §1: flag not 0, 1, true, false.
func TestContractFlagNot01TrueFalse(t *testing.T) {
	for name, shown := range map[string]string{
		"isActive": "IsActive", "isTransactional": "isTransactional", "isTestChannel": "isTestChannel",
	} {
		for _, value := range []string{`"1"`, `"true"`, `"yes"`, "2", "-1", "1.0", "1e0", "0.0", "-0", "10", "1e400"} {
			t.Run(shown+" "+value, func(t *testing.T) {
				assert.Equal(t, []string{"bad_value " + shown + " is invalid"},
					faultsOf(t, otttest.Body(t, otttest.SeedLINE, name, value)))
			})
		}
		for value, want := range map[string]bool{"0": false, "1": true, "false": false, "true": true} {
			t.Run(shown+" "+value, func(t *testing.T) {
				text := otttest.Body(t, otttest.SeedLINE, name, value)
				registration, _, err := ott.DecodeRegistration(strings.NewReader(text))
				require.NoError(t, err)
				got := map[string]bool{
					"isActive": registration.IsActive, "isTransactional": registration.IsTransactional,
					"isTestChannel": registration.IsTestChannel,
				}
				assert.Equal(t, want, got[name])
			})
		}
	}
}

// docs/contract.md §1: the order of aggregated errors.
func TestContractOrderOfAggregatedErrors(t *testing.T) {
	tests := map[string]struct {
		text string
		want []string
	}{
		"everything of Messenger": {`{"ottPlatformName":"messenger","ottPlatformAttributes":{"unknown":1,` +
			`"pageId":null}}`, []string{
			"missing EndpointUrl must be provided", "missing IsActive must be provided",
			"missing ApplicationId must be provided",
			"missing ApplicationSecret must be provided", "missing PageId must be provided",
			"missing PageName must be provided",
			"missing PageAccessToken must be provided", "missing CallbackVerifyToken must be provided",
		}},
		"everything of LINE": {`{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":""}}`, []string{
			"missing EndpointUrl must be provided", "missing IsActive must be provided",
			"missing ChannelId must be provided", "missing ChannelName must be provided",
			"missing ChannelSecret must be provided", "missing isTransactional must be provided",
			"missing isTestChannel must be provided",
		}},
		"unknown members alone": {`{"ottPlatformName":"line","ottPlatformAttributes":{"unknown":1,"page":{"id":[]}}}`,
			[]string{
				"missing EndpointUrl must be provided", "missing IsActive must be provided",
				"missing ChannelId must be provided", "missing ChannelName must be provided",
				"missing ChannelSecret must be provided", "missing isTransactional must be provided",
				"missing isTestChannel must be provided",
			}},
		"unknown members alone, of no platform": {`{"ottPlatformAttributes":{"":null}}`, []string{
			"missing EndpointUrl must be provided", "missing IsActive must be provided",
			"missing OttPlatformName must be provided",
		}},
		"the common ones, then the platform's name": {
			`{"ottPlatformAttributes":{"isActive":2,"endpointUrl":1,"pageId":7}}`,
			[]string{
				"wrong_type EndpointUrl is invalid", "bad_value IsActive is invalid",
				"missing OttPlatformName must be provided",
			},
		},
		"of every kind": {`{"ottPlatformName":"line","ottPlatformAttributes":{"isTestChannel":"x",` +
			`"isTransactional":7,"channelSecret":[],"channelName":"n","channelId":9,` +
			`"endpointUrl":"http://x.example.com"}}`,
			[]string{
				"bad_value EndpointUrl is invalid", "missing IsActive must be provided",
				"wrong_type ChannelId is invalid",
				"wrong_type ChannelSecret is invalid", "bad_value isTransactional is invalid",
				"bad_value isTestChannel is invalid",
			}},
		"the seed's example error": {
			otttest.Body(t, otttest.SeedMessenger, "endpointUrl", "", otttest.Platform, ""),
			[]string{"missing EndpointUrl must be provided", "missing OttPlatformName must be provided"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, faultsOf(t, test.text)) })
	}
}

// docs/contract.md §1: body not JSON.
func TestContractBodyNotJSON(t *testing.T) {
	for _, text := range []string{
		``, `x`, `[]`, `{"ottPlatformName":"line"`, otttest.SeedLINE + otttest.SeedLINE,
		`{"ottPlatformName":"line","OTTPLATFORMNAME":"messenger"}`,
	} {
		_, _, err := ott.DecodeRegistration(strings.NewReader(text))
		assert.True(t, fault.Is(err, fault.Malformed), "%v", err)
	}
}

func TestNamesMatchWithoutRegardToCase(t *testing.T) {
	text := strings.NewReplacer("ottPlatformName", "OTTPlatformNAME", "ottPlatformAttributes",
		"OttPlatformAttributes", "channelId", "ChannelID", "isActive", "IsActive").Replace(otttest.SeedLINE)
	registration, _, err := ott.DecodeRegistration(strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, "23493453984234345", registration.PropertyID)
	assert.True(t, registration.IsActive)
}

func TestCustomerConnectSecretIsOptional(t *testing.T) {
	for _, value := range []string{"", "null", `""`, `" "`} {
		text := otttest.Body(t, otttest.SeedLINE, "customerConnectSecret", value)
		_, credentials, err := ott.DecodeRegistration(strings.NewReader(text))
		require.NoError(t, err)
		assert.True(t, credentials.CustomerConnectSecret.IsZero())
	}
}

// What belongs to the other platform is ignored, right or wrong.
func TestAttributesOfTheOtherPlatformAreIgnored(t *testing.T) {
	text := otttest.Body(t, otttest.SeedMessenger,
		"channelId", "7", "isTestChannel", "true", "channelSecret", `"x"`)
	registration, credentials, err := ott.DecodeRegistration(strings.NewReader(text))
	require.NoError(t, err)
	assert.False(t, registration.IsTestChannel)
	assert.True(t, credentials.ChannelSecret.IsZero())
}

// docs/contract.md, common: ids and names hold no control characters.
func TestContractControlCharacters(t *testing.T) {
	for seed, names := range map[string]map[string]string{
		otttest.SeedMessenger: {"applicationId": "ApplicationId", "pageId": "PageId", "pageName": "PageName"},
		otttest.SeedLINE:      {"channelId": "ChannelId", "channelName": "ChannelName"},
	} {
		for name, shown := range names {
			for _, control := range []string{`\u0000`, `\n`, `\u007f`, `\u0085`} {
				assert.Equal(t, []string{"bad_value " + shown + " is invalid"},
					faultsOf(t, otttest.Body(t, seed, name, `"a`+control+`b"`)), "%s %s", name, control)
			}
			assert.Empty(t, faultsOf(t, otttest.Body(t, seed, name, `"Ann\u00e9e \u200d\ud83d\udd14"`)), name)
		}
	}
	assert.True(t, ott.IsPropertyID("a b"))
	assert.False(t, ott.IsPropertyID("a\tb"))
}

func TestLimits(t *testing.T) {
	limits := map[string]int{"channelId": 255, "channelName": 255, "channelSecret": 3072, "customerConnectSecret": 3072}
	for name, limit := range limits {
		long := strings.Repeat("é", limit)
		assert.Empty(t, faultsOf(t, otttest.Body(t, otttest.SeedLINE, name, `"`+long+`"`)), "%s of %d characters",
			name, limit)
		faults := faultsOf(t, otttest.Body(t, otttest.SeedLINE, name, `"`+long+`é"`))
		require.Len(t, faults, 1)
		assert.Equal(t, "bad_value "+strings.ToUpper(name[:1])+name[1:]+" is invalid", faults[0])
	}
	url := "https://example.com/" + strings.Repeat("a", 2048-len("https://example.com/"))
	assert.Empty(t, faultsOf(t, otttest.Body(t, otttest.SeedLINE, "endpointUrl", `"`+url+`"`)))
	assert.Equal(t, []string{"bad_value EndpointUrl is invalid"},
		faultsOf(t, otttest.Body(t, otttest.SeedLINE, "endpointUrl", `"`+url+`a"`)))
}
