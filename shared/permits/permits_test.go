package permits_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/permits"
	"carillon/shared/sanitize"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const window = 45 * time.Second

// start is the beginning of a window.
var start = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// pool is a pool on a table of its own, and what tests ask of it.
type pool struct {
	permits.Pool
	t *testing.T
}

func key(side string) dynamo.Item { return dynamo.Item{"id": dynamo.String(side)} }

func newPool(t *testing.T, limit int) *pool {
	t.Helper()
	client, table := emulatortest.DynamoDB(), emulatortest.StackName()
	_, err := client.CreateTable(t.Context(), &dynamodb.CreateTableInput{
		TableName: &table, BillingMode: types.BillingModePayPerRequest,
		AttributeDefinitions: []types.AttributeDefinition{
			{AttributeName: aws.String("id"), AttributeType: types.ScalarAttributeTypeS},
		},
		KeySchema: []types.KeySchemaElement{{AttributeName: aws.String("id"), KeyType: types.KeyTypeHash}},
	})
	require.NoError(t, err)
	return &pool{t: t, Pool: permits.Pool{Client: client, Table: table, Key: key, Limit: limit, Window: window}}
}

// take takes so many permits, each of which must be there.
func (p *pool) take(side string, at time.Time, n int) []permits.Permit {
	p.t.Helper()
	var all []permits.Permit
	for range n {
		permit, err := p.Take(p.t.Context(), side, at)
		require.NoError(p.t, err)
		all = append(all, permit)
	}
	return all
}

// refused is why there is no permit.
func (p *pool) refused(side string, at time.Time) permits.Refused {
	p.t.Helper()
	_, err := p.Take(p.t.Context(), side, at)
	require.True(p.t, fault.Is(err, fault.TooManyRequests), "%v", err)
	cause, ok := errors.AsType[*permits.Refused](err)
	require.True(p.t, ok)
	return *cause
}

func (p *pool) giveBack(outcome permits.Outcome, held ...permits.Permit) {
	p.t.Helper()
	for _, permit := range held {
		require.NoError(p.t, p.Return(p.t.Context(), permit, outcome))
	}
}

// inTrouble brings a side to trouble three times, the last one until a time.
func (p *pool) inTrouble(side, reason string, at, until time.Time) {
	p.t.Helper()
	held := p.take(side, at, 3)
	p.giveBack(permits.Trouble("another", time.Time{}), held[:2]...)
	p.giveBack(permits.Trouble(reason, until), held[2])
}

func (p *pool) item(side string) dynamo.Item {
	p.t.Helper()
	out, err := p.Client.GetItem(p.t.Context(), &dynamodb.GetItemInput{
		TableName: &p.Table, Key: key(side), ConsistentRead: aws.Bool(true),
	})
	require.NoError(p.t, err)
	return out.Item
}

func TestShare(t *testing.T) {
	for invocations, want := range map[int]int{0: 1, 1: 1, 2: 1, 4: 2, 5: 3, 10: 6, 50: 30, 99: 59} {
		assert.Equal(t, want, permits.Share(invocations), "of %d", invocations)
	}
}

// A side has its share, whatever the window; those of the window before count, and other sides have theirs.
func TestASideHasItsShare(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	held := p.take("a", start.Add(window-time.Second), 3)
	next := start.Add(window)
	held = append(held, p.take("a", next, 1)...)
	assert.Equal(t, permits.Refused{}, p.refused("a", next), "those of the window before count")
	p.take("b", next, 4)
	p.giveBack(permits.Well(), held[0])
	p.take("a", next, 1)
	p.refused("a", next)
}

func TestWhatAProcessTookThatDiedIsForgotten(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	held := p.take("a", start, 4)
	p.refused("a", start.Add(window))
	p.take("a", start.Add(2*window), 4)

	// One that comes back after all, when its window is long gone, gives nothing back that others have.
	p.giveBack(permits.Well(), held...)
	p.refused("a", start.Add(2*window))
}

func TestWindowsTakeTurnsForEver(t *testing.T) {
	t.Parallel()
	p := newPool(t, 2)
	for n := range 12 {
		at := start.Add(time.Duration(n) * window)
		held := p.take("a", at.Add(window-time.Second), 2)
		p.refused("a", at.Add(window))
		p.giveBack(permits.Well(), held...)
	}
}

func TestTwoClocksASecondApart(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	ahead, behind := start.Add(window), start.Add(window-time.Second)
	held := append(p.take("a", ahead, 2), p.take("a", behind, 2)...)
	p.refused("a", ahead)
	p.giveBack(permits.Well(), held...)
	p.take("a", ahead, 4)
}

