package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/clientauth"
	"carillon/shared/dynamo"
	"carillon/shared/ott"
	"carillon/shared/ott/api"
	"carillon/shared/ott/otttest"
	"carillon/shared/secret"
)

const readScope = ott.ScopeRegistrationRead

// bearerOf is the Authorization header of another tenant than that of bearer.
func bearerOf(t *testing.T, tenant string, scopes ...string) string {
	t.Helper()
	signed, err := api.NewAuthority(secret.NewCache(vault{}), keyName).Issue(t.Context(),
		clientauth.Client{ID: "another-client", Tenant: tenant}, scopes)
	require.NoError(t, err)
	return "Bearer " + signed
}

// functions are the four functions of registrations on one registry. What a call returns and logs is searched for
// secrets.
type functions struct {
	*otttest.Registry
	register, list, get, delete *endpoint
}

func newFunctions(t *testing.T) *functions {
	t.Helper()
	r := otttest.NewRegistry(t)
	tokens := api.NewAuthority(secret.NewCache(vault{}), keyName)
	return &functions{
		Registry: r,
		register: newEndpoint((&api.RegisterHandler{Tokens: tokens, Registrations: r.Registrations}).Serve,
			api.EncodeError),
		list: newEndpoint((&api.ListHandler{Tokens: tokens, Registrations: r.RegistrationReader}).Serve,
			api.EncodeError),
		get: newEndpoint((&api.GetHandler{Tokens: tokens, Registrations: r.RegistrationReader}).Serve,
			api.EncodeError),
		delete: newEndpoint((&api.DeleteHandler{Tokens: tokens, Registrations: r.Registrations}).Serve,
			api.EncodeError),
	}
}

// ask calls a function about a property, or about a platform if id is empty.
func (e *endpoint) ask(t *testing.T, authorization, platform, id, query string) events.APIGatewayV2HTTPResponse {
	t.Helper()
	answer, err := e.serve(t.Context(), events.APIGatewayV2HTTPRequest{
		PathParameters: map[string]string{"platform": platform, "ottPropertyId": id}, RawQueryString: query,
		Headers: map[string]string{"authorization": authorization},
	})
	require.NoError(t, err)
	for _, credential := range []string{
		"03d537gg656gvkbe9b430f002e9c4517", "someaccesstoken", "this_is_the_verify_token",
		"31234arajcauoherbasuhb213ijqjohbjhb123",
	} {
		assert.NotContains(t, answer.Body+e.log.String(), credential, "no credential in an answer or a log line")
	}
	return answer
}

func (f *functions) put(t *testing.T, authorization, text string) {
	t.Helper()
	answer := f.register.post(t, text, map[string]string{
		"authorization": authorization, "content-type": "application/json",
	})
	require.Equal(t, http.StatusCreated, answer.StatusCode, answer.Body)
}

const (
	shownMessenger = `{"ottPlatformName":"messenger","ottPlatformAttributes":{"applicationId":"1093076390764037",` +
		`"pageId":"1732555047025799",` +
		`"pageName":"SFMC Engineers","endpointUrl":"https://graph.facebook.com/v2.6/me/messages","isActive":true,` +
		`"apiVersion":"v2.0"},"credentials":{"state":"unknown"}}`
	shownLINE = `{"ottPlatformName":"line","ottPlatformAttributes":{"channelId":"23493453984234345",` +
		`"channelName":"SFMC Engineers",` +
		`"endpointUrl":"https://example.com/1732555047025799","isTransactional":true,"isTestChannel":false,` +
		`"isActive":true,"apiVersion":"v2.0"},"credentials":{"state":"unknown"}}`
	unknownRegistration = `{"message":"The registration does not exist","errorcode":30003,"documentation":""}`
	insufficient        = `{"message":"Insufficient Privileges","errorcode":20002,"documentation":""}`
)

