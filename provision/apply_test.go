package provision_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/provision"
	"carillon/shared/clock/clocktest"
	"carillon/shared/stackname"
)

const (
	program1 = "3e1b9b27-d1f9-4c8d-800f-bb534d6928d6"
	program2 = "11111111-d1f9-4c8d-800f-bb534d6928d6"
	group1   = "935b91a0-f2fb-4c43-b629-63fea6634512"
)

const full = `
providers:
  - tenant: acme
    aNumbers: ["+5014008029", "+5013509988"]
    aNumberGroups:
      - {id: 935B91A0-F2FB-4C43-B629-63FEA6634512, name: Sales, aNumbers: ["+5014008029"]}
    programs:
      - {uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: Demo, complete: true, variables: [MY_VAR], content: {headline: Hi}}
      - {uuid: 11111111-d1f9-4c8d-800f-bb534d6928d6, name: Draft, complete: false, content: {}}
businesses:
  - id: PA
    merchantAccountKey: merchant
    products:
      - {referredType: DISNEY, productSpecification: "12#3", productKey: DISNEY_PLUS_PA, offerKey: OFFER}
`

func parse(t *testing.T, file string) provision.Content {
	t.Helper()
	content, err := provision.ParseContent(strings.NewReader(file))
	require.NoError(t, err)
	return content
}

// newTable makes a content table of its own for a test.
func newTable(t *testing.T) string {
	t.Helper()
	return stackname.ContentTable(emulatortest.Deploy(t))
}

func apply(t *testing.T, table, file string) provision.Summary {
	t.Helper()
	summary, err := provision.ApplyContent(t.Context(), emulatortest.DynamoDB(), table, parse(t, file))
	require.NoError(t, err)
	return summary
}

func TestApplyContentWritesAProductsName(t *testing.T) {
	table := newTable(t)
	apply(t, table, full)
	named := strings.Replace(full, "offerKey: OFFER", "offerKey: OFFER, name: Disney+", 1)
	assert.Equal(t, 1, apply(t, table, named).Count(provision.Update))
	assert.Equal(
		t,
		map[string]types.AttributeValue{
			"productKey": text("DISNEY_PLUS_PA"),
			"offerKey":   text("OFFER"),
			"name":       text("Disney+"),
		},
		read(t, table)["business#PA product#DISNEY#12#3"],
	)
}

func TestApplyContentWritesTheKeysOfTheProductElseTheBusinesss(t *testing.T) {
	table := newTable(t)
	apply(t, table, `
businesses:
  - id: PA
    merchantAccountKey: merchant
    productKey: KEY
    offerKey: OFFER
    products:
      - {referredType: DISNEY, productSpecification: default}
      - {referredType: DISNEY, productSpecification: own, merchantAccountKey: m, productKey: k, offerKey: o}
`)
	items := read(t, table)
	assert.Equal(t, map[string]types.AttributeValue{"productKey": text("KEY"), "offerKey": text("OFFER")},
		items["business#PA product#DISNEY#default"])
	assert.Equal(t, map[string]types.AttributeValue{
		"merchantAccountKey": text("m"), "productKey": text("k"), "offerKey": text("o"),
	}, items["business#PA product#DISNEY#own"])
	assert.Equal(t, map[string]types.AttributeValue{"merchantAccountKey": text("merchant")},
		items["business#PA business"])
}

// read returns everything there is, by "pk sk".
func read(t *testing.T, table string) map[string]map[string]types.AttributeValue {
	t.Helper()
	items := map[string]map[string]types.AttributeValue{}
	pages := dynamodb.NewScanPaginator(emulatortest.DynamoDB(), &dynamodb.ScanInput{TableName: &table})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		require.NoError(t, err)
		for _, item := range page.Items {
			name := item["pk"].(*types.AttributeValueMemberS).Value + " " + item["sk"].(*types.AttributeValueMemberS).Value
			delete(item, "pk")
			delete(item, "sk")
			items[name] = item
		}
	}
	return items
}

func names(items map[string]map[string]types.AttributeValue) []string {
	return slices.Sorted(maps.Keys(items))
}

