package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
)

// shelf are products that differ in every text of the model, in the order of their ids.
func shelf() []dynamo.Item {
	const contact = `[{"contactType":"primary","contactMedium":[{"characteristic":{"emailAddress":"a@example.com"}},` +
		`{"characteristic":{"emailAddress":"b+1@example.com"}}]},` +
		`{"contactMedium":[{"characteristic":{"emailAddress":"c@example.com"}}]}]`
	return []dynamo.Item{
		stored(numbered(1)),
		stored(numbered(2), "contact", contact, "billingAccountId", "a,b", "referredType", "MAX"),
		stored(numbered(3), "status", "active", "billingAccountBaseType", "Account", "billingAccountType",
			"PostpaidAccount"),
		stored(numbered(4), "productSpecificationId", "max", "referredType", "MAX", "mailState", "sent", "mailAt",
			"2026-02-10T16:00:00.087Z"),
		stored(numbered(5), "mailState", "bounced", "mailAt", "2026-02-10T16:00:00.000Z", "mailReason",
			"550 5.1.1 unknown user", "offerKey", "monthly"),
		stored(numbered(6), "billingAccountId", "ñandú & co"),
	}
}

// TMF630: several values of a name are alternatives, several names must all match.
func TestListFilters(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, shelf()...)
	const email = "billingAccount.contact.contactMedium.characteristic.emailAddress"
	for query, want := range map[string][]int{
		"":                          {1, 2, 3, 4, 5, 6},
		rawQuery("id", numbered(2)): {2},
		rawQuery("id", numbered(2)+","+numbered(4)):    {2, 4},
		rawQuery("id", numbered(2), "id", numbered(4)): {2, 4},
		rawQuery("id", " "+numbered(2)):                nil,
		rawQuery("id", numbered(9)):                    nil,
		rawQuery("id", "x"):                            nil,
		rawQuery("id", strings.Repeat("x", 2000)):      nil,
		"id=": nil,
		rawQuery("id", numbered(2), "status", "active"): nil,
		rawQuery("id", numbered(3), "status", "active"): {3},
		rawQuery("href", collection+"/"+numbered(3)):    {3},
		"status=created":               {1, 2, 4, 5, 6},
		"status=active":                {3},
		"status=active,created":        {1, 2, 3, 4, 5, 6},
		"status=active&status=created": {1, 2, 3, 4, 5, 6},
		"status=active%2Ccreated":      {1, 2, 3, 4, 5, 6},
		"status=Created":               nil,
		"status=terminated":            nil,
		"status=":                      nil,
		"status":                       nil,
		"@type=OTT&@baseType=product":  {1, 2, 3, 4, 5, 6},
		"%40type=TV":                   nil,
		"@referredType=MAX":            {2, 4},
		"@referredType=MAX&productSpecification.id=max": {4},
		"productSpecification.id=disney-plus":           {1, 2, 3, 5, 6},
		"productOffering.id=monthly":                    {5},
		"productOffering.id=max,monthly":                {4, 5},
		"billingAccount.id=8001234567":                  {1, 3, 4, 5},
		"billingAccount.id=a,b":                         {2},
		"billingAccount.id=a":                           nil,
		rawQuery("billingAccount.id", "ñandú & co"):     {6},
		"billingAccount.@type=PostpaidAccount":          {3},
		"billingAccount.@type=":                         nil,
		"billingAccount.@baseType=Account":              {3},
		"billingAccount.contact.contactType=primary":    {1, 2, 3, 4, 5, 6},
		email + "=c@example.com":                        {2},
		rawQuery(email, "b+1@example.com"):              {2},
		email + "=abc@gmail.com&billingAccount.id=8001234567&status=created&@referredType=X": nil,
		email + "=abc@gmail.com&billingAccount.id=8001234567&status=created":                 {1, 4, 5},
		"productCharacteristic.name=activationMail":                                          {4, 5},
		"productCharacteristic.value=bounced":                                                {5},
		"productCharacteristic.name=activationMailReason":                                    {5},
		"productCharacteristic.valueType=dateTime":                                           {4, 5},
		rawQuery("productCharacteristic.value", "2026-02-10T16:00:00Z"):                      {5},
		// What TMF637 has and the model lacks, and what is no text.
		"name=DISNEY":                                nil,
		"isBundle=false":                             nil,
		"startDate=2026-02-10T16:00:00Z":             nil,
		"productOffering=monthly":                    nil,
		"relatedParty.id=1":                          nil,
		"productSpecification.targetProductSchema=1": nil,
		"billingAccount.name=1":                      nil,
		"billingAccount=8001234567":                  nil,
		"billingAccount.contact=primary":             nil,
		"place.name=Panama&status=created":           nil,
		// More values than DynamoDB compares with.
		rawQuery("status", strings.Repeat("x,", 200)+"active"): {3},
	} {
		answer := reads.listed(t, query)
		ids := []string{}
		for _, n := range want {
			ids = append(ids, numbered(n))
		}
		assert.Equal(t, ids, idsOf(t, answer), "%s", query)
		assert.Equal(t, strconv.Itoa(len(ids)), answer.Headers["x-total-count"], "%s", query)
		assert.Equal(t, strconv.Itoa(len(ids)), answer.Headers["x-result-count"], "%s", query)
		assert.NotContains(t, answer.Headers, "link", "%s", query)
	}
}

