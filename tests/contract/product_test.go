package contract_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
)

// productFault is one element of errors.
type productFault struct {
	Code        int    `json:"code"`
	Message     string `json:"message"`
	Description string `json:"description"`
}

const unauthenticated = `{"errors":[{"code":401,"message":"The user could not be authenticated for this request.",` +
	`"description":"The request has not been applied because it lacks valid authentication credentials for the target resource."}]}`

// in returns the endpoint for a business unit.
func in(businessID string) endpoint { return product.at("/dxp-ux/v1/" + businessID + "/product") }

func inPanama() endpoint { return in(bundle.Demo.Product.BusinessID) }

// demoProduct is a valid product of a billing account, and to an address, that no other test has.
func demoProduct() object {
	return object{
		"productSpecification": object{"id": bundle.Demo.Product.ProductID},
		"@baseType":            "product",
		"@type":                "OTT",
		"@referredType":        bundle.Demo.Product.ReferredType,
		"billingAccount": object{
			"id": "account-" + unique(),
			"contact": []any{object{
				"contactType":   "primary",
				"contactMedium": []any{object{"characteristic": object{"emailAddress": unique() + "@example.com"}}},
			}},
		},
	}
}

// emailPath is the way to the address that a product's activation link is mailed to.
var emailPath = []any{"billingAccount", "contact", 0, "contactMedium", 0, "characteristic", "emailAddress"}

func customerOf(o object) string { return dig(o, []any{"billingAccount", "id"}).(string) }

func addressOf(o object) string { return dig(o, emailPath).(string) }

func productHeaders(c local.DemoClient, correlationID string) []string {
	return []string{"client_id", c.ClientID, "client_secret", c.ClientSecret, "X-Correlation-ID", correlationID}
}

// create sends a product of the demo channel under a new correlation id, and checks that the answer echoes it.
func create(t *testing.T, body string) answer {
	t.Helper()
	return createAs(t, bundle.Demo.Product.DemoClient, inPanama(), unique(), body)
}

func createAs(t testing.TB, c local.DemoClient, e endpoint, correlationID, body string, headers ...string) answer {
	t.Helper()
	a := send(t, e, body, append(productHeaders(c, correlationID), headers...)...)
	require.Equal(t, correlationID, a.Header.Get("X-Correlation-ID"), "every answer echoes it")
	return a
}

// requireProductErrors checks the error body: every fault in turn. A fault without a description has any that is not
// empty.
func requireProductErrors(t *testing.T, a answer, status int, expected ...productFault) {
	t.Helper()
	require.Equal(t, status, a.Status, "%s", a.Body)
	var body struct{ Errors []productFault }
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body))
	require.Len(t, body.Errors, len(expected), "%s", a.Body)
	for i, fault := range expected {
		if fault.Description == "" {
			require.NotEmpty(t, body.Errors[i].Description)
			fault.Description = body.Errors[i].Description
		}
		require.Equal(t, fault, body.Errors[i])
	}
}

