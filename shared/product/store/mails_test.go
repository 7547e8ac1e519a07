package store_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/clock/clocktest"
	"carillon/shared/dynamo"
	"carillon/shared/fault"
	"carillon/shared/product"
	"carillon/shared/product/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

const (
	tenant        = "demo-channel"
	keptProduct   = "53c18a7a-f4ef-5e62-8061-9c179733ae32"
	activationURL = "https://activate.example.com/one-time-token"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// newMails returns the mails of a stack of its own. Those who meet on one wait for each other in real time.
func newMails(t *testing.T) (mails *store.Mails, stack string) {
	t.Helper()
	stack = emulatortest.Deploy(t)
	return store.NewMails(
		emulatortest.DynamoDB(),
		stackname.MailsTable(stack),
		stackname.ProductsTable(stack),
		clock.System{},
	), stack
}

// keep keeps a product with a pending mail of a request.
func keep(t *testing.T, mails *store.Mails, request string, now time.Time) product.Mail {
	t.Helper()
	mail := product.Mail{
		RequestID: request, Tenant: tenant, BusinessID: "PA", ProductID: keptProduct, To: "abc@gmail.com",
		Service: "Disney+",
		Link:    secret.NewText(activationURL), LinkExpires: now.Add(24 * time.Hour), State: product.MailPending,
		CreatedAt: now,
	}
	p := product.Product{
		SpecificationID: "disney-plus", ReferredType: "DISNEY", BillingAccount: product.BillingAccount{
			ID: "8001234567", Contacts: []product.Contact{{Emails: []string{"abc@gmail.com"}}},
		},
	}
	former, err := mails.Keep(t.Context(), product.Stored{
		Tenant: tenant, BusinessID: "PA", ID: keptProduct, Product: p, Entitlement: product.Entitlement{ID: "e-1"},
		OperationID: request,
	}, mail)
	require.NoError(t, err)
	require.Empty(t, former)
	return mail
}

// shown returns how the product's mail fares, as a reader sees it.
func shown(t *testing.T, stack string) (state, reason string) {
	t.Helper()
	out, err := emulatortest.DynamoDB().GetItem(t.Context(), &dynamodb.GetItemInput{
		TableName: aws.String(stackname.ProductsTable(stack)),
		Key:       dynamo.Item{"owner": dynamo.String(tenant + "#PA"), "id": dynamo.String(keptProduct)},
	})
	require.NoError(t, err)
	return dynamo.GetString(out.Item, "mailState"), dynamo.GetString(out.Item, "mailReason")
}

func TestKeepKeepsAMailOnce(t *testing.T) {
	mails, stack := newMails(t)
	mail := keep(t, mails, "a", noon)
	kept, err := mails.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, mail, kept)
	require.NoError(t, mails.SetOutcome(t.Context(), mail, product.Outcome{State: product.MailSent}, noon))

	keep(t, mails, "a", noon.Add(time.Minute)) // who took the operation over
	kept, err = mails.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, product.MailSent, kept.State)
	state, _ := shown(t, stack)
	assert.Equal(t, "sent", state)
}

func TestGetFindsNoMail(t *testing.T) {
	mails, _ := newMails(t)
	_, err := mails.Get(t.Context(), "nobody's")
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

func TestClaimIsOnesAlone(t *testing.T) {
	mails, _ := newMails(t)
	keep(t, mails, "a", noon)
	var claimed atomic.Int64
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			mail, err := mails.Claim(t.Context(), "a", fmt.Sprint("claim ", i), noon)
			assert.Equal(t, product.MailSending, mail.State)
			if err == nil {
				claimed.Add(1)
				assert.Equal(t, activationURL, mail.Link.Reveal())
				return
			}
			assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		})
	}
	group.Wait()
	assert.EqualValues(t, 1, claimed.Load())

	_, err := mails.Claim(t.Context(), "nobody's", "claim", noon)
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

// The SDK repeats a call whose answer was lost: the claim that it finds is its own.
func TestClaimKnowsItself(t *testing.T) {
	mails, _ := newMails(t)
	keep(t, mails, "a", noon)
	for range 2 {
		mail, err := mails.Claim(t.Context(), "a", "claim", noon)
		require.NoError(t, err)
		assert.Equal(t, noon, mail.ClaimedAt)
	}
	_, err := mails.Claim(t.Context(), "a", "another", noon)
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
}