// DynamoDB refuses a key that is empty or longer than 1,024 bytes, and more than 100 texts to compare with; the
// emulator takes them.
func TestListAsksDynamoDBForNothingThatItRefuses(t *testing.T) {
	var asked string // the latest query
	reads := deployReads(t, func(_ http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation == "Query" {
			asked = call.Body
		}
		return false
	})
	for id, asKey := range map[string]bool{
		numbered(2): true, "": false, "x": false, strings.Repeat("x", 1025): false,
		numbered(2) + "," + numbered(3): false,
	} {
		reads.listed(t, rawQuery("id", id))
		assert.Equal(t, asKey, strings.Contains(asked, `":id"`), "%.50s", id)
	}
	for _, values := range []int{1, 40, 99, 150, 1000} {
		distinct := make([]string, values)
		for i := range distinct {
			distinct[i] = strconv.Itoa(i)
		}
		reads.listed(t, rawQuery("status", strings.Join(distinct, ",")))
		assert.LessOrEqual(t, strings.Count(asked, `":f`), 100, values)
		assert.Equal(t, values <= 40, strings.Contains(asked, "FilterExpression"), values)
	}
}

// Everything that is wrong with a query is said at once.
func TestListRefusesWhatNoProductHas(t *testing.T) {
	reads := deployReads(t, nil)
	const number = " must be one integer from 0 to 2147483647"
	notAttribute := func(name string) string { return fmt.Sprintf("%q is not an attribute of a product", name) }
	notField := func(name string) string {
		return fmt.Sprintf("fields: %q is not a first-level attribute of a product", name)
	}
	for query, want := range map[string][]string{
		"limit=-1":              {"limit" + number},
		"limit=":                {"limit" + number},
		"limit=ten":             {"limit" + number},
		"limit=1.5":             {"limit" + number},
		"limit=%2B5":            {"limit" + number},
		"limit=+5":              {"limit" + number},
		"limit=0x10":            {"limit" + number},
		"limit=1_0":             {"limit" + number},
		"limit=2147483648":      {"limit" + number},
		"limit=1&limit=2":       {"limit" + number},
		"offset=-1":             {"offset" + number},
		"offset=1e3":            {"offset" + number},
		"colour=red":            {notAttribute("colour")},
		"Status=created":        {notAttribute("Status")},
		"status.x=created":      {notAttribute("status.x")},
		"name.x=1":              {notAttribute("name.x")},
		"billingAccount.Id=1":   {notAttribute("billingAccount.Id")},
		"billingAccount.=1":     {notAttribute("billingAccount.")},
		"billingAccountX=1":     {notAttribute("billingAccountX")},
		"placeX=1":              {notAttribute("placeX")},
		"contact.contactType=1": {notAttribute("contact.contactType")},
		"=1":                    {notAttribute("")},
		".=1":                   {notAttribute(".")},
		"sort=id":               {notAttribute("sort")},
		"Fields=id":             {notAttribute("Fields")},
		"a%0D%0Ab=1":            {`"a??b" is not an attribute of a product`},
		"%FF=1":                 {"\"\uFFFD\" is not an attribute of a product"},
		strings.Repeat("é", 65) + "=1": {
			`"` + strings.Repeat("é", 64) + `…" is not an attribute of a product`,
		},
		"fields=colour":            {notField("colour")},
		"fields=billingAccount.id": {notField("billingAccount.id")},
		"fields=id,x,status,y":     {notField("x"), notField("y")},
		"fields=None":              {notField("None")},
		"a=%zz":                    {"the query is not URL-encoded"},
		"z=1&limit=x&fields=f&offset=y&a=1&status=created": {
			"offset" + number, "limit" + number, notField("f"), notAttribute("a"), notAttribute("z"),
		},
	} {
		assert.Equal(t, want, descriptions(t, reads.listed(t, query)), "%s", query)
	}
	all := reads.listed(t, "limit=x&a=1", business("JAM"), header("x-correlation-id", strings.Repeat("c", 256)))
	assert.Equal(t, []string{
		"businessId must be a country code of two capital letters",
		"X-Correlation-ID must be at most 255 printable ASCII characters",
		"limit" + number, notAttribute("a"),
	}, descriptions(t, all))
}