// After three troubles in a row a side is called one call at a time, until one is answered.
func TestASideInTrouble(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	assert.False(t, permits.IsOpen(p.item("a")), "of a side that nobody has called")
	p.giveBack(permits.Trouble("HTTP 500", time.Time{}), p.take("a", start, 2)...)
	assert.False(t, permits.IsOpen(p.item("a")))
	third := p.take("a", start, 1)[0]
	assert.Equal(t, 2, third.Troubles)
	p.giveBack(permits.Trouble("HTTP 503", time.Time{}), third)
	assert.True(t, permits.IsOpen(p.item("a")))

	probe := p.take("a", start, 1)[0]
	assert.Equal(t, 3, probe.Troubles)
	assert.Equal(t, permits.Refused{InTrouble: true, Reason: "HTTP 503"}, p.refused("a", start))
	p.take("b", start, 10)
	p.giveBack(permits.Trouble("", time.Time{}), probe)
	probe = p.take("a", start, 1)[0]
	assert.Equal(t, 4, probe.Troubles)
	assert.Equal(t, "HTTP 503", p.refused("a", start).Reason, "a trouble that says nothing leaves the last reason")
	p.giveBack(permits.Well(), probe)
	assert.False(t, permits.IsOpen(p.item("a")))

	held := p.take("a", start, 10)
	assert.Zero(t, held[0].Troubles)
	assert.Equal(t, permits.Refused{}, p.refused("a", start), "none left is no trouble")
	p.giveBack(permits.Trouble("", time.Time{}), held[:3]...)
	assert.Equal(t, permits.Refused{InTrouble: true}, p.refused("a", start), "of former troubles nothing is known")
}

// While a breaker is open there is no call at all until the time that the side, or its caller, wishes.
func TestNoCallBeforeItsTime(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	until := start.Add(7*time.Second + 250*time.Millisecond)
	p.inTrouble("a", "busy", start, until)
	for _, at := range []time.Time{start, until.Add(-time.Millisecond)} {
		refused := p.refused("a", at)
		assert.True(t, refused.InTrouble)
		assert.Equal(t, "busy", refused.Reason)
		assert.True(t, until.Equal(refused.Until), "%v", refused.Until)
	}
	probe := p.take("a", until, 1)[0]
	p.refused("a", until)
	later := until.Add(time.Minute)
	p.giveBack(permits.Trouble("still busy", later), probe)
	assert.True(t, later.Equal(p.refused("a", later.Add(-time.Millisecond)).Until))
	p.giveBack(permits.Well(), p.take("a", later, 1)...)
	p.take("a", later, 10)

	// A time of one trouble alone closes nothing: it is the message's own to wait.
	p.giveBack(permits.Trouble("once", start.Add(time.Hour)), p.take("b", start, 1)...)
	p.take("b", start, 10)
}

// A probe whose process died is forgotten as any permit is.
func TestAProbeThatDied(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	p.inTrouble("a", "", start, time.Time{})
	p.take("a", start, 1)
	p.refused("a", start.Add(window))
	p.take("a", start.Add(2*window), 1)
	p.refused("a", start.Add(2*window))
}

func TestWhatWasNotSentSaysNothing(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	trouble := permits.Trouble("", time.Time{})
	p.giveBack(trouble, p.take("a", start, 2)...)
	p.giveBack(permits.Nothing(), p.take("a", start, 1)...)
	p.giveBack(trouble, p.take("a", start, 1)...)
	p.take("a", start, 1)
	p.refused("a", start)
}

// A reason is a partner's text: it is kept short and clean.
func TestTheReasonIsSanitized(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	p.inTrouble("a", "no\x00 such\n"+strings.Repeat("é", 2*sanitize.MaxReason), start, start.Add(time.Hour))
	reason := p.refused("a", start).Reason
	assert.True(t, strings.HasPrefix(reason, "no such é"), reason)
	assert.Len(t, []rune(reason), sanitize.MaxReason)
}

// What Well takes away is all of a trouble; of what others keep in the item of a side in trouble, held, one.
func TestWellLeavesNothingOfATrouble(t *testing.T) {
	t.Parallel()
	p := newPool(t, 10)
	p.inTrouble("a", "busy", start, start.Add(time.Second))
	_, err := p.Client.UpdateItem(t.Context(), &dynamodb.UpdateItemInput{
		TableName: &p.Table, Key: key("a"), UpdateExpression: aws.String("ADD held :one"),
		ExpressionAttributeValues: dynamo.Item{":one": dynamo.Int(1)},
	})
	require.NoError(t, err)
	p.giveBack(permits.Well(), p.take("a", start.Add(time.Second), 1)...)
	item := p.item("a")
	for _, name := range []string{"troubles", "reason", "openUntil"} {
		assert.NotContains(t, item, name)
	}
	assert.Zero(t, dynamo.GetInt(item, "held"))
	p.giveBack(permits.Well(), p.take("a", start.Add(time.Second), 1)...)
	assert.Zero(t, dynamo.GetInt(p.item("a"), "held"), "and not more than there are")
	assert.Equal(t, start.Add(time.Second+24*time.Hour).Unix(), dynamo.GetInt(item, "expiresAt"))
}

func TestDynamoDBFails(t *testing.T) {
	t.Parallel()
	p := newPool(t, 4)
	held := p.take("a", start, 1)[0]
	p.Table = "no-such-table"
	_, err := p.Take(t.Context(), "a", start)
	require.Error(t, err)
	_, isRefused := errors.AsType[*permits.Refused](err)
	assert.False(t, isRefused)
	assert.Error(t, p.Return(t.Context(), held, permits.Well()))
}
