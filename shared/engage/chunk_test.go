package engage_test

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
)

func decodeAll(t require.TestingT, chunks []engage.Chunk) []engage.Destination {
	var all []engage.Destination
	for _, chunk := range chunks {
		assert.LessOrEqual(t, len(chunk.Encoded), 400_000, "an item of DynamoDB")
		part, err := engage.DecodeChunk(chunk.Encoded)
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
		chunks, err := engage.EncodeChunks(destinations)
		require.NoError(t, err)
		assert.Equal(t, destinations, decodeAll(t, chunks))
	})
}

func TestChunksHoldAtMost500(t *testing.T) {
	destinations := realisticDestinations(1201)
	chunks, err := engage.EncodeChunks(destinations)
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
			d.Personalization = append(d.Personalization, engage.Variable{Name: fmt.Sprintf("V%d", v), Text: text.String()})
		}
		destinations = append(destinations, d)
	}
	chunks, err := engage.EncodeChunks(destinations)
	require.NoError(t, err)
	assert.Greater(t, len(chunks), 1)
	assert.Equal(t, destinations, decodeAll(t, chunks))
}

func FuzzDecodeChunk(f *testing.F) {
	chunks, err := engage.EncodeChunks(realisticDestinations(20))
	require.NoError(f, err)
	f.Add(chunks[0].Encoded)
	f.Add(slices.Concat(chunks[0].Encoded, []byte("x")))
	f.Add(chunks[0].Encoded[:len(chunks[0].Encoded)/2])
	f.Fuzz(func(t *testing.T, encoded []byte) {
		part, err := engage.DecodeChunk(encoded)
		if err == nil {
			assert.LessOrEqual(t, len(part), 500)
		}
	})
}

// realisticDestinations have what a batch has: random numbers, a first name and a time of day, a 12-character tracking id.
func realisticDestinations(n int) []engage.Destination {
	random := rand.New(rand.NewPCG(3, 4))
	names := []string{"Ana", "Luis", "María", "Jorge", "Carmen", "José", "Sofía", "Pedro", "Lucía", "Diego", "Elena", "Raúl", "Paula", "Hugo", "Marta", "Iván"}
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	destinations := make([]engage.Destination, n)
	for i := range destinations {
		id := make([]byte, 12)
		for j := range id {
			id[j] = alphabet[random.IntN(len(alphabet))]
		}
		destinations[i] = engage.Destination{
			BNumber:          fmt.Sprintf("+1%010d", random.Int64N(10_000_000_000)),
			CustomTrackingID: string(id),
			Personalization: []engage.Variable{
				{Name: "FIRST_NAME", Text: names[random.IntN(len(names))]},
				{Name: "TIME", Text: fmt.Sprintf("%02d:%02d", 8+random.IntN(12), 15*random.IntN(4))},
			},
		}
	}
	return destinations
}

// realisticBody is a batch of 25,000 realistic destinations.
func realisticBody() string {
	var body strings.Builder
	body.WriteString(`{"aNumbers":["+5014008029"],"destinations":[`)
	for i, d := range realisticDestinations(engage.MaxDestinations) {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"bNumber":%q,"personalization":{"FIRST_NAME":%q,"TIME":%q},"customTrackingId":%q}`,
			d.BNumber, d.Personalization[0].Text, d.Personalization[1].Text, d.CustomTrackingID)
	}
	body.WriteString("]}")
	return body.String()
}

// BenchmarkEncodeChunks prints what a chunk costs: bytes per destination, of which DynamoDB charges each KB.
func BenchmarkEncodeChunks(b *testing.B) {
	destinations := realisticDestinations(engage.MaxDestinations)
	bytes := 0
	for b.Loop() {
		chunks, err := engage.EncodeChunks(destinations)
		require.NoError(b, err)
		bytes = 0
		for _, chunk := range chunks {
			bytes += len(chunk.Encoded)
		}
	}
	b.ReportMetric(float64(bytes)/float64(len(destinations)), "bytes/destination")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(destinations)), "ns/destination")
}

// BenchmarkDecodeBatch is the largest job here: a body of 25,000 destinations, decoded and checked.
func BenchmarkDecodeBatch(b *testing.B) {
	text := realisticBody()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		batch, err := engage.DecodeBatch(strings.NewReader(text))
		require.NoError(b, err)
		_, err = batch.Check([]string{"FIRST_NAME", "TIME"}, now)
		require.NoError(b, err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/engage.MaxDestinations, "ns/destination")
}
