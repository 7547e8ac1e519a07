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
	"slices"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"
	"golang.org/x/sync/errgroup"

	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/metrics"
	"carillon/shared/ott"
)

// Handler serves GET and POST /ott/v1/callback/{platform}/{ottPropertyId}. A registration that is not active receives
// too: the flag is about what is sent.
type Handler struct {
	Registrations registrations
	Receipts      receiptBook
	Events        *Publisher
	Clock         clock.Clock
	Log           *slog.Logger
}

// registrations loads a registration and its credentials; store.Credentials does.
type registrations interface {
	Load(ctx context.Context, platform ott.Platform, propertyID string) (ott.StoredRegistration, ott.Credentials, error)
}

// Serve answers Messenger's handshake, or publishes the events of a signed callback and answers 200 without a body. An
// entry of Messenger's belongs to the page that it names, whatever the path says, if that page's registration signed
// the body too: an app has one URL for all of its pages, and its owner is not the owner of every page of the body.
// When it answers 5xx, the platform sends the same callback again, and events that were published by then are published
// again.
func (h *Handler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	arrived := h.Clock.Now()
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
		return h.receive(ctx, r, arrived, registration, credentials)
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
	ctx context.Context, r *httpapi.Request, arrived time.Time,
	registration ott.StoredRegistration, credentials ott.Credentials,
) (*httpapi.Response, error) {
	raw, err := r.RawBody()
	if err != nil {
		return nil, err
	}
	signed := func(c ott.Credentials) bool { return Verify(registration.Platform, c, arrived, raw, r.Header) }
	if !signed(credentials) {
		h.logRefusal(ctx, registration)
		return nil, fault.New(fault.Unauthenticated, "")
	}
	encoded, err := r.Body()
	if err != nil {
		return nil, err
	}
	body, err := DecodeEvents(registration.Platform, encoded)
	if err != nil {
		return nil, err
	}
	publications, foreign, err := h.divide(ctx, registration, body.Entries, arrived, signed)
	if err != nil {
		return nil, err
	}
	if err := h.publish(ctx, publications); err != nil {
		return nil, err
	}
	if len(foreign) > 0 || body.Bad > 0 {
		h.logDropped(ctx, registration, foreign, body.Bad)
	}
	return httpapi.Empty(http.StatusOK), nil
}

// publish puts the events onto the bus, and keeps the receipts that are among them.
func (h *Handler) publish(ctx context.Context, publications []Publication) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(1 + receiptsAtOnce)
	group.Go(func() error { return h.Events.Publish(ctx, publications) })
	for from, receipts := range receipts(publications) {
		conversation := ott.Conversation(from.tenant, ott.Messenger, from.propertyID, from.id)
		group.Go(func() error { return h.Receipts.AddReceipts(ctx, from.tenant, conversation, receipts...) })
	}
	return group.Wait()
}

// lookUpsAtOnce bounds how many registrations of one callback are looked up at the same time.
const lookUpsAtOnce = 8

// page is what is known of a page that a body names.
type page struct {
	registration ott.StoredRegistration
	signed       bool // its registration's secret signed the body
}

// pages looks up the pages that entries name, each once: all but the path's own, which is known. One that nobody has
// registered did not sign.
func (h *Handler) pages(
	ctx context.Context, path ott.StoredRegistration, entries []Entry, signed func(ott.Credentials) bool,
) (map[string]*page, error) {
	pages := map[string]*page{path.PropertyID: {path, true}}
	for _, entry := range entries {
		if pages[entry.PropertyID] == nil && namesPage(entry) {
			pages[entry.PropertyID] = new(page)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookUpsAtOnce)
	for id, page := range pages {
		if id == path.PropertyID {
			continue
		}
		group.Go(func() error {
			registration, credentials, err := h.Registrations.Load(ctx, path.Platform, id)
			page.registration, page.signed = registration, err == nil && signed(credentials)
			return fault.Ignore(err, fault.NotFound) // no entry is dropped for a fault of AWS's
		})
	}
	return pages, group.Wait()
}

// divide says whose each entry is. Those that are nobody's are foreign.
func (h *Handler) divide(
	ctx context.Context, path ott.StoredRegistration, entries []Entry, arrived time.Time,
	signed func(ott.Credentials) bool,
) (publications []Publication, foreign []Entry, err error) {
	if path.Platform == ott.LINE { // whose callbacks name no channel
		for _, entry := range entries {
			publications = append(publications, Publication{path, arrived, entry})
		}
		return publications, nil, nil
	}
	pages, err := h.pages(ctx, path, entries, signed)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		if page := pages[entry.PropertyID]; namesPage(entry) && page.signed {
			publications = append(publications, Publication{page.registration, arrived, entry})
		} else {
			foreign = append(foreign, entry)
		}
	}
	return publications, foreign, nil
}

// namesPage reports whether Messenger means a page by an entry's id, or an Instagram account, whose id may be
// registered as a page's.
func namesPage(entry Entry) bool { return entry.Object == "page" || entry.Object == "instagram" }

// maxNamed bounds how many pages a log line names.
const maxNamed = 5

// logDropped writes a line with the metrics of what a callback held that was not published: entries of pages that are
// not registered, or whose secret did not sign, or of objects that are no pages; and elements that are no objects.
func (h *Handler) logDropped(ctx context.Context, path ott.StoredRegistration, foreign []Entry, bad int) {
	var pages []string
	for _, entry := range foreign {
		if name := entry.Object + " " + cut(entry.PropertyID); len(pages) < maxNamed && !slices.Contains(pages, name) {
			pages = append(pages, name)
		}
	}
	h.Log.LogAttrs(ctx, slog.LevelWarn, "a part of a callback is dropped",
		slog.String("tenant", path.Tenant),
		slog.String("platform", string(path.Platform)),
		slog.String("ottPropertyId", path.PropertyID),
		slog.Any("foreign", pages),
		slog.Int("foreignEntries", len(foreign)),
		slog.Int("badElements", bad),
		slog.String("function", lambdacontext.FunctionName),
		metrics.Embedded("function", "foreignEntries", "badElements"),
	)
}

// cut shortens an id that may be anything.
func cut(id string) string {
	const most = 64
	if len(id) <= most {
		return id
	}
	return id[:most] + "…"
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
