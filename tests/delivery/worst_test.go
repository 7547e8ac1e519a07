package delivery_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"carillon/provision"
	"carillon/shared/engage"
	"carillon/shared/jsonbody"
	"carillon/shared/stackname"
	"carillon/tests/harness"
)

// decoded is how large a body may be once decoded.
const decoded = 32 << 20

// worstBody is a body of nearly that size.
type worstBody struct{ strings.Builder }

// fill writes parts until only room for the rest is left, and then the rest.
func (b *worstBody) fill(rest string, part func(i int) string) string {
	for i := 0; ; i++ {
		next := part(i)
		if b.Len()+len(next)+len(rest) > decoded {
			b.WriteString(rest)
			return b.String()
		}
		b.WriteString(next)
	}
}

// begin begins a batch of one aNumber.
func begin(text string) *worstBody {
	b := new(worstBody)
	b.WriteString(`{"aNumbers":["` + bundle.Demo.Engage.ANumbers[0] + `"],"destinations":[`)
	b.WriteString(text)
	return b
}

// objectOf is a JSON object of as many members as may be, of one name each.
func objectOf(count int, name func(i int) string, value string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i := range count {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s":%s`, name(i), value)
	}
	b.WriteByte('}')
	return b.String()
}

func padded(width int) func(int) string {
	return func(i int) string { return fmt.Sprintf("%0*x", width, i) }
}

// everyVariable is a batch that is right: 25,000 destinations with every variable of a large program.
func everyVariable(variables int) string {
	b, texts := begin(""), objectOf(variables, padded(2), `""`)
	for i := range engage.MaxDestinations {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b.Builder, `{"bNumber":"+1501%07d","personalization":%s}`, i, texts)
	}
	return b.String() + "]}"
}

const (
	rightVariables = 140 // times 25,000 is nearly 32 MiB
	most           = jsonbody.MaxMembers - 3
)

func worstBatches() map[string]func() string {
	undeclared := objectOf(257, func(i int) string { return fmt.Sprintf("z%x", i) }, "0")
	return map[string]func() string{
		"right,every-variable": func() string { return everyVariable(rightVariables) },
		"many-undeclared": func() string {
			small := objectOf(150, func(i int) string { return fmt.Sprintf("z%x", i) }, "0")
			return begin(`{}`).fill("]}", func(int) string { return `,{"personalization":` + small + `}` })
		},
		"many-of-257": func() string {
			return begin(`{}`).fill("]}", func(int) string { return `,{"personalization":` + undeclared + `}` })
		},
		"all-in-one": func() string {
			return begin(`{"personalization":` + objectOf(most, padded(125), "0") + `}]}`).String()
		},
		"257-long-names": func() string {
			return begin(`{"personalization":` + objectOf(257, padded(130_000), `""`) + `}]}`).String()
		},
		"a-long-name":    func() string { return begin(`{"personalization":{"`).fill(`":""}}]}`, xs) },
		"a-long-text":    func() string { return begin(`{"personalization":{"00":"`).fill(`"}}]}`, xs) },
		"a-long-bNumber": func() string { return begin(`{"bNumber":"`).fill(`"}]}`, xs) },
		"an-escaped-text": func() string {
			return begin(
				`{"personalization":{"00":"`,
			).fill(`"}}]}`, func(int) string { return strings.Repeat(`\n`, 1000) })
		},
		"halves": func() string {
			return begin(`{}`).fill("]}", func(i int) string {
				if i >= 99_000 {
					return `,{"bNumber":""}`
				}
				return `,{"personalization":{"00":"\ud800"}}`
			})
		},
		"empty-destinations": func() string { return begin(`{}`).fill("]}", func(int) string { return ",{}" }) },
		"unknown-list":       func() string { return begin(`{}],"u":[0`).fill("]}", func(int) string { return ",0" }) },
		"unknown-objects":    func() string { return begin(`{}],"u":[0`).fill("]}", func(int) string { return `,{"":{}}` }) },
		"unknown-members":    func() string { return begin(`{}],"u":` + objectOf(most, padded(125), "0") + `}`).String() },
		"too-many-members": func() string {
			return begin(`{}],"u":{"":0`).fill("}}", func(i int) string { return `,"` + padded(125)(i) + `":0` })
		},
		"deep": func() string {
			nested := strings.Repeat(`{"":[`, 4990) + strings.Repeat(`]}`, 4990)
			return begin(`{}],"u":[0`).fill("]}", func(int) string { return "," + nested })
		},
	}
}

func xs(int) string { return strings.Repeat("x", 1000) }

