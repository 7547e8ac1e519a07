package deliver_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
)

// capacity adds up what DynamoDB says that calls consumed.
type capacity struct {
	mu            sync.Mutex
	reads, writes float64
}

func deref(f *float64) float64 {
	if f == nil {
		return 0
	}
	return *f
}

// measured makes a client ask for the consumed capacity of each call, and adds it up.
func (c *capacity) measured(o *dynamodb.Options) {
	o.APIOptions = append(o.APIOptions, func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("Capacity", func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			writes := true
			switch input := in.Parameters.(type) {
			case *dynamodb.PutItemInput:
				input.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
			case *dynamodb.UpdateItemInput:
				input.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
			case *dynamodb.BatchWriteItemInput:
				input.ReturnConsumedCapacity = types.ReturnConsumedCapacityTotal
			case *dynamodb.GetItemInput:
				input.ReturnConsumedCapacity, writes = types.ReturnConsumedCapacityTotal, false
			case *dynamodb.QueryInput:
				input.ReturnConsumedCapacity, writes = types.ReturnConsumedCapacityTotal, false
			}
			out, metadata, err := next.HandleInitialize(ctx, in)
			switch result := out.Result.(type) {
			case *dynamodb.PutItemOutput:
				c.addTotal(writes, result.ConsumedCapacity)
			case *dynamodb.UpdateItemOutput:
				c.addTotal(writes, result.ConsumedCapacity)
			case *dynamodb.BatchWriteItemOutput:
				for i := range result.ConsumedCapacity {
					c.addTotal(writes, &result.ConsumedCapacity[i])
				}
			case *dynamodb.GetItemOutput:
				c.addTotal(writes, result.ConsumedCapacity)
			case *dynamodb.QueryOutput:
				c.addTotal(writes, result.ConsumedCapacity)
			}
			return out, metadata, err
		}), middleware.After)
	})
}

func (c *capacity) addTotal(writes bool, consumed *types.ConsumedCapacity) {
	if consumed == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if writes {
		c.writes += deref(consumed.CapacityUnits)
	} else {
		c.reads += deref(consumed.CapacityUnits)
	}
}

// BenchmarkPush takes 25,000 realistic destinations from accept to their final state on the emulators and prints what
// it costs: DynamoDB write and read units per 1,000 destinations, as DynamoDB reports them, and this process's CPU
// seconds per million destinations for accepting (decoding, checking, encoding, storing) and for delivering. The
// gateway runs in the same process, so its share is in the CPU seconds; here it only looks for the numbers that it
// answers.
func BenchmarkPush(b *testing.B) {
	var consumed capacity
	p := engagetest.New(b, consumed.measured)
	p.Gateway.Config.Handler = http.HandlerFunc(deliverAll)
	body := engagetest.RealisticBody()
	var acceptCPU, deliverCPU time.Duration
	pushes := 0
	consumed.reads, consumed.writes = 0, 0
	for b.Loop() {
		start := cpu(b)
		batch, err := engage.DecodeBatch(strings.NewReader(body))
		require.NoError(b, err)
		checked, err := batch.Check([]string{"FIRST_NAME", "TIME"}, p.Clock.Now())
		require.NoError(b, err)
		push, chunks := p.Accept(b, checked.Destinations, p.Clock.Now(), 3600)
		accepted := cpu(b)
		require.Empty(b, p.Deliver(b, push, chunks))
		acceptCPU += accepted - start
		deliverCPU += cpu(b) - accepted
		pushes++
		meta, err := p.Pushes.Meta(b.Context(), "", push.RequestID)
		require.NoError(b, err)
		require.Equal(b, engage.MaxDestinations, meta.Counts().Delivered)
		require.Equal(b, engage.PushCompleted, meta.State())
	}
	sent := float64(pushes * engage.MaxDestinations)
	b.ReportMetric(consumed.writes/sent*1000, "WU/1000dest")
	b.ReportMetric(consumed.reads/sent*1000, "RU/1000dest")
	b.ReportMetric(acceptCPU.Seconds()/sent*1e6, "accept-cpu-s/Mdest")
	b.ReportMetric(deliverCPU.Seconds()/sent*1e6, "deliver-cpu-s/Mdest")
}

// deliverAll answers delivered for every number in a POST.
func deliverAll(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	answer := []byte(`{"results":[`)
	for i, part := range bytes.Split(raw, []byte(`"bNumber":"`))[1:] {
		if i > 0 {
			answer = append(answer, ',')
		}
		answer = fmt.Appendf(answer, `{"bNumber":"%s","status":"delivered"}`, part[:bytes.IndexByte(part, '"')])
	}
	_, _ = w.Write(append(answer, "]}"...))
}

func cpu(tb testing.TB) time.Duration {
	tb.Helper()
	var usage syscall.Rusage
	require.NoError(tb, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
