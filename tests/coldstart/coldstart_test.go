// Package coldstart measures how long each function takes from exec to its first poll of the Lambda Runtime API, beside
// an empty handler built with the same flags, in the same run: go test -run '^$' -bench . ./tests/coldstart
package coldstart_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const baseline = "empty"

// starts is how often each binary is started: in turns, so that a noisy moment meets all alike.
const starts = 60

// BenchmarkColdStart reports for each function the median of exec to first poll in ms, and as a ratio to the empty handler's.
func BenchmarkColdStart(b *testing.B) {
	dir := b.TempDir()
	binaries := map[string]string{baseline: build(b, dir, "./empty")}
	folders, err := filepath.Glob("../../functions/*")
	require.NoError(b, err)
	require.NotEmpty(b, folders)
	for _, folder := range folders {
		binaries[filepath.Base(folder)] = build(b, dir, folder)
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for range starts {
			for name, binary := range binaries {
				times[name] = append(times[name], firstPoll(b, binary))
			}
		}
	}
	empty := median(times[baseline])
	for name := range binaries {
		b.ReportMetric(float64(median(times[name]).Microseconds())/1000, name+"-ms")
		b.ReportMetric(float64(median(times[name]))/float64(empty), name+"-ratio")
	}
}

func build(b *testing.B, dir, folder string) string {
	b.Helper()
	binary := filepath.Join(dir, filepath.Base(folder))
	// The flags of the Makefile's build-% rule.
	command := exec.Command("go", "build", "-tags", "lambda.norpc", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "./"+folder)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	output, err := command.CombinedOutput()
	require.NoError(b, err, string(output))
	return binary
}

func firstPoll(b *testing.B, binary string) time.Duration {
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
	command.Env = environment(runtimeAPI.Listener.Addr())
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

// environment is Lambda's, with a closed port for AWS: what a function reads in the background must not hold up its start.
func environment(runtimeAPI net.Addr) []string {
	env := []string{
		"AWS_LAMBDA_RUNTIME_API=" + runtimeAPI.String(), "AWS_LAMBDA_LOG_FORMAT=JSON", "AWS_REGION=us-east-1",
		"AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=key", "AWS_SESSION_TOKEN=token", "AWS_ENDPOINT_URL=http://127.0.0.1:1",
		"CLIENT_ROTATION_WINDOW=24h", "PROVIDER_URL=https://provider.example", "GATEWAY_URL=https://gateway.example",
		"ACTIVATION_HOSTS=activate.example", "RESEND_WINDOW=1h", "RESENDS_PER_ACCOUNT=10", "RESENDS_PER_ADDRESS=30",
		"MAIL_FROM=activation@mail.example",
	}
	for _, name := range []string{
		"CLIENT_SECRET_PREFIX", "SIGNING_KEY_SECRET", "OTT_SECRET_PREFIX", "PROVIDER_SECRET", "GATEWAY_SECRET",
		"DELIVERY_QUEUE_URL", "MAIL_QUEUE_URL", "OUTBOUND_QUEUE_URL", "MAIL_CONFIGURATION_SET", "EVENT_BUS", "REGISTRATIONS_TABLE",
		"CONTENT_TABLE", "PUSHES_TABLE", "IDEMPOTENCY_TABLE", "PRODUCTS_TABLE", "MAILS_TABLE", "MESSAGES_TABLE",
	} {
		env = append(env, name+"=any")
	}
	return env
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
