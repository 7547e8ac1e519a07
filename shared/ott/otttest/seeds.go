// Package otttest is what the tests of the OTT domain share: the seed's examples, and a stack with its registrations.
package otttest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// The example requests of seed 000, byte for byte.
const (
	SeedMessenger = `{
    "ottPlatformName" : "messenger",
    "ottPlatformAttributes" : {
        "applicationId" : "1093076390764037",
        "applicationSecret" : "03d537gg656gvkbe9b430f002e9c4517",
        "pageId" : "1732555047025799",
        "pageName" : "SFMC Engineers",
        "pageAccessToken" : "someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb",
        "endpointUrl" : "https://graph.facebook.com/v2.6/me/messages",
        "callbackVerifyToken" : "this_is_the_verify_token",
        "isActive": true
    }
}`
	SeedLINE = `{
    "ottPlatformName" : "line",
    "ottPlatformAttributes" : {
        "channelId" : "23493453984234345",
        "channelName" : "SFMC Engineers",
        "channelSecret" : "03d537gg656gvkbe9b430f002e9c4517",
        "customerConnectSecret" : "31234arajcauoherbasuhb213ijqjohbjhb123",
        "endpointUrl" : "https://example.com/1732555047025799",
        "isTransactional" : true,
        "isTestChannel": false,
        "isActive": true
    }
}`
)

// The members of a registration's body that are not attributes.
const (
	Platform   = "ottPlatformName"
	Attributes = "ottPlatformAttributes"
)

// Body returns a seed's example with changes: the name of a member or attribute and the JSON of its new value in turn,
// or "" to leave it out.
func Body(t testing.TB, seed string, changes ...string) string {
	t.Helper()
	var b struct {
		Platform   json.RawMessage            `json:"ottPlatformName,omitempty"`
		Attributes map[string]json.RawMessage `json:"ottPlatformAttributes"`
	}
	require.NoError(t, json.Unmarshal([]byte(seed), &b))
	whole := map[string]any{Platform: b.Platform, Attributes: b.Attributes}
	for i := 0; i < len(changes); i += 2 {
		name, value := changes[i], changes[i+1]
		switch {
		case (name == Platform || name == Attributes) && value == "":
			delete(whole, name)
		case name == Platform || name == Attributes:
			whole[name] = json.RawMessage(value)
		case value == "":
			delete(b.Attributes, name)
		default:
			b.Attributes[name] = json.RawMessage(value)
		}
	}
	text, err := json.Marshal(whole)
	require.NoError(t, err)
	return string(text)
}
