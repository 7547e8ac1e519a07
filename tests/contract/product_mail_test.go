package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/standin"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

// The template's defaults of the limits.
const (
	perAccount  = 10
	perAddress  = 30
	limitWindow = time.Hour
)

// mailed waits until SES has accepted n mails to a product's address, and returns them in this order. That there are no
// more is what mailedOnce finds.
func mailed(t *testing.T, body object, n int) []standin.Message {
	t.Helper()
	own := harness.Eventually(t, fmt.Sprintf("%d mails to %s", n, addressOf(body)), func() ([]standin.Message, bool) {
		own := bundle.MailsTo(addressOf(body))
		return own, len(own) >= n
	})
	require.Len(t, own, n)
	return own
}

// activationMail follows the Location of a create and returns what the product says of its mail.
func activationMail(t *testing.T, created answer) map[string]string {
	t.Helper()
	target := strings.TrimPrefix(created.Header.Get("Location"), bundle.BaseURL)
	a := send(t, productGet.at(target), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
	require.Equal(t, 200, a.Status, "%s", a.Body)
	said := map[string]string{}
	for _, item := range a.Object(t)["productCharacteristic"].([]any) {
		characteristic := item.(map[string]any)
		said[characteristic["name"].(string)] = characteristic["value"].(string)
	}
	return said
}

// becomes waits until the product that a create answered says so of its mail, and returns all that it says of it.
func becomes(t *testing.T, created answer, state string) (said map[string]string) {
	t.Helper()
	said = harness.Eventually(t, "the mail becomes "+state, func() (map[string]string, bool) {
		said := activationMail(t, created)
		return said, said["activationMail"] == state
	})
	at, err := time.Parse(time.RFC3339, said["activationMailDate"])
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	return said
}

var (
	hrefPattern = regexp.MustCompile(`href="([^"]*)"`)
	tagPattern  = regexp.MustCompile(`<[^>]*>`)
)

// linkIn returns the one activation link of a mail: the target of its one anchor, which stands in the text of both
// versions.
func linkIn(t *testing.T, m standin.Message) string {
	t.Helper()
	targets := hrefPattern.FindAllStringSubmatch(m.HTML, -1)
	require.Len(t, targets, 1, "%s", m.HTML)
	link := html.UnescapeString(targets[0][1])
	assert.Equal(t, 1, strings.Count(m.Text, link), "%s", m.Text)
	assert.Equal(t, 1, strings.Count(html.UnescapeString(tagPattern.ReplaceAllString(m.HTML, "")), link), "%s", m.HTML)
	return link
}

// requirePlain checks what holds for every mail: from us to one address, a subject of one line, nothing in it that
// runs, loads or tracks.
func requirePlain(t *testing.T, m standin.Message, to string) {
	t.Helper()
	assert.Equal(t, "activation@mail.example.com", m.From)
	assert.Equal(t, to, m.To)
	assert.False(t, strings.ContainsFunc(m.Subject, func(r rune) bool { return !unicode.IsPrint(r) }), "%q", m.Subject)
	assert.NotContains(t, m.HTML, "ZgotmplZ", "the templates have refused nothing")
	for _, tag := range tagPattern.FindAllString(m.HTML, -1) {
		assert.NotRegexp(
			t,
			`(?i)^</?(script|img|link|iframe|object|embed|form|base|style)|src=|url\(|@import|javascript:|["'\s]on[a-z]+=`,
			tag,
		)
	}
}

// docs/contract.md §3: the mail is text and HTML, in the language of the country, names the service, carries the link
// and its expiry.
func TestProductMail(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		businessID, productID  string
		language, subject      string
		greeting, named, valid string
	}{
		"in Spanish": {
			bundle.Demo.Product.BusinessID, bundle.Demo.Product.ProductID, "es", "Active Disney+",
			"Hola:", "Su servicio Disney+ está listo.", "El enlace es válido hasta el 5 de marzo de 2031, 19:07 (UTC).",
		},
		"in English": {
			otherCountry, englishProduct, "en", "Activate " + englishName,
			"Hello,", "Your " + englishName + " service is ready.", "The link is valid until 5 March 2031, 19:07 (UTC).",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for expiry, shown := range map[string]bool{"2031-03-05T14:07:09-05:00": true, "": false} {
				body := demoProduct().set(test.productID, "productSpecification", "id")
				link := "https://pa.links.example.net/a/" + unique() + "?market=pa&lang=es#start"
				provider.misbehave(customerOf(body), grants(unique(), link, expiry))
				require.Equal(
					t,
					201,
					createAs(t, bundle.Demo.Product.DemoClient, in(test.businessID), unique(), body.text(t)).Status,
				)
				m := mailed(t, body, 1)[0]
				requirePlain(t, m, addressOf(body))
				assert.Equal(t, test.subject, m.Subject)
				assert.Equal(t, link, linkIn(t, m))
				assert.Contains(t, m.HTML, `<html lang="`+test.language+`">`)
				visible := html.UnescapeString(tagPattern.ReplaceAllString(m.HTML, "\n"))
				for _, version := range []string{m.Text, visible} {
					assert.Contains(t, version, test.greeting)
					assert.Contains(t, version, test.named)
					assert.Equal(t, shown, strings.Contains(version, test.valid), version)
					assert.Equal(t, shown, strings.Contains(version, "UTC"), version)
				}
			}
		})
	}
}

