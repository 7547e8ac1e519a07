package deliver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/engage"
	"carillon/shared/engage/engagetest"
)

// Each row of docs/contract.md §2, "The device gateway": what the gateway answers to the POSTs in turn, and what
// becomes of it.
func TestGatewayAnswers(t *testing.T) {
	t.Parallel()
	type answer = func(p engagetest.Post, w http.ResponseWriter, r *http.Request)
	status := func(code int) answer {
		return func(_ engagetest.Post, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	text := func(body string) answer {
		return func(_ engagetest.Post, w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, body) }
	}
	each := func(statuses ...string) answer {
		return func(p engagetest.Post, w http.ResponseWriter, _ *http.Request) {
			engagetest.Results(w, p, func(i int, _ string) string { return statuses[i] })
		}
	}
	const delivered, rejected, retry = `"delivered"`, `"rejected","reason":"no such device"`, `"retry"`
	all := []string{"delivered", "delivered", "delivered"}
	failed := func(code int) []string {
		reason := fmt.Sprintf("failed: the gateway answered %d", code)
		return []string{reason, reason, reason}
	}
	tests := map[string]struct {
		answers []answer
		states  []string
		ids     []string // of the POSTs, behind the request id
		sizes   []int    // destinations of each POST
	}{
		"results recorded per bNumber": {
			[]answer{each(delivered, rejected, delivered)},
			[]string{"delivered", "rejected: no such device", "delivered"},
			[]string{".0"},
			[]int{3},
		},
		"retry is sent again, alone": {
			[]answer{each(delivered, retry, rejected), each(delivered)},
			[]string{"delivered", "delivered", "rejected: no such device"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"no result is sent again, alone": {
			[]answer{each("", delivered, ""), each(delivered, ""), each(delivered)},
			all,
			[]string{".0", ".0.1", ".0.2"},
			[]int{3, 2, 1},
		},
		"numbers that were not asked about": {
			[]answer{text(`{"results":[{"bNumber":"+19999999999","status":"delivered"}]}`), text("")},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 3},
		},
		"2xx without a body": {[]answer{status(204)}, all, []string{".0"}, []int{3}},
		"408, 425, 429": {
			[]answer{status(408), status(425), status(429), status(200)},
			all,
			[]string{".0", ".0", ".0", ".0"},
			[]int{3, 3, 3, 3},
		},
		"5xx": {
			[]answer{status(500), status(503), status(200)},
			all,
			[]string{".0", ".0", ".0"},
			[]int{3, 3, 3},
		},
		"5xx of an attempt": {
			[]answer{each(delivered, delivered, retry), status(502), each(delivered)},
			all,
			[]string{".0", ".0.1", ".0.1"},
			[]int{3, 1, 1},
		},
		"broken connection": {
			[]answer{
				func(engagetest.Post, http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
				status(200),
			},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"garbage counts as 5xx": {
			[]answer{text("hello"), text("[]"), text(`{}`), status(200)},
			all,
			[]string{".0", ".0", ".0", ".0"},
			[]int{3, 3, 3, 3},
		},
		"an odd item costs only itself": {
			[]answer{each(delivered, `"perhaps"`, delivered), status(200)},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"an odd reason costs nothing": {
			[]answer{each(delivered, `"rejected","reason":{"code":7}`, delivered)},
			[]string{"delivered", "rejected", "delivered"},
			[]string{".0"},
			[]int{3},
		},
		"items that are none": {
			[]answer{
				text(
					`{"results":[null,7,"x",[],{"status":"delivered"},{"bNumber":"+15018902001","status":"delivered"}]}`,
				),
				status(200),
			},
			all,
			[]string{".0", ".0.1"},
			[]int{3, 2},
		},
		"numbers are compared by their digits": {
			[]answer{text(`{"results":[{"bNumber":"15018902001","status":"delivered"},
				{"bNumber":"tel:+1-501-890-2002","status":"delivered"},{"bNumber":"%2B1 501 8902003","status":"rejected"}]}`)},
			[]string{"delivered", "delivered", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"of two results the better stands": {
			[]answer{text(`{"results":[{"bNumber":"+15018902001","status":"delivered"},
				{"bNumber":"+15018902001","status":"retry"},{"bNumber":"+15018902002","status":"rejected"},
				{"bNumber":"0015018902002","status":"delivered"},{"bNumber":"+15018902003","status":"retry"},
				{"bNumber":"+15018902003","status":"rejected"}]}`)},
			[]string{"delivered", "delivered", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"five attempts at most": {
			slices.Repeat([]answer{each(`"retry","reason":"busy"`, `"retry"`, `"retry"`)}, 5),
			slices.Repeat([]string{"failed: no result in 5 POSTs; the gateway's last answer: busy"}, 3),
			[]string{".0", ".0.1", ".0.2", ".0.3", ".0.4"},
			[]int{3, 3, 3, 3, 3},
		},
		"2xx with a blank body":      {[]answer{text(" \r\n\t")}, all, []string{".0"}, []int{3}},
		"2xx with a byte order mark": {[]answer{text("\ufeff")}, all, []string{".0"}, []int{3}},
		"results behind a byte order mark": {
			[]answer{text("\ufeff" + `{"results":[{"bNumber":"+15018902001","status":"rejected"},` +
				`{"bNumber":"+15018902002","status":"rejected"},{"bNumber":"+15018902003","status":"rejected"}]}`)},
			[]string{"rejected", "rejected", "rejected"},
			[]string{".0"},
			[]int{3},
		},
		"409 to a repeat: it was had": {
			[]answer{status(503), status(409)},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"409 to the first": {[]answer{status(409)}, failed(409), []string{".0"}, []int{3}},
		"409 to a new attempt": {
			[]answer{each(delivered, retry, delivered), status(409)},
			[]string{"delivered", "failed: the gateway answered 409", "delivered"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"too large counts as 5xx": {
			[]answer{text(`{"results":[]}` + strings.Repeat(" ", 2<<20)), status(200)},
			all,
			[]string{".0", ".0"},
			[]int{3, 3},
		},
		"400": {[]answer{status(400)}, failed(400), []string{".0"}, []int{3}},
		"401": {[]answer{status(401)}, failed(401), []string{".0"}, []int{3}},
		"404 to an attempt": {
			[]answer{each(delivered, retry, delivered), status(404)},
			[]string{"delivered", "failed: the gateway answered 404", "delivered"},
			[]string{".0", ".0.1"},
			[]int{3, 1},
		},
		"redirects are not followed": {[]answer{func(_ engagetest.Post, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
			failed(307), []string{".0"}, []int{3}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := engagetest.New(t)
			p.Gateway.Answer = func(n int, posted engagetest.Post, w http.ResponseWriter, r *http.Request) {
				test.answers[n](posted, w, r)
			}
			push, chunks := p.Accept(t, engagetest.Three(), p.Clock.Now(), 3600)
			require.Empty(t, p.Deliver(t, push, chunks))
			assert.Equal(t, test.states, p.States(t, push))
			bodies := map[string]string{}
			var ids []string
			var sizes []int
			for _, post := range p.Gateway.Received() {
				ids = append(ids, strings.TrimPrefix(post.ID, push.RequestID))
				sizes = append(sizes, len(post.Body.Destinations))
				if earlier, repeat := bodies[post.ID]; repeat {
					assert.Equal(t, earlier, post.Raw, "a webhook-id stands for one body")
				}
				bodies[post.ID] = post.Raw
			}
			assert.Equal(t, test.ids, ids)
			assert.Equal(t, test.sizes, sizes)
			counts := p.Meta(t, push).Counts()
			assert.Equal(t, 3, counts.Delivered+counts.Rejected+counts.Failed)
			assert.Equal(t, engage.PushCompleted, p.Meta(t, push).State())
		})
	}
}
