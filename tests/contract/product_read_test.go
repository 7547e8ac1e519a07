package contract_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/tests/harness"
)

// clientHeaders are a client's credentials: a read needs no correlation id.
func clientHeaders(c local.DemoClient) []string {
	return []string{"client_id", c.ClientID, "client_secret", c.ClientSecret}
}

// listed asks for the demo channel's products in its business unit.
func listed(t *testing.T, query string) (answer, []object) {
	t.Helper()
	a := send(t, productList.at(inPanama().target+"?"+query), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	var products []object
	require.NoError(t, json.Unmarshal([]byte(a.Body), &products))
	require.Equal(t, strconv.Itoa(len(products)), a.Header.Get("X-Result-Count"))
	return a, products
}

func got(t *testing.T, id string) answer {
	t.Helper()
	return send(t, productGet.at(inPanama().target+"/"+id), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
}

func idsOf(products []object) []string {
	ids := make([]string, len(products))
	for i, p := range products {
		ids[i] = p["id"].(string)
	}
	return ids
}

// requireTMF637 checks a body against the schema of that name, which holds what TM Forum publishes of the model's
// members.
func requireTMF637(t *testing.T, schema string, body []byte) {
	t.Helper()
	document, err := openapi3.NewLoader().LoadFromFile("../../shared/product/api/testdata/tmf637.yaml")
	require.NoError(t, err)
	var value any
	require.NoError(t, json.Unmarshal(body, &value))
	require.NoError(t, document.Components.Schemas[schema].Value.VisitJSON(value), "%s", body)
}

// docs/contract.md §3: GET …/product and …/product/{id} follow TMF637 v4, as the create answered, with what became of
// the mail.
func TestProductIsRead(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	made := create(t, body.text(t))
	require.Equal(t, http.StatusCreated, made.Status, "%s", made.Body)
	product := made.Object(t)
	id := product["id"].(string)

	// Location leads to it.
	location, err := url.Parse(made.Header.Get("Location"))
	require.NoError(t, err)
	read := send(t, productGet.at(location.Path), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
	require.Equal(t, http.StatusOK, read.Status, "%s", read.Body)
	requireTMF637(t, "Product", []byte(made.Body))
	requireTMF637(t, "Product", []byte(read.Body))
	shown := read.Object(t)
	characteristics := shown["productCharacteristic"]
	shown["productCharacteristic"] = []any{}
	assert.Equal(t, product, shown)
	assert.NotEmpty(t, characteristics)

	harness.Eventually(t, "the mail's state is readable", func() ([]any, bool) {
		list, _ := got(t, id).Object(t)["productCharacteristic"].([]any)
		first, _ := list[0].(map[string]any)
		return list, first["name"] == "activationMail" && first["value"] == "delivered"
	})

	all, products := listed(t, "billingAccount.id="+url.QueryEscape(customerOf(body)))
	requireTMF637(t, "Products", []byte(all.Body))
	assert.Equal(t, "1", all.Header.Get("X-Total-Count"))
	require.Equal(t, []string{id}, idsOf(products))
	assert.Equal(t, product["href"], products[0]["href"])
	assert.Equal(t, object{"id": id, "href": product["href"], "status": "created"}, func() object {
		_, part := listed(t, "id="+id+"&fields=status")
		require.Len(t, part, 1)
		return part[0]
	}())
	for _, none := range []string{"&status=cancelled", "&name=Disney", "&@referredType=NETFLIX"} {
		empty, products := listed(t, "id="+id+none)
		assert.Empty(t, products, none)
		assert.Equal(t, "0", empty.Header.Get("X-Total-Count"), none)
	}
}

// docs/contract.md §3: a comma in a filter's value is OR, and so is a semicolon, bare or %3B; operators and JSONPath are
// refused by name.
func TestProductFilters(t *testing.T) {
	t.Parallel()
	var made, accounts []string
	for range 2 {
		body := demoProduct()
		a := create(t, body.text(t))
		require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
		made, accounts = append(made, a.Object(t)["id"].(string)), append(accounts, customerOf(body))
	}
	slices.Sort(made)
	const name = "billingAccount.id="
	for _, query := range []string{
		name + accounts[0] + "," + accounts[1],
		name + accounts[0] + "%2C" + accounts[1],
		name + accounts[0] + ";" + accounts[1],
		name + accounts[0] + "%3B" + accounts[1],
		name + accounts[0] + ";" + name + accounts[1],
		name + accounts[0] + "%3B" + name + accounts[1],
		name + accounts[0] + "&" + name + accounts[1],
	} {
		_, products := listed(t, query)
		assert.Equal(t, made, idsOf(products), query)
	}
	for query, want := range map[string]string{
		"startDate.gt=2026-01-01":  `"startDate.gt": the operator .gt is not supported, = is`,
		"startDate.lt=2026-01-01":  `"startDate.lt": the operator .lt is not supported, = is`,
		"startDate%3E=2026-01-01":  `"startDate>": the operator >= is not supported, = is`,
		"status*=cre":              `"status*": the operator *= is not supported, = is`,
		"status~=cre":              `"status~": the operator ~= is not supported, = is`,
		"filter=%24.status":        `"filter": JSONPath is not supported`,
		"status=created;limit=1":   `; joins filters of one attribute, not of "status" and "limit"`,
		"status=created%3Blimit=1": `; joins filters of one attribute, not of "status" and "limit"`,
		"status=%zz":               "the query is not URL-encoded",
	} {
		a := send(t, productList.at(inPanama().target+"?"+query), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
		requireProductErrors(t, a, http.StatusBadRequest, productFault{400, "APIKIT:BAD_REQUEST", want})
	}
}

// docs/contract.md §3: offset, limit, X-Total-Count, X-Result-Count; 200 whether paged or not.
func TestProductsArePaged(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	medium := addressOf(body)
	var made []string
	for range 3 {
		one := demoProduct()
		one = one.set(medium, emailPath...)
		a := create(t, one.text(t))
		require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
		made = append(made, a.Object(t)["id"].(string))
	}
	slices.Sort(made)
	filter := "billingAccount.contact.contactMedium.characteristic.emailAddress=" + url.QueryEscape(medium)
	var paged []string
	for offset := range 4 {
		a, products := listed(t, filter+"&limit=1&offset="+strconv.Itoa(offset))
		assert.Equal(t, "3", a.Header.Get("X-Total-Count"))
		assert.Contains(t, a.Header.Get("Link"), `rel="first"`)
		paged = append(paged, idsOf(products)...)
	}
	assert.Equal(t, made, paged)
	_, unpaged := listed(t, filter)
	assert.Equal(t, made, idsOf(unpaged))
}

// docs/contract.md §3: the reads are refused as the create is, in the same body.
func TestProductReadsRefused(t *testing.T) {
	t.Parallel()
	client := bundle.Demo.Product.DemoClient
	collection := inPanama().target
	notFound := productFault{404, "APIKIT:NOT_FOUND", "There is no such product."}

	requireProductErrors(t, got(t, "00000000-0000-5000-8000-000000000000"), http.StatusNotFound, notFound)
	requireProductErrors(t, got(t, "no-id"), http.StatusNotFound, notFound)
	requireProductErrors(
		t,
		send(t, productList.at(collection+"?limit=-1&offset=x&nonsense=1"), "", clientHeaders(client)...),
		http.StatusBadRequest,
		productFault{400, "APIKIT:BAD_REQUEST", "offset must be one integer from 0 to 2147483647"},
		productFault{400, "APIKIT:BAD_REQUEST", "limit must be one integer from 0 to 2147483647"},
		productFault{400, "APIKIT:BAD_REQUEST", `"nonsense" is not an attribute of a product`},
	)
	for _, e := range []endpoint{productList.at(collection), productGet.at(collection + "/no-id")} {
		for name, credentials := range map[string][]string{
			"missing": nil,
			"short":   {"client_id", client.ClientID, "client_secret", "1234"},
			"unknown": {"client_id", "no-such-client", "client_secret", client.ClientSecret},
			"wrong":   {"client_id", client.ClientID, "client_secret", client.ClientSecret + "x"},
		} {
			a := send(t, e, "", credentials...)
			assert.Equal(t, http.StatusUnauthorized, a.Status, name)
			assert.Equal(t, unauthenticated, a.Body, name)
			assert.Equal(t, "Client-ID-Enforcement", a.Header.Get("WWW-Authenticate"), name)
		}
		assert.Equal(
			t,
			http.StatusForbidden,
			send(t, e, "", clientHeaders(dxpTrinidad)...).Status,
			"allowed for TT alone",
		)
	}
	deleted := send(t, productGet.with(http.MethodDelete).at(collection+"/no-id"), "", clientHeaders(client)...)
	assert.Equal(t, http.StatusMethodNotAllowed, deleted.Status)
	assert.Equal(t, "GET", deleted.Header.Get("Allow"))
}

// docs/contract.md §3: a client sees its own tenant's products and its own business unit's alone.
func TestProductsOfOthersAreNotRead(t *testing.T) {
	t.Parallel()
	body := demoProduct()
	body = body.set(englishProduct, "productSpecification", "id")
	made := createAs(t, dxpTrinidad, in(otherCountry), unique(), body.text(t))
	require.Equal(t, http.StatusCreated, made.Status, "%s", made.Body)
	id := made.Object(t)["id"].(string)

	own := send(t, productGet.at(in(otherCountry).target+"/"+id), "", clientHeaders(dxpTrinidad)...)
	require.Equal(t, http.StatusOK, own.Status, "%s", own.Body)
	for _, target := range []string{in(otherCountry).target, inPanama().target} {
		other := send(t, productGet.at(target+"/"+id), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
		assert.Equal(t, http.StatusNotFound, other.Status, target)
		list := send(t, productList.at(target+"?id="+id), "", clientHeaders(bundle.Demo.Product.DemoClient)...)
		assert.Equal(t, "[]", list.Body, target)
	}
}