// Names and links from elsewhere stay text: no header, no markup, no second link.
func TestProductMailWithHostileNames(t *testing.T) {
	t.Parallel()
	check := func(t *testing.T, body object, businessID, service string) {
		require.Equal(
			t,
			201,
			createAs(t, bundle.Demo.Product.DemoClient, in(businessID), unique(), body.text(t)).Status,
		)
		m := mailed(t, body, 1)[0]
		requirePlain(t, m, addressOf(body))
		assert.LessOrEqual(t, len([]rune(m.Subject)), 120)
		assert.True(t, strings.HasPrefix(linkIn(t, m), "https://"+activationHost+"/"))
		_, shown, _ := strings.Cut(m.Subject, " ") // Activate …
		assert.NotEmpty(t, shown)
		assert.Contains(t, m.Text, shown)
		assert.Contains(t, html.UnescapeString(m.HTML), shown)
		for _, word := range strings.FieldsFunc(service, func(r rune) bool { return !unicode.IsPrint(r) || r == ' ' })[:1] {
			assert.Contains(t, shown, word)
		}
	}
	for id, service := range hostileNames {
		t.Run("the service's name: "+id, func(t *testing.T) {
			t.Parallel()
			if id == "blank" {
				service = "streaming"
			}
			check(t, demoProduct().set(id, "productSpecification", "id"), otherCountry, service)
		})
	}
	for _, referredType := range []string{`"><img src=x onerror=alert(1)>`, "{{.Link}}", "Evil\u2028Bcc: victim@example.com", "https://example.com/phishing"} {
		t.Run("the @referredType: "+referredType, func(t *testing.T) {
			t.Parallel()
			body := demoProduct().set(referredType, "@referredType")
			provider.misbehave(customerOf(body), grants(unique(), "https://"+activationHost+"/"+unique(), ""))
			check(t, body, bundle.Demo.Product.BusinessID, referredType)
		})
	}
	for _, link := range []string{`/?a="><script>alert(1)</script>`, `/'onmouseover='alert(1)`, "/{{.Service}}", "/%0d%0aBcc:x?%00", "/?x=&lt;&amp;#x27;"} {
		t.Run("the link: "+link, func(t *testing.T) {
			t.Parallel()
			body := demoProduct()
			provider.misbehave(customerOf(body), grants(unique(), "https://"+activationHost+link, ""))
			require.Equal(t, 201, create(t, body.text(t)).Status)
			m := mailed(t, body, 1)[0]
			requirePlain(t, m, addressOf(body))
			assert.Contains(t, m.Text, "https://"+activationHost+link)
			targets := hrefPattern.FindAllStringSubmatch(m.HTML, -1)
			require.Len(t, targets, 1)
			assert.True(t, strings.HasPrefix(targets[0][1], "https://"+activationHost+"/"))
		})
	}
}

