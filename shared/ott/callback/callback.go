// Package callback takes what Messenger and LINE tell: it checks who says so and puts each event onto the bundle's
// EventBridge bus before it answers (docs/contract.md §1, callbacks). It is apart from package ott so that
// EventBridge's client is in no other function's binary.
package callback

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"log/slog"
	"net/http"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/metrics"
	"carillon/shared/ott"
)

// Handler serves GET and POST /ott/v1/callback/{platform}/{ottPropertyId}. A registration that is not active receives
// too: the flag is about what is sent.
type Handler struct {
	Registrations registrations
	Events        *Publisher
	Log           *slog.Logger
}

// registrations loads a registration and its credentials; store.Credentials does.
type registrations interface {
	Load(ctx context.Context, platform ott.Platform, propertyID string) (ott.StoredRegistration, ott.Credentials, error)
}

// Serve answers Messenger's handshake, or publishes the events of a signed callback and answers 200 without a body.
// When it answers 5xx, the platform sends the same callback again, and events that were published by then are published
// again.
func (h *Handler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	platform := ott.Platform(r.PathParameter("platform"))
	if platform != ott.Messenger && platform != ott.LINE {
		var faults fault.Violations
		faults.Add(fault.BadValue, "OttPlatformName is invalid")
		return nil, faults.Err()
	}
	registration, credentials, err := h.Registrations.Load(ctx, platform, r.PathParameter("ottPropertyId"))
	if err != nil {
		return nil, err
	}
	r.Client = registration.Tenant
	switch {
	case r.Method == http.MethodPost:
		return h.receive(ctx, r, registration, credentials)
	case platform == ott.Messenger:
		return shakeHands(r, credentials)
	default:
		return nil, fault.New(fault.NotFound, "LINE sends its callbacks by POST")
	}
}

// shakeHands proves to Messenger that this is the endpoint that somebody with the verify token meant.
func shakeHands(r *httpapi.Request, credentials ott.Credentials) (*httpapi.Response, error) {
	kept := sha256.Sum256([]byte(credentials.CallbackVerifyToken.Reveal()))
	presented := sha256.Sum256([]byte(r.QueryParameter("hub.verify_token")))
	same := subtle.ConstantTimeCompare(kept[:], presented[:]) == 1
	if !same || credentials.CallbackVerifyToken.IsZero() || r.QueryParameter("hub.mode") != "subscribe" {
		return nil, fault.New(fault.Forbidden, "")
	}
	return &httpapi.Response{
		Status: http.StatusOK,
		// The challenge is the caller's own text: no browser may take it for a page.
		Header: map[string]string{"content-type": "text/plain; charset=utf-8", "x-content-type-options": "nosniff"},
		Body:   r.QueryParameter("hub.challenge"),
	}, nil
}

func (h *Handler) receive(
	ctx context.Context, r *httpapi.Request, registration ott.StoredRegistration, credentials ott.Credentials,
) (*httpapi.Response, error) {
	raw, err := r.RawBody()
	if err != nil {
		return nil, err
	}
	if !Verify(registration.Platform, credentials, raw, r.Header) {
		h.logRefusal(ctx, registration)
		return nil, fault.New(fault.Unauthenticated, "")
	}
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	events, err := DecodeEvents(registration.Platform, body)
	if err != nil {
		return nil, err
	}
	if err := h.Events.Publish(ctx, registration, events); err != nil {
		return nil, err
	}
	return httpapi.Empty(http.StatusOK), nil
}

// logRefusal writes a line with the metric of an alarm: somebody speaks in the platform's name, or the platform signs
// with a secret that the registration does not have (any more).
func (h *Handler) logRefusal(ctx context.Context, registration ott.StoredRegistration) {
	h.Log.LogAttrs(ctx, slog.LevelWarn, "a callback's signature is missing or wrong",
		slog.String("tenant", registration.Tenant),
		slog.String("platform", string(registration.Platform)),
		slog.String("ottPropertyId", registration.PropertyID),
		slog.Int("refusedSignatures", 1),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "refusedSignatures"),
	)
}