func TestReleaseMakesAMailPendingAgain(t *testing.T) {
	mails, _ := newMails(t)
	keep(t, mails, "a", noon)
	first, err := mails.Claim(t.Context(), "a", "first", noon)
	require.NoError(t, err)
	for range 2 { // once more, as the SDK does
		require.NoError(t, mails.Release(t.Context(), first, "throttled", noon))
	}
	_, err = mails.Claim(t.Context(), "a", "second", noon)
	require.NoError(t, err)
	err = mails.Release(t.Context(), first, "throttled", noon)
	assert.True(t, fault.Is(err, fault.Conflict), "another's claim is not ended: %v", err)
	kept, err := mails.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, product.MailSending, kept.State)
	assert.Equal(t, "throttled", kept.Reason)
	assert.Equal(t, activationURL, kept.Link.Reveal())
}

// A mail is claimed while it is its product's newest. One that is not ends, whoever asks and however often, without its
// link; the product shows the newest.
func TestClaimSupersedesWhatIsNotTheNewest(t *testing.T) {
	mails, stack := newMails(t)
	keep(t, mails, "a", noon)
	keep(t, mails, "b", noon.Add(time.Minute))
	var ended atomic.Int64
	var group sync.WaitGroup
	for i := range 10 {
		group.Go(func() {
			mail, err := mails.Claim(t.Context(), "a", fmt.Sprint("claim ", i), noon.Add(2*time.Minute))
			assert.Equal(t, product.MailSuperseded, mail.State)
			if err == nil {
				ended.Add(1)
				assert.Equal(t, "a newer mail of the product was accepted before it could be sent", mail.Reason)
				return
			}
			assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		})
	}
	group.Wait()
	assert.EqualValues(t, 1, ended.Load(), "it ends once")
	kept, err := mails.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, product.MailSuperseded, kept.State)
	assert.Empty(t, kept.Link.Reveal())
	assert.Empty(t, kept.Claim)
	state, _ := shown(t, stack)
	assert.Equal(t, "pending", state, "that of the newest")

	newest, err := mails.Claim(t.Context(), "b", "claim", noon)
	require.NoError(t, err)
	assert.Equal(t, product.MailSending, newest.State)
	assert.Equal(t, activationURL, newest.Link.Reveal())
}

// A resend may be accepted at any moment of the first mail's: before its claim the first never leaves, after it the
// first is the claimer's, and what becomes of it is its own.
func TestClaimAndResendAtTheSameTime(t *testing.T) {
	mails, stack := newMails(t)
	for round := range 10 {
		first, second := fmt.Sprint("first ", round), fmt.Sprint("second ", round)
		mail := keep(t, mails, first, noon)
		var group sync.WaitGroup
		group.Go(func() { keep(t, mails, second, noon) })
		claimed, err := mails.Claim(t.Context(), first, "claim", noon)
		group.Wait()
		require.NoError(t, err)
		assert.Contains(t, []product.MailState{product.MailSending, product.MailSuperseded}, claimed.State)
		if claimed.State == product.MailSending {
			require.NoError(t, mails.Release(t.Context(), claimed, "throttled", noon))
			claimed, err = mails.Claim(t.Context(), first, "another", noon)
			require.NoError(t, err)
			assert.Equal(t, product.MailSuperseded, claimed.State, "SES was busy: the newer one was accepted meanwhile")
		}
		err = mails.SetOutcome(t.Context(), mail, product.Outcome{State: product.MailSent}, noon)
		assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
		state, _ := shown(t, stack)
		assert.Equal(t, "pending", state)
	}
}

// A claim meets the transactions of creates and of other outcomes on the product; it is tried again.
func TestClaimOutlivesConflicts(t *testing.T) {
	stack := emulatortest.Deploy(t)
	var tries atomic.Int64
	client := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "TransactWriteItems" || tries.Add(1)%3 == 0 {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",` +
				`"Message":"x","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict"}]}`))
			return true
		}))
	mails := store.NewMails(client, stackname.MailsTable(stack), stackname.ProductsTable(stack), clocktest.New())
	keep(t, mails, "a", noon)
	mail, err := mails.Claim(t.Context(), "a", "claim", noon)
	require.NoError(t, err)
	assert.Equal(t, product.MailSending, mail.State)
	assert.EqualValues(t, 6, tries.Load())
}

