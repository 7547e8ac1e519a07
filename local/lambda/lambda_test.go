package lambda_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/lambda"
)

var bootstrap string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "lambda-test-*")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		bootstrap = filepath.Join(dir, "bootstrap")
		if out, err := exec.Command("go", "build", "-o", bootstrap, "./testdata/function").
			CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v\n%s", err, out))
		}
		return m.Run()
	}())
}

// log is a run's log that a test can wait on.
type log struct {
	mu    sync.Mutex
	lines []string
	added chan struct{}
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	select {
	case l.added <- struct{}{}:
	default:
	}
}

func (l *log) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// waitFor returns once the log holds the text.
func (l *log) waitFor(t *testing.T, text string) {
	t.Helper()
	for !strings.Contains(l.text(), text) {
		select {
		case <-l.added:
		case <-t.Context().Done():
			t.Fatalf("the log never held %q:\n%s", text, l.text())
		case <-time.After(20 * time.Second):
			t.Fatalf("the log does not hold %q:\n%s", text, l.text())
		}
	}
}

func start(t *testing.T, change func(*lambda.Config)) (*lambda.Function, *log) {
	t.Helper()
	l := &log{added: make(chan struct{}, 1)}
	config := lambda.Config{
		Name: "stack-test", Label: "test", Bootstrap: bootstrap,
		Timeout: 20 * time.Second, MemoryMB: 512, LogFormat: "JSON", LogLevel: "INFO",
		Region: "eu-west-1", AccountID: "000000000000",
		Environment: map[string]string{"TABLE": "things", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
		Log:         l.add,
	}
	if change != nil {
		change(&config)
	}
	f := lambda.New(config)
	t.Cleanup(func() {
		f.Close()
		assert.Empty(t, f.Processes(), "a process survived Close")
	})
	return f, l
}

func invoke(t *testing.T, f *lambda.Function, payload string) string {
	t.Helper()
	out, err := f.Invoke(t.Context(), []byte(payload))
	require.NoError(t, err)
	return string(out)
}

func TestProcessHasLambdasEnvironmentAndNothingElse(t *testing.T) {
	t.Setenv("LEAKED", "yes")
	f, _ := start(t, nil)
	var got []string
	require.NoError(t, json.Unmarshal([]byte(invoke(t, f, `{"do":"environment"}`)), &got))
	env := map[string]string{}
	for _, variable := range got {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	for name, want := range map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        "stack-test",
		"AWS_LAMBDA_FUNCTION_VERSION":     "$LATEST",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
		"AWS_LAMBDA_LOG_FORMAT":           "JSON",
		"AWS_LAMBDA_LOG_LEVEL":            "INFO",
		"AWS_REGION":                      "eu-west-1",
		"AWS_ENDPOINT_URL":                "http://127.0.0.1:9",
		"TABLE":                           "things",
	} {
		assert.Equal(t, want, env[name], name)
	}
	assert.NotEmpty(t, env["AWS_ACCESS_KEY_ID"])
	assert.NotContains(t, env, "LEAKED")
	assert.NotContains(t, env, "HOME")
}

func TestInvocationHasLambdasContext(t *testing.T) {
	f, _ := start(t, nil)
	var got struct {
		RequestID, ARN, Trace string
		LeftMs                int64
	}
	require.NoError(t, json.Unmarshal([]byte(invoke(t, f, `{"do":"context"}`)), &got))
	assert.NoError(t, uuid.Validate(got.RequestID))
	assert.Equal(t, "arn:aws:lambda:eu-west-1:000000000000:function:stack-test", got.ARN)
	assert.Regexp(t, `^Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0;Lineage=[0-9a-f]{8}:1$`, got.Trace)
	assert.Positive(t, got.LeftMs)
	assert.LessOrEqual(t, got.LeftMs, int64(20_000))
}

func TestProcessStaysWarm(t *testing.T) {
	f, l := start(t, nil)
	first := invoke(t, f, `{}`)
	assert.Equal(t, first, invoke(t, f, `{}`))
	require.Len(t, f.ColdStarts(), 1)
	assert.Positive(t, f.ColdStarts()[0])
	assert.Equal(t, first, strconv.Itoa(f.Processes()[0]))
	invoke(t, f, `{"do":"log"}`)
	l.waitFor(t, "test | a line")
}

func TestConcurrentRequestsHaveAProcessEach(t *testing.T) {
	f, l := start(t, func(c *lambda.Config) { c.Timeout = 20 * time.Second })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { _, _ = f.Invoke(ctx, []byte(`{"do":"hang"}`)) }()
	l.waitFor(t, "test | hanging")
	busy := f.Processes()
	require.Len(t, busy, 1)
	assert.NotEqual(t, strconv.Itoa(busy[0]), invoke(t, f, `{}`))
	cancel()
}

func TestRequestAboveTheLimitWaits(t *testing.T) {
	f, l := start(t, func(c *lambda.Config) { c.MaxProcesses, c.Timeout = 1, 500*time.Millisecond })
	done := make(chan error, 1)
	go func() { _, err := f.Invoke(t.Context(), []byte(`{"do":"hang"}`)); done <- err }()
	l.waitFor(t, "test | hanging")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Invoke(ctx, []byte(`{}`))
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, <-done, lambda.ErrTimeout)
	assert.NotEmpty(t, invoke(t, f, `{}`), "the slot is free again")
}

