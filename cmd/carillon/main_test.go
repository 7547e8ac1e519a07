package main_test

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/cmd/carillon/version"
	"carillon/local/emulatortest"
)

// carillon is the built command.
var carillon string

// somePush is the request id of no push.
const somePush = "329f83c4-38ca-4760-a18a-3fb44962c536"

func TestMain(m *testing.M) {
	code, err := withCarillon(func() int { return emulatortest.Run(m.Run) })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// withCarillon builds the command for as long as run takes.
func withCarillon(run func() int) (int, error) {
	dir, err := os.MkdirTemp("", "carillon")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	carillon = filepath.Join(dir, "carillon")
	if out, err := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=auto", "-o", carillon, ".").
		CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building the command: %w\n%s", err, out)
	}
	return run(), nil
}

// call is one call of the command. Its environment is that of a person signed in to AWS, which the emulators stand for.
type call struct {
	dir         string
	stdin       string
	environment []string
}

type result struct {
	stdout, stderr string
	status         int
}

func (c call) run(t *testing.T, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	command := c.command(t, args...)
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return result{stdout.String(), stderr.String(), exit.ExitCode()}
	}
	require.NoError(t, err)
	return result{stdout.String(), stderr.String(), 0}
}

// command is the call, not yet begun and writing nowhere.
func (c call) command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), carillon, args...)
	command.Dir = c.dir
	command.Stdin = strings.NewReader(c.stdin)
	command.Env = append([]string{
		"HOME=" + t.TempDir(),
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_REGION=" + emulatortest.Region,
		"AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test",
		"AWS_ENDPOINT_URL=" + emulatortest.AWSEndpoint(),
		"AWS_ENDPOINT_URL_DYNAMODB=" + emulatortest.DynamoDBEndpoint(),
	}, c.environment...)
	return command
}

// run calls the command and expects it to succeed.
func run(t *testing.T, args ...string) result {
	t.Helper()
	r := call{}.run(t, args...)
	require.Zero(t, r.status, r.stderr)
	return r
}