// docs/contract.md §3: a bounce or refusal is recorded on the product, read for its weight. SES's mailbox simulator
// stands for the receivers, and one of the local run's own for what SES's does not play.
func TestProductMailOutcome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ address, state, reason string }{
		"delivered":               {"%@example.com", "delivered", ""},
		"taken by the simulator":  {"success+%@simulator.amazonses.com", "delivered", ""},
		"bounced":                 {"bounce+%@simulator.amazonses.com", "bounced", "Permanent/General: smtp; 550 5.1.1 user unknown"},
		"on the suppression list": {"suppressionlist+%@simulator.amazonses.com", "suppressed", "Permanent/Suppressed"},
		"called spam":             {"complaint+%@simulator.amazonses.com", "complained", "abuse"},
		"no such mailbox": {
			"noemail+%@simulator.example", "bounced", "Permanent/NoEmail: smtp; 550 5.1.1 no such mailbox",
		},
		"on the account's list": {"accountlist+%@simulator.example", "suppressed", "Permanent/OnAccountSuppressionList"},
		"a virus":               {"virus+%@simulator.example", "refused", "Bad content"},
		"a transient trouble": {
			"general+%@simulator.example", "delayed", "Transient/General: smtp; 451 4.0.0 try again later",
		},
		"a full mailbox": {
			"mailboxfull+%@simulator.example", "delayed", "Transient/MailboxFull: smtp; 452 4.2.2 mailbox full",
		},
		"too large": {
			"messagetoolarge+%@simulator.example", "delayed", "Transient/MessageTooLarge: smtp; 552 5.3.4 message too large",
		},
		"a refused content": {
			"contentrejected+%@simulator.example", "delayed", "Transient/ContentRejected: smtp; 554 5.6.1 content rejected",
		},
		"a refused attachment": {
			"attachmentrejected+%@simulator.example", "delayed",
			"Transient/AttachmentRejected: smtp; 552 5.6.1 attachment rejected",
		},
		"no known reason": {"undetermined+%@simulator.example", "delayed", "Undetermined/Undetermined"},
		"delayed": {
			"delayed+%@simulator.example", "delayed",
			"DeliveryDelay/TransientCommunicationFailure: smtp; 421 4.4.1 Unable to connect to remote host",
		},
		"delayed, then delivered": {"late+%@simulator.example", "delivered", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := demoProduct().set(strings.Replace(test.address, "%", unique(), 1), emailPath...)
			created := create(t, body.text(t))
			require.Equal(t, 201, created.Status, "%s", created.Body)
			said := becomes(t, created, test.state)
			assert.Contains(t, said["activationMailReason"], test.reason)
			_, reasoned := said["activationMailReason"]
			assert.Equal(t, test.reason != "", reasoned)

			corrected := body.set(unique()+"@example.com", emailPath...)
			require.Equal(t, 201, create(t, corrected.text(t)).Status)
			assert.NotContains(
				t,
				becomes(t, created, "delivered"),
				"activationMailReason",
				"the product shows its latest mail",
			)
			mailed(t, body, 1)
			mailed(t, corrected, 1)
		})
	}
	for name, address := range map[string]string{
		"an out-of-office answer": "ooto+%@simulator.amazonses.com", "said to be no spam": "notspam+%@simulator.example",
	} {
		t.Run("delivered, then "+name, func(t *testing.T) {
			t.Parallel()
			body := demoProduct().set(strings.Replace(address, "%", unique(), 1), emailPath...)
			created := create(t, body.text(t))
			require.Equal(t, 201, created.Status, "%s", created.Body)
			becomes(t, created, "delivered")
			harness.Eventually(t, "both events have been read, in any order", func() (lines []string, read bool) {
				for _, line := range bundle.LogOf("ProductMailEventFunction") {
					if strings.Contains(line, created.RequestID()) {
						lines = append(lines, line)
					}
				}
				return lines, len(lines) >= 2
			})
			said := activationMail(t, created)
			require.Equal(t, "delivered", said["activationMail"])
			require.NotContains(t, said, "activationMailReason")
		})
	}
	t.Run("nothing to mail", func(t *testing.T) {
		t.Parallel()
		body := demoProduct()
		provider.misbehave(
			customerOf(body),
			answers(200, `{"entitlementId":"`+unique()+`","responseCode":"OK","responseMessage":""}`),
		)
		created := create(t, body.text(t))
		require.Equal(t, 201, created.Status, "%s", created.Body)
		becomes(t, created, "none")
		mailed(t, body, 0)
	})
}

