package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"

	"carillon/shared/ott"
	"carillon/shared/secret"
)

// The headers that carry signatures, names in lower case.
const (
	messengerHeader = "x-hub-signature-256"
	messengerPrefix = "sha256="
	lineHeader      = "x-line-signature"
)

// Sign returns the header by which a platform signs a callback with this body, its name in lower case: HMAC-SHA256 over
// the bytes of the body, with Messenger's application secret as hex, or with LINE's customer connect secret, else its
// channel secret, as base64 (docs/contract.md §1, callbacks).
func Sign(platform ott.Platform, credentials ott.Credentials, body []byte) (name, value string) {
	sum := sign(signingSecret(platform, credentials), body)
	if platform == ott.Messenger {
		return messengerHeader, messengerPrefix + hex.EncodeToString(sum)
	}
	return lineHeader, base64.StdEncoding.EncodeToString(sum)
}

// Verify reports whether a request carries the platform's signature of this body. header returns a request's header by
// its name in lower case, or "". It takes as long for a signature that is nearly right as for one that is not.
func Verify(platform ott.Platform, credentials ott.Credentials, body []byte, header func(name string) string) bool {
	if signingSecret(platform, credentials).IsZero() {
		return false // anybody could sign with it
	}
	name, want := Sign(platform, credentials, body)
	return hmac.Equal([]byte(header(name)), []byte(want))
}

func signingSecret(platform ott.Platform, credentials ott.Credentials) secret.Text {
	switch {
	case platform == ott.Messenger:
		return credentials.ApplicationSecret
	case !credentials.CustomerConnectSecret.IsZero():
		return credentials.CustomerConnectSecret
	default:
		return credentials.ChannelSecret
	}
}

func sign(key secret.Text, body []byte) []byte {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write(body)
	return mac.Sum(nil)
}
