package fault_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
)

func TestErrorIsForTheLog(t *testing.T) {
	cause := errors.New("connection reset")
	var many fault.Violations
	for i := range 12 {
		many.Add(fault.BadValue, "row %d is wrong", i)
	}
	tests := map[string]struct {
		err  *fault.Error
		want string
	}{
		"code alone": {fault.New(fault.NotFound, ""), "not_found"},
		"message":    {fault.New(fault.NotFound, "no such page"), "not_found: no such page"},
		"cause":      {fault.Wrap(fault.Unavailable, cause), "unavailable: connection reset"},
		"violations": {
			&fault.Error{
				Code: fault.Invalid,
				Violations: []fault.Violation{
					{Code: fault.Missing, Message: "a is missing"},
					{Code: fault.BadValue, Message: "b is bad"},
				},
			},
			"invalid; a is missing; b is bad",
		},
		"all of it": {
			&fault.Error{
				Code:       fault.Invalid,
				Message:    "wrong",
				Violations: []fault.Violation{{Code: fault.Missing, Message: "a is missing"}},
				Cause:      cause,
			},
			"invalid: wrong; a is missing: connection reset",
		},
		"nil cause":     {fault.Wrap(fault.Internal, nil), "internal"},
		"wrapped fault": {fault.Wrap(fault.Internal, fault.New(fault.NotFound, "x")), "internal: not_found: x"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.EqualError(t, test.err, test.want) })
	}
	t.Run("only the first ten violations", func(t *testing.T) {
		text := many.Err().Error()
		assert.Contains(t, text, "row 9 is wrong; and 2 more")
		assert.NotContains(t, text, "row 10")
		assert.Equal(t, 11, strings.Count(text, ";"))
	})
}

func TestCauseIsFound(t *testing.T) {
	cause := errors.New("x")
	assert.ErrorIs(t, fault.Wrap(fault.Internal, cause), cause)
	assert.NoError(t, fault.New(fault.Internal, "x").Unwrap())
}

func TestIs(t *testing.T) {
	notFound := fault.New(fault.NotFound, "")
	tests := map[string]struct {
		err  error
		want bool
	}{
		"the fault":                   {notFound, true},
		"within an error":             {fmt.Errorf("get: %w", notFound), true},
		"within joined errors":        {errors.Join(errors.New("x"), notFound), true},
		"another code":                {fault.New(fault.Conflict, ""), false},
		"cause of a fault of another": {fault.Wrap(fault.Internal, notFound), false},
		"another error":               {errors.New("not_found"), false},
		"nil":                         {nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { assert.Equal(t, test.want, fault.Is(test.err, fault.NotFound)) })
	}
}

func TestViolations(t *testing.T) {
	var v fault.Violations
	require.NoError(t, v.Err(), "an empty collection is no error, nor a nil *Error in an error")
	v.Add(fault.Missing, "%s must be provided", "EndpointUrl")
	v.Add(fault.BadValue, "100%% of %d", 3)
	var failure *fault.Error
	require.ErrorAs(t, v.Err(), &failure)
	assert.Equal(t, fault.Invalid, failure.Code)
	assert.Equal(
		t,
		fault.Violations{
			{Code: fault.Missing, Message: "EndpointUrl must be provided"},
			{Code: fault.BadValue, Message: "100% of 3"},
		},
		failure.Violations,
	)
}

func TestJoinViolations(t *testing.T) {
	var v fault.Violations
	assert.Empty(t, v.Join("; ", 3))
	for _, name := range []string{"a", "b", "c"} {
		v.Add(fault.Missing, "%s is missing", name)
	}
	assert.Equal(t, "a is missing; b is missing; c is missing", v.Join("; ", 3))
	assert.Equal(t, "a is missing, and 2 more", v.Join(", ", 1))
}

// Of more than 100 faults the count is kept alone, for APIs that list them as much as for those that join them.
func TestManyViolations(t *testing.T) {
	add := func(count int) fault.Violations {
		var v fault.Violations
		for i := range count {
			assert.Equal(t, i >= fault.MaxViolations, v.Full())
			v.Add(fault.BadValue, "row %d is wrong", i)
		}
		return v
	}
	tests := map[string]struct {
		count, most, kept int
		last, joined      string
	}{
		"full":             {100, 200, 100, "row 99 is wrong", "row 98 is wrong; row 99 is wrong"},
		"one more":         {101, 200, 101, "and 1 more", "row 99 is wrong; and 1 more"},
		"many more":        {25_000, 200, 101, "and 24900 more", "row 99 is wrong; and 24900 more"},
		"as many as kept":  {25_000, 100, 101, "and 24900 more", "row 99 is wrong; and 24900 more"},
		"fewer than kept":  {25_000, 20, 101, "and 24900 more", "row 19 is wrong; and 24980 more"},
		"none":             {25_000, 0, 101, "and 24900 more", "and 25000 more"},
		"fewer, just full": {100, 20, 100, "row 99 is wrong", "row 19 is wrong; and 80 more"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			v := add(test.count)
			joined := v.Join("; ", test.most)
			assert.True(t, strings.HasSuffix("; "+joined, "; "+test.joined), joined)
			var failure *fault.Error
			require.ErrorAs(t, v.Err(), &failure)
			require.Len(t, failure.Violations, test.kept)
			assert.Equal(t, test.last, failure.Violations[test.kept-1].Message)
			assert.Equal(t, joined, failure.Violations.Join("; ", test.most), "Err changes nothing that Join says")
		})
	}
	t.Run("their messages are not made", func(t *testing.T) {
		v, row := add(fault.MaxViolations), fmt.Stringer(never{t})
		for range 1000 {
			v.Add(fault.BadValue, "%v is wrong", row)
		}
		assert.Equal(t, "and 1100 more", v.Join("; ", 0))
	})
	t.Run("more may be added to an error's", func(t *testing.T) {
		var failure *fault.Error
		require.ErrorAs(t, add(102).Err(), &failure)
		all := append(add(3), failure.Violations...)
		all.Add(fault.BadValue, "another")
		require.ErrorAs(t, all.Err(), &failure)
		require.Len(t, failure.Violations, 104)
		assert.Equal(t, "and 3 more", failure.Violations[103].Message)
	})
}

// never is what must not be made a text of.
type never struct{ t *testing.T }

func (n never) String() string {
	n.t.Error("a message was made that nobody reads")
	return ""
}

func TestIgnore(t *testing.T) {
	lost := fmt.Errorf("claim: %w", fault.New(fault.Conflict, ""))
	require.NoError(t, fault.Ignore(lost, fault.Conflict))
	require.NoError(t, fault.Ignore(nil, fault.Conflict))
	assert.Equal(t, lost, fault.Ignore(lost, fault.NotFound))
	other := errors.New("x")
	assert.Equal(t, other, fault.Ignore(other, fault.Conflict))
}

// What is not the caller's may have done something, and may succeed when it is sent again.
func TestIsCallers(t *testing.T) {
	for code, want := range map[fault.Code]bool{
		fault.Invalid: true, fault.Unauthenticated: true, fault.TooManyRequests: true, "a domain's own": true,
		fault.Internal: false, fault.Unavailable: false, fault.BadGateway: false, fault.GatewayTimeout: false,
	} {
		assert.Equal(t, want, fault.New(code, "").IsCallers(), code)
	}
}
