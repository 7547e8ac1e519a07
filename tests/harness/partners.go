package harness

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"carillon/local/standin"
)

// MailsTo returns the mails that SES has accepted for an address, oldest first.
func (b *Bundle) MailsTo(address string) []standin.Message {
	var own []standin.Message
	for _, m := range b.Mail.Messages() {
		if m.To == address {
			own = append(own, m)
		}
	}
	return own
}

// Entitlement is what the stand-in of Bango shows of one.
type Entitlement struct {
	EntitlementID, CustomerIdentifier, ProductKey, Status, URL string
	Creates                                                    int
}

// Entitlements returns those that the stand-in of Bango has granted to a billing account, in whatever country.
func (b *Bundle) Entitlements(t testing.TB, customer string) []Entitlement {
	t.Helper()
	reply := b.Ask(t, http.MethodGet, "/_local/bango", nil)
	require.Equal(t, http.StatusOK, reply.Status, reply.Body)
	var all, own []Entitlement
	require.NoError(t, json.Unmarshal([]byte(reply.Body), &all), reply.Body)
	for _, e := range all {
		if strings.HasSuffix("-"+e.CustomerIdentifier, "-"+customer) {
			own = append(own, e)
		}
	}
	return own
}