func text(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func TestApplyContentWritesTheItemsThatTheFunctionsRead(t *testing.T) {
	table := newTable(t)

	summary := apply(t, table, full)

	items := read(t, table)
	require.Equal(t, []string{
		"business#PA business", "business#PA product#DISNEY#12#3",
		"provider#acme anumbers", "provider#acme group#" + group1,
		"provider#acme program#" + program2, "provider#acme program#" + program1,
	}, names(items))
	assert.Equal(t, 6, summary.Count(provision.Create))
	assert.Equal(
		t,
		map[string]types.AttributeValue{"merchantAccountKey": text("merchant")},
		items["business#PA business"],
	)
	assert.Equal(t, map[string]types.AttributeValue{"productKey": text("DISNEY_PLUS_PA"), "offerKey": text("OFFER")},
		items["business#PA product#DISNEY#12#3"])
	assert.ElementsMatch(
		t,
		[]string{"+5014008029", "+5013509988"},
		items["provider#acme anumbers"]["numbers"].(*types.AttributeValueMemberSS).Value,
	)
	assert.Equal(t, map[string]types.AttributeValue{
		"name": text("Sales"), "numbers": &types.AttributeValueMemberSS{Value: []string{"+5014008029"}},
	}, items["provider#acme group#"+group1])
	assert.Equal(t, map[string]types.AttributeValue{
		"name": text(
			"Demo",
		),
		"complete":  &types.AttributeValueMemberBOOL{Value: true},
		"content":   text(`{"headline":"Hi"}`),
		"variables": &types.AttributeValueMemberL{Value: []types.AttributeValue{text("MY_VAR")}},
	}, items["provider#acme program#"+program1])
	assert.Equal(t, map[string]types.AttributeValue{
		"name": text("Draft"), "complete": &types.AttributeValueMemberBOOL{Value: false}, "content": text(`{}`),
		"variables": &types.AttributeValueMemberL{Value: []types.AttributeValue{}},
	}, items["provider#acme program#"+program2])
}

func TestApplyContentTwiceChangesNothing(t *testing.T) {
	table := newTable(t)
	apply(t, table, full)
	before := read(t, table)
	writes := atomic.Int32{}
	endpoint := emulatortest.Between(
		t,
		emulatortest.DynamoDBEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "Query" {
				writes.Add(1)
			}
			return false
		},
	)

	summary, err := provision.ApplyContent(t.Context(), emulatortest.DynamoDBAt(endpoint), table, parse(t, full))

	require.NoError(t, err)
	assert.Equal(t, len(summary.Steps), summary.Count(provision.Keep))
	assert.Zero(t, writes.Load(), "nothing is written that is there already")
	assert.Equal(t, before, read(t, table))
}

func TestApplyContentRemovesWhatIsNoLongerListed(t *testing.T) {
	table := newTable(t)
	apply(t, table, full)
	const other = "\n  - {tenant: other, aNumbers: [\"+1234567\"]}\n"
	apply(t, table, "providers:"+other+"businesses: [{id: DO, merchantAccountKey: m}]")

	summary := apply(t, table, `
providers:
  - tenant: acme
    aNumbers: []
    programs: [{uuid: 3e1b9b27-d1f9-4c8d-800f-bb534d6928d6, name: Demo, complete: false, variables: [MY_VAR], content: {headline: Hi}}]
businesses:
  - {id: PA, merchantAccountKey: merchant}
`)

	assert.Equal(t, []provision.Step{
		{Action: provision.Update, Owner: "provider acme", What: "program " + program1},
		{Action: provision.Remove, Owner: "provider acme", What: "aNumbers"},
		{Action: provision.Remove, Owner: "provider acme", What: "group " + group1},
		{Action: provision.Remove, Owner: "provider acme", What: "program " + program2},
		{Action: provision.Keep, Owner: "business PA", What: "merchantAccountKey"},
		{Action: provision.Remove, Owner: "business PA", What: "product DISNEY 12#3"},
	}, summary.Steps)
	items := read(t, table)
	assert.Equal(t, []string{
		"business#DO business", "business#PA business", "provider#acme program#" + program1, "provider#other anumbers",
	}, names(items), "what the file does not name is left alone")
	assert.Equal(t, &types.AttributeValueMemberBOOL{Value: false}, items["provider#acme program#"+program1]["complete"])
}

func TestPlanContentChangesNothing(t *testing.T) {
	table := newTable(t)

	plan, err := provision.PlanContent(t.Context(), emulatortest.DynamoDB(), table, parse(t, full))

	require.NoError(t, err)
	assert.Equal(t, 6, plan.Count(provision.Create))
	assert.Empty(t, read(t, table))
}

