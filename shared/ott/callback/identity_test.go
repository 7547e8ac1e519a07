package callback_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local/emulatortest"
	"carillon/shared/ott"
	"carillon/shared/secret"
)

// pageOf is a page with a name of its own and an application's secret.
func pageOf(id, applicationSecret string) (ott.Registration, ott.Credentials) {
	return ott.Registration{Platform: ott.Messenger, PropertyID: id},
		ott.Credentials{ApplicationSecret: secret.NewText(applicationSecret)}
}

// docs/contract.md §1, callbacks: an entry belongs to the page in entry.id, never to the path, if that page's secret
// signs the body too.
func TestContractAnEntryBelongsToThePageThatItNames(t *testing.T) {
	o := newOffice(t)
	a, ofApp := pageOf("1", "the app's")
	b, _ := pageOf("2", "")
	c, ofAnother := pageOf("3", "another app's")
	o.registerFor(t, "tenant-1", a, ofApp)
	o.registerFor(t, "tenant-2", b, ofApp)
	o.registerFor(t, "tenant-3", c, ofAnother)
	channel := lineChannel
	channel.PropertyID = "5"
	o.registerFor(t, "tenant-1", channel, ofAnother) // LINE's ids are no pages

	answer := o.deliver(t, a, ofApp, `{"object":"page","entry":[`+
		`{"id":"2","messaging":[{"n":0}]},{"id":"3","messaging":[{"n":1}]},{"id":1,"standby":[{"n":2}]},`+
		`{"id":"4","messaging":[{"n":3}]},{"messaging":[{"n":4}]},{"id":"5","messaging":[{"n":5}]},7,`+
		`{"id":2,"messaging":[{"n":7},[]]}]}`)
	require.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	in := func(channel string) string { return `"object":"page","channel":"` + channel + `",` }
	assert.Equal(t, []string{
		o.detail("tenant-2", "messenger", "2", in("messaging"), 0, `{"n":0}`),
		o.detail("tenant-1", "messenger", "1", in("standby"), 2, `{"n":2}`),
		o.detail("tenant-2", "messenger", "2", in("messaging"), 7, `{"n":7}`),
	}, details(o.accepted))
	o.log.Metric(t, "foreignEntries", 4)
	o.log.Metric(t, "badElements", 2)
	assert.Contains(t, o.log.String(), `"foreign":["page 3","page 4","page ","page 5"]`)
	assert.Equal(t, 1, strings.Count(o.log.String(), "a part of a callback is dropped"))
}

// The path's registration must have signed, whatever others did.
func TestThePathsRegistrationMustHaveSigned(t *testing.T) {
	o := newOffice(t)
	a, ofApp := pageOf("1", "the app's")
	b, ofAnother := pageOf("2", "another app's")
	o.register(t, a, ofApp)
	o.register(t, b, ofAnother)
	answer := o.deliver(t, a, ofAnother, `{"object":"page","entry":[{"id":"2","messaging":[{}]}]}`)
	assert.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	assert.Empty(t, o.calls)
	o.log.Metric(t, "refusedSignatures", 1)
}

// docs/contract.md §1, callbacks: only `object` values page and instagram are published.
func TestContractObjectsThatAreNoPages(t *testing.T) {
	for object, published := range map[string]bool{
		`"page"`: true, `"instagram"`: true, `"user"`: false, `"permissions"`: false, `"Page"`: false, `1`: false,
		`null`: false,
	} {
		t.Run(object, func(t *testing.T) {
			o := newOffice(t)
			o.register(t, messengerPage, pageSecrets)
			answer := o.deliver(t, messengerPage, pageSecrets,
				`{"object":`+object+`,"entry":[{"id":"1732555047025799","messaging":[{}]}]}`)
			require.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
			if published {
				assert.Len(t, o.accepted, 1)
				assert.NotContains(t, o.log.String(), "foreignEntries")
				return
			}
			assert.Empty(t, o.calls)
			o.log.Metric(t, "foreignEntries", 1)
		})
	}
}

// An AWS fault while another page is looked up is 5xx, and the platform sends the callback again.
func TestLookUpThatFailsDropsNothing(t *testing.T) {
	o := newOffice(t)
	a, ofApp := pageOf("1", "the app's")
	b, _ := pageOf("2", "")
	o.register(t, a, ofApp)
	o.registerFor(t, "tenant-2", b, ofApp)
	fails := true
	o.through(t, emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			if !fails || !strings.Contains(call.Body, "messenger#2") {
				return false
			}
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}))
	body := `{"object":"page","entry":[{"id":"1","messaging":[{}]},{"id":"2","messaging":[{}]}]}`
	assert.Equal(t, http.StatusServiceUnavailable, o.deliver(t, a, ofApp, body).StatusCode)
	assert.Empty(t, o.calls)
	assert.NotContains(t, o.log.String(), "foreignEntries")
	fails = false
	assert.Equal(t, http.StatusOK, o.deliver(t, a, ofApp, body).StatusCode)
	assert.Len(t, o.accepted, 2)
}

// Each page of a callback is looked up once, eight of them at a time.
func TestEachPageIsLookedUpOnce(t *testing.T) {
	o := newOffice(t)
	a, ofApp := pageOf("1", "the app's")
	o.register(t, a, ofApp)
	var mu sync.Mutex
	reads, under, most := map[string]int{}, 0, 0
	o.through(t, emulatortest.Between(t, emulatortest.DynamoDBEndpoint(),
		func(w http.ResponseWriter, call emulatortest.Call) bool {
			mu.Lock()
			reads[call.Body]++
			under++
			most = max(most, under)
			mu.Unlock()
			answer := call.Send(call.Body)
			mu.Lock()
			under--
			mu.Unlock()
			for name, values := range answer.Header() {
				w.Header()[name] = values
			}
			w.WriteHeader(answer.Code)
			_, _ = w.Write(answer.Body.Bytes())
			return true
		}))
	var entries []string
	for i := range 300 {
		entries = append(entries, fmt.Sprintf(`{"id":"%d","messaging":[{}]}`, i%100+1))
	}
	answer := o.deliver(t, a, ofApp, `{"object":"page","entry":[`+strings.Join(entries, ",")+`]}`)
	require.Equal(t, http.StatusOK, answer.StatusCode, answer.Body)
	assert.Len(t, reads, 100)
	for body, times := range reads {
		assert.Equal(t, 1, times, body)
	}
	assert.LessOrEqual(t, most, 8)
	assert.Len(t, o.accepted, 3)
	o.log.Metric(t, "foreignEntries", 297)
}
