package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/ott"
)

// A message of a thousand characters of German, say, is one write unit: its item is within 1 KB.
func TestAMessageIsOneWriteUnit(t *testing.T) {
	t.Parallel()
	s, start := newMessages(t), now()
	const text = `Guten Tag, Ihr Paket 8001234567 ist heute um 11:42 Uhr im Verteilzentrum Hannover angekommen und wird
		voraussichtlich morgen zwischen 9 und 13 Uhr zugestellt. Falls Sie nicht zu Hause sind, können Sie bis heute Abend um
		20 Uhr einen Ablageort angeben, einen Nachbarn nennen oder die Zustellung auf einen anderen Tag verschieben: antworten
		Sie dazu mit ORT, NACHBAR oder TAG. Fragen beantwortet Ihnen unser Kundendienst gern unter 0800 123 4567, montags bis
		samstags von 8 bis 20 Uhr. Bitte geben Sie dabei immer Ihre Paketnummer an.`
	body := `{"messageKey":"order-8001234567-shipped","from":{"senderType":"messenger","senderId":"1732555047025799"},` +
		`"to":{"ottId":"6000000000000001"},"message":{"contents":[{"type":"text","text":"` +
		strings.NewReplacer("\n", " ", "\t", "").
			Replace(text) +
		`"}],"customKeys":[{"messagingType":"UPDATE"}]},` +
		`"validityPeriod":60}`
	m, faults, err := ott.DecodeSend(strings.NewReader(body))
	require.NoError(t, err)
	require.Empty(t, faults)
	_, place := s.find("acme", m.Key, body, start)
	_, err = s.Put(t.Context(), "acme", place, m, sendBody(body), start, start)
	require.NoError(t, err)
	item := s.all()["acme#message#"+place.OttRequestID]
	assert.LessOrEqual(t, itemSize(t, item), 1<<10)
	assert.Equal(t, body, string(s.get("acme", place.OttRequestID).Body))
}
