package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
)

// docs/contract.md §3: the seed's model with what became of the activation mail, in the order of ids.
func TestListAnswersTheSeedsModel(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t,
		stored(numbered(2), "mailState", "bounced", "mailAt", "2026-02-10T16:00:00.087Z", "mailReason",
			`550 <"unknown">`,
			"billingAccountBaseType", "Account", "billingAccountType", "BillingAccount"),
		stored(numbered(1)),
	)
	answer := reads.listed(t, "")
	assert.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	const model = `"status":"created","productSpecification":{"id":"disney-plus"},"@baseType":"product","@type":"OTT",
		"productOffering":{"id":"disney-plus"},"@referredType":"DISNEY","productPrice":[],"relatedParty":[],"billingAccount":{"id":"8001234567","contact":[
			{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"abc@gmail.com"}}]}]`
	assert.JSONEq(t, `[
		{"id":"`+numbered(1)+`","href":"`+collection+`/`+numbered(1)+`",`+model+`},"productCharacteristic":[]},
		{"id":"`+numbered(2)+`","href":"`+collection+`/`+numbered(2)+`",`+model+`,
			"@baseType":"Account","@type":"BillingAccount"},"productCharacteristic":[
			{"name":"activationMail","valueType":"string","value":"bounced"},
			{"name":"activationMailDate","valueType":"dateTime","value":"2026-02-10T16:00:00.087Z"},
			{"name":"activationMailReason","valueType":"string","value":"550 <\"unknown\">"}]}]`, answer.Body)
	requireTMF637(t, "Products", answer.Body)
	for name, want := range map[string]string{
		"content-type": "application/json", "x-total-count": "2", "x-result-count": "2", "x-correlation-id": "c-1",
		"cache-control": "no-store",
	} {
		assert.Equal(t, want, answer.Headers[name], name)
	}
	assert.NotEmpty(t, answer.Headers["x-request-id"])
	assert.NotContains(t, answer.Headers, "link", "nothing is left to page to")
	assert.NotContains(t, answer.Body, "activate.example.com")
	assert.NotContains(t, reads.log.String(), "activate.example.com")
}

func TestListOfNothing(t *testing.T) {
	reads := deployReads(t, nil)
	for _, query := range []string{"", "status=created", "limit=10", "limit=0", "offset=7", "fields=none"} {
		answer := reads.listed(t, query)
		assert.Equal(t, http.StatusOK, answer.StatusCode, query)
		assert.Equal(t, "[]", answer.Body, query)
		assert.Equal(t, "0", answer.Headers["x-total-count"], query)
		assert.Equal(t, "0", answer.Headers["x-result-count"], query)
	}
}

// linked returns the queries of the header Link by relation, less what the request asked for beside the page.
func linked(t assert.TestingT, answer events.APIGatewayV2HTTPResponse) map[string]url.Values {
	links := map[string]url.Values{}
	for link := range strings.SplitSeq(answer.Headers["link"], ", ") {
		if link == "" {
			continue
		}
		target, relation, ok := strings.Cut(link, ">; rel=")
		assert.True(t, ok, link)
		target, ok = strings.CutPrefix(target, "<"+collection+"?")
		assert.True(t, ok, link)
		query, err := url.ParseQuery(target)
		assert.NoError(t, err, link)
		links[strings.Trim(relation, `"`)] = query
	}
	return links
}