// docs/contract.md §1, the life of a registration: list, get, override, delete, and the same id again at once.
func TestLifeOfARegistration(t *testing.T) {
	for name, test := range map[string]struct{ seed, shown, id, name string }{
		"messenger": {otttest.SeedMessenger, shownMessenger, "1732555047025799", "pageName"},
		"line":      {otttest.SeedLINE, shownLINE, "23493453984234345", "channelName"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFunctions(t)
			read, write := bearer(t, readScope), bearer(t, writeScope)
			shown := func(items string, count int) {
				t.Helper()
				answer := f.list.ask(t, read, name, "", "")
				assert.Equal(t, http.StatusOK, answer.StatusCode)
				assert.Equal(t,
					fmt.Sprintf(
						`{"count":%d,"page":1,"pageSize":50,`+
							`"links":{"self":{"href":"/ott/v1/registration/%s?%%24page=1&%%24pagesize=50"}},`+
							`"items":[%s]}`,
						count, name, items),
					answer.Body)
				assert.Equal(t, "application/json", answer.Headers["content-type"])
			}
			shown("", 0)
			assert.Equal(t, http.StatusNotFound, f.get.ask(t, read, name, test.id, "").StatusCode)

			for range 2 { // the second time it has been deleted
				f.put(t, write, test.seed)
				answer := f.get.ask(t, read, name, test.id, "")
				assert.Equal(t, http.StatusOK, answer.StatusCode)
				assert.Equal(t, test.shown, answer.Body)
				shown(test.shown, 1)

				f.put(t, write, otttest.Body(t, test.seed, test.name, `"Renamed"`, "isActive", "0"))
				overridden := strings.NewReplacer("SFMC Engineers", "Renamed", `"isActive":true`,
					`"isActive":false`).Replace(test.shown)
				assert.Equal(t, overridden, f.get.ask(t, read, name, test.id, "").Body)
				shown(overridden, 1)
				f.AssertWhole()

				answer = f.delete.ask(t, write, name, test.id, "")
				assert.Equal(t, http.StatusNoContent, answer.StatusCode)
				assert.Empty(t, answer.Body)
				assert.NotContains(t, answer.Headers, "content-type")
				assert.Empty(t, f.All())
				assert.Empty(t, f.Live())
				shown("", 0)
				for _, answer := range []events.APIGatewayV2HTTPResponse{
					f.get.ask(t, read, name, test.id, ""), f.delete.ask(t, write, name, test.id, ""),
				} {
					assert.Equal(t, http.StatusNotFound, answer.StatusCode)
					assert.Equal(t, unknownRegistration, answer.Body)
				}
			}
		})
	}
}

