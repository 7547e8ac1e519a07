package provision

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/shared/backoff"
	"carillon/shared/clock"
	"carillon/shared/dynamo"
)

const (
	// batchItems is BatchWriteItem's own limit; 25 items of the largest kind stay under its 16 MB.
	batchItems = 25
	// batchTries bounds how often DynamoDB may leave a part of one batch undone, a minute in all.
	batchTries = 12
)

// batchBackoff is the wait before what DynamoDB left undone of a batch is sent again.
var batchBackoff = backoff.Policy{Min: 50 * time.Millisecond, Max: 10 * time.Second}

// Action is what applying content does to an item.
type Action string

// The actions, in the order of a plan.
const (
	Create Action = "create"
	Update Action = "update"
	Remove Action = "remove"
	Keep   Action = "keep"
)

// Step is what happens to one thing of the content.
type Step struct {
	Action Action `json:"action"`
	// Owner is the tenant or business, as the content file calls it: "provider demo-calls".
	Owner string `json:"owner"`
	// What names the thing within its owner, as in "program 3e1b9b27-…".
	What string `json:"what"`
}

// Summary is what applying content changed.
type Summary struct {
	Steps []Step `json:"steps"`
}

// Count is how many steps took an action.
func (s Summary) Count(a Action) int {
	n := 0
	for _, step := range s.Steps {
		if step.Action == a {
			n++
		}
	}
	return n
}

// Plan is the way from what the table holds to what the content says.
type Plan struct {
	Summary
	// Clock lets the time pass in which DynamoDB recovers; it is this machine's unless somebody sets another one.
	Clock clock.Clock

	table  string
	writes []types.WriteRequest
}

// PlanContent reads what table holds of the tenants and businesses in c and works out what to write and what to remove.
// It changes nothing. It returns ErrNoStack if there is no such table, or AWS's error.
func PlanContent(ctx context.Context, ddb *dynamodb.Client, table string, c Content) (Plan, error) {
	plan := Plan{Clock: clock.System{}, table: table}
	var removals []types.WriteRequest
	for _, owner := range owners(c) {
		held, err := partition(ctx, ddb, table, owner.pk)
		if err != nil {
			return Plan{}, err
		}
		for _, item := range owner.items {
			sort := dynamo.GetString(item, "sk")
			action := Create
			if old, ok := held[sort]; ok {
				action = Update
				if same(old, item) {
					action = Keep
				}
				delete(held, sort)
			}
			plan.Steps = append(plan.Steps, Step{action, owner.name, what(sort)})
			if action != Keep {
				plan.writes = append(plan.writes, types.WriteRequest{PutRequest: &types.PutRequest{Item: item}})
			}
		}
		for _, sort := range sortedKeys(held) {
			plan.Steps = append(plan.Steps, Step{Remove, owner.name, what(sort)})
			removals = append(
				removals,
				types.WriteRequest{DeleteRequest: &types.DeleteRequest{Key: key(owner.pk, sort)}},
			)
		}
	}
	plan.writes = append(plan.writes, removals...)
	return plan, nil
}

// Apply carries the plan out. It is not one transaction: interrupted, it leaves a mix of old and new items, each of
// them whole, which applying the same content again completes. It returns AWS's error, or ctx's, or an error if
// DynamoDB throttles for a minute.
func (p Plan) Apply(ctx context.Context, ddb *dynamodb.Client) error {
	for batch := range slices.Chunk(p.writes, batchItems) {
		if err := write(ctx, ddb, p.Clock, p.table, batch); err != nil {
			return err
		}
	}
	return nil
}

// ApplyContent makes the content table hold c: what is new or different is written, and what a tenant or business named
// in c no longer lists is removed. Applying the same content twice writes nothing the second time. The summary is of
// what was planned. It returns PlanContent's and Apply's errors.
func ApplyContent(ctx context.Context, ddb *dynamodb.Client, table string, c Content) (Summary, error) {
	plan, err := PlanContent(ctx, ddb, table, c)
	if err != nil {
		return Summary{}, err
	}
	return plan.Summary, plan.Apply(ctx, ddb)
}

func partition(ctx context.Context, ddb *dynamodb.Client, table, pk string) (map[string]dynamo.Item, error) {
	held := map[string]dynamo.Item{}
	pages := dynamodb.NewQueryPaginator(ddb, &dynamodb.QueryInput{
		TableName:                 &table,
		KeyConditionExpression:    aws.String("pk = :pk"),
		ExpressionAttributeValues: dynamo.Item{":pk": dynamo.String(pk)},
		ConsistentRead:            aws.Bool(true),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if isA[*types.ResourceNotFoundException](err) {
			return nil, fmt.Errorf("table %s: %w", table, ErrNoStack)
		}
		if err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			held[dynamo.GetString(item, "sk")] = item
		}
	}
	return held, nil
}

// write sends one batch until all of it is done: DynamoDB may leave a part of it unprocessed when it throttles.
func write(ctx context.Context, ddb *dynamodb.Client, c clock.Clock, table string, batch []types.WriteRequest) error {
	for try := 1; ; try++ {
		out, err := ddb.BatchWriteItem(
			ctx,
			&dynamodb.BatchWriteItemInput{RequestItems: map[string][]types.WriteRequest{table: batch}},
		)
		if err != nil {
			return err
		}
		batch = out.UnprocessedItems[table]
		if len(batch) == 0 {
			return nil
		}
		if try == batchTries {
			return errors.New(
				"DynamoDB keeps throttling the content table: apply the same file again later to complete it",
			)
		}
		if err := batchBackoff.Sleep(ctx, c, try); err != nil {
			return err
		}
	}
}

// same tells whether two items hold the same; a set has no order.
func same(a, b dynamo.Item) bool {
	if len(a) != len(b) {
		return false
	}
	for name, av := range a {
		as, aSet := av.(*types.AttributeValueMemberSS)
		bs, bSet := b[name].(*types.AttributeValueMemberSS)
		switch {
		case aSet != bSet:
			return false
		case aSet:
			if !slices.Equal(slices.Sorted(slices.Values(as.Value)), slices.Sorted(slices.Values(bs.Value))) {
				return false
			}
		case !reflect.DeepEqual(av, b[name]):
			return false
		}
	}
	return true
}

// what turns a sort key into words: "program#3e1b…" into "program 3e1b…". A product's specification may hold a #
// itself.
func what(sort string) string {
	switch sort {
	case numbersSort:
		return "aNumbers"
	case businessSort:
		return "merchantAccountKey"
	}
	return strings.Replace(sort, "#", " ", 2)
}