// BenchmarkMemoryOfWorstBodies prints for each API the peak resident memory of a fresh process, in MB, after one body
// of 32 MiB that is made to cost memory, sent under an Idempotency-Key where there are such, beside the limit: half of
// the function's memory (docs/contract.md, common). More fails it.
func BenchmarkMemoryOfWorstBodies(b *testing.B) {
	program := largeProgram(b)
	headers := token(b)
	for name, body := range worstBatches() {
		b.Run("batch/"+name, func(b *testing.B) {
			worst(b, "EngageBatchFunction", "/federated/outbound/v2/batch?programContentUuid="+program, headers, body())
		})
	}
	ott := bundle.OTTBearer(b, bundle.Demo.OTT)
	for name, body := range worstMessages() {
		b.Run("send/"+name, func(b *testing.B) { worst(b, "OttSendFunction", "/ott/v1/send", ott, body()) })
	}
	for name, body := range worstOthers() {
		b.Run("register/"+name, func(b *testing.B) {
			worst(b, "OttRegisterFunction", "/ott/v1/registration", ott, body())
		})
		b.Run("product/"+name, func(b *testing.B) {
			worst(b, "ProductCreateFunction", "/dxp-ux/v1/PA/product",
				harness.DXPHeaders(bundle.Demo.Product.DemoClient, uuid.NewString()), body())
		})
		b.Run(
			"oauth/"+name,
			func(b *testing.B) { worst(b, "OauthTokenFunction", "/v2/token", map[string]string{}, body()) },
		)
		b.Run("token/"+name, func(b *testing.B) {
			worst(b, "EngageTokenFunction", "/federated/content/v2/token", harness.Inform(), body())
		})
	}
}

func worstOthers() map[string]func() string {
	return map[string]func() string{
		"members": func() string { return `{"u":` + objectOf(most, padded(125), "0") + `}` },
		"a-name":  func() string { return new(worstBody).fill(`":0}`, begun(`{"`)) },
		"names":   func() string { return objectOf(257, padded(130_000), `""`) },
		"attributes": func() string {
			return `{"ottPlatformAttributes":` + objectOf(most-1, padded(120), "0") + `}`
		},
		"an-attribute": func() string {
			return new(worstBody).fill(`":0}}`, begun(`{"ottPlatformAttributes":{"`))
		},
		"attribute-names": func() string {
			return `{"ottPlatformAttributes":` + objectOf(256, padded(130_000), `""`) + `}`
		},
		"a-text": func() string { return new(worstBody).fill(`"}`, begun(`{"client_id":"`)) },
		"contacts": func() string {
			contact := `{"contactMedium":[{}` + strings.Repeat(`,{}`, 999) + `]}`
			return `{"billingAccount":{"contact":[` + strings.Repeat(contact+",", 999) + contact + `]}}`
		},
	}
}

func worstMessages() map[string]func() string {
	all := worstOthers()
	maps.Copy(all, map[string]func() string{
		"payload-members": func() string {
			return `{"message":{"contents":[{"nativePayload":` + objectOf(most-3, padded(125), "0") + `}]}}`
		},
		"payload-text": func() string {
			return new(worstBody).fill(`"}}]}}`, begun(`{"message":{"contents":[{"nativePayload":{"a":"`))
		},
		"contents": func() string {
			return new(worstBody).fill(`]}}`, func(i int) string {
				if i == 0 {
					return `{"message":{"contents":[{}`
				}
				return `,{"text":"` + strings.Repeat("x", 33_000) + `"}`
			})
		},
	})
	return all
}

// begun is the beginning of a body, and xs behind it.
func begun(text string) func(int) string {
	return func(i int) string {
		if i == 0 {
			return text
		}
		return xs(i)
	}
}

// largeProgram provides a program with as many variables as fit a body, and returns its UUID.
func largeProgram(b *testing.B) string {
	b.Helper()
	program := provision.Program{UUID: uuid.NewString(), Name: "Large", Complete: true, Content: `{}`}
	for i := range rightVariables {
		program.Variables = append(program.Variables, padded(2)(i))
	}
	provide(b, program)
	return program.UUID
}

// provide gives the demo's provider a program beside its own.
func provide(b *testing.B, program provision.Program) {
	b.Helper()
	demo := bundle.Demo.Engage
	own := provision.Program{
		UUID: demo.ProgramContentUUID, Name: "Demo", Complete: true, Variables: demo.Variables, Content: `{}`,
	}
	content := provision.Content{Tenants: []provision.Tenant{
		{ID: "demo-calls", ANumbers: demo.ANumbers, Programs: []provision.Program{program, own}},
	}}
	table := bundle.Table(stackname.ContentTable)
	_, err := provision.ApplyContent(b.Context(), bundle.DynamoDB(), table, content)
	require.NoError(b, err)
}

func worst(b *testing.B, function, path string, headers map[string]string, body string) {
	b.Helper()
	require.LessOrEqual(b, len(body), decoded)
	var zipped bytes.Buffer
	w, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	_, _ = io.WriteString(w, body)
	require.NoError(b, w.Close())
	require.Less(b, zipped.Len(), lambdaBody)
	headers = maps.Clone(headers)
	headers["Content-Encoding"], headers["Content-Type"] = "gzip", "application/json"
	peak := 0.0
	for b.Loop() {
		headers["Idempotency-Key"] = uuid.NewString()
		bundle.Function(function).Kill()
		reply := bundle.Post(b, path, zipped.String(), headers)
		b.Logf("%d %.60s", reply.Status, reply.Body)
		processes := bundle.Function(function).Processes()
		require.NotEmpty(b, processes, "the process was killed: %d %s", reply.Status, reply.Body)
		for _, pid := range processes {
			peak = max(peak, peakMemory(b, pid))
		}
	}
	limit := float64(bundle.Function(function).MemoryMB()) * 1.048576 / 2
	b.ReportMetric(float64(len(body))/1e6, "body-MB")
	b.ReportMetric(peak, "peak-MB")
	b.ReportMetric(limit, "limit-MB")
	if peak > limit {
		b.Errorf("%.0f MB are more than half of the function's memory", peak)
	}
}