func TestHelpOfEachCommand(t *testing.T) {
	tests := map[string][]string{
		"":       {"client add", "content apply", "push redrive", "--stack", "--local"},
		"client": {"client add", "client list", "client rotate", "client remove"},
		"client add": {
			"--tenant",
			"--scope",
			"ott_registration_read",
			"carillon client add acme-ott --tenant acme --scope",
		},
		"client list":   {"carillon client list --output json"},
		"client rotate": {"24h", "carillon client rotate acme-ott"},
		"client remove": {"carillon client remove acme-ott"},
		"content":       {"content apply"},
		"local":         {"--port", "carillon local --port"},
		"push":          {"push status", "push cancel", "push watch", "push redrive"},
		"push status":   {"--limit", "--next", "--all", "carillon push status 329f83c4"},
		"push cancel":   {"claimed", "carillon push cancel 329f83c4"},
		"push watch":    {"--every", "Ctrl-C", "carillon push watch 329f83c4"},
		"push redrive":  {"--dry-run", "--sample", "sqs:GetQueueUrl", "carillon push redrive --dry-run"},
		"ott":           {"ott sweep", "ott callback", "ott messages"},
		"ott messages":  {"--property", "--limit", "dynamodb:Query", "carillon ott messages --property line/2349"},
		"ott sweep": {
			"--older-than",
			"--dry-run",
			"dynamodb:Scan",
			"restore-secret",
			"carillon ott sweep --dry-run",
		},
		"ott callback": {
			"--text",
			"--file",
			"--verify",
			"--url",
			"secretsmanager:GetSecretValue",
			"carillon ott callback messenger 1732555047025799 --local",
		},
		"content apply": {"--file", "--dry-run", "carillon content apply -f content.yaml"},
	}
	for command, want := range tests {
		t.Run(command, func(t *testing.T) {
			r := run(t, append(strings.Fields(command), "--help")...)
			assert.Empty(t, r.stderr)
			for _, text := range want {
				assert.Contains(t, r.stdout, text)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	built, err := buildinfo.ReadFile(carillon)
	require.NoError(t, err)
	assert.Equal(t, "carillon "+version.Text(built)+"\n", run(t, "--version").stdout, "it says what it was built from")
	assert.Regexp(
		t,
		`^carillon \S+ \(commit (unknown|[0-9a-f]{7}( modified)?), go1\..*\)\n$`,
		run(t, "--version").stdout,
	)
}

func TestWrongUsage(t *testing.T) {
	tests := map[string]struct {
		args []string
		want []string
	}{
		"nothing": {
			nil,
			[]string{`expected one of "client", "content", "push", "ott", "local"`, "carillon --help"},
		},
		"unknown command": {
			[]string{"client", "frob"},
			[]string{"unexpected argument frob", "carillon client --help"},
		},
		"unknown flag": {[]string{"client", "list", "--frob"}, []string{"unknown flag --frob"}},
		"nothing to add": {
			[]string{"client", "add"},
			[]string{"missing flags: --scope=SCOPE,..., --tenant=TENANT"},
		},
		"no id": {
			[]string{"client", "add", "--tenant", "t", "--scope", "ott_send"},
			[]string{`expected "<id>"`},
		},
		"all that is wrong": {
			[]string{"client", "add", "ab", "--tenant", "a/b", "--scope", "x"},
			[]string{`client id "ab"`, `tenant "a/b"`, `scope "x" is unknown; known: ott_registration_read`},
		},
		"no file": {
			[]string{"content", "apply"},
			[]string{"missing flags: --file=FILE", "carillon content apply --help"},
		},
		"format": {[]string{"client", "list", "-o", "xml"}, []string{`must be one of "text","json"`}},
		"profile with local": {
			[]string{"client", "list", "--local", "--profile", "p"},
			[]string{"can't be used together"},
		},
		"no push": {
			[]string{"push", "status"},
			[]string{`expected "<request-id>"`, "carillon push status --help"},
		},
		"no request id": {[]string{"push", "cancel", "12"}, []string{`"12" is not a request id`}},
		"two ways to page": {
			[]string{"push", "status", somePush, "--all", "--next", "Ag"},
			[]string{"can't be used together"},
		},
		"page": {
			[]string{"push", "status", somePush, "--limit", "0"},
			[]string{"--limit is a number from 1 to 1000"},
		},
		"no pause": {
			[]string{"push", "watch", somePush, "--every", "0s"},
			[]string{"--every is a duration of at least 10ms"},
		},
		"sample": {
			[]string{"push", "redrive", "--sample", "101"},
			[]string{"--sample is a number from 0 to 100"},
		},
		"age": {
			[]string{"ott", "sweep", "--older-than", "59s"},
			[]string{"--older-than is a duration of at least 1m"},
		},
		"no platform": {
			[]string{"ott", "callback", "telegram", "1"},
			[]string{`must be one of "messenger","line" but got "telegram"`},
		},
		"plain http": {
			[]string{"ott", "callback", "line", "1", "--url", "http://example.com"},
			[]string{"--url is the https URL"},
		},
		"two callbacks": {
			[]string{"ott", "callback", "line", "1", "--verify", "--text", "a"},
			[]string{"can't be used together"},
		},
		"window": {
			[]string{"client", "rotate", "acme-ott", "--window", "1d"},
			[]string{"expected duration"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := call{}.run(t, test.args...)
			assert.Equal(t, 2, r.status)
			assert.Empty(t, r.stdout)
			for _, text := range test.want {
				assert.Contains(t, r.stderr, text)
			}
		})
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	stackName := emulatortest.Deploy(t)
	add := []string{"client", "add", "acme-ott", "--tenant", "acme", "--scope", "ott_send"}
	content := []string{"content", "apply", "-f", filepath.Join("..", "..", "content.example.yaml")}
	tests := map[string]struct {
		environment []string
		args        []string
		want        []string
	}{
		"no region": {
			[]string{"AWS_REGION="},
			[]string{"client", "list"},
			[]string{"no AWS region", "--region"},
		},
		"no credentials": {
			[]string{"AWS_ACCESS_KEY_ID="},
			[]string{"client", "list"},
			[]string{"no AWS credentials", "--profile"},
		},
		"no such profile": {nil, []string{"client", "list", "--profile", "nobody"}, []string{"profile, nobody"}},
		"no stack name":   {nil, []string{"client", "list", "--stack", "a/b"}, []string{`"a/b" is not a stack name`}},
		"no such stack": {
			nil,
			append(add, "--stack", "nowhere"),
			[]string{`stack "nowhere": no such stack`, "sam deploy", "--stack"},
		},
		"no such table": {
			nil,
			append(content, "--stack", "nowhere"),
			[]string{"table nowhere-content: no such stack"},
		},
		"no such client": {
			nil,
			[]string{"client", "rotate", "nobody", "--stack", stackName},
			[]string{`client "nobody": no such client`, "carillon client list"},
		},
		"nothing to remove": {
			nil,
			[]string{"client", "remove", "nobody", "--stack", stackName},
			[]string{"carillon client list"},
		},
		"no such push": {
			nil,
			[]string{"push", "status", somePush, "--stack", stackName},
			[]string{"no push " + somePush, "requestId", "--region"},
		},
		"nothing to cancel": {
			nil,
			[]string{"push", "cancel", somePush, "--stack", stackName},
			[]string{"no push " + somePush},
		},
		"nothing to watch": {
			nil,
			[]string{"push", "watch", somePush, "--stack", stackName},
			[]string{"no push " + somePush},
		},
		"no pushes": {
			nil,
			[]string{"push", "status", somePush, "--stack", "nowhere"},
			[]string{"table nowhere-pushes: no such stack"},
		},
		"no queue": {
			nil,
			[]string{"push", "redrive", "--stack", "nowhere"},
			[]string{"queue nowhere-delivery-dead: no such stack", "sam deploy"},
		},
		"no local run": {nil, []string{"client", "list", "--local"}, []string{"make run"}},
		"nothing answers": {[]string{"AWS_ENDPOINT_URL=http://127.0.0.1:1"}, []string{"client", "list"},
			[]string{"nothing answers at 127.0.0.1:1"}},
		"no such file": {
			nil,
			[]string{"content", "apply", "-f", "nothing.yaml"},
			[]string{"nothing.yaml", "no such file"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c := call{environment: test.environment}
			if name == "no local run" {
				c.dir = t.TempDir()
			}
			r := c.run(t, test.args...)
			assert.Equal(t, 1, r.status, r.stderr)
			assert.Empty(t, r.stdout)
			for _, text := range test.want {
				assert.Contains(t, r.stderr, text)
			}
		})
	}
}

func TestRefusalsOfAWSSayWhatToDo(t *testing.T) {
	tests := map[string]struct {
		args []string
		code string
		want string
	}{
		"no permission for secrets": {
			[]string{"client", "list"},
			"AccessDeniedException",
			"these credentials lack secretsmanager:ListSecrets. AWS says: as AWS has it",
		},
		"no permission for tables": {
			[]string{"content", "apply", "-f", filepath.Join("..", "..", "content.example.yaml")},
			"AccessDeniedException",
			"these credentials lack dynamodb:Query",
		},
		"no permission for queues": {
			[]string{"push", "redrive"},
			"AccessDenied",
			"these credentials lack sqs:GetQueueUrl",
		},
		"no permission for pushes": {
			[]string{"push", "status", somePush},
			"AccessDeniedException",
			"these credentials lack dynamodb:GetItem",
		},
		"expired credentials": {[]string{"client", "list"}, "ExpiredTokenException", "sign in again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/x-amz-json-1.1")
				w.WriteHeader(http.StatusBadRequest)
				_, _ = fmt.Fprintf(w, `{"__type":%q,"message":"as AWS has it"}`, test.code)
			}))
			t.Cleanup(server.Close)

			r := call{
				environment: []string{"AWS_ENDPOINT_URL=" + server.URL, "AWS_ENDPOINT_URL_DYNAMODB=" + server.URL},
			}.run(
				t,
				test.args...)

			assert.Equal(t, 1, r.status)
			assert.Contains(t, r.stderr, test.want)
		})
	}
}