// docs/contract.md §3: 201, Location = href, the seed's response model with href and the empty TMF637 arrays.
func TestProductIsCreated(t *testing.T) {
	t.Parallel()
	account := func(changes ...any) object { return demoProduct().set(changes[0], changes[1:]...) }
	for name, body := range map[string]object{
		"as the seed has it":      demoProduct(),
		"with the account's type": account("BillingAccount", "billingAccount", "@baseType").set("PostpaidAccount", "billingAccount", "@type"),
		"without contactType":     demoProduct().without("billingAccount", "contact", 0, "contactType"),
		"two contacts": account([]any{
			object{"contactType": "primary", "contactMedium": []any{object{"characteristic": object{"emailAddress": "first@example.com"}}}},
			object{"contactMedium": []any{
				object{"characteristic": object{"emailAddress": "second.one+tag@sub.example.com"}},
				object{"characteristic": object{"emailAddress": "third@xn--panam-0qa.example"}},
			}},
		}, "billingAccount", "contact"),
		"an account's id of digits": account("000000000000000000000000000"+unique(), "billingAccount", "id"),
		"an account's id in Greek":  account("λογαριασμός "+unique(), "billingAccount", "id"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := create(t, body.text(t))
			require.Equal(t, 201, a.Status, "%s", a.Body)
			answered := a.Object(t)
			href := answered["href"].(string)
			assert.Equal(t, href, a.Header.Get("Location"))
			assert.Equal(t, "/dxp-ux/v1/PA/product/"+answered["id"].(string), strings.TrimPrefix(href, bundle.BaseURL))
			expected := body.set("created", "status").set(answered["id"], "id").set(href, "href").
				set(object{"id": provider.requests(customerOf(body))[0].Body["offerKey"]}, "productOffering").
				set([]any{}, "productCharacteristic").set([]any{}, "productPrice").set([]any{}, "relatedParty")
			assert.JSONEq(t, expected.text(t), a.Body)
		})
	}
	t.Run("unknown members are not shown", func(t *testing.T) {
		t.Parallel()
		a := create(
			t,
			demoProduct().set("x", "name").
				set(1, "billingAccount", "y").
				set(true, "billingAccount", "contact", 0, "z").
				text(t),
		)
		require.Equal(t, 201, a.Status) // openapi.yaml allows no other member
	})
	t.Run("null where a member is optional", func(t *testing.T) {
		t.Parallel()
		body := demoProduct().set(nil, "billingAccount", "@type").
			set(nil, "billingAccount", "@baseType").
			set(nil, "billingAccount", "contact", 0, "contactType")
		require.Equal(t, 201, create(t, body.text(t)).Status)
	})
}

// docs/contract.md §3: what the provider is asked.
func TestProductProviderRequest(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	require.Equal(t, 201, create(t, body.text(t)).Status)
	asked := provider.requests(customerOf(body))
	require.Len(t, asked, 1)
	assert.Equal(t, providerRequest{
		Method: http.MethodPost, Path: "/resale/v1/entitlement",
		Username: bundle.ProviderUsername, Password: bundle.ProviderPassword,
		Identifier: asked[0].Identifier, ContentType: "application/json",
		Body: map[string]any{
			"customerIdentifier": "PA-" + customerOf(body), "merchantAccountKey": "demo-merchant-pa",
			"productKey": "DISNEY_PLUS_PA", "offerKey": asked[0].Body["offerKey"],
		},
	}, asked[0])
	assert.NotEmpty(t, asked[0].Identifier)
	assert.NotEmpty(t, asked[0].Body["offerKey"])
}

// docs/contract.md §3, rows "@type missing or not OTT" and "@baseType missing or not product".
func TestProductWrongConstant(t *testing.T) {
	t.Parallel()
	for member, expected := range map[string]string{"@type": "OTT", "@baseType": "product"} {
		fault := productFault{
			Code:        400,
			Message:     "VALIDATION:INVALID_BOOLEAN",
			Description: "Mandatory field " + member + " is not specified or Incorrect value is received. The expected value is " + expected,
		}
		t.Run(member, func(t *testing.T) {
			t.Parallel()
			requireProductErrors(t, create(t, demoProduct().without(member).text(t)), 400, fault)
			for _, value := range []any{nil, "", " ", strings.ToLower(expected) + " ", strings.ToUpper(expected) + "S", 5, true, []any{expected}, object{}, json.Number("1e400")} {
				requireProductErrors(t, create(t, demoProduct().set(value, member).text(t)), 400, fault)
			}
		})
	}
}