// TMF630: offset and limit choose of those that match; the counts and Link lead on.
func TestListPages(t *testing.T) {
	reads := deployReads(t, nil)
	for n := range 10 {
		reads.put(t, stored(numbered(n), "referredType", []string{"DISNEY", "MAX"}[n%2]))
	}
	for query, want := range map[string]struct {
		ids   []int
		total string
		links string // relation, offset and limit of each
	}{
		"limit=3":                          {[]int{0, 1, 2}, "10", "first 0 3, last 9 3, next 3 3"},
		"limit=3&offset=3":                 {[]int{3, 4, 5}, "10", "first 0 3, last 9 3, next 6 3, prev 0 3"},
		"limit=3&offset=2":                 {[]int{2, 3, 4}, "10", "first 0 3, last 8 3, next 5 3, prev 0 3"},
		"limit=3&offset=9":                 {[]int{9}, "10", "first 0 3, last 9 3, prev 6 3"},
		"limit=5&offset=5":                 {[]int{5, 6, 7, 8, 9}, "10", "first 0 5, last 5 5, prev 0 5"},
		"limit=3&offset=50":                {nil, "10", "first 0 3, last 8 3, prev 8 3"},
		"limit=10":                         {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "10", "first 0 10, last 0 10"},
		"limit=5000":                       {[]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, "10", "first 0 1000, last 0 1000"},
		"offset=8":                         {[]int{8, 9}, "10", "first 0 1000, last 8 1000, prev 0 1000"},
		"offset=2147483647":                {nil, "10", "first 0 1000, last 0 1000, prev 0 1000"},
		"limit=0":                          {nil, "10", ""},
		"limit=0&offset=3":                 {nil, "10", ""},
		"@referredType=MAX&limit=0":        {nil, "5", ""},
		"@referredType=MAX&limit=2":        {[]int{1, 3}, "5", "first 0 2, last 4 2, next 2 2"},
		"@type=OTT&limit=2&offset=7":       {[]int{7, 8}, "10", "first 0 2, last 9 2, next 9 2, prev 5 2"},
		"id=x&limit=2":                     {nil, "0", "first 0 2, last 0 2"},
		"@referredType=MAX":                {[]int{1, 3, 5, 7, 9}, "5", ""},
		"@referredType=MAX,DISNEY&limit=1": {[]int{0}, "10", "first 0 1, last 9 1, next 1 1"},
	} {
		answer := reads.listed(t, query)
		ids := []string{}
		for _, n := range want.ids {
			ids = append(ids, numbered(n))
		}
		assert.Equal(t, ids, idsOf(t, answer), query)
		assert.Equal(t, want.total, answer.Headers["x-total-count"], query)
		assert.Equal(t, strconv.Itoa(len(ids)), answer.Headers["x-result-count"], query)
		var links []string
		for relation, target := range linked(t, answer) {
			links = append(links, relation+" "+target.Get("offset")+" "+target.Get("limit"))
			assert.Equal(t, strings.Contains(query, "@referredType=MAX"), target.Has("@referredType"), "%s of %s",
				relation, query)
		}
		slices.Sort(links)
		assert.Equal(t, want.links, strings.Join(links, ", "), query)
	}
	exact := reads.listed(t, "fields=status&limit=4&@referredType=MAX,DISNEY&offset=4")
	page := collection + "?%40referredType=MAX%2CDISNEY&fields=status&limit=4&offset="
	assert.Equal(t, fmt.Sprintf(`<%s0>; rel="first", <%s0>; rel="prev", <%s8>; rel="next", <%s8>; rel="last"`, page,
		page, page, page), exact.Headers["link"])
	long := reads.listed(t, "limit=1&status=created,"+strings.Repeat("x", 3000))
	assert.Equal(t, http.StatusOK, long.StatusCode)
	assert.NotContains(t, long.Headers, "link", "a header of 9 KB might not pass")
}

// Whatever the page, going from one to the next shows every product that matches once, in order.
func TestListPagesThroughEverythingOnce(t *testing.T) {
	perPage := 1
	reads := deployReads(t, paging(func() int { return perPage }))
	owners := 0
	rapid.Check(t, func(t *rapid.T) {
		owners++
		owner := fmt.Sprint("channel-", owners)
		reads.clients[owner] = strings.Replace(reads.clients["reader"], tenant, owner, 1)
		perPage = rapid.IntRange(1, 12).Draw(t, "products of an answer of DynamoDB")
		var all, some []string
		for n := range rapid.IntRange(0, 40).Draw(t, "products") {
			status := rapid.SampledFrom([]string{"created", "active"}).Draw(t, "status")
			reads.put(t, stored(numbered(n), "owner", owner+"#PA", "status", status))
			all = append(all, numbered(n))
			if status == "active" {
				some = append(some, numbered(n))
			}
		}
		query := url.Values{"limit": {strconv.Itoa(rapid.IntRange(1, 15).Draw(t, "limit"))}}
		want := all
		if rapid.Bool().Draw(t, "filter") {
			query.Set("status", "active")
			want = some
		}
		offset := rapid.IntRange(0, 45).Draw(t, "offset")
		query.Set("offset", strconv.Itoa(offset))
		want = want[min(offset, len(want)):]
		var seen []string
		for pages := 0; query != nil; pages++ {
			if pages > len(all) {
				t.Fatalf("the pages have no end")
			}
			answer := reads.listed(t, query.Encode(), as(owner))
			seen = append(seen, idsOf(t, answer)...)
			query = linked(t, answer)["next"]
		}
		if !slices.Equal(want, seen) {
			t.Fatalf("%v was seen of %v", seen, want)
		}
	})
}

