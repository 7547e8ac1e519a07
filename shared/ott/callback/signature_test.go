package callback_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/secret"
)

var (
	page    = ott.Credentials{ApplicationSecret: secret.NewText("03d537gg656gvkbe9b430f002e9c4517")}
	channel = ott.Credentials{ChannelSecret: secret.NewText("31234arajcauoherbasuhb213ijqjohbjhb123")}
	connect = ott.Credentials{ChannelSecret: channel.ChannelSecret, CustomerConnectSecret: secret.NewText("connect")}
)

// now is when callbacks come.
var now = time.Date(2026, 2, 10, 15, 58, 20, 0, time.UTC)

// What openssl makes of these bodies and secrets.
const (
	pageBody         = `{"object":"page","entry":[]}`
	pageSignature    = "sha256=b7f3696103edd2d728d7f22a3466f79eb3a6dc49a3f4a26d74b28f80b5eef615"
	channelBody      = `{"destination":"U1","events":[]}`
	channelSignature = "AeXpzxnw6w8UNWs6m031e+uFgT/1OxCtQ800GZWOKK0="
	connectSignature = "k7jTfcupaWfKka/W7RoFdAZepxdjo0RF3z25jgswPb0="
)

func header(name, value string) func(string) string {
	return func(asked string) string {
		if asked == name {
			return value
		}
		return ""
	}
}