// docs/contract.md §3, row "@referredType (or product id) that the provider refuses".
func TestProductRefusedByTheProvider(t *testing.T) {
	t.Parallel()
	refused := productFault{
		Code:        400,
		Message:     "Bango: Error while creating an entitlement",
		Description: "BAD_REQUEST-ProductKey is invalid.",
	}
	t.Run("@referredType", func(t *testing.T) {
		t.Parallel()
		for _, referredType := range []string{"NETFLIX", "disney", "DISNEY#disney-plus", "鐘", "DISNEY "} {
			requireProductErrors(t, create(t, demoProduct().set(referredType, "@referredType").text(t)), 400, refused)
		}
	})
	t.Run("product id", func(t *testing.T) {
		t.Parallel()
		requireProductErrors(
			t,
			create(t, demoProduct().set("no-such-product", "productSpecification", "id").text(t)),
			400,
			refused,
		)
	})
	t.Run("a key that the provider does not know", func(t *testing.T) {
		t.Parallel()
		body := demoProduct().set(otherProduct, "productSpecification", "id")
		requireProductErrors(t, createAs(t, dxpTrinidad, in(otherCountry), unique(), body.text(t)), 400, refused)
	})
	t.Run("other words of the provider", func(t *testing.T) {
		t.Parallel()
		for code, status := range map[string]int{"BAD_REQUEST": 400, "NOT_AVAILABLE": 400, "NOT_FOUND": 404, "ALREADY_EXISTS": 409} {
			body := demoProduct()
			provider.misbehave(
				customerOf(body),
				answers(status, `{"responseCode":"`+code+`","responseMessage":"The reason."}`),
			)
			requireProductErrors(t, create(t, body.text(t)), 400,
				productFault{Code: 400, Message: refused.Message, Description: code + "-The reason."})
		}
	})
	t.Run("a corrected request may come under the same correlation id", func(t *testing.T) {
		t.Parallel()
		correlationID, body := unique(), demoProduct()
		requireProductErrors(
			t,
			createAs(
				t,
				bundle.Demo.Product.DemoClient,
				inPanama(),
				correlationID,
				body.set("NETFLIX", "@referredType").text(t),
			),
			400,
			refused,
		)
		require.Equal(
			t,
			201,
			createAs(t, bundle.Demo.Product.DemoClient, inPanama(), correlationID, body.text(t)).Status,
		)
	})
}

// docs/contract.md §3, row "other mandatory field, …": `APIKIT:BAD_REQUEST` · which field.
func TestProductMandatoryField(t *testing.T) {
	t.Parallel()
	medium := []any{"billingAccount", "contact", 0, "contactMedium", 0}
	const email = "billingAccount.contact[0].contactMedium[0].characteristic.emailAddress"
	for name, test := range map[string]struct {
		path  []any
		names []string // the fields that are reported, in this order
	}{
		"productSpecification":    {[]any{"productSpecification"}, []string{"productSpecification.id"}},
		"productSpecification.id": {[]any{"productSpecification", "id"}, []string{"productSpecification.id"}},
		"@referredType":           {[]any{"@referredType"}, []string{"@referredType"}},
		"billingAccount":          {[]any{"billingAccount"}, []string{"billingAccount.id", email}},
		"billingAccount.id":       {[]any{"billingAccount", "id"}, []string{"billingAccount.id"}},
		"contact":                 {[]any{"billingAccount", "contact"}, []string{email}},
		"contactMedium":           {[]any{"billingAccount", "contact", 0, "contactMedium"}, []string{email}},
		"characteristic":          {append(slices.Clone(medium), "characteristic"), []string{email}},
		"emailAddress":            {append(slices.Clone(medium), "characteristic", "emailAddress"), []string{email}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			faults := make([]productFault, len(test.names))
			for _, body := range []object{demoProduct().without(test.path...), demoProduct().set(nil, test.path...)} {
				a := create(t, body.text(t))
				for i, name := range test.names {
					faults[i] = productFault{
						Code:        400,
						Message:     "APIKIT:BAD_REQUEST",
						Description: name + " must be provided",
					}
				}
				requireProductErrors(t, a, 400, faults...)
			}
			for _, value := range []any{5, true, "", " ", object{}, []any{}, []any{5}, []any{nil}, json.Number(strings.Repeat("9", 400))} {
				a := create(t, demoProduct().set(value, test.path...).text(t))
				require.Equal(t, 400, a.Status, "%v: %s", value, a.Body)
				for _, fault := range a.Object(t)["errors"].([]any) {
					assert.Contains(
						t,
						[]any{"APIKIT:BAD_REQUEST", "VALIDATION:INVALID_EMAIL"},
						fault.(map[string]any)["message"],
					)
				}
			}
		})
	}
}

