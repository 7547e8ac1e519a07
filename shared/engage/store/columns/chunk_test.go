package columns_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
	"carillon/shared/engage/store/columns"
)

func decodeAll(t require.TestingT, chunks []columns.Chunk) []engage.Destination {
	var all []engage.Destination
	for _, chunk := range chunks {
		assert.LessOrEqual(t, len(chunk.Encoded), 400_000, "an item of DynamoDB")
		part, err := columns.DecodeChunk(chunk.Encoded)
		require.NoError(t, err)
		assert.LessOrEqual(t, len(part), 500)
		assert.Len(t, part, chunk.Size)
		all = append(all, part...)
	}
	return all
}

func TestChunksHoldWhatWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringN(0, 40, 160)
		destinations := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) engage.Destination {
			d := engage.Destination{
				BNumber:          rapid.StringMatching(`\+[1-9][0-9]{6,14}`).Draw(t, "bNumber"),
				CustomTrackingID: text.Draw(t, "customTrackingId"),
			}
			for _, name := range []string{"A", "B", "C"} { // sorted, as they come back
				if rapid.Bool().Draw(t, "has "+name) {
					d.Personalization = append(d.Personalization, engage.Variable{Name: name, Text: text.Draw(t, name)})
				}
			}
			return d
		}), 1, 40).Draw(t, "destinations")
		chunks, err := columns.EncodeChunks(destinations)
		require.NoError(t, err)
		assert.Equal(t, destinations, decodeAll(t, chunks))
	})
}

func TestChunksHoldAtMost500(t *testing.T) {
	destinations := engagetest.RealisticDestinations(1201)
	chunks, err := columns.EncodeChunks(destinations)
	require.NoError(t, err)
	assert.Len(t, chunks, 3)
	assert.Equal(t, destinations, decodeAll(t, chunks))
}

func TestChunksAreSplitWhereTextsAreLong(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var destinations []engage.Destination
	for i := range 100 {
		d := engage.Destination{BNumber: fmt.Sprintf("+1%010d", i)}
		for v := range 10 {
			var text strings.Builder
			for range 256 {
				text.WriteRune(rune(0x4e00 + random.IntN(20_000)))
			}
			variable := engage.Variable{Name: fmt.Sprintf("V%d", v), Text: text.String()}
			d.Personalization = append(d.Personalization, variable)
		}
		destinations = append(destinations, d)
	}
	chunks, err := columns.EncodeChunks(destinations)
	require.NoError(t, err)
	assert.Greater(t, len(chunks), 1)
	assert.Equal(t, destinations, decodeAll(t, chunks))
}

// A chunk's destinations take no more than 1 MiB in the body of a POST, however well they compress; a destination by
// itself is a chunk at least.
func TestChunksAreBoundedByTheBodyThatTheyMake(t *testing.T) {
	for name, test := range map[string]struct{ variables, characters int }{
		"the most variables, the longest texts": {engage.MaxVariables, 256},
		"the most variables, without a text":    {engage.MaxVariables, 0},
		"one long text":                         {1, 256},
	} {
		t.Run(name, func(t *testing.T) {
			var destinations []engage.Destination
			for i := range 700 {
				d := engage.Destination{BNumber: fmt.Sprintf("+1%010d", i)}
				for v := range test.variables {
					text := strings.Repeat("鐘", test.characters)
					d.Personalization = append(
						d.Personalization,
						engage.Variable{Name: fmt.Sprintf("V%03d", v), Text: text},
					)
				}
				destinations = append(destinations, d)
			}
			chunks, err := columns.EncodeChunks(destinations)
			require.NoError(t, err)
			total := 0
			for _, chunk := range chunks {
				size := 0
				for _, d := range destinations[total : total+chunk.Size] {
					size += engage.BodySize(d)
				}
				total += chunk.Size
				assert.LessOrEqual(t, size, 1<<20)
			}
			assert.Equal(t, len(destinations), total)
		})
	}
}

func FuzzDecodeChunk(f *testing.F) {
	chunks, err := columns.EncodeChunks(engagetest.RealisticDestinations(20))
	require.NoError(f, err)
	f.Add(chunks[0].Encoded)
	f.Add(slices.Concat(chunks[0].Encoded, []byte("x")))
	f.Add(chunks[0].Encoded[:len(chunks[0].Encoded)/2])
	f.Fuzz(func(t *testing.T, encoded []byte) {
		part, err := columns.DecodeChunk(encoded)
		if err == nil {
			assert.LessOrEqual(t, len(part), 500)
		}
	})
}

// BenchmarkEncodeChunks prints what a chunk costs: bytes per destination, of which DynamoDB charges each KB.
func BenchmarkEncodeChunks(b *testing.B) {
	destinations := engagetest.RealisticDestinations(engage.MaxDestinations)
	bytes := 0
	for b.Loop() {
		chunks, err := columns.EncodeChunks(destinations)
		require.NoError(b, err)
		bytes = 0
		for _, chunk := range chunks {
			bytes += len(chunk.Encoded)
		}
	}
	b.ReportMetric(float64(bytes)/float64(len(destinations)), "bytes/destination")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(destinations)), "ns/destination")
}
