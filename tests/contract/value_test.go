package contract_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// otherwise writes an object in other bytes: behind a byte order mark, its members in another order, with white space,
// with each character of its texts escaped, and with its numbers in other forms.
func otherwise(t *testing.T, o object) string {
	t.Helper()
	var value any
	decoder := json.NewDecoder(strings.NewReader(o.text(t)))
	decoder.UseNumber()
	require.NoError(t, decoder.Decode(&value))
	var b strings.Builder
	b.WriteString("\ufeff")
	writeOtherwise(&b, value)
	return b.String()
}

func writeOtherwise(b *strings.Builder, value any) {
	switch value := value.(type) {
	case map[string]any:
		separator := "\n{ "
		names := make([]string, 0, len(value))
		for name := range value {
			names = append(names, name)
		}
		rand.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for _, name := range names {
			b.WriteString(separator)
			writeOtherwise(b, name)
			b.WriteString("\t: ")
			writeOtherwise(b, value[name])
			separator = " ,\r\n"
		}
		b.WriteString("} ")
	case []any:
		separator := "[ "
		for _, element := range value {
			b.WriteString(separator)
			writeOtherwise(b, element)
			separator = " , "
		}
		b.WriteString("\t]")
	case string:
		b.WriteByte('"')
		for _, r := range value {
			if r < 0x10000 {
				fmt.Fprintf(b, `\u%04X`, r)
			} else {
				b.WriteRune(r)
			}
		}
		b.WriteByte('"')
	case json.Number:
		b.WriteString(value.String() + ".0")
	case nil:
		b.WriteString("null")
	default:
		fmt.Fprint(b, value)
	}
}

// docs/contract.md, common: "the same body" is compared by value. In the three places it is compared, the same value in
// other bytes gets the first answer, and another value, however small the difference, is another body.
func TestTheSameBodyIsTheSameValue(t *testing.T) {
	t.Parallel()
	t.Run("ENGAGE, Idempotency-Key", func(t *testing.T) {
		t.Parallel()
		key, body := unique(), demoBatch().set(json.Number("7200"), "ttlSeconds")
		first := push(t, demoProgram(), body.text(t), "Idempotency-Key", key)
		requirePushed(t, first)
		for _, same := range []string{
			otherwise(t, body), otherwise(t, body), strings.Replace(body.text(t), "7200", "7.2e3", 1),
		} {
			again := push(t, demoProgram(), same, "Idempotency-Key", key)
			require.Equal(t, first.Body, again.Body, same)
			require.Empty(t, pushParts(t, again.RequestID()))
			zipped := push(t, demoProgram(), zipped(same), "Idempotency-Key", key, "Content-Encoding", "gzip")
			require.Equal(t, first.Body, zipped.Body)
		}
		for name, other := range map[string]string{
			"a number more":            otherwise(t, body.set(json.Number("7201"), "ttlSeconds")),
			"a text, not a number":     otherwise(t, body.set("7200", "ttlSeconds")),
			"an unknown member":        otherwise(t, body.set(nil, "unknown")),
			"half a pair in a text":    strings.Replace(body.text(t), `"MY_VAR":"`, `"MY_VAR":"\ud800`, 1),
			"half a pair in a bNumber": strings.Replace(body.text(t), `"bNumber":"`, `"bNumber":"\ud800`, 1),
		} {
			a := push(t, demoProgram(), other, "Idempotency-Key", key)
			requireNotPushed(t, a, 409, a.Object(t)["response"].(string), pushFailed)
			require.Empty(t, pushParts(t, a.RequestID()), name)
		}
		list := body["destinations"].([]any)
		if len(list) > 1 {
			swapped := body.set(append([]any{list[len(list)-1]}, list[:len(list)-1]...), "destinations")
			require.Equal(t, 409, push(t, demoProgram(), otherwise(t, swapped), "Idempotency-Key", key).Status)
		}
	})
	t.Run("ENGAGE, a body that is no batch leaves the key alone", func(t *testing.T) {
		t.Parallel()
		key, body := unique(), demoBatch().text(t)
		for _, broken := range []string{
			body + "x", body[:len(body)-1], strings.Replace(body, "{", `{"a":1,"\u0061":1,`, 1),
			strings.Replace(body, "{", `{"unknown":"\ud800",`, 1), strings.Replace(body, `"MY_VAR":"`, `"MY_VAR":"\ud800`, 1),
		} {
			require.Equal(t, 400, push(t, demoProgram(), broken, "Idempotency-Key", key).Status, broken)
		}
		requirePushed(t, push(t, demoProgram(), body, "Idempotency-Key", key))
	})
	t.Run("OTT, messageKey", func(t *testing.T) {
		t.Parallel()
		body := newPage(t).hello().set("30", "validityPeriod").set(json.Number("12"), "unknown")
		id := accepted(t, body.text(t))
		for range 3 {
			require.Equal(t, id, accepted(t, otherwise(t, body)))
		}
		for name, other := range map[string]object{
			"a number more":        body.set(json.Number("13"), "unknown"),
			"a text, not a number": body.set("12", "unknown"),
			"a member less":        body.without("unknown"),
			"a name in capitals":   body.set(body["from"], "From").without("from"),
		} {
			require.Equal(t, 409, sendAs(t, bundle.Demo.OTT, other.text(t)).Status, name)
		}
		payload := object{"text": "a", "metadata": "b", "of": []any{json.Number("12")}}
		contents := func(content object) object { return body.set([]any{content}, "message", "contents") }
		native := contents(object{"type": "native", "payload": payload, "nativePayload": payload}).
			set(unique(), "messageKey")
		id = accepted(t, native.text(t))
		require.Equal(t, id, accepted(t, otherwise(t, native)))
		for name, other := range map[string]object{
			"one of its names":  contents(object{"type": "native", "payload": payload}),
			"the other of them": contents(object{"type": "native", "nativePayload": payload}),
			"another payload":   contents(object{"type": "native", "payload": payload.set("c", "metadata")}),
		} {
			other = other.set(native["messageKey"], "messageKey")
			require.Equal(t, 409, sendAs(t, bundle.Demo.OTT, other.text(t)).Status, name)
		}
		large := strings.Repeat("é", 300_000) // more than is kept
		body = newPage(t).hello().set(large, "unknown").set("30", "validityPeriod")
		id = accepted(t, body.text(t))
		require.Equal(t, id, accepted(t, otherwise(t, body)))
		require.Equal(t, 409, sendAs(t, bundle.Demo.OTT, otherwise(t, body.set(large+"x", "unknown"))).Status)
	})
	t.Run("DXP, X-Correlation-ID", func(t *testing.T) {
		t.Parallel()
		demo, id := bundle.Demo.Product.DemoClient, unique()
		body := demoProduct().set(json.Number("12"), "unknown")
		first := createAs(t, demo, inPanama(), id, body.text(t))
		require.Equal(t, 201, first.Status)
		for range 3 {
			again := createAs(t, demo, inPanama(), id, otherwise(t, body))
			require.Equal(t, 201, again.Status, "%s", again.Body)
			require.Equal(t, first.Body, again.Body)
		}
		require.Len(t, provider.requests(customerOf(body)), 1, "the provider is not asked again")
		conflict := createAs(t, demo, inPanama(), id, otherwise(t, body.set(json.Number("13"), "unknown")))
		requireProductErrors(t, conflict, 409, productFault{Code: 409, Message: "APIKIT:CONFLICT"})
	})
}