// docs/contract.md §3, row "emailAddress not an address".
func TestProductInvalidEmail(t *testing.T) {
	t.Parallel()
	for _, email := range []any{
		"abc", "abc@", "@gmail.com", "abc@gmail", "a b@gmail.com", "abc@gmail.com, d@gmail.com", "Abc <abc@gmail.com>", "abc@gmail..com", "abc@-gmail.com",
		"abc@gmail.com\r\nBcc: x@example.com", "abc@[127.0.0.1]", "abc@127.0.0.1", "a@b@c.com", ".", strings.Repeat("a", 65) + "@gmail.com", "a@" + strings.Repeat("b.", 130) + "com", 5, true,
	} {
		t.Run(fmt.Sprintf("%.40q", email), func(t *testing.T) {
			t.Parallel()
			a := create(t, demoProduct().set(email, emailPath...).text(t))
			requireProductErrors(t, a, 400, productFault{Code: 400, Message: "VALIDATION:INVALID_EMAIL"})
			assert.Contains(t, a.Body, "billingAccount.contact[0].contactMedium[0].characteristic.emailAddress")
		})
	}
}

// docs/contract.md §3, row "…correlation header missing…".
func TestProductCorrelationHeader(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product.DemoClient
	for name, value := range map[string]string{"missing": "", "blank": "  ", "256 characters": strings.Repeat("c", 256)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := send(t, inPanama(), demoProduct().text(t), productHeaders(demo, value)...)
			requireProductErrors(t, a, 400, productFault{Code: 400, Message: "APIKIT:BAD_REQUEST"})
			assert.Contains(t, a.Body, "X-Correlation-ID")
		})
	}
	t.Run("any identification model", func(t *testing.T) {
		t.Parallel()
		for _, value := range []string{"1-" + unique(), "sha256:" + unique(), "a b/c?d=e&" + unique(), unique() + strings.Repeat("c", 255-36)} {
			require.Equal(t, 201, createAs(t, demo, inPanama(), value, demoProduct().text(t)).Status)
		}
	})
}

// docs/contract.md §3, row "…businessId not two letters or not a served country".
func TestProductBusinessID(t *testing.T) {
	t.Parallel()
	for _, businessID := range []string{"P", "pa", "PAN", "P1", "%C3%91A", "GB", "ZZ", "P%20", "..%2F", "PA%00", "PA%23product"} {
		t.Run(businessID, func(t *testing.T) {
			t.Parallel()
			a := createAs(t, bundle.Demo.Product.DemoClient, in(businessID), unique(), demoProduct().text(t))
			requireProductErrors(t, a, 400, productFault{Code: 400, Message: "APIKIT:BAD_REQUEST"})
			assert.Contains(t, a.Body, "businessId")
		})
	}
}

