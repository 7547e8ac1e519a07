package store_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/product"
	"carillon/shared/product/store"
	"carillon/shared/stackname"
)

func admission(request string) product.Admission {
	return product.Admission{RequestID: request, Tenant: tenant, BusinessID: "PA", AccountID: "8001234567",
		Address: "abc@gmail.com"}
}

// wait returns how long a request is told to wait, 0 if it is admitted.
func wait(t require.TestingT, err error) time.Duration {
	if err == nil {
		return 0
	}
	failure, ok := errors.AsType[*fault.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, fault.TooManyRequests, failure.Code)
	require.Positive(t, failure.RetryAfter)
	return failure.RetryAfter
}

func TestAdmitSlidesItsWindow(t *testing.T) {
	mails, _ := newMails(t)
	limits := product.Limits{Window: time.Hour, PerAccount: 2, PerAddress: 100}
	admit := func(request string, minute int) time.Duration {
		mail, err := mails.Admit(t.Context(), admission(request), limits, noon.Add(time.Duration(minute)*time.Minute))
		assert.Nil(t, mail)
		return wait(t, err)
	}
	assert.Zero(t, admit("a", 0))
	assert.Zero(t, admit("b", 20))
	assert.Equal(t, 20*time.Minute, admit("c", 40))
	assert.Zero(t, admit("a", 40), "counted already")
	assert.Equal(t, time.Minute, admit("c", 59))
	assert.Zero(t, admit("c", 60), "the oldest has left")
	assert.Equal(t, 19*time.Minute, admit("d", 61))
	assert.Zero(t, admit("d", 80))
	assert.Zero(t, admit("e", 300))
	assert.Zero(t, admit("f", 300))

	limits.PerAccount = 1 // a deployment lowers it
	assert.Equal(t, time.Hour, admit("g", 300), "both have to leave")
}

func TestAdmitLimitsAccountsAndAddressesApart(t *testing.T) {
	tests := map[string]struct {
		change  func(*product.Admission)
		account bool // counts against the same account
		address bool // counts against the same address
	}{
		"the same":          {func(*product.Admission) {}, true, true},
		"another account":   {func(a *product.Admission) { a.AccountID = "x" }, false, true},
		"another business":  {func(a *product.Admission) { a.BusinessID = "TT" }, false, true},
		"another tenant":    {func(a *product.Admission) { a.Tenant = "another" }, false, true},
		"another address":   {func(a *product.Admission) { a.Address = "x@gmail.com" }, true, false},
		"a capital letter":  {func(a *product.Admission) { a.Address = "Abc@GMAIL.com" }, true, true},
		"a capital account": {func(a *product.Admission) { a.AccountID = "A8001234567" }, false, true},
		"everything is another": {func(a *product.Admission) { a.AccountID, a.Address = "x", "x@gmail.com" }, false,
			false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, by := range []struct {
				limits  product.Limits
				limited bool
			}{
				{product.Limits{Window: time.Hour, PerAccount: 1, PerAddress: 9}, test.account},
				{product.Limits{Window: time.Hour, PerAccount: 9, PerAddress: 1}, test.address},
			} {
				mails, stack := newMails(t)
				_, err := mails.Admit(t.Context(), admission("a"), by.limits, noon)
				require.NoError(t, err)
				second := admission("b")
				test.change(&second)
				_, err = mails.Admit(t.Context(), second, by.limits, noon)
				assert.Equal(t, by.limited, wait(t, err) > 0, "%+v", by.limits)
				for _, item := range windows(t, stack) {
					assert.NotContains(t, dynamo.GetString(item, "id"), "8001234567")
					assert.NotContains(t, dynamo.GetString(item, "id"), "gmail")
				}
			}
		})
	}
}

// windows returns what is counted in a stack without mails.
func windows(t *testing.T, stack string) []dynamo.Item {
	t.Helper()
	out, err := emulatortest.DynamoDB().
		Scan(t.Context(), &dynamodb.ScanInput{TableName: aws.String(stackname.MailsTable(stack))})
	require.NoError(t, err)
	return out.Items
}

// What is refused by one limit is not counted against the other.
func TestAdmitCountsBothOrNeither(t *testing.T) {
	mails, _ := newMails(t)
	limits := product.Limits{Window: time.Hour, PerAccount: 2, PerAddress: 1}
	_, err := mails.Admit(t.Context(), admission("a"), limits, noon)
	require.NoError(t, err)
	for i := range 5 {
		_, err = mails.Admit(t.Context(), admission(fmt.Sprint("refused ", i)), limits, noon)
		assert.Equal(t, time.Hour, wait(t, err))
	}
	other := admission("b")
	other.Address = "x@gmail.com"
	_, err = mails.Admit(t.Context(), other, limits, noon)
	assert.NoError(t, err)
}

