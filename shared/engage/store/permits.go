package store

import (
	"context"
	"time"

	"carillon/shared/dynamo"
	"carillon/shared/engage"
	"carillon/shared/permits"
)

// permitWindow is as long as a permit can be held: engage-deliver's Timeout.
const permitWindow = 45 * time.Second

// Permits bound how many POSTs of one tenant are under way in one lane, whoever sends them, so that a tenant whose side
// of the gateway is slow takes no more than its share of the lane; and while that side hangs, to a single one: that is
// the breaker. An item of the pushes table for each tenant and lane counts them.
type Permits struct{ pool permits.Pool }

// NewPermits returns the permits of a lane, of which a tenant has at most limit.
func NewPermits(pushes *Pushes, lane string, limit int) *Permits {
	return &Permits{permits.Pool{
		Client: pushes.client, Table: pushes.table, Limit: limit, Window: permitWindow,
		Key: func(tenant string) dynamo.Item { return partKey("permits#"+lane+"#"+tenant, partPermits) },
	}}
}

// Take returns a permit of a tenant's, as permits.Pool.Take does.
func (p *Permits) Take(ctx context.Context, tenant string, now time.Time) (permits.Permit, error) {
	return p.pool.Take(ctx, tenant, now)
}

// Return gives a permit back, and says what the POST came to; engage.NoAnswerYet if none was sent. A time-out is a
// trouble. It returns DynamoDB's error: then the permit counts on until its window is over.
func (p *Permits) Return(ctx context.Context, permit permits.Permit, said engage.GatewayAnswer) error {
	outcome := permits.Well()
	switch said {
	case engage.NoAnswerYet, engage.Unsigned:
		outcome = permits.Nothing()
	case engage.TimedOut:
		outcome = permits.Trouble("", time.Time{})
	}
	return p.pool.Return(ctx, permit, outcome)
}