// docs/contract.md §3: all of a request's errors at once.
func TestProductFaultsTogether(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product.DemoClient
	bad := func(description string) productFault {
		return productFault{Code: 400, Message: "APIKIT:BAD_REQUEST", Description: description}
	}
	constant := func(member, expected string) productFault {
		return productFault{
			Code:        400,
			Message:     "VALIDATION:INVALID_BOOLEAN",
			Description: "Mandatory field " + member + " is not specified or Incorrect value is received. The expected value is " + expected,
		}
	}
	a := send(t, in("GB"), `{}`, productHeaders(demo, "")...)
	require.Equal(t, 400, a.Status)
	var body struct{ Errors []productFault }
	require.NoError(t, json.Unmarshal([]byte(a.Body), &body))
	require.Len(t, body.Errors, 8)
	assert.Contains(t, body.Errors[0].Description, "businessId")
	assert.Contains(t, body.Errors[1].Description, "X-Correlation-ID")
	assert.Equal(t, []productFault{
		bad("productSpecification.id must be provided"), constant("@baseType", "product"), constant("@type", "OTT"),
		bad("@referredType must be provided"), bad("billingAccount.id must be provided"),
		bad("billingAccount.contact[0].contactMedium[0].characteristic.emailAddress must be provided"),
	}, body.Errors[2:])

	// Malformed JSON, together with what is wrong around it.
	requireProductErrors(t, send(t, in("GB"), `{`, productHeaders(demo, "")...), 400, bad(""), bad(""), bad(""))
}

// docs/contract.md §3, row "credentials missing, short, unknown, wrong": 401, WWW-Authenticate: Client-ID-Enforcement.
func TestProductUnauthenticated(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product
	for name, c := range map[string]local.DemoClient{
		"both missing":            {},
		"client_id missing":       {ClientSecret: demo.ClientSecret},
		"client_secret missing":   {ClientID: demo.ClientID},
		"client_id short":         {ClientID: "demo", ClientSecret: demo.ClientSecret},
		"client_secret short":     {ClientID: demo.ClientID, ClientSecret: "1234"},
		"unknown":                 {ClientID: "nobody-knows", ClientSecret: demo.ClientSecret},
		"an id that cannot be":    {ClientID: "../" + demo.ClientID, ClientSecret: demo.ClientSecret},
		"an id in another case":   {ClientID: strings.ToUpper(demo.ClientID), ClientSecret: demo.ClientSecret},
		"wrong":                   {ClientID: demo.ClientID, ClientSecret: "wrong-secret"},
		"another client's secret": {ClientID: demo.ClientID, ClientSecret: bundle.Demo.OTT.ClientSecret},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{demoProduct().text(t), "not JSON"} { // who is unknown learns nothing of the body
				a := createAs(t, c, inPanama(), unique(), body)
				require.Equal(t, 401, a.Status, "%s", a.Body)
				require.Equal(t, unauthenticated, a.Body)
				require.Equal(t, "Client-ID-Enforcement", a.Header.Get("WWW-Authenticate"))
			}
			require.Equal(t, 401, createAs(t, c, in("GB"), unique(), `{}`).Status, "nor which countries are served")
		})
	}
}

// docs/contract.md §3, row "client not allowed for this businessId": 403.
func TestProductForbidden(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		client local.DemoClient
		e      endpoint
	}{
		"a client of another country": {dxpTrinidad, inPanama()},
		"a client of another API":     {bundle.Demo.OTT, inPanama()},
		"an ENGAGE client":            {bundle.Demo.Engage.DemoClient, inPanama()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, body := range []string{demoProduct().text(t), "not JSON"} {
				a := createAs(t, test.client, test.e, unique(), body)
				require.Equal(t, 403, a.Status, "%s", a.Body)
				requireProductErrors(t, a, 403, productFault{Code: 403, Message: "APIKIT:FORBIDDEN"})
			}
		})
	}
}