// The local run is found by its file, from any directory of the project.
func TestLocal(t *testing.T) {
	stackName, project := emulatortest.Deploy(t), t.TempDir()
	within := filepath.Join(project, "shared", "ott")
	require.NoError(t, os.MkdirAll(within, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(project, ".local"), 0o755))
	write := func(v any) {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(project, ".local", "demo.json"), raw, 0o600))
	}
	// What is set for AWS must not matter.
	c := call{
		dir: within,
		environment: []string{"AWS_REGION=", "AWS_ACCESS_KEY_ID=", "AWS_ENDPOINT_URL=http://127.0.0.1:1",
			"AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:1", "CARILLON_STACK=production"},
	}

	write(map[string]any{"baseUrl": "http://127.0.0.1:3000"})
	r := c.run(t, "--local", "client", "list")
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "start `make run` again")

	write(map[string]any{"aws": map[string]string{
		"dynamodb": emulatortest.DynamoDBEndpoint(),
		"endpoint": emulatortest.AWSEndpoint(),
		"region":   emulatortest.Region,
		"stack":    stackName,
	}})
	r = c.run(t, "--local", "client", "add", "acme-ott", "--tenant", "acme", "--scope", "ott_send")
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stderr, "the local run")
	r = c.run(t, "client", "list", "--local")
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "acme-ott")
	c.stdin = "businesses: [{id: PA, merchantAccountKey: m}]"
	r = c.run(t, "content", "apply", "--local", "-f", "-")
	require.Zero(t, r.status, r.stderr)
	assert.Contains(t, r.stdout, "1 created")
}
