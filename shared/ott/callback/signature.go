package callback

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"time"

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
// channel secret, as base64 (docs/contract.md §1, callbacks). Verify takes either of LINE's.
func Sign(platform ott.Platform, credentials ott.Credentials, body []byte) (name, value string) {
	switch {
	case platform == ott.Messenger:
		return signature(platform, credentials.ApplicationSecret, body)
	case !credentials.CustomerConnectSecret.IsZero():
		return signature(platform, credentials.CustomerConnectSecret, body)
	default:
		return signature(platform, credentials.ChannelSecret, body)
	}
}

// Verify reports whether a request carries a signature of this body that the platform may have made at a time: with one
// of ott.Credentials.SigningSecrets. header returns a request's header by its name in lower case, or "". It takes as
// long for a signature that is nearly right as for one that is not.
func Verify(
	platform ott.Platform, credentials ott.Credentials, at time.Time, body []byte, header func(name string) string,
) bool {
	right := false
	for _, key := range credentials.SigningSecrets(platform, at) {
		name, want := signature(platform, key, body)
		right = hmac.Equal([]byte(header(name)), []byte(want)) || right
	}
	return right
}

func signature(platform ott.Platform, key secret.Text, body []byte) (name, value string) {
	mac := hmac.New(sha256.New, []byte(key.Reveal()))
	mac.Write(body)
	if platform == ott.Messenger {
		return messengerHeader, messengerPrefix + hex.EncodeToString(mac.Sum(nil))
	}
	return lineHeader, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
