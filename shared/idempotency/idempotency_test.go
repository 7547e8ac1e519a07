package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
)

// record writes down what it is asked for.
type record struct {
	asked   string
	answer  *httpapi.Response
	over    error // the context's at that time
	failure error
}

func (r *record) note(ctx context.Context, asked string, answer *httpapi.Response) error {
	r.asked, r.answer, r.over = r.asked+asked, answer, ctx.Err()
	return r.failure
}

func (r *record) Complete(ctx context.Context, answer *httpapi.Response) error {
	return r.note(ctx, "complete", answer)
}
func (r *record) Forget(ctx context.Context) error  { return r.note(ctx, "forget", nil) }
func (r *record) Release(ctx context.Context) error { return r.note(ctx, "release", nil) }

// docs/contract.md, Common: what is ours, or a partner's, may be sent again and goes on; what the caller has to change
// frees its key.
func TestEnd(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"answer":                     {nil, "complete"},
		"invalid":                    {fault.New(fault.Invalid, ""), "forget"},
		"not found":                  {fault.New(fault.NotFound, ""), "forget"},
		"too many requests":          {fault.New(fault.TooManyRequests, ""), "forget"},
		"a domain's own refusal":     {fault.New("provider_refused", ""), "forget"},
		"a refusal within":           {errors.Join(errors.New("x"), fault.New(fault.Invalid, "")), "forget"},
		"unavailable":                {fault.New(fault.Unavailable, ""), "release"},
		"bad gateway":                {fault.New(fault.BadGateway, ""), "release"},
		"gateway time-out":           {fault.New(fault.GatewayTimeout, ""), "release"},
		"internal":                   {fault.New(fault.Internal, ""), "release"},
		"any other error":            {errors.New("x"), "release"},
		"the request's time is over": {context.DeadlineExceeded, "release"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			if test.err != nil {
				over, cancel := context.WithCancel(ctx)
				cancel()
				ctx = over
			}
			var r record
			answer := httpapi.Empty(http.StatusNoContent)
			operation := &idempotency.Operation{ID: "id-1", Record: &r}
			operation.End(ctx, slog.New(slog.DiscardHandler), answer, test.err)
			assert.Equal(t, test.want, r.asked)
			assert.NoError(t, r.over, "it has time of its own")
			if test.err == nil {
				assert.Same(t, answer, r.answer)
			}
		})
	}
}

func TestEndThatFailsIsLogged(t *testing.T) {
	var log bytes.Buffer
	operation := &idempotency.Operation{ID: "id-1", Record: &record{failure: errors.New("throttled")}}
	operation.End(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), nil, errors.New("x"))
	assert.Contains(t, log.String(), `"operation":"id-1","error":"throttled"`)
}