// TMF630: a semicolon is OR between the texts of an attribute and between its filters; bare or encoded, it is the same.
func TestListFiltersJoinedBySemicolons(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, append(shelf(), stored(numbered(7), "billingAccountId", "a;b"),
		stored(numbered(8), "billingAccountId", "colour=red"))...)
	for query, want := range map[string][]int{
		"status=active;status=created&limit=2":                       {1, 2},
		"status=active;created&id=" + numbered(3):                    {3},
		"status=active;":                                             {3},
		"status=;active":                                             {3},
		"status=x;status=y,active":                                   {3},
		"status=x;status=y&status=active":                            {3},
		"billingAccount.id=a;b":                                      {7},
		"billingAccount.id=a,b;billingAccount.id=ñandú%20%26%20co":   {2, 6},
		"billingAccount.id=x;colour=red":                             {8},
		"@referredType=MAX;%40referredType=NETFLIX&status=created;x": {2, 4},
	} {
		for _, q := range []string{query, strings.ReplaceAll(query, ";", "%3B"), strings.ReplaceAll(query, ";", "%3b")} {
			answer := reads.listed(t, q)
			ids := []string{}
			for _, n := range want {
				ids = append(ids, numbered(n))
			}
			assert.Equal(t, ids, idsOf(t, answer), "%s", q)
		}
	}
	const joined = "; joins filters of one attribute, not of "
	for query, want := range map[string][]string{
		"status=created;limit=1":              {joined + `"status" and "limit"`},
		"status=created;@type=OTT;fields=id":  {joined + `"status" and "@type"`, joined + `"status" and "fields"`},
		"status=created;status.gt=a":          {`"status.gt": the operator .gt is not supported, = is`},
		"status=created;status%3Ea":           {`"status>a": the operator > is not supported, = is`},
		"limit=1;offset=2":                    {"limit must be one integer from 0 to 2147483647"},
		"fields=id;status":                    {`fields: "id;status" is not a first-level attribute of a product`},
		"startDate%3C2013-04-20;startDate%3E": {`"startDate<2013-04-20;startDate>": the operator < is not supported, = is`},
	} {
		assert.Equal(t, want, descriptions(t, reads.listed(t, query)), query)
		assert.Equal(t, want, descriptions(t, reads.listed(t, strings.ReplaceAll(query, ";", "%3B"))), query)
	}
}