// mailItem is the one mail to an address as it is kept.
func mailItem(t *testing.T, address string) map[string]types.AttributeValue {
	t.Helper()
	var own []map[string]types.AttributeValue
	for _, item := range bundle.Scan(t, stackname.MailsTable) {
		if stringOf(item["to"]) == address {
			own = append(own, item)
		}
	}
	require.Len(t, own, 1)
	return own[0]
}

// requireSuperseded waits until a mail has ended as superseded: without its link, and without having left.
func requireSuperseded(t *testing.T, address string) {
	t.Helper()
	kept := harness.Eventually(t, "the older mail is superseded", func() (map[string]types.AttributeValue, bool) {
		item := mailItem(t, address)
		return item, stringOf(item["state"]) == "superseded"
	})
	require.NotContains(t, kept, "link")
	require.NotEmpty(t, stringOf(kept["reason"]))
	require.Empty(t, bundle.MailsTo(address))
}

// docs/contract.md §3: the newest mail of a product wins. One that was not sent when a newer one is accepted ends as
// superseded and never leaves: here since SES has no room for it, and the address is corrected meanwhile.
func TestProductMailIsSupersededWhileSESIsBusy(t *testing.T) {
	t.Parallel()
	mistyped := demoProduct()
	failsOnce(t, "mail", addressOf(mistyped), standin.Answer{
		Status: http.StatusTooManyRequests, Body: `{"message":"Maximum sending rate exceeded."}`,
		Headers: map[string]string{"X-Amzn-Errortype": "TooManyRequestsException"},
	})
	created := create(t, mistyped.text(t))
	require.Equal(t, 201, created.Status, "%s", created.Body)
	harness.Eventually(t, "SES was busy", func() (string, bool) {
		reason := stringOf(mailItem(t, addressOf(mistyped))["reason"])
		return reason, reason != ""
	})
	require.Equal(t, "pending", activationMail(t, created)["activationMail"])

	corrected := mistyped.set(unique()+"@example.com", emailPath...)
	again := create(t, corrected.text(t))
	require.Equal(t, 201, again.Status, "%s", again.Body)
	require.Equal(t, created.Object(t)["id"], again.Object(t)["id"])
	becomes(t, created, "delivered")
	requireSuperseded(t, addressOf(mistyped))
	require.Equal(t, "delivered", activationMail(t, created)["activationMail"], "the product shows its newest mail")
	require.Equal(t, bundle.Entitlements(t, customerOf(mistyped))[0].URL, linkIn(t, mailed(t, corrected, 1)[0]))
}

// The same when the newer one is accepted before any job has come. Not parallel: no mail must go out meanwhile.
func TestProductMailIsSupersededBeforeItsJobComes(t *testing.T) {
	bundle.PauseQueues("MailQueue")
	defer bundle.ResumeQueues("MailQueue")
	body := demoProduct()
	bodies := []object{body}
	for range 2 {
		bodies = append(bodies, body.set(unique()+"@example.com", emailPath...))
	}
	var created answer
	for _, b := range bodies {
		created = create(t, b.text(t))
		require.Equal(t, 201, created.Status, "%s", created.Body)
	}
	bundle.ResumeQueues("MailQueue")
	becomes(t, created, "delivered")
	for _, older := range bodies[:2] {
		requireSuperseded(t, addressOf(older))
	}
	mailed(t, bodies[2], 1)
}

