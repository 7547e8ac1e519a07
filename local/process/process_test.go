package process_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/process"
)

// asParent makes this test binary play the parent that gets killed.
const asParent = "PROCESS_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) == "" {
		os.Exit(m.Run())
	}
	child, err := process.Start(process.Spec{Path: "/bin/sh", Args: []string{"-c", "exec sleep 60"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(child.PID())
	select {}
}

func TestChildDiesWithAKilledParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: only Linux kills the children of a killed parent")
	}
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	child, err := strconv.Atoi(strings.TrimSpace(line))
	require.NoError(t, err)
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // "signal: killed", as asked
	assert.Eventually(t, func() bool { return dead(child) }, 10*time.Second, time.Millisecond)
}

// dead is also true of a process that nobody has reaped yet: it may be left to a container's first process.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestOutputAndExit(t *testing.T) {
	var lines []string
	output := process.NewLines(func(line string) { lines = append(lines, line) })
	p, err := process.Start(
		process.Spec{
			Path:   "/bin/sh",
			Args:   []string{"-c", `echo one; echo two >&2; printf "$LEAKED"three; exit 4`},
			Output: output,
		},
	)
	require.NoError(t, err)
	<-p.Done()
	output.Flush()
	assert.Equal(t, []string{"one", "two", "three"}, lines)
	assert.Equal(t, "exit status 4", p.Exit())
	p.Kill() // of a process that is gone does nothing
}

func TestStopKillsWhatDoesNotListen(t *testing.T) {
	ready := make(chan struct{}, 1)
	output := process.NewLines(func(string) { ready <- struct{}{} })
	p, err := process.Start(
		process.Spec{Path: "/bin/sh", Args: []string{"-c", `trap "" TERM; echo ready; while :; do sleep 1; done`},
			Env: []string{"PATH=" + os.Getenv("PATH")}, Output: output},
	)
	require.NoError(t, err)
	<-ready
	p.Stop(10 * time.Millisecond)
	assert.Equal(t, "signal: killed", p.Exit())
}

func TestStartOfWhatIsNotThere(t *testing.T) {
	_, err := process.Start(process.Spec{Path: "/nowhere/bootstrap"})
	assert.ErrorContains(t, err, "starting /nowhere/bootstrap")
}

func TestTail(t *testing.T) {
	tail := process.NewTail(2)
	for _, line := range []string{"one", "two", "three"} {
		tail.Add(line)
	}
	assert.Equal(t, "two\nthree", tail.String())
}