// DynamoDB answers with 1 MB at most; a list goes on from where an answer ends.
func TestListReadsBeyondOneAnswerOfDynamoDB(t *testing.T) {
	var queries, counts atomic.Int32
	endpoint := emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation == "Query" {
				queries.Add(1)
				if strings.Contains(call.Body, `"COUNT"`) {
					counts.Add(1)
				}
			}
			return false
		})
	// With retries, as functions have them: the SDK closes a request's body once the answer begins, and the connection
	// with it if the emulator was faster than that. An answer of 1 MB is cut by it now and then.
	retrying := dynamodb.New(emulatortest.DynamoDBAt(endpoint).Options(),
		func(o *dynamodb.Options) { o.Retryer = retry.NewStandard() })
	reads := newReadAPI(retrying, deployReads(t, nil).stack)
	medium := `{"characteristic":{"emailAddress":"` + strings.Repeat("a", 64) + "@" + strings.Repeat("b", 60) + "." +
		strings.Repeat("c", 60) + `.example.com"}}`
	contact := `[` + strings.Repeat(`{"contactMedium":[`+strings.Repeat(medium+",", 9)+medium+`]},`, 9) +
		`{"contactMedium":[` + medium + `]}]`
	var ids []string
	for n := range 120 { // of 22 KB each
		ids = append(ids, numbered(n))
		reads.put(t, stored(numbered(n), "contact", contact, "referredType", []string{"DISNEY", "MAX"}[n%2]))
	}
	for _, test := range []struct {
		query           string
		want            []string
		total           int
		queries, counts int32 // at least
	}{
		{"", ids, 120, 3, 0},
		{"@type=OTT", ids, 120, 3, 0},
		{"limit=100", ids[:100], 120, 3, 1},
		{"limit=0", nil, 120, 3, 3},
		{"limit=5&offset=110", ids[110:115], 120, 4, 3},
		{"limit=2&@type=OTT&offset=118", ids[118:], 120, 3, 0},
		{"productCharacteristic.value=sent", nil, 0, 3, 0},
		{"id=" + ids[119], ids[119:], 1, 1, 0},
	} {
		queries.Store(0)
		counts.Store(0)
		answer := reads.listed(t, test.query)
		assert.Equal(t, strconv.Itoa(test.total), answer.Headers["x-total-count"], test.query)
		assert.Equal(t, append([]string{}, test.want...), idsOf(t, answer), test.query)
		assert.GreaterOrEqual(t, queries.Load(), test.queries, test.query)
		assert.GreaterOrEqual(t, counts.Load(), test.counts, test.query)
	}
	half := reads.listed(t, "@referredType=MAX")
	assert.Len(t, idsOf(t, half), 60)
	assert.Equal(t, "60", half.Headers["x-total-count"])
}

// An answer fits what Lambda may give, 6 MB of JSON with the body as a text in it, however large the products are.
func TestListFitsLambdasAnswer(t *testing.T) {
	const lambdaLimit = 6 << 20
	for name, test := range map[string]struct {
		fill     string
		products int // two answers of them
	}{
		"plain":              {strings.Repeat("x", 10_000), 600},
		"quotes":             {strings.Repeat(`\"`, 10_000), 160},
		"backslashes":        {strings.Repeat(`\\`, 10_000), 160},
		"line separators":    {strings.Repeat("\u2028", 10_000), 110},
		"control characters": {strings.Repeat(`\u0001`, 5_000), 180},
	} {
		t.Run(name, func(t *testing.T) {
			var ids []string
			var items []dynamo.Item
			for n := range test.products {
				ids = append(ids, numbered(n))
				contact := `[{"contactType":"` + test.fill + `","contactMedium":[]}]`
				items = append(items, stored(numbered(n), "contact", contact))
			}
			reads := deployReads(t, nil)
			reads.put(t, items...)
			var seen []string
			pages := 0
			for query := "limit=1000"; query != ""; pages++ {
				answer := reads.listed(t, query)
				wire, err := json.Marshal(answer)
				require.NoError(t, err)
				require.Less(t, len(wire), lambdaLimit)
				require.Equal(t, strconv.Itoa(test.products), answer.Headers["x-total-count"])
				seen = append(seen, idsOf(t, answer)...)
				query = linked(t, answer)["next"].Encode()
			}
			require.Equal(t, ids, seen)
			require.Equal(t, 2, pages, "room is used")
		})
	}
}

// Without a limit an answer has 1,000 products, and says that there are more.
func TestListHasAThousandProducts(t *testing.T) {
	var items []dynamo.Item
	for n := range 2300 {
		items = append(items, stored(numbered(n)))
	}
	reads := deployReads(t, paging(func() int { return 700 }))
	reads.put(t, items...)
	for _, query := range []string{"", "limit=1000", "limit=2147483647", "status=created"} {
		answer := reads.listed(t, query)
		assert.Len(t, idsOf(t, answer), 1000, query)
		assert.Equal(t, "1000", answer.Headers["x-result-count"], query)
		assert.Equal(t, "2300", answer.Headers["x-total-count"], query)
		assert.Equal(t, "1000", linked(t, answer)["next"].Get("offset"), query)
	}
}

// An item that is no product's is a fault of ours: it is neither shown nor left out.
func TestListOfABrokenItem(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1), "contact", "[{"))
	for endpoint, ask := range reads.reads() {
		answer := ask(t, "")
		assert.Equal(t, http.StatusInternalServerError, answer.StatusCode, endpoint)
		assert.Contains(t, answer.Body, "APIKIT:INTERNAL_SERVER_ERROR", endpoint)
	}
}