// docs/contract.md §3: a fault of the SES account is not the mail's: it waits, and leaves once the account is mended.
// Not parallel: the account is everybody's.
func TestProductMailWaitsForTheAccount(t *testing.T) {
	account := func(fault string) {
		reply := bundle.Call(t, http.MethodPost, "/_local/mail", `{"account":"`+fault+`"}`, nil)
		require.Equal(t, http.StatusNoContent, reply.Status, reply.Body)
	}
	defer account("")
	waiting := map[string]answer{}
	bodies := map[string]object{}
	for fault, code := range map[string]string{
		"paused": "SendingPausedException", "suspended": "AccountSuspendedException", "sandbox": "MessageRejected",
		"unverified": "MessageRejected", "mailFrom": "MailFromDomainNotVerifiedException", "quota": "LimitExceededException",
	} {
		account(fault)
		body := demoProduct()
		created := create(t, body.text(t))
		require.Equal(t, 201, created.Status, "%s", created.Body)
		kept := harness.Eventually(t, "SES was asked", func() (map[string]types.AttributeValue, bool) {
			item := mailItem(t, addressOf(body))
			return item, stringOf(item["state"]) == "pending" && stringOf(item["reason"]) != ""
		})
		require.Contains(t, stringOf(kept["reason"]), code)
		require.Equal(t, "pending", activationMail(t, created)["activationMail"])
		waiting[fault], bodies[fault] = created, body
	}
	account("")
	for fault, created := range waiting {
		becomes(t, created, "delivered")
		mailed(t, bodies[fault], 1)
	}
}

// contract.md, common: no activation link in an answer, which conforms sees to, in a log line, which leaked sees to,
// nor in any table but the record of a mail that is to be sent. Not parallel: no mail must go out meanwhile.
func TestActivationLinkIsKeptUntilItIsMailed(t *testing.T) {
	ctx := context.Background()
	bundle.PauseQueues()
	defer bundle.ResumeQueues()
	body := demoProduct()
	created := create(t, body.text(t))
	require.Equal(t, 201, created.Status)
	link := bundle.Entitlements(t, customerOf(body))[0].URL
	require.Contains(t, link, activationHost)
	holders := func() (found []string) {
		tables, err := bundle.Tables(ctx)
		require.NoError(t, err)
		for _, table := range tables {
			items, err := bundle.ScanAll(ctx, table)
			require.NoError(t, err)
			for _, item := range items {
				for name, value := range item {
					if strings.Contains(itemText(map[string]types.AttributeValue{name: value}), link) {
						found = append(found, table+"."+name+" "+stringOf(item["state"]))
					}
				}
			}
		}
		return found
	}
	assert.Equal(t, []string{bundle.Table(stackname.MailsTable) + ".link pending"}, holders())
	assert.Equal(t, "pending", activationMail(t, created)["activationMail"])
	_, all := listed(t, "billingAccount.id="+customerOf(body))
	require.Len(t, all, 1)
	waiting, err := bundle.SQS().ReceiveMessage(ctx, &sqs.ReceiveMessageInput{
		QueueUrl: aws.String(bundle.QueueURL("MailQueue")), MaxNumberOfMessages: 10, VisibilityTimeout: 1,
	})
	require.NoError(t, err)
	require.NotEmpty(t, waiting.Messages)
	for _, message := range waiting.Messages {
		assert.NotContains(t, aws.ToString(message.Body), activationHost, "nor does the queue hold it")
	}
	bundle.ResumeQueues()
	becomes(t, created, "delivered")
	assert.Empty(t, holders())
	assert.Equal(t, link, linkIn(t, mailed(t, body, 1)[0]))
}

func requireTooMany(t *testing.T, a answer) {
	t.Helper()
	requireProductErrors(t, a, 429, productFault{Code: 429, Message: "APIKIT:TOO_MANY_REQUESTS"})
	seconds, err := strconv.Atoi(a.Header.Get("Retry-After"))
	require.NoError(t, err)
	require.True(t, seconds > 0 && seconds <= int(limitWindow.Seconds()), "Retry-After: %d", seconds)
}

