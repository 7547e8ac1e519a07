package local_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	"github.com/aws/aws-sdk-go-v2/service/sqs/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/local/standin"
	"carillon/shared/stackname"
)

// startTime is ample for a first start, which installs the emulators and compiles everything.
const startTime = 10 * time.Minute

func start(t *testing.T, options local.Options) (*local.Bundle, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	if options.Root == "" {
		options.Root = ".."
	}
	options.ToolsDir = filepath.Join("..", ".local")
	options.Progress = func(line string) { t.Log(line) }
	bundle, err := local.Start(ctx, options)
	if bundle != nil {
		t.Cleanup(bundle.Close)
	}
	return bundle, err
}

func TestBundle(t *testing.T) {
	demoFile := filepath.Join(t.TempDir(), ".local", "demo.json")
	bundle, err := start(t, local.Options{DemoFile: demoFile})
	require.NoError(t, err)

	t.Run("writes what a caller needs to know", func(t *testing.T) {
		info, err := os.Stat(demoFile)
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
		raw, err := os.ReadFile(demoFile)
		require.NoError(t, err)
		var demo local.Demo
		require.NoError(t, json.Unmarshal(raw, &demo))
		assert.Equal(t, bundle.Demo, demo)
		assert.Equal(t, bundle.BaseURL, demo.BaseURL)
		assert.Equal(t, "3e1b9b27-d1f9-4c8d-800f-bb534d6928d6", demo.Engage.ProgramContentUUID)
		assert.Equal(t, []string{"MY_VAR"}, demo.Engage.Variables)
		assert.Equal(t, []string{"+5014008029", "+5013509988"}, demo.Engage.ANumbers)
		assert.Equal(t, "935b91a0-f2fb-4c43-b629-63fea6634512", demo.Engage.ANumberGroupID)
		assert.NotEqual(t, demo.Engage.ProgramContentUUID, demo.EngageOther.ProgramContentUUID)
		assert.Equal(t, "PA", demo.Product.BusinessID)
		assert.Regexp(t, `^whsec_`, demo.Gateway.Secret)
		var members struct{ Engage map[string]any }
		require.NoError(t, json.Unmarshal(raw, &members))
		assert.Contains(t, members.Engage, "clientSecret", "the client's members are the domain's own")
	})

	t.Run("prints lines that work when pasted", func(t *testing.T) {
		examples, err := bundle.Examples()
		require.NoError(t, err)
		out, err := exec.CommandContext(t.Context(), "bash", "-ec", examples).CombinedOutput()
		require.NoError(t, err, string(out))
		answers := regexp.MustCompile(`(?m)^HTTP/1\.1 (\d+)`).FindAllStringSubmatch(string(out), -1)
		shown := strings.Count(
			examples,
			"curl -sS -i",
		) - strings.Count(
			examples,
			"_TOKEN=$(",
		) - strings.Count(
			examples,
			"# To take away",
		)
		assert.Len(t, answers, shown, string(out))
		for _, function := range requests(t) {
			if function == "ott-delete" {
				assert.Contains(t, examples, " -X DELETE", "what it would take away is gone on with")
				continue
			}
			assert.NotEmpty(t, coldStarts(bundle, function), "no line calls %s", function)
		}
		for _, answer := range answers {
			assert.Contains(t, []string{"200", "201"}, answer[1], string(out))
		}
		assert.Contains(t, string(out), `"event":"Created"`)
		assert.Contains(t, string(out), `"pageId":"1732555047025799"`)
		assert.Contains(t, string(out), `"message":"Healthy"`)
		assert.Contains(t, string(out), `"response":"success"`)
		assert.Contains(t, string(out), `"state":"scheduled"`)
		assert.Contains(t, string(out), `"state":"cancelled"`)
		assert.Contains(t, string(out), `"status":"created"`)
		assert.Contains(t, string(out), `"name":"activationMail"`)
		assert.Contains(t, get(t, bundle.BaseURL+"/_local/bango"), `"productKey":"DISNEY_PLUS_PA"`)
	})

	t.Run("mails what product-create asks for, and tells what became of it", func(t *testing.T) {
		require.Eventually(
			t,
			func() bool { return len(bundle.Mail.Messages()) == 1 },
			20*time.Second,
			10*time.Millisecond,
		)
		mail := bundle.Mail.Messages()[0]
		assert.Equal(t, "activation@mail.example.com", mail.From)
		assert.Equal(t, "abc@gmail.com", mail.To)
		assert.Contains(t, mail.HTML, "https://"+standin.ActivationHost+"/")
		assert.Contains(t, get(t, bundle.BaseURL+"/_local/"), "<dd>abc@gmail.com</dd>")
		require.Eventually(t, func() bool {
			return len(bundle.Function("ProductMailEventFunction").ColdStarts()) > 0
		}, 20*time.Second, 10*time.Millisecond, "the rule brings SES's event to its queue")
		for _, event := range bundle.Events.Published() {
			assert.Equal(t, stackname.EventBus(bundle.Demo.AWS.Stack), event.Bus,
				"what becomes of mails is put there by SES, not by the bundle")
		}
	})

	t.Run("feeds functions from queues and schedules", func(t *testing.T) {
		require.Eventually(
			t,
			func() bool { return len(bundle.Gateway.Pushes()) > 0 },
			20*time.Second,
			10*time.Millisecond,
		)
		push := bundle.Gateway.Pushes()[0]
		assert.Empty(t, push.Refused, "the secret that the template declares is the stand-in's")
		assert.Contains(t, get(t, bundle.BaseURL+"/_local/gateway"), push.WebhookID())
		require.NoError(t, bundle.TriggerSchedules(t.Context()))
		assert.NotEmpty(t, bundle.Function("EngageScheduleFunction").ColdStarts())
	})

	t.Run("sends messages to the platforms' stand-ins", func(t *testing.T) {
		require.Eventually(t, func() bool {
			requests := bundle.OTT.Requests()
			return len(requests) > 0 && requests[0].Status != 0
		}, 20*time.Second, 10*time.Millisecond)
		sent := bundle.OTT.Requests()[0]
		assert.Equal(t, http.StatusOK, sent.Status, "its token and its proof are those of the registration")
		assert.Equal(
			t,
			"messenger /v2.6/me/messages graph.facebook.com",
			sent.Platform+" "+sent.Path+" "+sent.Headers["host"],
		)
		assert.Contains(t, get(t, bundle.BaseURL+"/_local/ott"), `"platform":"messenger"`)
		assert.Contains(t, get(t, bundle.BaseURL+"/_local/"), "SFMC Engineers to 6000000000000001")
		assert.Contains(
			t,
			get(t, bundle.BaseURL+"/_local/events"),
			`"detailType":"Messenger Event"`,
			"what they post is published",
		)
	})

	t.Run("lets a test hold and purge a queue", func(t *testing.T) {
		bundle.PauseQueues()
		url := aws.String(bundle.QueueURL("DeliveryQueue"))
		_, err := bundle.SQS().
			SendMessage(t.Context(), &sqs.SendMessageInput{QueueUrl: url, MessageBody: aws.String("no message")})
		require.NoError(t, err)
		for range 2 { // more often than AWS would
			require.NoError(t, bundle.PurgeQueue(t.Context(), "DeliveryQueue"))
		}
		bundle.ResumeQueues()
		out, err := bundle.SQS().
			GetQueueAttributes(t.Context(), &sqs.GetQueueAttributesInput{QueueUrl: url, AttributeNames: []types.QueueAttributeName{"All"}})
		require.NoError(t, err)
		assert.Equal(t, "0", out.Attributes["ApproximateNumberOfMessages"])
		assert.Equal(t, "270", out.Attributes["VisibilityTimeout"])
		assert.JSONEq(
			t,
			`{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:carillon-local-delivery-dead","maxReceiveCount":5}`,
			out.Attributes["RedrivePolicy"],
		)
	})

	t.Run("answers as API Gateway without a route", func(t *testing.T) {
		assert.JSONEq(t, `{"message":"Not Found"}`, get(t, bundle.BaseURL+"/nowhere"))
	})

	t.Run("survives a killed function", func(t *testing.T) {
		f := bundle.Function("EngageTokenHealthFunction")
		get(t, bundle.BaseURL+"/federated/content/v2/token/health")
		before := len(f.ColdStarts())
		require.NotZero(t, before)
		assert.NotZero(t, f.Kill())
		get(t, bundle.BaseURL+"/federated/content/v2/token/health")
		assert.Len(t, f.ColdStarts(), before+1)
	})

	t.Run("says why when an emulator dies", func(t *testing.T) {
		require.NoError(t, syscall.Kill(bundle.EmulatorPIDs()["dynoxide"], syscall.SIGKILL))
		err := <-bundle.Failed()
		assert.ErrorContains(t, err, "the emulator dynoxide ended (signal: killed)")
		assert.ErrorContains(t, err, "listening on")
	})

	t.Run("leaves nothing behind", func(t *testing.T) {
		pids := bundle.EmulatorPIDs()
		bundle.Close()
		for name, pid := range pids {
			assert.ErrorIs(t, syscall.Kill(pid, 0), syscall.ESRCH, name)
		}
		for id, f := range bundle.Functions() {
			assert.Empty(t, f.Processes(), id)
		}
		assert.NoFileExists(t, demoFile)
		_, err := net.Dial("tcp", strings.TrimPrefix(bundle.BaseURL, "http://"))
		assert.Error(t, err)
	})
}