func TestFailures(t *testing.T) {
	for _, c := range []struct {
		name, payload string
		environment   map[string]string
		want          error
		logged        string
	}{
		{"crash in the middle", `{"do":"crash"}`, nil, lambda.ErrCrashed, "Error: runtime exited: exit status 3"},
		{"longer than its timeout", `{"do":"hang"}`, nil, lambda.ErrTimeout, "task timed out after 2.00 seconds"},
		{"answer too large", fmt.Sprintf(`{"do":"large","n":%d}`, lambda.MaxResponse), nil, lambda.ErrResponseTooLarge, "response payload above"},
		{"ends before it asks for work", `{}`, map[string]string{"REFUSE_TO_START": "1"}, lambda.ErrInit, "exit status 7"},
		{"request too large", `{"do":"` + strings.Repeat("x", lambda.MaxRequest) + `"}`, nil, lambda.ErrTooLarge, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, l := start(t, func(config *lambda.Config) { config.Timeout = 2 * time.Second })
			f.SetEnvironment(c.environment)
			_, err := f.Invoke(t.Context(), []byte(c.payload))
			require.ErrorIs(t, err, c.want)
			assert.Contains(t, l.text(), c.logged)
			f.SetEnvironment(map[string]string{"REFUSE_TO_START": ""})
			assert.NotEmpty(t, invoke(t, f, `{}`), "the next request gets a new process")
		})
	}
}

func TestMemorySizeIsALimit(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells how much memory a process has")
	}
	for name, payload := range map[string]string{
		"while it works":         `{"do":"memory","n":96}`,
		"just before it answers": `{"do":"peak","n":96}`,
	} {
		t.Run(name, func(t *testing.T) {
			f, l := start(t, func(c *lambda.Config) { c.MemoryMB = 64 })
			before := invoke(t, f, `{}`)
			assert.Equal(t, "20971520", invoke(t, f, `{"do":"peak","n":20}`), "it may have what is its own")
			_, err := f.Invoke(t.Context(), []byte(payload))
			var own *lambda.FunctionError
			require.ErrorAs(t, err, &own)
			assert.Equal(t, lambda.FunctionError{
				Type: lambda.OutOfMemory, Message: "Runtime exited with error: signal: killed",
			}, *own)
			assert.Contains(t, l.text(), "Runtime.OutOfMemory: Runtime exited with error: signal: killed")
			assert.Empty(t, f.Processes())
			assert.NotEqual(t, before, invoke(t, f, `{}`), "the next request gets a new process")
		})
	}
}

func TestFunctionsOwnErrorIsHandedOn(t *testing.T) {
	f, _ := start(t, nil)
	_, err := f.Invoke(t.Context(), []byte(`{"do":"error"}`))
	var own *lambda.FunctionError
	require.ErrorAs(t, err, &own)
	assert.Equal(t, lambda.FunctionError{Type: "errorString", Message: "out of luck"}, *own)
	assert.Len(t, f.Processes(), 1, "an error of the function's own does not cost its process")
}

func TestKillInTheMiddle(t *testing.T) {
	f, l := start(t, nil)
	done := make(chan error, 1)
	go func() { _, err := f.Invoke(t.Context(), []byte(`{"do":"hang"}`)); done <- err }()
	l.waitFor(t, "test | hanging")
	assert.Equal(t, 1, f.Kill())
	err := <-done
	require.ErrorIs(t, err, lambda.ErrCrashed)
	assert.ErrorContains(t, err, "killed")
	assert.NotEmpty(t, invoke(t, f, `{}`))
}

func TestSetEnvironmentReplacesWarmProcesses(t *testing.T) {
	f, _ := start(t, nil)
	first := invoke(t, f, `{}`)
	f.SetEnvironment(map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:10"})
	assert.NotEqual(t, first, invoke(t, f, `{}`))
	assert.Contains(t, invoke(t, f, `{"do":"environment"}`), "AWS_ENDPOINT_URL=http://127.0.0.1:10")
}

func TestInvokeGoesOnWhenTheCallerLeaves(t *testing.T) {
	f, l := start(t, nil)
	invoke(t, f, `{}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.Invoke(ctx, []byte(`{"do":"log"}`))
	if err != nil { // it may have been quicker than the caller
		require.ErrorIs(t, err, context.Canceled)
		l.waitFor(t, "test | a line")
	}
}

func TestClosedFunctionAnswersNobody(t *testing.T) {
	f, _ := start(t, nil)
	invoke(t, f, `{}`)
	f.Close()
	_, err := f.Invoke(t.Context(), []byte(`{}`))
	assert.ErrorIs(t, err, lambda.ErrClosed)
}