// docs/contract.md §3, row "wrong method / media type": 405 / 415.
func TestProductMethodAndMediaType(t *testing.T) {
	t.Parallel()
	demo := bundle.Demo.Product.DemoClient
	for _, method := range []string{http.MethodPut, http.MethodPatch, http.MethodDelete} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			a := createAs(t, demo, inPanama().with(method), unique(), "")
			requireProductErrors(t, a, 405, productFault{Code: 405, Message: "APIKIT:METHOD_NOT_ALLOWED"})
			require.Equal(t, "GET, POST", a.Header.Get("Allow"))
		})
	}
	for _, contentType := range []string{"", "text/plain", "application/xml", "application/octet-stream", "application/x-www-form-urlencoded"} {
		t.Run("media type "+contentType, func(t *testing.T) {
			t.Parallel()
			a := createAs(t, demo, inPanama(), unique(), demoProduct().text(t), "Content-Type", contentType)
			requireProductErrors(t, a, 415, productFault{Code: 415, Message: "APIKIT:UNSUPPORTED_MEDIA_TYPE"})
		})
	}
	t.Run("media type with a charset", func(t *testing.T) {
		t.Parallel()
		require.Equal(
			t,
			201,
			createAs(
				t,
				demo,
				inPanama(),
				unique(),
				demoProduct().text(t),
				"Content-Type",
				"application/json;charset=UTF-8",
			).Status,
		)
	})
}

// docs/contract.md §3: the mail goes to the contact that is meant: valid now, primary before others, then preferred,
// mediumType email or none, the first of equals; other media are ignored.
func TestProductIsMailedToTheContactThatIsMeant(t *testing.T) {
	t.Parallel()
	medium := func(address string, members object) object {
		m := object{"characteristic": object{"emailAddress": address}}
		maps.Copy(m, members)
		return m
	}
	phone := object{"mediumType": "telephoneNumber", "characteristic": object{"phoneNumber": "+5071234567"}}
	over := object{"endDateTime": "2020-01-01T00:00:00Z"}
	for name, contacts := range map[string]func(meant, other string) []any{
		"primary": func(meant, other string) []any {
			return []any{
				object{"contactType": "technical", "contactMedium": []any{medium(other, object{"preferred": true})}},
				object{"contactType": "primary", "contactMedium": []any{medium(meant, nil)}},
			}
		},
		"preferred": func(meant, other string) []any {
			return []any{object{"contactMedium": []any{
				medium(other, object{"mediumType": "email"}),
				medium(meant, object{"mediumType": "email", "preferred": true}),
			}}}
		},
		"valid": func(meant, other string) []any {
			return []any{
				object{"contactType": "primary", "validFor": over, "contactMedium": []any{medium(other, nil)}},
				object{"contactMedium": []any{
					medium(other, object{"preferred": true, "validFor": over}),
					medium(meant, object{"validFor": object{"startDateTime": "2020-01-01T00:00:00Z"}}),
				}},
			}
		},
		"the first of equals": func(meant, other string) []any {
			return []any{object{"contactMedium": []any{medium(meant, nil), medium(other, nil)}}}
		},
		"for mail": func(meant, other string) []any {
			return []any{
				object{"contactType": "primary", "contactMedium": []any{phone}},
				object{"contactMedium": []any{
					phone, medium(other, object{"mediumType": "fax", "preferred": true}), medium(meant, nil),
				}},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meant, other := unique()+"@example.com", unique()+"@example.com"
			body := demoProduct().set(contacts(meant, other), "billingAccount", "contact")
			made := create(t, body.text(t))
			require.Equal(t, 201, made.Status, "%s", made.Body)
			becomes(t, made, "delivered")
			require.Len(t, bundle.MailsTo(meant), 1)
			require.Empty(t, bundle.MailsTo(other))
			require.NotContains(t, made.Body, "+5071234567")
		})
	}
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		for want, contact := range map[string]object{
			"billingAccount.contact must have an emailAddress that is valid now": {
				"validFor": over, "contactMedium": []any{medium("a@example.com", nil)},
			},
			"billingAccount.contact[0].contactMedium[0].characteristic.emailAddress must be provided": {
				"contactMedium": []any{phone},
			},
		} {
			a := create(t, demoProduct().set([]any{contact}, "billingAccount", "contact").text(t))
			requireProductErrors(t, a, 400, productFault{Code: 400, Message: "APIKIT:BAD_REQUEST", Description: want})
		}
	})
}
