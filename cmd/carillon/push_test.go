package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/clock"
	"carillon/shared/engage"
	engageapi "carillon/shared/engage/api"
	"carillon/shared/engage/store"
	"carillon/shared/stackname"
)

// push is an accepted push in the emulator, and what the functions do to it.
type push struct {
	*store.Pushes
	stack, id string
	notBefore time.Time
}

// accept makes a push of n destinations durable, due an hour ago.
func accept(t *testing.T, stackName string, n int) push {
	t.Helper()
	pushes := store.NewPushes(emulatortest.DynamoDB(), stackname.PushesTable(stackName), clock.System{})
	p := push{pushes, stackName, uuid.NewString(), time.Now().Add(-time.Hour)}
	destinations := make([]engage.Destination, n)
	for i := range destinations {
		destinations[i].BNumber = fmt.Sprintf("+1501890%04d", i)
	}
	destinations[0].CustomTrackingID = "custom-tracking-1"
	_, err := p.Put(t.Context(), &engage.Push{
		RequestID: p.id,
		Tenant:    "acme-calls",
		Program:   engage.Program{UUID: uuid.NewString(), Content: []byte("{}")},
		ANumbers: []string{
			"+5014008029",
		},
		CreatedAt:    p.notBefore,
		Terms:        engage.Terms{NotBefore: p.notBefore, TTLSeconds: 7200},
		Destinations: destinations,
	}, p.notBefore)
	require.NoError(t, err)
	return p
}

// claim begins to deliver a chunk.
func (p push) claim(t *testing.T, chunk int) store.Lease {
	t.Helper()
	now := time.Now()
	lease, _, err := p.Claim(t.Context(), p.id, chunk, now, now, now.Add(time.Minute))
	require.NoError(t, err)
	return lease
}

// finish ends a chunk of n destinations: the first rejected, the others delivered.
func (p push) finish(t *testing.T, lease store.Lease, n int) {
	t.Helper()
	results := make([]engage.Result, n)
	for i := range results {
		results[i] = engage.Result{State: engage.StateDelivered, DeliveredAt: p.notBefore}
	}
	results[0] = engage.Result{State: engage.StateRejected, Reason: "not \x1b[31mcapable"}
	require.NoError(t, p.SaveProgress(t.Context(), lease, store.Progress{Results: results}, p.notBefore.Add(time.Hour)))
	own := engage.Counts{Total: n, Delivered: n - 1, Rejected: 1}
	_, err := p.Finish(t.Context(), lease, p.notBefore, own, engage.Result{}, false)
	require.NoError(t, err)
}

func (p push) args(command string, more ...string) []string {
	return append([]string{"push", command, p.id, "--stack", p.stack}, more...)
}

func TestPushStatus(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 501)
	p.finish(t, p.claim(t, 0), 500)

	r := run(t, p.args("status")...)
	for _, line := range []string{
		`push +` + p.id, `state +delivering`, `counts +501 destinations: 499 delivered, 1 rejected, 1 pending`, `provider +acme-calls`,
		`not before +` + p.notBefore.UTC().Format("2006-01-02 15:04"),
		`\+15018900000 +rejected +- +custom-tracking-1 +not \\x1b\[31mcapable`,
		`\+15018900001 +delivered +` + p.notBefore.UTC().Format("2006-01-02T15:04") + `[0-9:.]+Z +- +-`,
	} {
		assert.Regexp(t, `(?m)^`+line, r.stdout)
	}
	assert.Equal(t, 20, strings.Count(r.stdout, "+1501890"))
	assert.NotContains(t, r.stdout, "\x1b", "a partner's text does nothing to a terminal")
	assert.Contains(t, r.stderr, "More: the same with --next ")

	r = run(t, p.args("status", "--all")...)
	assert.Equal(t, 501, strings.Count(r.stdout, "+1501890"))
	assert.Regexp(t, `\+15018900500 +pending`, r.stdout)
	assert.Empty(t, r.stderr)

	read := func(more ...string) (status engageapi.Status) {
		decoder := json.NewDecoder(strings.NewReader(run(t, p.args("status", append(more, "-o", "json")...)...).stdout))
		decoder.DisallowUnknownFields()
		require.NoError(t, decoder.Decode(&status))
		return status
	}
	first := read("--limit", "2")
	assert.Equal(t, engageapi.Counts{Total: 501, Pending: 1, Delivered: 499, Rejected: 1}, first.Counts)
	require.Len(t, first.Destinations, 2)
	assert.Equal(t, "+15018900000", first.Destinations[0].BNumber)
	require.NotNil(t, first.Next)
	second := read("--limit", "2", "--next", *first.Next)
	require.Len(t, second.Destinations, 2)
	assert.Equal(t, "+15018900002", second.Destinations[0].BNumber)
	all := read("--all")
	assert.Len(t, all.Destinations, 501)
	assert.Nil(t, all.Next)

	r = call{}.run(t, p.args("status", "--next", "!")...)
	assert.Equal(t, 1, r.status)
	assert.Contains(t, r.stderr, "--next is what the page before ended with")
	assert.Contains(
		t,
		run(t, "push", "status", strings.ToUpper(p.id), "--stack", p.stack).stdout,
		p.id,
		"an id in capitals is the same",
	)
}

