package local

import (
	"fmt"
	"strings"
	"time"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
)

// Examples is a bash script that calls every endpoint with the demo clients and the seeds' own bodies. Its lines work
// when they are pasted in order.
func (b *Bundle) Examples() string {
	d := b.Demo
	const (
		header = ` -H 'content-type: application/json'`
		token  = ` | sed -E 's/.*"%s":"([^"]+)".*/\1/')`
	)
	var s strings.Builder
	write := func(format string, args ...any) { _, _ = fmt.Fprintf(&s, format+"\n", args...) }

	write("# OTT: a token, then a registration (201, no body)")
	write(`OTT_TOKEN=$(curl -sS %s/v2/token`+header+` -d '{"grant_type":"client_credentials","client_id":"%s","client_secret":"%s"}'`+token,
		d.BaseURL, d.OTT.ClientID, d.OTT.ClientSecret, "access_token")
	write(`curl -sS -i -w '\n' %s/ott/v1/registration`+header+` -H "authorization: Bearer $OTT_TOKEN" -d '%s'`, d.BaseURL, ottBody)
	write("")
	write("# OTT: a message, what became of it, and what is registered; then what a person answers, as Messenger signs it")
	write(`OTT_MESSAGE=$(curl -sS %s/ott/v1/send`+header+` -H "authorization: Bearer $OTT_TOKEN" -d '%s'`+token, d.BaseURL, ottMessage, "ottRequestId")
	write(`curl -sS -i -w '\n' %s/ott/v1/send/$OTT_MESSAGE -H "authorization: Bearer $OTT_TOKEN"`, d.BaseURL)
	write(`curl -sS -i -w '\n' '%s/ott/v1/registration/messenger?$page=1' -H "authorization: Bearer $OTT_TOKEN"`, d.BaseURL)
	signature, value := callback.Sign(ott.Messenger, ott.Credentials{ApplicationSecret: secret.NewText(ottSecret)}, []byte(ottEvent))
	write(`curl -sS -i -w '\n' %s/ott/v1/callback/messenger/1732555047025799`+header+` -H '%s: %s' -d '%s'`, d.BaseURL, signature, value, ottEvent)
	write("")
	write("# ENGAGE: a token, its health, then a push")
	write(`ENGAGE_TOKEN=$(curl -sS %s/federated/content/v2/token`+header+` -H 'x-federated-purpose: inform' -d '{"clientId":"%s","clientSecret":"%s"}'`+token,
		d.BaseURL, d.Engage.ClientID, d.Engage.ClientSecret, "accessToken")
	write(`curl -sS -i -w '\n' %s/federated/content/v2/token/health`+header+` -H "authorization: Bearer $ENGAGE_TOKEN"`, d.BaseURL)
	write(`curl -sS -i -w '\n' '%s/federated/outbound/v2/batch?programContentUuid=%s'`+header+` -H "authorization: Bearer $ENGAGE_TOKEN" -d '%s'`,
		d.BaseURL, d.Engage.ProgramContentUUID, engageBody(d.Engage, seedTime))
	write("")
	write("# ENGAGE: a push for tomorrow, how it stands, and its end")
	write(`ENGAGE_PUSH=$(curl -sS '%s/federated/outbound/v2/batch?programContentUuid=%s'`+header+` -H "authorization: Bearer $ENGAGE_TOKEN" -d '%s'`+token,
		d.BaseURL, d.Engage.ProgramContentUUID, engageBody(d.Engage, time.Now().Add(24*time.Hour)), "requestId")
	write(`curl -sS -i -w '\n' %s/federated/outbound/v2/batch/$ENGAGE_PUSH -H "authorization: Bearer $ENGAGE_TOKEN"`, d.BaseURL)
	write(`curl -sS -i -w '\n' -X DELETE %s/federated/outbound/v2/batch/$ENGAGE_PUSH -H "authorization: Bearer $ENGAGE_TOKEN"`, d.BaseURL)
	write("")
	write("# DXP: resend an activation link, then list what the client has; the mail is on %s/_local/", d.BaseURL)
	write(`curl -sS -i -w '\n' %s/dxp-ux/v1/%s/product`+header+` -H 'client_id: %s' -H 'client_secret: %s' -H "x-correlation-id: $(date +%%s)-$RANDOM" -d '%s'`,
		d.BaseURL, d.Product.BusinessID, d.Product.ClientID, d.Product.ClientSecret, productBody(d.Product))
	write(`curl -sS -i -w '\n' '%s/dxp-ux/v1/%s/product?fields=status,productCharacteristic' -H 'client_id: %s' -H 'client_secret: %s'`,
		d.BaseURL, d.Product.BusinessID, d.Product.ClientID, d.Product.ClientSecret)
	return s.String()
}

// The bodies are the seeds' own, on one line.

const ottSecret = "03d537gg656gvkbe9b430f002e9c4517"

const ottBody = `{"ottPlatformName":"messenger","ottPlatformAttributes":{"applicationId":"1093076390764037",` +
	`"applicationSecret":"` + ottSecret + `","pageId":"1732555047025799","pageName":"SFMC Engineers",` +
	`"pageAccessToken":"someaccesstoken4fasdcruib213123knubkdnfisdubnu12312ub3pijnb",` +
	`"endpointUrl":"https://graph.facebook.com/v2.6/me/messages","callbackVerifyToken":"this_is_the_verify_token","isActive":true}}`

// They have none of these: a text to a person who wrote to that page, and what that person writes.
const (
	ottMessage = `{"messageKey":"order-8001234567-shipped","from":{"senderType":"messenger","senderId":"1732555047025799"},` +
		`"to":{"ottId":"6000000000000001"},"message":{"contents":[{"type":"text","text":"Your order is on its way."}],` +
		`"customKeys":[{"messagingType":"RESPONSE"}]},"validityPeriod":60}`
	ottEvent = `{"object":"page","entry":[{"id":"1732555047025799","time":1770739100123,"messaging":[{"sender":{"id":"6000000000000001"},` +
		`"recipient":{"id":"1732555047025799"},"timestamp":1770739099873,"message":{"mid":"m_ExampleMessage","text":"Thank you!"}}]}]}`
)

// seedTime is the seed's own notBefore; it is past, so the push leaves at once.
var seedTime = time.Date(2020, 2, 10, 16, 0, 0, 0, time.UTC)

func engageBody(d DemoEngage, notBefore time.Time) string {
	return fmt.Sprintf(`{"destinations":[{"bNumber":"+15018902005","personalization":{"%[1]s":"Put Custom Text Here"},"customTrackingId":"custom-tracking-1"},`+
		`{"bNumber":"+14258309029","personalization":{"%[1]s":"Put Custom Text Here"},"customTrackingId":"custom-tracking-2"}],`+
		`"aNumbers":["%[2]s"],"notBefore":"%[3]s","ttlSeconds":"3600","keepAfterCall":"false"}`,
		d.Variables[0], strings.Join(d.ANumbers, `","`), notBefore.UTC().Format(time.RFC3339))
}

func productBody(d DemoProduct) string {
	return fmt.Sprintf(`{"productSpecification":{"id":"%s"},"@baseType":"product","@type":"OTT","@referredType":"%s",`+
		`"billingAccount":{"id":"1234567890","contact":[{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]}}`,
		d.ProductID, d.ReferredType)
}