// coldStarts are those of the function with that name.
func coldStarts(bundle *local.Bundle, name string) []time.Duration {
	for _, function := range bundle.Functions() {
		if function.Label() == name {
			return function.ColdStarts()
		}
	}
	return nil
}

// requests are the functions that events/ has a request for.
func requests(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "events", "*.json"))
	require.NoError(t, err)
	var functions []string
	for _, file := range files {
		raw, err := os.ReadFile(file)
		require.NoError(t, err)
		var event struct{ RouteKey string }
		require.NoError(t, json.Unmarshal(raw, &event))
		if event.RouteKey != "" {
			functions = append(functions, strings.TrimSuffix(filepath.Base(file), ".json"))
		}
	}
	require.NotEmpty(t, functions)
	return functions
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	for _, c := range []struct {
		name    string
		options local.Options
		want    []string
	}{
		{"port in use", local.Options{Port: listener.Addr().(*net.TCPAddr).Port}, []string{"is in use", "PORT="}},
		{"build failure", local.Options{Root: filepath.Join("testdata", "broken")}, []string{"BrokenFunction does not build", "undefined: thisDoesNotExist"}},
		{"no template", local.Options{Root: t.TempDir()}, []string{"template.yaml"}},
		{"no stack name", local.Options{Stack: "no stack"}, []string{"not a stack name"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.options.BuildDir = t.TempDir()
			_, err := start(t, c.options)
			for _, want := range c.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func TestStartNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := local.Start(t.Context(), local.Options{Root: "..", ToolsDir: t.TempDir(), BuildDir: t.TempDir()})
	require.ErrorContains(t, err, "go is missing: install Go")
	assert.ErrorContains(t, err, "make is missing")
	assert.ErrorContains(t, err, "npm is missing: install Node.js")
	assert.ErrorContains(t, err, "python3 is missing")
}

func get(t *testing.T, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(body)
}