// docs/contract.md §1, the rows of errors for list, get and delete. What is refused changes nothing.
func TestContractRegistrationLifeErrors(t *testing.T) {
	f := newFunctions(t)
	f.put(t, bearer(t, writeScope), otttest.SeedMessenger)
	const id, unauthorized = "1732555047025799", `{"message":"Not Authorized","errorcode":0,"documentation":""}`
	aggregate := func(messages ...string) string {
		faults := make([]string, len(messages))
		for i, message := range messages {
			faults[i] = `{"message":"` + message + `","errorcode":10005,"documentation":""}`
		}
		return `{"message":"Please fix the following errors","errorcode":10006,"documentation":"",` +
			`"validationErrors":[` +
			strings.Join(faults, ",") + `]}`
	}
	read, write := bearer(t, readScope), bearer(t, writeScope)
	foreignRead, foreignWrite := bearerOf(t, "tenant-2", readScope), bearerOf(t, "tenant-2", writeScope)
	noRead, noWrite := bearer(t, writeScope, ott.ScopeSend), bearer(t, readScope, ott.ScopeSend)
	for name, test := range map[string]struct {
		function                        *endpoint
		authorization, platform, id, qs string
		status                          int
		want                            string
	}{
		"list: no token":               {f.list, "", "messenger", "", "", 401, unauthorized},
		"list: bad token and platform": {f.list, "Bearer x", "telegram", "", "", 401, unauthorized},
		"list: token lacks the scope":  {f.list, noRead, "messenger", "", "", 403, insufficient},
		"list: unknown platform": {
			f.list, read, "telegram", "", "", 400, aggregate("OttPlatformName is invalid"),
		},
		"list: platform in capitals": {
			f.list, read, "Messenger", "", "", 400, aggregate("OttPlatformName is invalid"),
		},
		"list: page 0": {
			f.list, read, "line", "", "$page=0", 400, aggregate("Page is invalid"),
		},
		"list: page below 0": {
			f.list, read, "line", "", "$page=-1", 400, aggregate("Page is invalid"),
		},
		"list: page of no number": {
			f.list, read, "line", "", "$page=one", 400, aggregate("Page is invalid"),
		},
		"list: page of a fraction": {
			f.list, read, "line", "", "$page=1.5", 400, aggregate("Page is invalid"),
		},
		"list: page beyond any": {
			f.list, read, "line", "", "$page=1000000001", 400, aggregate("Page is invalid"),
		},
		"list: page beyond numbers": {
			f.list, read, "line", "", "$page=99999999999999999999", 400, aggregate("Page is invalid"),
		},
		"list: page size 0": {
			f.list, read, "line", "", "%24pagesize=0", 400, aggregate("PageSize is invalid"),
		},
		"list: page size 1001": {
			f.list, read, "line", "", "%24pagesize=1001", 400, aggregate("PageSize is invalid"),
		},
		"list: page size of no number": {
			f.list, read, "line", "", "$pagesize=0x10", 400, aggregate("PageSize is invalid"),
		},
		"list: all at once": {
			f.list, read, "x", "", "$page=x&$pagesize=x", 400,
			aggregate("OttPlatformName is invalid", "Page is invalid", "PageSize is invalid"),
		},
		"get: no token":              {f.get, "", "messenger", id, "", 401, unauthorized},
		"get: token lacks the scope": {f.get, noRead, "messenger", id, "", 403, insufficient},
		"get: unknown platform": {
			f.get, read, "telegram", id, "", 400, aggregate("OttPlatformName is invalid"),
		},
		"get: unknown":               {f.get, read, "messenger", "1", "", 404, unknownRegistration},
		"get: on the other platform": {f.get, read, "line", id, "", 404, unknownRegistration},
		"get: another tenant's":      {f.get, foreignRead, "messenger", id, "", 404, unknownRegistration},
		"get: an id of 3,000 characters": {
			f.get, read, "messenger", strings.Repeat("1", 3000), "", 404, unknownRegistration,
		},
		"get: an id of no UTF-8":        {f.get, read, "messenger", "\xff", "", 404, unknownRegistration},
		"delete: no token":              {f.delete, "", "messenger", id, "", 401, unauthorized},
		"delete: token lacks the scope": {f.delete, noWrite, "messenger", id, "", 403, insufficient},
		"delete: unknown platform": {
			f.delete, write, "telegram", id, "", 400, aggregate("OttPlatformName is invalid"),
		},
		"delete: unknown":               {f.delete, write, "messenger", "1", "", 404, unknownRegistration},
		"delete: on the other platform": {f.delete, write, "line", id, "", 404, unknownRegistration},
		"delete: another tenant's":      {f.delete, foreignWrite, "messenger", id, "", 404, unknownRegistration},
		"delete: an id of 3,000 characters": {
			f.delete, write, "messenger", strings.Repeat("1", 3000), "", 404, unknownRegistration,
		},
		"delete: an id that begins like theirs": {
			f.delete, foreignWrite, "messenger", id[:5], "", 404, unknownRegistration,
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer := test.function.ask(t, test.authorization, test.platform, test.id, test.qs)
			assert.Equal(t, test.status, answer.StatusCode)
			assert.Equal(t, test.want, answer.Body)
		})
	}
	f.AssertWhole()
	assert.Equal(t, `{"count":0,"page":1,"pageSize":50,`+
		`"links":{"self":{"href":"/ott/v1/registration/messenger?%24page=1&%24pagesize=50"}},"items":[]}`,
		f.list.ask(t, foreignRead, "messenger", "", "").Body, "another tenant's list does not show it")
}