// docs/contract.md §3, row "too many resends": 429 with Retry-After.
func TestProductTooManyMails(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product.DemoClient
	t.Run("for an account", func(t *testing.T) {
		t.Parallel()
		body := demoProduct()
		elsewhere := func() object { return body.set(unique()+"@example.com", emailPath...) }
		first := unique()
		require.Equal(t, 201, createAs(t, demo, inPanama(), first, body.text(t)).Status)
		for range perAccount - 1 {
			require.Equal(t, 201, create(t, elsewhere().text(t)).Status)
		}
		asked := len(provider.requests(customerOf(body)))
		refused, id := elsewhere(), unique()
		requireTooMany(t, createAs(t, demo, inPanama(), id, refused.text(t)))
		requireTooMany(t, create(t, elsewhere().set("another", "productSpecification", "id").text(t)))
		require.Len(t, provider.requests(customerOf(body)), asked, "the provider is not asked")
		require.Equal(t, 201, createAs(t, demo, inPanama(), first, body.text(t)).Status, "a replay is not counted")
		require.Equal(
			t,
			201,
			createAs(t, demo, inPanama(), id, demoProduct().text(t)).Status,
			"the correlation id can be used again",
		)
		require.Equal(t, 201, createAs(
			t,
			demo,
			in(otherCountry),
			unique(),
			elsewhere().set(englishProduct, "productSpecification", "id").
				text(t),
		).Status, "another business's account is another one")
		mailed(t, refused, 0)
	})
	t.Run("for an address", func(t *testing.T) {
		t.Parallel()
		address := unique() + "@example.com"
		to := func(address string) object { return demoProduct().set(address, emailPath...) }
		for range perAddress {
			require.Equal(t, 201, create(t, to(address).text(t)).Status)
		}
		requireTooMany(t, create(t, to(address).text(t)))
		requireTooMany(t, create(t, to(strings.ToUpper(address)).text(t)))
		requireTooMany(
			t,
			createAs(
				t,
				demo,
				in(otherCountry),
				unique(),
				to(address).set(englishProduct, "productSpecification", "id").text(t),
			),
		)
		require.Equal(t, 201, create(t, to("x"+address).text(t)).Status)
	})
	t.Run("what brings about no mail is not counted", func(t *testing.T) {
		t.Parallel()
		body := demoProduct()
		for range perAccount + 1 {
			require.Equal(t, 400, create(t, body.set("NETFLIX", "@referredType").text(t)).Status)
			require.Equal(t, 400, create(t, body.without("@type").text(t)).Status)
			provider.misbehave(customerOf(body), answers(500, ""))
			require.Equal(t, 502, create(t, body.text(t)).Status)
		}
		require.Equal(t, 201, create(t, body.text(t)).Status)
	})
}

// The provider's credentials rotate without a deploy. Not parallel: they are everybody's.
func TestProductProviderCredentialsRotate(t *testing.T) {
	ctx := context.Background()
	secretID := aws.String(stackname.ProviderSecret(bundle.Demo.AWS.Stack))
	put := func(username, password string) {
		raw, err := json.Marshal(map[string]string{"username": username, "password": password})
		require.NoError(t, err)
		_, err = bundle.SecretsManager().
			PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: secretID, SecretString: aws.String(string(raw))})
		require.NoError(t, err)
	}
	require.Equal(t, 201, create(t, demoProduct().text(t)).Status, "the function has read the credentials")
	password := unique()
	secrets.add(password)
	put("rotated", password)
	defer put(bundle.ProviderUsername, bundle.ProviderPassword)
	body := demoProduct()
	refuses := answers(401, `{"responseCode":"UNAUTHORIZED","responseMessage":"The credentials are invalid."}`)
	link := "https://" + activationHost + "/" + unique()
	provider.misbehave(customerOf(body), refuses, func(w http.ResponseWriter, r *http.Request) {
		if username, sent, _ := r.BasicAuth(); username != "rotated" || sent != password {
			refuses(w, r)
			return
		}
		grants(unique(), link, "")(w, r)
	})
	a := create(t, body.text(t))
	require.Equal(t, 201, a.Status, "%s", a.Body)
	require.Equal(t, link, linkIn(t, mailed(t, body, 1)[0]))

	put(bundle.ProviderUsername, bundle.ProviderPassword)
	back := demoProduct()
	require.Equal(t, 201, create(t, back.text(t)).Status)
	require.Len(t, provider.requests(customerOf(back)), 2, "refused under the rotated ones, and asked again")
}
