package provision_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/provision"
	"carillon/shared/clock/clocktest"
	"carillon/shared/engage"
	"carillon/shared/ott"
	"carillon/shared/product"
	"carillon/shared/stackname"
)

func TestMain(m *testing.M) { emulatortest.Main(m) }

var acme = provision.Client{
	ID: "acme@example.com", Tenant: "acme",
	Scopes: []string{ott.ScopeRegistrationWrite, product.ScopeProduct + ":PA"},
}

// stored is a version of a client's secret, "" when there is none.
func stored(t *testing.T, sm *secretsmanager.Client, stack, id, stage string) string {
	t.Helper()
	out, err := sm.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(stackname.ClientSecret(stack, id)), VersionStage: &stage,
	})
	if err != nil {
		require.ErrorAs(t, err, new(*types.ResourceNotFoundException))
		return ""
	}
	return *out.SecretString
}

func document(secret string) string {
	return fmt.Sprintf(`{"secret":%q,"tenant":"acme","scopes":["ott_registration_write","dxp_product:PA"]}`, secret)
}

func TestAddStoresTheClientAsTheFunctionsReadIt(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()

	secret, err := provision.NewClients(sm, stack).Add(t.Context(), acme)

	require.NoError(t, err)
	assert.Regexp(t, `^[A-Za-z0-9_-]{43}$`, secret)
	assert.JSONEq(t, document(secret), stored(t, sm, stack, acme.ID, "AWSCURRENT"))
	assert.Empty(t, stored(t, sm, stack, acme.ID, "AWSPREVIOUS"))
}

func TestAddRefusesAnIdThatIsTaken(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	clients := provision.NewClients(sm, stack)
	secret, err := clients.Add(t.Context(), acme)
	require.NoError(t, err)

	_, err = clients.Add(t.Context(), acme)

	require.ErrorIs(t, err, provision.ErrExists)
	assert.JSONEq(t, document(secret), stored(t, sm, stack, acme.ID, "AWSCURRENT"), "untouched")
}

func TestAddRefusesWhatCannotBeAClient(t *testing.T) {
	scopes := []string{engage.ScopeInform}
	tests := map[string]struct {
		client provision.Client
		want   []string
	}{
		"short id": {
			provision.Client{ID: "abcd", Tenant: "t", Scopes: scopes},
			[]string{`client id "abcd" must be`},
		},
		"slash in id": {
			provision.Client{ID: "abc/def", Tenant: "t", Scopes: scopes},
			[]string{`client id "abc/def" must be`},
		},
		"long id": {
			provision.Client{ID: strings.Repeat("a", 129), Tenant: "t", Scopes: scopes},
			[]string{"client id"},
		},
		"no tenant": {provision.Client{ID: "abcde", Scopes: scopes}, []string{`tenant "" must be`}},
		"# in tenant": {
			provision.Client{ID: "abcde", Tenant: "a#b", Scopes: scopes},
			[]string{`tenant "a#b" must be`},
		},
		"no scope": {provision.Client{ID: "abcde", Tenant: "t"}, []string{"scope must be given", "ott_send"}},
		"scope twice": {
			provision.Client{ID: "abcde", Tenant: "t", Scopes: append(scopes, scopes...)},
			[]string{`"engage_inform" is given twice`},
		},
		"unknown scope": {
			provision.Client{ID: "abcde", Tenant: "t", Scopes: []string{"engage"}},
			[]string{`scope "engage" is unknown; known: ott_registration_read`},
		},
		"country in lower": {
			provision.Client{ID: "abcde", Tenant: "t", Scopes: []string{"dxp_product:pa"}},
			[]string{`"dxp_product:pa" is unknown`},
		},
		"everything": {provision.Client{ID: "a", Tenant: "/", Scopes: []string{"x", "y"}},
			[]string{"client id", "tenant", `"x" is unknown`, `"y" is unknown`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := provision.NewClients(emulatortest.SecretsManager(), emulatortest.StackName()).
				Add(t.Context(), test.client)
			require.ErrorAs(t, err, new(provision.Faults))
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestListShowsTheStacksClientsInOrder(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	clients := provision.NewClients(sm, stack)
	var want []string
	for i := range 120 { // more than a page
		client := acme
		client.ID = fmt.Sprintf("client-%03d", i)
		want = append(want, client.ID)
		_, err := clients.Add(t.Context(), client)
		require.NoError(t, err)
	}
	// Neither belongs to the stack: one of a stack whose name begins alike, one that is not a client.
	_, err := provision.NewClients(sm, stack+"-test").Add(t.Context(), acme)
	require.NoError(t, err)
	_, err = sm.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String(stackname.SigningKeySecret(stack)), SecretString: aws.String("k"),
	})
	require.NoError(t, err)

	list, err := clients.List(t.Context())

	require.NoError(t, err)
	var got []string
	for _, info := range list {
		got = append(got, info.ID)
		assert.Equal(t, acme.Tenant, info.Tenant)
		assert.Equal(t, acme.Scopes, info.Scopes)
		assert.WithinDuration(t, time.Now(), info.Created, time.Minute)
		assert.Zero(t, info.Rotated)
	}
	assert.Equal(t, want, got)
}

func TestListNeedsNoRightToReadSecrets(t *testing.T) {
	var operations []string
	endpoint := emulatortest.Between(
		t,
		emulatortest.AWSEndpoint(),
		func(_ http.ResponseWriter, call emulatortest.Call) bool {
			operations = append(operations, call.Operation)
			return false
		},
	)
	stack := emulatortest.StackName()
	clients := provision.NewClients(emulatortest.SecretsManager(), stack)
	_, err := clients.Add(t.Context(), acme)
	require.NoError(t, err)
	_, err = clients.Rotate(t.Context(), acme.ID)
	require.NoError(t, err)

	list, err := provision.NewClients(emulatortest.SecretsManagerAt(endpoint), stack).List(t.Context())

	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.WithinDuration(t, time.Now(), list[0].Rotated, time.Minute)
	assert.Equal(t, []string{"ListSecrets", "ListSecretVersionIds"}, operations)
}

func TestListShowsAClientMadeByHand(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	_, err := sm.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String(stackname.ClientSecret(stack, "by-hand")), Description: aws.String("of the shop"),
		SecretString: aws.String(document("s")),
	})
	require.NoError(t, err)

	list, err := provision.NewClients(sm, stack).List(t.Context())

	require.NoError(t, err)
	require.Len(t, list, 1)
	assert.Equal(t, provision.Client{ID: "by-hand"}, list[0].Client)
}

