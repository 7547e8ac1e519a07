package delivery_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/provision"
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

// BenchmarkMemoryOfDelivery prints the peak resident memory, in MB, of the largest fresh engage-deliver process after
// pushes whose chunks are as large as provisioning allows, ten of them at the same time, beside the limit: half of the
// function's memory. More fails it.
func BenchmarkMemoryOfDelivery(b *testing.B) {
	const variables, longest = 200, 256 // package provision; docs/contract.md §2
	program := provision.Program{
		UUID: uuid.NewString(), Name: "Large", Complete: true,
		Content: `{"text":"` + strings.Repeat("x", provision.MaxProgramContent-20) + `"}`,
	}
	for i := range variables {
		program.Variables = append(program.Variables, fmt.Sprintf("V%03d", i))
	}
	provide(b, program)
	for name, test := range map[string]struct {
		destinations int
		text         string
	}{
		"longest-texts": {200, strings.Repeat("鐘", longest)},
		"to-be-escaped": {250, strings.Repeat(`"`, longest)},
		"no-texts":      {12_000, ""},
	} {
		b.Run(name, func(b *testing.B) {
			peak := 0.0
			for b.Loop() {
				bundle.Function("EngageDeliverFunction").Kill()
				texts := make(map[string]string, variables)
				for _, variable := range program.Variables {
					texts[variable] = test.text
				}
				personalization, err := json.Marshal(texts)
				require.NoError(b, err)
				var body strings.Builder
				fmt.Fprintf(&body, `{"aNumbers":[%q],"notBefore":%q,"destinations":[`,
					bundle.Demo.Engage.ANumbers[0], time.Now().Add(8*time.Second).UTC().Format(time.RFC3339))
				for i := range test.destinations {
					if i > 0 {
						body.WriteByte(',')
					}
					fmt.Fprintf(&body, `{"bNumber":"+1501%07d","personalization":%s}`, i, personalization)
				}
				body.WriteString("]}")
				waitFor(b, acceptFor(b, token(b), program.UUID, zip(b, body.String())))
				for _, pid := range bundle.Function("EngageDeliverFunction").Processes() {
					peak = max(peak, peakMemory(b, pid))
				}
			}
			limit := float64(bundle.Function("EngageDeliverFunction").MemoryMB()) * 1.048576 / 2
			b.ReportMetric(peak, "peak-MB")
			b.ReportMetric(limit, "limit-MB")
			if peak > limit {
				b.Errorf("%.0f MB are more than half of the function's memory", peak)
			}
		})
	}
}

func zip(b *testing.B, body string) []byte {
	b.Helper()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, err := io.WriteString(w, body)
	require.NoError(b, err)
	require.NoError(b, w.Close())
	require.Less(b, zipped.Len(), lambdaBody)
	return zipped.Bytes()
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