func TestPushCancel(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 501)
	lease := p.claim(t, 1)

	r := run(t, p.args("cancel")...)
	assert.Equal(
		t,
		"Cancelled push "+p.id+" in stack "+p.stack+" in us-east-1: 501 destinations: 500 cancelled, 1 pending.\n",
		r.stdout,
	)

	p.finish(t, lease, 1)
	r = run(t, p.args("cancel", "-o", "json")...)
	assert.JSONEq(t, `{"requestId":"`+p.id+`","state":"cancelled",
		"counts":{"total":501,"pending":0,"delivered":0,"rejected":1,"failed":0,"expired":0,"cancelled":500}}`, r.stdout, "again")
	assert.Regexp(t, `(?m)^cancelled +`+time.Now().UTC().Format("2006-01-02"), run(t, p.args("status")...).stdout)

	delivered := accept(t, p.stack, 1)
	delivered.claim(t, 0)
	r = call{}.run(t, delivered.args("cancel")...)
	assert.Equal(t, 1, r.status)
	assert.Empty(t, r.stdout)
	assert.Contains(t, r.stderr, "nothing was left to cancel of push "+delivered.id)
}

func TestPushesOfTheLocalRun(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 1)
	c := call{
		dir:         localProject(t, p.stack),
		environment: []string{"AWS_REGION=", "AWS_ACCESS_KEY_ID=", "AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:1"},
	}

	for _, command := range []string{"status", "cancel"} {
		r := c.run(t, "push", command, p.id, "--local")
		assert.Zero(t, r.status, r.stderr)
		assert.Contains(t, r.stdout, p.id)
	}
}

// localProject is a folder in which a local run with the emulators serves a stack.
func localProject(t *testing.T, stackName string) string {
	t.Helper()
	project := t.TempDir()
	raw, err := json.Marshal(map[string]any{"aws": map[string]string{
		"dynamodb": emulatortest.DynamoDBEndpoint(),
		"endpoint": emulatortest.AWSEndpoint(),
		"region":   emulatortest.Region,
		"stack":    stackName,
	}})
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(project, ".local"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(project, ".local", "demo.json"), raw, 0o600))
	return project
}

// watch is a running `push watch` whose output is read as it comes.
type watch struct {
	*exec.Cmd
	lines  *bufio.Scanner
	stderr bytes.Buffer
}

func (p push) watch(t *testing.T, more ...string) *watch {
	t.Helper()
	w := &watch{Cmd: call{}.command(t, p.args("watch", append(more, "--every", "10ms")...)...)}
	out, err := w.StdoutPipe()
	require.NoError(t, err)
	w.lines = bufio.NewScanner(out)
	w.Stderr = &w.stderr
	require.NoError(t, w.Start())
	return w
}

func (w *watch) line(t *testing.T) string {
	t.Helper()
	if !w.lines.Scan() {
		_ = w.Wait()
		require.Fail(t, "the command ended", w.stderr.String())
	}
	return w.lines.Text()
}

// end reads what is left and returns the exit status.
func (w *watch) end(t *testing.T) int {
	t.Helper()
	assert.False(t, w.lines.Scan(), w.lines.Text())
	_ = w.Wait()
	return w.ProcessState.ExitCode()
}