// docs/contract.md §3: operators and JSONPath are refused by name.
func TestListRefusesOperatorsByName(t *testing.T) {
	reads := deployReads(t, nil)
	for query, refused := range map[string][2]string{
		"status.eq=created":                        {"status.eq", ".eq"},
		"startDate.gt=2026-01-01":                  {"startDate.gt", ".gt"},
		"startDate.gte=2026-01-01":                 {"startDate.gte", ".gte"},
		"startDate.lt=2026-01-01":                  {"startDate.lt", ".lt"},
		"billingAccount.id.lte=5":                  {"billingAccount.id.lte", ".lte"},
		"status.ne=created":                        {"status.ne", ".ne"},
		"productOffering.id.regex=%5Ea":            {"productOffering.id.regex", ".regex"},
		"place.gt=1":                               {"place.gt", ".gt"},
		"startDate%3E2026-01-01":                   {"startDate>2026-01-01", ">"},
		"startDate>2026-01-01":                     {"startDate>2026-01-01", ">"},
		"startDate>=2026-01-01":                    {"startDate>", ">="},
		"startDate%3E%3D2026-01-01":                {"startDate>=2026-01-01", ">="},
		"startDate<=2026-01-01":                    {"startDate<", "<="},
		"startDate%3C2026-01-01":                   {"startDate<2026-01-01", "<"},
		"status*=cre":                              {"status*", "*="},
		"status~=cre":                              {"status~", "~="},
		"status=~cre":                              {"status", "=~"},
		"status%3D~cre":                            {"status=~cre", "=~"},
		"status==created":                          {"status", "=="},
		"status%3D%3Dcreated":                      {"status==created", "=="},
		"status!=created":                          {"status!", "!="},
		"@referredType.regex=MAX":                  {"@referredType.regex", ".regex"},
		"productCharacteristic.value%3E2026-02-10": {"productCharacteristic.value>2026-02-10", ">"},
	} {
		want := []string{fmt.Sprintf("%q: the operator %s is not supported, = is", refused[0], refused[1])}
		assert.Equal(t, want, descriptions(t, reads.listed(t, query)), query)
	}
	for query, name := range map[string]string{
		"filter=$.id":                         "filter",
		"filter=":                             "filter",
		"$.status=created":                    "$.status",
		"productCharacteristic[0].value=sent": "productCharacteristic[0].value",
		"productCharacteristic%5B%3F(@.name)%5D=x": "productCharacteristic[?(@.name)]",
	} {
		want := []string{fmt.Sprintf("%q: JSONPath is not supported", name)}
		assert.Equal(t, want, descriptions(t, reads.listed(t, query)), query)
	}
	assert.Equal(t, []string{
		`"colour.gt" is not an attribute of a product`, `"colour>1" is not an attribute of a product`,
		`"name": the operator == is not supported, = is`, `"status.lt": the operator .lt is not supported, = is`,
	}, descriptions(t, reads.listed(t, "status.lt=1&colour.gt=1&name==1&colour%3E1")), "all at once")
}

// TMF630: fields chooses first-level members; id and href are always there.
func TestReadsShowTheFieldsThatAreAskedFor(t *testing.T) {
	reads := deployReads(t, nil)
	reads.put(t, stored(numbered(1), "mailState", "sent", "mailAt", "2026-02-10T16:00:00.087Z"))
	all := []string{
		"@baseType",
		"@referredType",
		"@type",
		"billingAccount",
		"href",
		"id",
		"productCharacteristic",
		"productOffering",
		"productPrice",
		"productSpecification",
		"relatedParty",
		"status",
	}
	for query, want := range map[string][]string{
		"":                                 all,
		"fields=":                          all,
		"fields=,":                         all,
		"fields=none":                      {"href", "id"},
		"fields=id":                        {"href", "id"},
		"fields=status":                    {"href", "id", "status"},
		"fields=none,status":               {"href", "id", "status"},
		"fields=status,status":             {"href", "id", "status"},
		"fields=%20status%20,%20@type":     {"@type", "href", "id", "status"},
		"fields=status&fields=@type":       {"@type", "href", "id", "status"},
		"fields=description,startDate":     {"href", "id"},
		"fields=billingAccount,status":     {"billingAccount", "href", "id", "status"},
		"fields=" + strings.Join(all, ","): all,
	} {
		one, list := map[string]json.RawMessage{}, []map[string]json.RawMessage{}
		require.NoError(t, json.Unmarshal([]byte(reads.got(t, numbered(1), query).Body), &one), query)
		require.NoError(t, json.Unmarshal([]byte(reads.listed(t, query).Body), &list), query)
		require.Len(t, list, 1, query)
		for _, shown := range []map[string]json.RawMessage{one, list[0]} {
			var names []string
			for name := range shown {
				names = append(names, name)
			}
			slices.Sort(names)
			assert.Equal(t, want, names, query)
		}
		assert.Equal(t, one, list[0], query)
	}
	assert.Equal(t, `{"id":"`+numbered(1)+`","href":"`+collection+`/`+numbered(1)+`"}`,
		reads.got(t, numbered(1), "fields=none").Body)
}

// textsAt walks a decoded product along a dotted path, through arrays, and returns the texts at its end.
func textsAt(value any, path []string) []string {
	switch value := value.(type) {
	case []any:
		var texts []string
		for _, item := range value {
			texts = append(texts, textsAt(item, path)...)
		}
		return texts
	case map[string]any:
		if len(path) > 0 {
			return textsAt(value[path[0]], path[1:])
		}
	case string:
		if len(path) == 0 {
			return []string{value}
		}
	}
	return nil
}

