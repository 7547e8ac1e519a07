package main_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/ott"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/stackname"
)

// ottStack is a stack with one registration, and secrets that none names.
type ottStack struct {
	name    string
	inUse   string
	orphans []string
}

func newOttStack(t *testing.T, orphans int) ottStack {
	t.Helper()
	s := ottStack{name: emulatortest.Deploy(t)}
	registrations := store.NewRegistrations(
		emulatortest.DynamoDB(),
		stackname.RegistrationsTable(s.name),
		emulatortest.SecretsManager(),
		stackname.RegistrationSecretPrefix(s.name),
		clock.System{},
		slog.New(slog.DiscardHandler),
	)
	version := uuid.NewString()
	require.NoError(
		t,
		registrations.Put(
			t.Context(),
			"acme",
			version,
			ott.Registration{Platform: ott.LINE, PropertyID: "1", Name: "A channel"},
			ott.Credentials{ChannelSecret: secret.NewText("hunter2")},
		),
	)
	s.inUse = stackname.RegistrationSecretPrefix(s.name) + "line/" + version
	for range orphans {
		name := stackname.RegistrationSecretPrefix(s.name) + "messenger/" + uuid.NewString()
		_, err := emulatortest.SecretsManager().CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{
			Name:         &name,
			SecretString: aws.String("{}"),
			Description:  aws.String("Credentials of the OTT registration messenger#2\x1b[31m"),
		})
		require.NoError(t, err)
		s.orphans = append(s.orphans, name)
	}
	return s
}

// live reports whether a secret can be read.
func live(t *testing.T, name string) bool {
	t.Helper()
	_, err := emulatortest.SecretsManager().
		GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &name})
	return err == nil
}

var createdDate = regexp.MustCompile(`"CreatedDate":\s*[0-9.]+`)

// twoHoursLater is Secrets Manager as it is when two hours have passed, but for the calls that answer answers.
func twoHoursLater(t *testing.T, answer func(http.ResponseWriter, emulatortest.Call) bool) call {
	t.Helper()
	created := fmt.Sprintf(`"CreatedDate": %d`, time.Now().Add(-2*time.Hour).Unix())
	endpoint := emulatortest.Between(
		t,
		emulatortest.AWSEndpoint(),
		func(w http.ResponseWriter, c emulatortest.Call) bool {
			if c.Operation != "ListSecrets" {
				return answer(w, c)
			}
			w.Header().Set("Content-Type", "application/x-amz-json-1.1")
			_, err := w.Write(createdDate.ReplaceAll(c.Send(c.Body).Body.Bytes(), []byte(created)))
			assert.NoError(t, err)
			return true
		},
	)
	return call{environment: []string{"AWS_ENDPOINT_URL=" + endpoint}}
}

func pass(http.ResponseWriter, emulatortest.Call) bool { return false }

func TestOttSweep(t *testing.T) {
	s := newOttStack(t, 2)
	sweep := []string{"ott", "sweep", "--stack", s.name}
	where := "stack " + s.name + " in us-east-1"

	r := run(t, sweep...)
	assert.Equal(
		t,
		"No orphaned secrets in "+where+"; 1 in use, 2 younger than 1h0m0s.\n",
		r.stdout,
		"they may be about to be registered",
	)
	assert.Empty(t, r.stderr)

	later := twoHoursLater(t, pass)
	r = later.run(t, append(sweep, "--dry-run")...)
	assert.Zero(t, r.status, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 4)
	assert.Equal(t, []string{"SECRET", "PROPERTY", "CREATED"}, strings.Fields(lines[0]))
	for _, line := range lines[1:3] {
		assert.Regexp(t, `^`+s.name+`/ott/messenger/\S+ +messenger#2\\x1b\[31m +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$`, line)
	}
	assert.Equal(
		t,
		"Dry run, nothing was deleted in "+where+": 2 orphaned secrets to delete; 1 in use, 0 younger than 1h0m0s.",
		lines[3],
	)
	assert.True(t, live(t, s.orphans[0]))

	r = later.run(t, append(sweep, "--older-than", "24h")...)
	assert.Contains(t, r.stdout, "No orphaned secrets in "+where+"; 1 in use, 2 younger than 24h0m0s.\n")

	r = later.run(t, sweep...)
	assert.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "\nDeleted 2 orphaned secrets in "+where+"; 1 in use, 0 younger than 1h0m0s.\n")
	assert.Empty(t, r.stderr)
	for _, name := range s.orphans {
		assert.False(t, live(t, name))
		_, err := emulatortest.SecretsManager().
			RestoreSecret(t.Context(), &secretsmanager.RestoreSecretInput{SecretId: &name})
		require.NoError(t, err, "it can be restored")
	}
	assert.True(t, live(t, s.inUse))

	var report struct {
		DryRun                bool
		Orphans               []store.Orphan
		Deleted, InUse, Young int
	}
	require.NoError(t, json.Unmarshal([]byte(later.run(t, append(sweep, "-o", "json")...).stdout), &report))
	assert.Len(t, report.Orphans, 2)
	assert.Equal(t, "messenger#2\x1b[31m", report.Orphans[0].Property)
	assert.ElementsMatch(t, s.orphans, []string{report.Orphans[0].SecretName, report.Orphans[1].SecretName})
	assert.Equal(t, []int{2, 1, 0}, []int{report.Deleted, report.InUse, report.Young})
	assert.JSONEq(
		t,
		`{"dryRun":true,"orphans":[],"deleted":0,"inUse":1,"young":0}`,
		later.run(t, append(sweep, "-o", "json", "--dry-run")...).stdout,
	)
}

// What fails midway says how far it came, and the same again goes on.
func TestOttSweepThatFailsMidway(t *testing.T) {
	s := newOttStack(t, 23)
	var deletions atomic.Int32
	later := twoHoursLater(t, func(w http.ResponseWriter, c emulatortest.Call) bool {
		if c.Operation != "DeleteSecret" || deletions.Add(1) != 12 {
			return false
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		_, err := w.Write([]byte(`{"__type":"AccessDeniedException","message":"as AWS has it"}`))
		assert.NoError(t, err)
		return true
	})

	r := later.run(t, "ott", "sweep", "--stack", s.name)
	assert.Equal(t, 1, r.status)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "sweeping: 10 of 23 orphaned secrets deleted\n")
	assert.Contains(
		t,
		r.stderr,
		"not allowed: these credentials lack secretsmanager:DeleteSecret. AWS says: as AWS has it",
	)

	r = later.run(t, "ott", "sweep", "--stack", s.name)
	assert.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "Deleted 12 orphaned secrets in ")
	assert.True(t, live(t, s.inUse))
}

func TestOttSweepOfTheLocalRun(t *testing.T) {
	s := newOttStack(t, 1)
	r := call{
		dir:         localProject(t, s.name),
		environment: []string{"AWS_REGION=", "AWS_ACCESS_KEY_ID=", "AWS_ENDPOINT_URL=http://127.0.0.1:1"},
	}.
		run(
			t,
			"ott",
			"sweep",
			"--local",
		)
	require.Zero(t, r.status, r.stderr)
	assert.Equal(t, "No orphaned secrets in the local run; 1 in use, 1 younger than 1h0m0s.\n", r.stdout)
}

// The wrong stack's secrets must not be judged by a table that is not there.
func TestOttSweepOfNoStack(t *testing.T) {
	r := call{}.run(t, "ott", "sweep", "--stack", "nowhere")
	assert.Equal(t, 1, r.status)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "table nowhere-registrations: no such stack")
}
