package bubble

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// bridgeWorkers is how many calls a Bridge carries out at once. A call holds up the bubble's time, so there are few.
const bridgeWorkers = 4

// Bridge carries DynamoDB calls out of bubbles. A goroutine of a bubble that waits for the network would not hold up
// the bubble's time, and a kept connection's goroutines would stop it for ever; one that waits on a channel from
// outside the bubble holds it up until the answer is there. So all that waits here was made outside.
type Bridge struct {
	endpoint string
	client   *http.Client
	calls    chan *bridgeCall
	free     chan *bridgeCall
	workers  sync.WaitGroup
}

type bridgeCall struct {
	header http.Header
	body   []byte

	status       int
	answerHeader http.Header
	answer       []byte
	err          error
	done         chan struct{}
}

// NewBridge returns a bridge to a DynamoDB endpoint. It must be called outside of every bubble; who does so closes it.
func NewBridge(endpoint string) *Bridge {
	b := &Bridge{
		endpoint: endpoint,
		client:   &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: bridgeWorkers}},
		calls:    make(chan *bridgeCall),
		free:     make(chan *bridgeCall, bridgeWorkers),
	}
	for range bridgeWorkers {
		b.free <- &bridgeCall{done: make(chan struct{}, 1)}
		b.workers.Go(func() {
			for call := range b.calls {
				b.carry(call)
				call.done <- struct{}{}
			}
		})
	}
	return b
}

// Close ends the bridge. No call may be under way.
func (b *Bridge) Close() {
	close(b.calls)
	b.workers.Wait()
	b.client.CloseIdleConnections()
}

func (b *Bridge) carry(call *bridgeCall) {
	request, err := http.NewRequestWithContext(
		context.Background(), http.MethodPost, b.endpoint, bytes.NewReader(call.body))
	if err != nil {
		call.err = err
		return
	}
	request.Header = call.header
	response, err := b.client.Do(request)
	if err != nil {
		call.err = err
		return
	}
	call.status, call.answerHeader = response.StatusCode, response.Header
	call.answer, err = io.ReadAll(response.Body)
	call.err = errors.Join(err, response.Body.Close())
}

// Do has the endpoint carry out a call, in no time of the bubble's.
func (b *Bridge) Do(request *http.Request, body []byte) (*http.Response, error) {
	call := <-b.free
	call.header, call.body, call.answer, call.err = request.Header.Clone(), body, nil, nil
	b.calls <- call
	<-call.done
	status, header, answer, err := call.status, call.answerHeader, call.answer, call.err
	b.free <- call
	if err != nil {
		return nil, err
	}
	header.Del("Date") // the emulator's clock is not the bubble's
	return NewAnswer(request, status, header, answer), nil
}

// NewAnswer returns the answer to a request.
func NewAnswer(request *http.Request, status int, header http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)), Request: request,
	}
}
