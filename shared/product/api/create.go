package api

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"carillon/shared/clientauth"
	"carillon/shared/clock"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotency"
	"carillon/shared/jsonbody"
	"carillon/shared/product"
)

// Catalog tells which countries are served and what the provider calls their products; store.Catalog does.
type Catalog interface {
	Businesses
	Offers
}

// Operations lets a request be sent twice and be done once; idempotencystore.Store does.
type Operations interface {
	// Begin claims a request, or returns the one that was claimed under the same key.
	Begin(ctx context.Context, key string, bodyHash [sha256.Size]byte, id string) (*idempotency.Operation, error)
	// Lock takes the lock of a key once nobody else holds it.
	Lock(ctx context.Context, key, holder string) (unlock func(context.Context) error, err error)
}

// Products tells what is kept of products; store.Products does.
type Products interface {
	// Asked returns what a product's entitlement was asked for with. It returns a fault NotFound if there is no such
	// product. Keys are missing of one that was stored before they were kept.
	Asked(ctx context.Context, tenant, businessID, id string) (product.EntitlementRequest, error)
}

// Provider grants entitlements; provider.Client does.
type Provider interface {
	Entitle(ctx context.Context, requestID string, request product.EntitlementRequest) (product.Entitlement, error)
}

// Mails keeps the mails of requests, and counts the requests; store.Mails does.
type Mails interface {
	// Admit counts a request within limits, or returns its mail if that is kept already.
	Admit(ctx context.Context, a product.Admission, limits product.Limits, now time.Time) (*product.Mail, error)
	// GiveBack takes back what Admit counted.
	GiveBack(ctx context.Context, a product.Admission) error
	// Keep writes a product and its request's mail, and returns the entitlement that the product had, if it was
	// another.
	Keep(ctx context.Context, stored product.Stored, mail product.Mail) (formerEntitlement string, err error)
}

// MailQueue takes the requests whose mails are to be sent; mailqueue.Queue does.
type MailQueue interface {
	Enqueue(ctx context.Context, requestID string) error
}

// CreateHandler serves POST /dxp-ux/v1/{businessId}/product.
type CreateHandler struct {
	Clients    *clientauth.Authenticator
	Catalog    Catalog
	Operations Operations
	Provider   Provider
	Products   Products
	Mails      Mails
	Queue      MailQueue
	Limits     product.Limits
	Clock      clock.Clock
	Log        *slog.Logger
}

// Serve creates a product, or renews the activation link of the one that is there. It answers 201 once the provider has
// granted the entitlement, the product and its mail are kept, and the mail is in its queue. The same client,
// businessId, X-Correlation-ID and body get the first answer again, or go on where a failure or a crash left the
// request.
func (h *CreateHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	if r.Method != http.MethodPost {
		return nil, fault.New(fault.MethodNotAllowed, "")
	}
	client, business, err := admit(ctx, h.Clients, h.Catalog, r)
	if err != nil {
		return nil, err
	}
	if r.MediaType() != "application/json" {
		return nil, fault.New(fault.UnsupportedMediaType, "")
	}
	asked, bodyHash, err := decodeBody(r, h.Clock.Now())
	if err = withRequestFaults(r, business, err); err != nil {
		return nil, err
	}
	key := "product#" + client.ID + "#" + business.ID + "#" + correlationID(r)
	operation, err := h.Operations.Begin(ctx, key, bodyHash, r.ID)
	if err != nil {
		return nil, err
	}
	if operation.Answer != nil {
		return operation.Answer, nil
	}
	stored := product.Stored{
		Tenant:        client.Tenant,
		BusinessID:    business.ID,
		ID:            product.ID(client.Tenant, business.ID, asked),
		Product:       asked,
		OperationID:   operation.ID,
		CorrelationID: correlationID(r),
	}
	var answer *httpapi.Response
	if err = h.fulfil(ctx, *business, &stored, r.ID); err == nil {
		answer, err = h.created(ctx, r, stored)
	}
	operation.End(ctx, h.Log, answer, err)
	return answer, err
}

// created is the answer to a create or a resend. It returns DynamoDB's error.
func (h *CreateHandler) created(
	ctx context.Context, r *httpapi.Request, stored product.Stored,
) (*httpapi.Response, error) {
	if stored.Asked.OfferKey == "" { // the mail was kept before
		asked, err := h.Products.Asked(ctx, stored.Tenant, stored.BusinessID, stored.ID)
		if err != nil {
			return nil, err
		}
		stored.Asked = asked
	}
	offering, err := newOfferings(ctx, h.Catalog, stored.BusinessID).of(stored.Asked.OfferKey, stored.Product)
	if err != nil {
		return nil, err
	}
	body := newCreatedJSON(collectionURL(r), stored.ID, product.StatusCreated, offering, stored.Product)
	return withCorrelation(r, httpapi.JSON(http.StatusCreated, body).With("location", body.Href)), nil
}

// decodeBody returns the product of the body, and the digest by which the same body is known again.
func decodeBody(r *httpapi.Request, now time.Time) (product.Product, [sha256.Size]byte, error) {
	body, err := r.Body()
	if err != nil {
		return product.Product{}, [sha256.Size]byte{}, err
	}
	asked, err := product.DecodeProduct(body, now)
	if err != nil {
		return product.Product{}, [sha256.Size]byte{}, err
	}
	if body, err = r.Body(); err != nil { // from its start once more
		return product.Product{}, [sha256.Size]byte{}, err
	}
	digest, err := jsonbody.Digest(body)
	return asked, digest, err
}

// withRequestFaults adds the faults of the path and the headers to those of the body. business is nil if the country is
// not served.
func withRequestFaults(r *httpapi.Request, business *product.Business, bodyErr error) error {
	var faults fault.Violations
	addBusinessFaults(r, business, &faults)
	if strings.TrimSpace(r.Header(correlationHeader)) == "" {
		faults.Add(fault.Missing, "X-Correlation-ID must be provided")
	}
	addCorrelationFaults(r, &faults)
	failure, ok := errors.AsType[*fault.Error](bodyErr)
	switch {
	case ok && failure.Code == fault.Invalid:
		faults = append(faults, failure.Violations...)
	case ok && failure.Code == fault.Malformed:
		faults.Add(fault.Malformed, "%s", failure.Message)
	case bodyErr != nil:
		return bodyErr
	}
	return faults.Err()
}