func TestSign(t *testing.T) {
	for name, test := range map[string]struct {
		platform    ott.Platform
		credentials ott.Credentials
		body        string
		header      string
		want        string
	}{
		"Messenger: hex with the application secret": {
			ott.Messenger, page, pageBody, "x-hub-signature-256", pageSignature,
		},
		"LINE: base64 with the channel secret": {
			ott.LINE, channel, channelBody, "x-line-signature", channelSignature,
		},
		"LINE: with the customer connect secret, where there is one": {
			ott.LINE, connect, channelBody, "x-line-signature", connectSignature,
		},
	} {
		t.Run(name, func(t *testing.T) {
			gotName, got := callback.Sign(test.platform, test.credentials, []byte(test.body))
			assert.Equal(t, test.header, gotName)
			assert.Equal(t, test.want, got)
			assert.True(
				t,
				callback.Verify(test.platform, test.credentials, now, []byte(test.body), header(gotName, got)),
			)
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	digits := strings.TrimPrefix(pageSignature, "sha256=")
	for name, test := range map[string]struct {
		platform    ott.Platform
		credentials ott.Credentials
		name, value string
		body        string
	}{
		"Messenger: no header":        {ott.Messenger, page, "", "", pageBody},
		"Messenger: an empty header":  {ott.Messenger, page, "x-hub-signature-256", "", pageBody},
		"Messenger: no prefix":        {ott.Messenger, page, "x-hub-signature-256", digits, pageBody},
		"Messenger: the prefix alone": {ott.Messenger, page, "x-hub-signature-256", "sha256=", pageBody},
		"Messenger: the prefix of the old header": {
			ott.Messenger, page, "x-hub-signature-256", "sha1=" + digits, pageBody,
		},
		"Messenger: the old header": {ott.Messenger, page, "x-hub-signature", pageSignature, pageBody},
		"Messenger: a shorter signature": {
			ott.Messenger, page, "x-hub-signature-256", pageSignature[:len(pageSignature)-2], pageBody,
		},
		"Messenger: a longer signature": {
			ott.Messenger, page, "x-hub-signature-256", pageSignature + "00", pageBody,
		},
		"Messenger: two signatures": {
			ott.Messenger, page, "x-hub-signature-256", pageSignature + "," + pageSignature, pageBody,
		},
		"Messenger: one digit wrong": {
			ott.Messenger, page, "x-hub-signature-256", flipped(pageSignature), pageBody,
		},
		"Messenger: no hex": {
			ott.Messenger, page, "x-hub-signature-256", "sha256=" + strings.Repeat("zz", 32), pageBody,
		},
		"Messenger: another body": {
			ott.Messenger, page, "x-hub-signature-256", pageSignature, pageBody + " ",
		},
		"Messenger: no secret to check with": {
			ott.Messenger, ott.Credentials{}, "x-hub-signature-256", signedWithNothing(ott.Messenger), pageBody,
		},
		"LINE: no header": {ott.LINE, channel, "", "", channelBody},
		"LINE: Messenger's header": {
			ott.LINE, channel, "x-hub-signature-256", pageSignature, channelBody,
		},
		"LINE: hex": {
			ott.LINE, channel, "x-line-signature", asHex(channelSignature), channelBody,
		},
		"LINE: a character more": {
			ott.LINE, channel, "x-line-signature", channelSignature + "A", channelBody,
		},
		"LINE: a line break": {
			ott.LINE, channel, "x-line-signature", channelSignature + "\n", channelBody,
		},
		"LINE: another body": {
			ott.LINE, channel, "x-line-signature", channelSignature, channelBody + "\n",
		},
		"LINE: a former secret whose time is over": {
			ott.LINE, former(channel, connect, now), "x-line-signature", connectSignature, channelBody,
		},
		"LINE: an empty former secret": {
			ott.LINE, former(channel, ott.Credentials{}, now.Add(time.Hour)), "x-line-signature",
			signedWithNothing(ott.LINE), pageBody,
		},
		"LINE: no secret to check with": {
			ott.LINE, ott.Credentials{}, "x-line-signature", signedWithNothing(ott.LINE), pageBody,
		},
	} {
		t.Run(name, func(t *testing.T) {
			assert.False(t,
				callback.Verify(test.platform, test.credentials, now, []byte(test.body), header(test.name, test.value)))
		})
	}
}

// former has what else signed until a time.
func former(current, earlier ott.Credentials, until time.Time) ott.Credentials {
	for _, s := range []secret.Text{
		earlier.ApplicationSecret, earlier.CustomerConnectSecret, earlier.ChannelSecret,
	} {
		current.Former = append(current.Former, ott.FormerSecret{Secret: s, Until: until})
	}
	return current
}

func TestVerifyTakesEachSecretThatIsRight(t *testing.T) {
	connectAlone := ott.Credentials{CustomerConnectSecret: connect.CustomerConnectSecret}
	another := ott.Credentials{ApplicationSecret: secret.NewText("another"), ChannelSecret: secret.NewText("another")}
	for name, test := range map[string]struct {
		platform     ott.Platform
		kept, signed ott.Credentials
	}{
		"LINE: the channel secret, where there is a customer connect secret": {ott.LINE, connect, channel},
		"LINE: the customer connect secret":                                  {ott.LINE, connect, connectAlone},
		"LINE: a former channel secret": {
			ott.LINE, former(another, connect, now.Add(1)), channel,
		},
		"LINE: a former customer connect secret": {
			ott.LINE, former(another, connect, now.Add(1)), connectAlone,
		},
		"Messenger: a former application secret": {
			ott.Messenger, former(another, page, now.Add(1)), page,
		},
	} {
		t.Run(name, func(t *testing.T) {
			signed := header(callback.Sign(test.platform, test.signed, []byte(pageBody)))
			assert.True(t, callback.Verify(test.platform, test.kept, now, []byte(pageBody), signed))
			assert.False(t, callback.Verify(test.platform, another, now, []byte(pageBody), signed))
		})
	}
}

func signedWithNothing(platform ott.Platform) string {
	_, value := callback.Sign(platform, ott.Credentials{}, []byte(pageBody))
	return value
}

func asHex(encoded string) string {
	sum, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(sum)
}

// flipped changes the last digit.
func flipped(signature string) string {
	last := len(signature) - 1
	if signature[last] == '0' {
		return signature[:last] + "1"
	}
	return signature[:last] + "0"
}

func TestOnlyTheWholeBodyAndTheRightSecretVerify(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		other := rapid.SliceOf(rapid.Byte()).Draw(t, "other body")
		key, otherKey := rapid.StringN(1, -1, 64).Draw(t, "key"), rapid.StringN(1, -1, 64).Draw(t, "other key")
		for platform, credentials := range map[ott.Platform]func(key string) ott.Credentials{
			ott.Messenger: func(key string) ott.Credentials {
				return ott.Credentials{ApplicationSecret: secret.NewText(key)}
			},
			ott.LINE: func(key string) ott.Credentials {
				return ott.Credentials{ChannelSecret: secret.NewText(key)}
			},
		} {
			signed := header(callback.Sign(platform, credentials(key), body))
			assert.True(t, callback.Verify(platform, credentials(key), now, body, signed))
			assert.Equal(
				t,
				string(body) == string(other),
				callback.Verify(platform, credentials(key), now, other, signed),
			)
			// HMAC pads keys with zeros
			if len(key) < 64 && len(otherKey) < 64 &&
				strings.TrimRight(key, "\x00") != strings.TrimRight(otherKey, "\x00") {
				assert.False(t, callback.Verify(platform, credentials(otherKey), now, body, signed))
			}
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add("sha256=00", []byte(pageBody))
	f.Add(pageSignature, []byte(pageBody))
	f.Add(channelSignature, []byte(channelBody))
	f.Add("sha256=", []byte{})
	f.Fuzz(func(t *testing.T, value string, body []byte) {
		for platform, credentials := range map[ott.Platform]ott.Credentials{ott.Messenger: page, ott.LINE: channel} {
			name, right := callback.Sign(platform, credentials, body)
			if callback.Verify(platform, credentials, now, body, header(name, value)) {
				assert.Equal(t, right, value)
			}
		}
	})
}