func TestPushWatch(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 501)
	w := p.watch(t)
	due := p.notBefore.UTC().Format("2006-01-02 15:04:05Z")

	assert.Regexp(t, `^\d\d:\d\d:\d\dZ scheduled for `+due+`: 0 of 501 destinations final$`, w.line(t))
	lease := p.claim(t, 0)
	assert.Regexp(t, ` delivering: 0 of 501 destinations final$`, w.line(t))
	p.finish(t, lease, 500)
	assert.Regexp(t, ` delivering, 1 rejected: 500 of 501 destinations final$`, w.line(t))
	lease = p.claim(t, 1)
	p.finish(t, lease, 1)
	assert.Regexp(t, ` completed, 2 rejected: 501 of 501 destinations final$`, w.line(t))
	assert.Equal(t, "Push "+p.id+" is completed: 501 destinations: 499 delivered, 2 rejected.", w.line(t))
	assert.Zero(t, w.end(t), w.stderr.String())
	assert.Empty(t, w.stderr.String())
}

func TestPushWatchOfACancelledPush(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 501)
	w := p.watch(t, "-o", "json")
	read := func() (at struct {
		RequestID string
		State     engage.PushState
		Counts    engage.Counts
	}) {
		require.NoError(t, json.Unmarshal([]byte(w.line(t)), &at))
		assert.Equal(t, p.id, at.RequestID)
		return at
	}

	assert.Equal(t, engage.PushScheduled, read().State)
	lease := p.claim(t, 0)
	assert.Equal(t, engage.PushDelivering, read().State)
	run(t, p.args("cancel")...)
	at := read()
	assert.Equal(t, engage.PushCancelled, at.State)
	assert.Equal(t, 500, at.Counts.Pending, "what had been claimed is still on its way, and watched")
	p.finish(t, lease, 500)
	assert.Equal(t, engage.Counts{Total: 501, Delivered: 499, Rejected: 1, Cancelled: 1}, read().Counts)
	assert.Equal(t, 1, w.end(t))
	assert.Contains(t, w.stderr.String(), "push "+p.id+" was cancelled: 1 of 501 destinations")
}

func TestPushWatchIsInterrupted(t *testing.T) {
	p := accept(t, emulatortest.Deploy(t), 1)
	w := p.watch(t)
	w.line(t)

	require.NoError(t, w.Process.Signal(syscall.SIGINT))

	assert.Equal(t, 1, w.end(t))
	assert.Equal(
		t,
		"carillon: stopped watching; the push goes on. `carillon push watch "+p.id+"` again follows it\n",
		w.stderr.String(),
	)
}

// On a terminal there is a bar, and Ctrl-C is a key.
func TestPushWatchOnATerminal(t *testing.T) {
	stackName := emulatortest.Deploy(t)
	begin := func(p push) (*exec.Cmd, *os.File) {
		command := call{}.command(t, p.args("watch", "--every", "10ms")...)
		command.Stdin = nil
		terminal, err := pty.StartWithSize(command, &pty.Winsize{Rows: 24, Cols: 120})
		require.NoError(t, err)
		t.Cleanup(func() { _ = terminal.Close() })
		return command, terminal
	}
	// until reads what the terminal shows until a text comes; the rest of the terminal's life if it is empty.
	until := func(terminal io.Reader, text string) string {
		var shown []byte
		buffer := make([]byte, 4096)
		for text == "" || !strings.Contains(string(shown), text) {
			n, err := terminal.Read(buffer) // ends with EIO, as terminals do
			shown = append(shown, buffer[:n]...)
			if err != nil {
				break
			}
		}
		return string(shown)
	}

	p := accept(t, stackName, 501)
	p.finish(t, p.claim(t, 0), 500)
	command, terminal := begin(p)
	shown := until(terminal, "(500/501)")
	assert.Regexp(t, `delivering, 1 rejected +99% \|█+ *\| \(500/501\)`, shown)
	p.finish(t, p.claim(t, 1), 1)
	shown = until(terminal, "")
	assert.Contains(t, shown, "(501/501)")
	assert.Contains(t, shown, "\nPush "+p.id+" is completed")
	require.NoError(t, command.Wait())

	p = accept(t, stackName, 1)
	command, terminal = begin(p)
	until(terminal, "(0/1)")
	_, err := terminal.WriteString("\x03")
	require.NoError(t, err)
	assert.Contains(t, until(terminal, ""), "\ncarillon: stopped watching; the push goes on")
	assert.Error(t, command.Wait())
	assert.Equal(t, 1, command.ProcessState.ExitCode())
}