func TestApplyContentTakesTheLargestItems(t *testing.T) {
	table := newTable(t)
	numbers := make([]string, provision.MaxANumbers)
	for i := range numbers {
		numbers[i] = fmt.Sprintf("+10000000%07d", i) // 15 digits, the longest
	}
	tenant := provision.Tenant{ID: "acme", ANumbers: numbers, Programs: []provision.Program{{
		UUID: program1, Name: "largest", Content: `{"a":"` + strings.Repeat("x", provision.MaxProgramContent-8) + `"}`,
	}}}
	content := provision.Content{Tenants: []provision.Tenant{tenant}}
	ddb := emulatortest.DynamoDB()

	first, err := provision.ApplyContent(t.Context(), ddb, table, content)
	require.NoError(t, err)
	second, err := provision.ApplyContent(t.Context(), ddb, table, content)
	require.NoError(t, err)

	assert.Equal(t, 2, first.Count(provision.Create))
	assert.Equal(t, 2, second.Count(provision.Keep))
}

func TestApplyContentTakesMoreThanOneBatchAndPage(t *testing.T) {
	table := newTable(t)
	tenant := provision.Tenant{ID: "acme"}
	for i := range 60 { // batches are of 25, pages of 1 MB
		tenant.Programs = append(tenant.Programs, provision.Program{
			UUID: fmt.Sprintf("%032d", i), Name: "n", Content: `{"a":"` + strings.Repeat("x", 30_000) + `"}`,
		})
	}
	content := provision.Content{Tenants: []provision.Tenant{tenant}}
	ddb := emulatortest.DynamoDB()

	first, err := provision.ApplyContent(t.Context(), ddb, table, content)
	require.NoError(t, err)
	second, err := provision.ApplyContent(t.Context(), ddb, table, content)
	require.NoError(t, err)
	empty := provision.Content{Tenants: []provision.Tenant{{ID: "acme"}}}
	none, err := provision.ApplyContent(t.Context(), ddb, table, empty)
	require.NoError(t, err)

	assert.Equal(t, 60, first.Count(provision.Create))
	assert.Equal(t, 60, second.Count(provision.Keep))
	assert.Equal(t, 60, none.Count(provision.Remove))
	assert.Empty(t, read(t, table))
}

func TestApplyContentSendsAgainWhatIsLeftUnprocessed(t *testing.T) {
	table := newTable(t)
	var calls atomic.Int32
	// DynamoDB under load: of the first two batches it does only the first item.
	endpoint := emulatortest.Between(
		t,
		emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "BatchWriteItem" || calls.Add(1) > 2 {
				return false
			}
			var batch struct{ RequestItems map[string][]json.RawMessage }
			if !assert.NoError(t, json.Unmarshal([]byte(call.Body), &batch)) {
				return false
			}
			rest := batch.RequestItems[table][1:]
			batch.RequestItems[table] = batch.RequestItems[table][:1]
			less, err := json.Marshal(batch)
			if !assert.NoError(t, err) {
				return false
			}
			if sent := call.Send(string(less)); !assert.Equal(t, http.StatusOK, sent.Code, sent.Body) {
				return false
			}
			w.Header().Set("Content-Type", "application/x-amz-json-1.0")
			assert.NoError(
				t,
				json.NewEncoder(w).Encode(map[string]any{"UnprocessedItems": map[string]any{table: rest}}),
			)
			return true
		},
	)

	_, err := provision.ApplyContent(t.Context(), emulatortest.DynamoDBAt(endpoint), table, parse(t, full))

	require.NoError(t, err)
	assert.EqualValues(t, 3, calls.Load())
	assert.Len(t, read(t, table), 6)
}

func TestApplyGivesUpOnATableThatKeepsThrottling(t *testing.T) {
	table := newTable(t)
	leaveAll := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "BatchWriteItem" {
			return false
		}
		var batch struct{ RequestItems json.RawMessage }
		if !assert.NoError(t, json.Unmarshal([]byte(call.Body), &batch)) {
			return false
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = fmt.Fprintf(w, `{"UnprocessedItems":%s}`, batch.RequestItems)
		return true
	}
	ddb := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), leaveAll))
	plan, err := provision.PlanContent(t.Context(), ddb, table, parse(t, full))
	require.NoError(t, err)
	c := clocktest.New()
	plan.Clock = c

	err = plan.Apply(t.Context(), ddb)

	require.ErrorContains(t, err, "apply the same file again later")
	assert.Len(t, c.Slept(), 11, "between twelve tries")
	assert.Empty(t, read(t, table))
}

func TestApplyContentOnAStackThatIsNotThere(t *testing.T) {
	nowhere := stackname.ContentTable(emulatortest.StackName())
	_, err := provision.ApplyContent(t.Context(), emulatortest.DynamoDB(), nowhere, parse(t, full))
	assert.ErrorIs(t, err, provision.ErrNoStack)
}