// A mail's state never goes back: every two states in both orders.
func TestSetOutcomeGoesOnOnly(t *testing.T) {
	rank := map[product.MailState]int{}
	for i, state := range []product.MailState{
		product.MailPending, product.MailSending, product.MailUnknown, product.MailSent, product.MailDelayed,
		product.MailDelivered, product.MailSuperseded, product.MailExpired, product.MailRefused, product.MailSuppressed,
		product.MailBounced, product.MailComplained, product.MailNone,
	} {
		rank[state] = i
	}
	mails, stack := newMails(t)
	for from := range rank {
		for _, to := range []product.MailState{
			product.MailUnknown, product.MailSent, product.MailDelayed, product.MailDelivered, product.MailBounced,
			product.MailSuppressed, product.MailRefused, product.MailExpired, product.MailComplained,
		} {
			t.Run(string(from+" to "+to), func(t *testing.T) {
				request := string(from + to)
				mail := keep(t, mails, request, noon)
				if from == product.MailSending {
					_, err := mails.Claim(t.Context(), request, "claim", noon)
					require.NoError(t, err)
				} else if from != product.MailPending {
					require.NoError(t, mails.SetOutcome(t.Context(), mail,
						product.Outcome{State: from, Reason: "first"}, noon))
				}
				err := mails.SetOutcome(t.Context(), mail, product.Outcome{State: to, Reason: "second",
					MessageID: "m-1"}, noon)
				state, reason := shown(t, stack)
				if rank[to] > rank[from] {
					require.NoError(t, err)
					assert.Equal(t, []string{string(to), "second"}, []string{state, reason})
					kept, err := mails.Get(t.Context(), request)
					require.NoError(t, err)
					assert.Equal(t, to, kept.State)
					assert.Empty(t, kept.Link.Reveal(), "nothing needs the link any more")
					return
				}
				assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
				assert.Equal(t, []string{string(from), "first"}, []string{state, reason})
			})
		}
	}
}

// An outcome of an earlier request's mail is kept, but is not the product's.
func TestSetOutcomeShowsTheLatestRequestsMail(t *testing.T) {
	mails, stack := newMails(t)
	first := keep(t, mails, "a", noon)
	second := keep(t, mails, "b", noon)
	require.NoError(t, mails.SetOutcome(t.Context(), second, product.Outcome{State: product.MailSent}, noon))
	require.NoError(t, mails.SetOutcome(t.Context(), first,
		product.Outcome{State: product.MailBounced, Reason: "no such mailbox"}, noon))
	state, reason := shown(t, stack)
	assert.Equal(t, []string{"sent", ""}, []string{state, reason})
	kept, err := mails.Get(t.Context(), "a")
	require.NoError(t, err)
	assert.Equal(t, product.MailBounced, kept.State)
	err = mails.SetOutcome(t.Context(), first, product.Outcome{State: product.MailDelivered}, noon)
	assert.True(t, fault.Is(err, fault.Conflict), "%v", err)
	second.RequestID = "nobody's"
	err = mails.SetOutcome(t.Context(), second, product.Outcome{State: product.MailDelivered}, noon)
	assert.True(t, fault.Is(err, fault.NotFound), "%v", err)
}

func TestSetOutcomeCutsItsReason(t *testing.T) {
	mails, stack := newMails(t)
	mail := keep(t, mails, "a", noon)
	require.NoError(t, mails.SetOutcome(t.Context(), mail, product.Outcome{State: product.MailBounced,
		Reason: " 550\r\n\x00" + strings.Repeat("ä", 1000)}, noon))
	_, reason := shown(t, stack)
	assert.Equal(t, "550 "+strings.Repeat("ä", 251)+"…", reason)
}

// DynamoDB cancels transactions that meet on an item; they are tried again.
func TestSetOutcomeOutlivesConflicts(t *testing.T) {
	stack := emulatortest.Deploy(t)
	var tries atomic.Int64
	client := emulatortest.DynamoDBAt(emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "TransactWriteItems" || tries.Add(1)%3 == 0 {
				return false
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"__type":"com.amazonaws.dynamodb.v20120810#TransactionCanceledException",` +
				`"Message":"x","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict"}]}`))
			return true
		}))
	mails := store.NewMails(client, stackname.MailsTable(stack), stackname.ProductsTable(stack), clocktest.New())
	mail := keep(t, mails, "a", noon)
	require.NoError(t, mails.SetOutcome(t.Context(), mail, product.Outcome{State: product.MailSent}, noon))
	assert.EqualValues(t, 6, tries.Load())
}