// Whatever the filters, a list has the products that a plain look at all of them finds.
func TestListFiltersAgreeWithAPlainLook(t *testing.T) {
	paths := []string{
		"id", "href", "status", "@type", "@baseType", "@referredType", "productSpecification.id", "billingAccount.id",
		"productOffering.id", "billingAccount.@type",
		"billingAccount.@baseType", "billingAccount.contact.contactType",
		"billingAccount.contact.contactMedium.characteristic.emailAddress",
		"productCharacteristic.name", "productCharacteristic.value", "productCharacteristic.valueType", "description",
		"billingAccount", "relatedParty.id",
	}
	reads := deployReads(t, paging(func() int { return 2 }))
	reads.put(t, shelf()...)
	var products []any
	require.NoError(t, json.Unmarshal([]byte(reads.listed(t, "").Body), &products))
	texts := map[string][]string{}
	for _, path := range paths {
		texts[path] = append(textsAt(products, strings.Split(path, ".")), "", "nobody's")
	}
	rapid.Check(t, func(t *rapid.T) {
		wanted := map[string][]string{}
		var parameters []string
		for range rapid.IntRange(1, 3).Draw(t, "parameters") {
			path := rapid.SampledFrom(paths).Draw(t, "path")
			values := rapid.SliceOfN(rapid.SampledFrom(texts[path]), 1, 4).Draw(t, "values")
			wanted[path] = append(wanted[path], values...)
			if joined := strings.Join(values, ","); strings.Count(joined, ",") == len(values)-1 {
				values = []string{joined}
			}
			for _, value := range values {
				parameters = append(parameters, path, value)
			}
		}
		want := []string{}
		for _, p := range products {
			matches := true
			for path, values := range wanted {
				has := textsAt(p, strings.Split(path, "."))
				matches = matches && slices.ContainsFunc(has,
					func(text string) bool { return slices.Contains(values, text) })
			}
			if matches {
				want = append(want, textsAt(p, []string{"id"})...)
			}
		}
		query := rawQuery(parameters...)
		answer := reads.listed(t, query)
		if ids := idsOf(t, answer); !slices.Equal(want, ids) {
			t.Fatalf("%s gives %v, not %v", query, ids, want)
		}
		if answer.Headers["x-total-count"] != strconv.Itoa(len(want)) {
			t.Fatalf("%s counts %s, not %d", query, answer.Headers["x-total-count"], len(want))
		}
	})
}

// Whatever the query, a list is an answer or a refusal of the request.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "fields=none&limit=2&offset=1", "status=created,active&@type=OTT", "limit=0",
		"offset=2147483647&limit=2147483647", "a=%zz&%",
		"billingAccount.contact.contactMedium.characteristic.emailAddress=abc%40gmail.com", "id=" + numbered(1),
		"id=,&id", "fields=,&fields=id,x.y",
		"productCharacteristic.value=sent%2Cbounced", "place.a.b..c=1", "=&=&.=.", "limit=1&status=\xff\x00",
		"href=http://x&limit=3&offset=1", "status=created;status=active%3Bx;limit=1", "status>=a&status.gt=b;=~",
	} {
		f.Add(seed)
	}
	reads := newReadAPI(emulatortest.DynamoDB(), deployBusinesses(f))
	reads.put(f, shelf()...)
	f.Fuzz(func(t *testing.T, query string) {
		answer := reads.listed(t, query)
		for _, a := range []events.APIGatewayV2HTTPResponse{answer, reads.got(t, numbered(1), query)} {
			if !json.Valid([]byte(a.Body)) || a.StatusCode != http.StatusOK && a.StatusCode != http.StatusBadRequest {
				t.Fatalf("%q gets %d %s", query, a.StatusCode, a.Body)
			}
		}
		if answer.StatusCode != http.StatusOK {
			return
		}
		total, err := strconv.Atoi(answer.Headers["x-total-count"])
		if err != nil || total > len(shelf()) {
			t.Fatalf("%q counts %q", query, answer.Headers["x-total-count"])
		}
		if n := len(idsOf(t, answer)); n > total || strconv.Itoa(n) != answer.Headers["x-result-count"] {
			t.Fatalf("%q has %d products of %d, and says %q", query, n, total, answer.Headers["x-result-count"])
		}
		if strings.ContainsAny(answer.Headers["link"], "\r\n") {
			t.Fatalf("%q gets the header %q", query, answer.Headers["link"])
		}
	})
}