func TestRotateKeepsThePreviousSecretAlive(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	clients := provision.NewClients(sm, stack)
	first, err := clients.Add(t.Context(), acme)
	require.NoError(t, err)
	never, err := clients.Rotated(t.Context(), acme.ID)
	require.NoError(t, err)
	assert.Zero(t, never)

	second, err := clients.Rotate(t.Context(), acme.ID)

	require.NoError(t, err)
	assert.NotEqual(t, first, second)
	assert.JSONEq(t, document(second), stored(t, sm, stack, acme.ID, "AWSCURRENT"))
	assert.JSONEq(t, document(first), stored(t, sm, stack, acme.ID, "AWSPREVIOUS"))
	when, err := clients.Rotated(t.Context(), acme.ID)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now(), when, time.Minute)

	third, err := clients.Rotate(t.Context(), acme.ID)
	require.NoError(t, err)
	assert.JSONEq(t, document(third), stored(t, sm, stack, acme.ID, "AWSCURRENT"))
	assert.JSONEq(t, document(second), stored(t, sm, stack, acme.ID, "AWSPREVIOUS"))
}

func TestRotateDoesNotQuoteWhatIsNoClient(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	_, err := sm.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
		Name: aws.String(stackname.ClientSecret(stack, "by-hand")), SecretString: aws.String("hunter2"),
	})
	require.NoError(t, err)

	_, err = provision.NewClients(sm, stack).Rotate(t.Context(), "by-hand")

	require.ErrorContains(t, err, "does not hold a client")
	assert.NotContains(t, err.Error(), "hunter2")
}

func TestAClientThatIsNotThere(t *testing.T) {
	clients := provision.NewClients(emulatortest.SecretsManager(), emulatortest.StackName())
	_, err := clients.Rotate(t.Context(), acme.ID)
	require.ErrorIs(t, err, provision.ErrNotFound)
	_, err = clients.Rotated(t.Context(), acme.ID)
	require.ErrorIs(t, err, provision.ErrNotFound)
	require.ErrorIs(t, clients.Remove(t.Context(), acme.ID), provision.ErrNotFound)
	list, err := clients.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
}