func TestGiveBack(t *testing.T) {
	mails, stack := newMails(t)
	limits := product.Limits{Window: time.Hour, PerAccount: 1, PerAddress: 1}
	require.NoError(t, mails.GiveBack(t.Context(), admission("a")), "nothing is counted yet")
	_, err := mails.Admit(t.Context(), admission("a"), limits, noon)
	require.NoError(t, err)
	require.NoError(t, mails.GiveBack(t.Context(), admission("b")), "another's")
	_, err = mails.Admit(t.Context(), admission("b"), limits, noon)
	assert.Positive(t, wait(t, err))
	for range 2 {
		require.NoError(t, mails.GiveBack(t.Context(), admission("a")))
	}
	_, err = mails.Admit(t.Context(), admission("b"), limits, noon)
	require.NoError(t, err)
	for _, item := range windows(t, stack) {
		assert.Equal(t, noon.Add(time.Hour+time.Second).Unix(), dynamo.GetInt(item, "expiresAt"))
	}
}

func TestAdmitReturnsTheMailOfARequestThatIsDone(t *testing.T) {
	mails, stack := newMails(t)
	mail := keep(t, mails, "a", noon)
	limits := product.Limits{Window: time.Hour, PerAccount: 1, PerAddress: 1}
	for range 3 {
		kept, err := mails.Admit(t.Context(), admission("a"), limits, noon)
		require.NoError(t, err)
		require.NotNil(t, kept)
		assert.Equal(t, mail.ProductID, kept.ProductID)
	}
	assert.Len(t, windows(t, stack), 1, "the mail alone: nothing is counted")
}

func TestAdmitNeverAdmitsTooManyAtTheSameTime(t *testing.T) {
	mails, _ := newMails(t)
	limits := product.Limits{Window: time.Hour, PerAccount: 10, PerAddress: 30}
	var admitted atomic.Int64
	var group sync.WaitGroup
	for i := range 50 {
		group.Go(func() {
			_, err := mails.Admit(t.Context(), admission(fmt.Sprint(i)), limits, noon)
			if wait(t, err) == 0 {
				admitted.Add(1)
			}
		})
	}
	group.Wait()
	assert.EqualValues(t, 10, admitted.Load())
}

// Whatever the order of requests, repeats and times: within any window no more than the limit are admitted, and who
// waits as long as they are told is admitted.
func TestAdmitHoldsItsLimits(t *testing.T) {
	mails, _ := newMails(t)
	rapid.Check(t, func(rt *rapid.T) {
		limits := product.Limits{Window: time.Hour, PerAccount: rapid.IntRange(1, 4).Draw(rt, "limit"), PerAddress: 100}
		account, address := uuid.NewString(), uuid.NewString()+"@example.com"
		now, admitted := noon, map[string]time.Time{}
		admit := func(request string) time.Duration {
			a := product.Admission{RequestID: request, Tenant: tenant, BusinessID: "PA", AccountID: account,
				Address: address}
			_, err := mails.Admit(t.Context(), a, limits, now)
			return wait(rt, err)
		}
		inWindow := func() int {
			n := 0
			for _, at := range admitted {
				if at.After(now.Add(-limits.Window)) {
					n++
				}
			}
			return n
		}
		for i := range rapid.IntRange(1, 12).Draw(rt, "requests") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(rt, "minutes")) * time.Minute)
			request := fmt.Sprint(i)
			told := admit(request)
			require.Equal(rt, told == 0, inWindow() < limits.PerAccount)
			if told > 0 {
				now = now.Add(told - time.Millisecond)
				require.Positive(rt, admit(request), "a moment too early")
				now = now.Add(time.Millisecond)
				require.Zero(rt, admit(request), "when it was told to")
			}
			admitted[request] = now
			require.LessOrEqual(rt, inWindow(), limits.PerAccount)
		}
	})
}

// Who is in each other's way tries again, but not for ever.
func TestAdmitSaysThatItIsUnavailableUnderContention(t *testing.T) {
	stack := emulatortest.Deploy(t)
	conflict := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "TransactWriteItems" {
			return false
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",` +
			`"Message":"x","CancellationReasons":[{"Code":"TransactionConflict"},{"Code":"None"}]}`))
		return true
	}
	client := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(), conflict))
	limits := product.Limits{Window: time.Hour, PerAccount: 1, PerAddress: 1}
	for name, test := range map[string]struct {
		clock clock.Clock
		time  time.Duration
	}{
		"until its time is over":      {clock.System{}, 300 * time.Millisecond},
		"until it has tried too long": {clocktest.New(), time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), test.time)
			defer cancel()
			mails := store.NewMails(client, stackname.MailsTable(stack), stackname.ProductsTable(stack), test.clock)
			_, err := mails.Admit(ctx, admission("a"), limits, noon)
			assert.True(t, fault.Is(err, fault.Unavailable), "%v", err)
		})
	}
}
