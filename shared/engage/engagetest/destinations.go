package engagetest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"carillon/shared/engage"
)

// Three are three destinations, with and without what is optional.
func Three() []engage.Destination {
	return []engage.Destination{
		{BNumber: "+15018902001", CustomTrackingID: "a", Personalization: []engage.Variable{
			{Name: "MY_VAR", Text: "Hola <Ana> & \"José\""},
		}},
		{BNumber: "+15018902002"},
		{BNumber: "+15018902003", CustomTrackingID: "c"},
	}
}

// RealisticDestinations have what a batch has: random numbers, a first name and a time of day, a 12-character tracking
// id.
func RealisticDestinations(n int) []engage.Destination {
	random := rand.New(rand.NewPCG(3, 4))
	names := []string{
		"Ana", "Luis", "María", "Jorge", "Carmen", "José", "Sofía", "Pedro",
		"Lucía", "Diego", "Elena", "Raúl", "Paula", "Hugo", "Marta", "Iván",
	}
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

// RealisticBody is a batch of 25,000 realistic destinations.
func RealisticBody() string {
	var body strings.Builder
	body.WriteString(`{"aNumbers":["+5014008029"],"destinations":[`)
	for i, d := range RealisticDestinations(engage.MaxDestinations) {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"bNumber":%q,"personalization":{"FIRST_NAME":%q,"TIME":%q},"customTrackingId":%q}`,
			d.BNumber, d.Personalization[0].Text, d.Personalization[1].Text, d.CustomTrackingID)
	}
	body.WriteString("]}")
	return body.String()
}