func TestARemovedClientComesBackAsAnother(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	clients := provision.NewClients(sm, stack)
	_, err := clients.Add(t.Context(), acme)
	require.NoError(t, err)

	require.NoError(t, clients.Remove(t.Context(), acme.ID))

	list, err := clients.List(t.Context())
	require.NoError(t, err)
	assert.Empty(t, list)
	require.ErrorIs(t, clients.Remove(t.Context(), acme.ID), provision.ErrNotFound)
	other := provision.Client{ID: acme.ID, Tenant: "acme", Scopes: acme.Scopes}
	secret, err := clients.Add(t.Context(), other)
	require.NoError(t, err)
	assert.JSONEq(t, document(secret), stored(t, sm, stack, acme.ID, "AWSCURRENT"))
	assert.Empty(
		t,
		stored(t, sm, stack, acme.ID, "AWSPREVIOUS"),
		"the removed secret must not live on as the previous one",
	)
}

// scheduledForDeletion is what AWS says of a name that is not free yet.
const scheduledForDeletion = "You can't create this secret because a secret with this name is already scheduled for " +
	"deletion."

// Someone deleted the client in the console, with its recovery period: AWS then answers CreateSecret with
// InvalidRequestException, and goes on doing so for a moment after the name was freed for good.
func TestAddTakesTheNameOfAClientScheduledForDeletion(t *testing.T) {
	var refusals atomic.Int32
	endpoint := emulatortest.Between(
		t,
		emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if call.Operation != "CreateSecret" || refusals.Add(1) > 2 {
				return false
			}
			refuse(w, "InvalidRequestException", scheduledForDeletion)
			return true
		},
	)
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	_, err := provision.NewClients(sm, stack).Add(t.Context(), acme)
	require.NoError(t, err)
	_, err = sm.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: aws.String(stackname.ClientSecret(stack, acme.ID)),
	})
	require.NoError(t, err)

	secret, err := provision.NewClients(emulatortest.SecretsManagerAt(endpoint), stack).Add(t.Context(), acme)

	require.NoError(t, err)
	assert.JSONEq(t, document(secret), stored(t, sm, stack, acme.ID, "AWSCURRENT"))
	assert.Empty(t, stored(t, sm, stack, acme.ID, "AWSPREVIOUS"))
}

// AWS may hold the name of what was deleted for longer than somebody waits at a terminal.
func TestAddGivesUpOnANameThatDoesNotBecomeFree(t *testing.T) {
	refused := func(w http.ResponseWriter, call emulatortest.Call) bool {
		if call.Operation != "CreateSecret" {
			return false
		}
		refuse(w, "InvalidRequestException", scheduledForDeletion)
		return true
	}
	endpoint := emulatortest.Between(t, emulatortest.AWSEndpoint(), refused)
	clients := provision.NewClients(emulatortest.SecretsManagerAt(endpoint), emulatortest.StackName())
	c := clocktest.New()
	start := c.Now()
	clients.Clock = c

	_, err := clients.Add(t.Context(), acme)

	require.ErrorContains(t, err, "was removed a moment ago and AWS still holds its name, try again in a minute")
	assert.Len(t, c.Slept(), 17, "between eighteen tries")
	assert.InDelta(t, 46, c.Now().Sub(start).Seconds(), 16, "a minute at most")
}

// The same as the emulator itself answers it: ResourceExistsException.
func TestAddTakesTheNameThatTheEmulatorStillHolds(t *testing.T) {
	sm, stack := emulatortest.SecretsManager(), emulatortest.StackName()
	clients := provision.NewClients(sm, stack)
	_, err := clients.Add(t.Context(), acme)
	require.NoError(t, err)
	_, err = sm.DeleteSecret(t.Context(), &secretsmanager.DeleteSecretInput{
		SecretId: aws.String(stackname.ClientSecret(stack, acme.ID)),
	})
	require.NoError(t, err)
	_, err = clients.Rotate(t.Context(), acme.ID)
	require.ErrorIs(t, err, provision.ErrNotFound)

	_, err = clients.Add(t.Context(), acme)

	assert.NoError(t, err)
}

func TestStackExists(t *testing.T) {
	sm := emulatortest.SecretsManager()
	require.NoError(t, provision.NewClients(sm, emulatortest.Deploy(t)).StackExists(t.Context()))
	require.ErrorIs(
		t,
		provision.NewClients(sm, emulatortest.StackName()).StackExists(t.Context()),
		provision.ErrNoStack,
	)
	require.EqualError(t, provision.NewClients(sm, "a/b").StackExists(t.Context()), stackname.Check("a/b").Error())
}

// refuse answers as AWS's JSON protocol does.
func refuse(w http.ResponseWriter, code, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Errortype", code)
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"__type":%q,"message":%q}`, code, message)
}
