// Package coldstart measures how long each function takes from exec to its first poll of the Lambda Runtime API, beside
// an empty handler built with the same flags, in the same run: go test -run '^$' -bench . ./tests/coldstart
package coldstart_test

import (
	"cmp"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"carillon/tests/document"
)

const baseline = "empty"

// starts is how often each binary is started: in turns, so that a noisy moment meets all alike.
const starts = 60

// BenchmarkColdStart reports for each function of template.yaml the median of exec to first poll in ms, and as a ratio
// to the empty handler's.
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	binaries := map[string]string{baseline: build(b, dir, "./empty")}
	environments := map[string][]string{}
	for name, variables := range functionEnvironments(b) {
		binaries[name] = build(b, dir, filepath.Join("../../functions", name))
		environments[name] = variables
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for range starts {
			for name, binary := range binaries {
				times[name] = append(times[name], firstPoll(b, binary, environments[name]))
			}
		}
	}
	empty := median(times[baseline])
	for name := range binaries {
		b.ReportMetric(float64(median(times[name]).Microseconds())/1000, name+"-ms")
		b.ReportMetric(float64(median(times[name]))/float64(empty), name+"-ratio")
	}
}

func build(b testing.TB, dir, folder string) string {
	b.Helper()
	binary := filepath.Join(dir, filepath.Base(folder))
	// The flags of the Makefile's build-% rule.
	command := exec.Command(
		"go",
		"build",
		"-tags",
		"lambda.norpc",
		"-trimpath",
		"-buildvcs=false",
		"-ldflags",
		"-s -w",
		"-o",
		binary,
		"./"+folder,
	)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	require.NoError(b, err, string(output))
	return binary
}

func firstPoll(b testing.TB, binary string, variables []string) time.Duration {
	b.Helper()
	polled := make(chan time.Time, 1)
	runtimeAPI := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case polled <- time.Now():
		default:
		}
		<-r.Context().Done()
	}))
	defer runtimeAPI.Close()
	command := exec.Command(binary)
	command.Env = append(environment(runtimeAPI.Listener.Addr()), variables...)
	start := time.Now()
	require.NoError(b, command.Start())
	defer func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	}()
	select {
	case at := <-polled:
		return at.Sub(start)
	case <-time.After(10 * time.Second):
		b.Fatalf("%s did not poll: is a variable of its environment missing here?", filepath.Base(binary))
		return 0
	}
}

// environment is Lambda's, with a closed port for AWS: what a function reads in the background must not hold up its
// start.
func environment(runtimeAPI net.Addr) []string {
	return []string{
		"AWS_LAMBDA_RUNTIME_API=" + runtimeAPI.String(),
		"AWS_LAMBDA_LOG_FORMAT=JSON",
		"AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=id",
		"AWS_SECRET_ACCESS_KEY=key",
		"AWS_SESSION_TOKEN=token",
		"AWS_ENDPOINT_URL=http://127.0.0.1:1",
	}
}

// deployed are the parameters that have no default. What template.yaml wants of them is checked.
var deployed = map[string]string{
	"ProviderUrl":     "https://provider.example.com",
	"GatewayUrl":      "https://gateway.example.com",
	"MailFrom":        "activation@mail.example.com",
	"MailIdentity":    "mail.example.com",
	"ActivationHosts": "activate.example.com",
}

// functionEnvironments are the variables of template.yaml's functions, by the name of the folder: a parameter is its
// default, what is made for the stack has any name.
func functionEnvironments(t testing.TB) map[string][]string {
	t.Helper()
	template := document.Load(t)
	parameters := document.At(t, map[string]any(template), "Parameters").(map[string]any)
	all := map[string][]string{}
	for name, function := range template.Functions(t) {
		all[name] = []string{}
		for variable, written := range document.Environment(t, function) {
			value := "any"
			if parameter, is := parameters[strings.TrimPrefix(written, "!Ref ")].(map[string]any); is {
				value = cmp.Or(deployed[strings.TrimPrefix(written, "!Ref ")], text(parameter["Default"]))
				require.Regexp(
					t,
					cmp.Or(text(parameter["AllowedPattern"]), ".+"),
					value,
					"%s: give it a value here",
					written,
				)
			}
			all[name] = append(all[name], variable+"="+value)
		}
	}
	return all
}

func text(value any) string {
	text, _ := value.(string)
	return text
}

// Every function of the template is measured, with variables by which it starts.
func TestEveryFunctionHasAnEnvironment(t *testing.T) {
	environments := functionEnvironments(t)
	folders, err := filepath.Glob("../../functions/*")
	require.NoError(t, err)
	require.Len(t, environments, len(folders))
	for _, folder := range folders {
		require.Contains(t, environments, filepath.Base(folder), "template.yaml has no such function")
	}
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
