package standin

import (
	"context"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
)

// emulator is what stands for AWS behind a stand-in. The stand-ins start first: functions are told their URLs.
type emulator struct {
	proxy atomic.Pointer[httputil.ReverseProxy]
}

// connect names the emulator's endpoint. Until then every call is answered 503.
func (e *emulator) connect(endpoint string) error {
	target, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	e.proxy.Store(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	return nil
}

// forward lets the emulator answer, and returns its answer as it was passed on. Like AWS, it does what it was asked
// though the caller has gone.
func (e *emulator) forward(w http.ResponseWriter, r *http.Request) answer {
	out := answer{header: w.Header()}
	proxy := e.proxy.Load()
	if proxy == nil {
		writeJSON(&out, http.StatusServiceUnavailable, map[string]string{"message": "the emulator is not there yet"})
	} else {
		proxy.ServeHTTP(&out, r.WithContext(context.WithoutCancel(r.Context())))
	}
	w.WriteHeader(out.status)
	_, _ = w.Write(out.body.Bytes())
	return out
}