// docs/contract.md §1: $page and $pagesize, count and links.
func TestListPages(t *testing.T) {
	f := newFunctions(t)
	write := bearer(t, writeScope)
	for _, id := range []string{"30", "4", "1", "200", "1000"} {
		f.put(t, write, otttest.Body(t, otttest.SeedLINE, "channelId", `"`+id+`"`))
	}
	f.put(t, write, otttest.SeedMessenger)
	f.put(t, bearerOf(t, "tenant-2", writeScope), otttest.Body(t, otttest.SeedLINE, "channelId", `"10"`))
	items := func(ids ...string) string {
		shown := make([]string, len(ids))
		for i, id := range ids {
			shown[i] = strings.Replace(shownLINE, "23493453984234345", id, 1)
		}
		return strings.Join(shown, ",")
	}
	at := func(page, size int) string {
		return fmt.Sprintf(`{"href":"/ott/v1/registration/line?%%24page=%d&%%24pagesize=%d"}`, page, size)
	}
	for name, test := range map[string]struct {
		query      string
		page, size int
		links      string
		items      string
	}{
		"all of it":        {"", 1, 50, ``, items("1", "1000", "200", "30", "4")},
		"empty parameters": {"$page=&$pagesize=", 1, 50, ``, items("1", "1000", "200", "30", "4")},
		"the largest page": {"%24pagesize=1000", 1, 1000, ``, items("1", "1000", "200", "30", "4")},
		"exactly one page": {"%24pagesize=5", 1, 5, ``, items("1", "1000", "200", "30", "4")},
		"first":            {"$page=1&$pagesize=2", 1, 2, `,"next":` + at(2, 2), items("1", "1000")},
		"second": {
			"%24page=2&%24pagesize=2", 2, 2, `,"previous":` + at(1, 2) + `,"next":` + at(3, 2), items("200", "30"),
		},
		"last":         {"$pagesize=2&$page=3", 3, 2, `,"previous":` + at(2, 2), items("4")},
		"past the end": {"$page=4&$pagesize=2", 4, 2, `,"previous":` + at(3, 2), ``},
		"far past the end": {
			"$page=1000000000&$pagesize=1000", 1000000000, 1000, `,"previous":` + at(1, 1000), ``,
		},
		"parameters of no use":   {"page=3&pagesize=1&$filter=x", 1, 50, ``, items("1", "1000", "200", "30", "4")},
		"the first of two pages": {"$pagesize=2&$page=1&$page=2", 1, 2, `,"next":` + at(2, 2), items("1", "1000")},
	} {
		t.Run(name, func(t *testing.T) {
			answer := f.list.ask(t, bearer(t, readScope), "line", "", test.query)
			assert.Equal(t, http.StatusOK, answer.StatusCode)
			assert.Equal(t,
				fmt.Sprintf(`{"count":5,"page":%d,"pageSize":%d,"links":{"self":%s%s},"items":[%s]}`, test.page,
					test.size, at(test.page, test.size), test.links, test.items),
				answer.Body)
		})
	}
}

// A list of more than DynamoDB reads at once (1 MB), and a page of more than Lambda answers (6 MB).
func TestListOfLargeRegistrations(t *testing.T) {
	f := newFunctions(t)
	const count = 700
	long := "https://example.com/" + strings.Repeat("€", 2028) // the longest URL, 6 KB
	var writes []types.WriteRequest
	for i := range count {
		writes = append(writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: dynamo.Item{
			"pk": dynamo.String(fmt.Sprintf("line#%03d", i)), "tenant": dynamo.String("tenant-1"),
			"tenantPlatform": dynamo.String("tenant-1#line"),
			"platform":       dynamo.String("line"), "propertyId": dynamo.String(fmt.Sprintf("%03d", i)),
			"name":        dynamo.String(strings.Repeat("\x01", 255)),
			"endpointUrl": dynamo.String(long), "secretName": dynamo.String("none"),
		}}})
	}
	for len(writes) > 0 {
		batch := writes[:min(25, len(writes))]
		writes = writes[len(batch):]
		out, err := f.Items.BatchWriteItem(t.Context(), &dynamodb.BatchWriteItemInput{
			RequestItems: map[string][]types.WriteRequest{f.Table: batch},
		})
		require.NoError(t, err)
		writes = append(writes, out.UnprocessedItems[f.Table]...)
	}

	answer := f.list.ask(t, bearer(t, readScope), "line", "", "$page=2&$pagesize=500")
	require.Equal(t, http.StatusOK, answer.StatusCode)
	assert.Contains(t, answer.Body, `{"count":700,"page":2,"pageSize":500,`)
	assert.Equal(t, 200, strings.Count(answer.Body, long))
	assert.Contains(t, answer.Body, `"channelId":"500"`)
	assert.Contains(t, answer.Body, `"channelId":"699"`)

	answer = f.list.ask(t, bearer(t, readScope), "line", "", "$pagesize=1000")
	assert.Equal(t, http.StatusBadRequest, answer.StatusCode)
	assert.Contains(t, answer.Body, `"PageSize is invalid"`)
}
