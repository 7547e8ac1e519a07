package delivery_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
)

// lambdaBody is how much gzip a request can hold: Lambda's 6 MB, in base64, with room for headers.
const lambdaBody = 4_600_000

// BenchmarkMemory prints the peak resident memory, in MB, of engage-batch and of the largest engage-deliver process
// after the largest batch that a request can hold: 25,000 destinations, as much text as fits, and 400 aNumbers.
func BenchmarkMemory(b *testing.B) {
	body := largestBatch(b)
	for b.Loop() {
		waitFor(b, accept(b, token(b), body))
	}
	b.ReportMetric(float64(len(body))/1e6, "gzip-MB")
	for name, function := range map[string]string{"batch-MB": "EngageBatchFunction", "deliver-MB": "EngageDeliverFunction"} {
		peak := 0.0
		for _, pid := range bundle.Function(function).Processes() {
			peak = max(peak, peakMemory(b, pid))
		}
		b.ReportMetric(peak, name)
	}
}

func largestBatch(b *testing.B) []byte {
	b.Helper()
	random := rand.New(rand.NewPCG(5, 6))
	// A group of 400 numbers would do as well; here they are the demo's own, sent again and again, which costs as much.
	numbers := strings.Repeat(
		`"`+bundle.Demo.Engage.ANumbers[0]+`",`,
		engage.MaxANumbers-1,
	) + `"` + bundle.Demo.Engage.ANumbers[0] + `"`
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := fmt.Fprintf(w, `{"aNumbers":[%s],"destinations":[`, numbers)
	require.NoError(b, err)
	text := make([]byte, 160)
	const alphabet = "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?0123456789"
	for i := range engage.MaxDestinations {
		for j := range text {
			text[j] = alphabet[random.IntN(len(alphabet))]
		}
		separator := ","
		if i == 0 {
			separator = ""
		}
		_, err := fmt.Fprintf(w, `%s{"bNumber":"+1501%07d","personalization":{%q:%q},"customTrackingId":"%x"}`,
			separator, i, bundle.Demo.Engage.Variables[0], text, text[:20])
		require.NoError(b, err)
	}
	_, err = w.Write([]byte("]}"))
	require.NoError(b, err)
	require.NoError(b, w.Close())
	require.Less(b, zipped.Len(), lambdaBody)
	return zipped.Bytes()
}

// peakMemory is a process's high-water mark of resident memory, in MB.
func peakMemory(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	for line := range strings.SplitSeq(string(status), "\n") {
		if kB, found := strings.CutPrefix(line, "VmHWM:"); found {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kB), "kB")))
			require.NoError(b, err)
			return float64(n) / 1000
		}
	}
	b.Fatal("there is no VmHWM: this benchmark needs Linux")
	return 0
}
