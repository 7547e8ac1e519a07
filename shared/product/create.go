package product

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/idempotencystore"
	"carillon/shared/secret"
)

const (
	minCredential    = 5   // characters of client_id and client_secret
	maxCorrelationID = 255 // characters of X-Correlation-ID
	// releaseTime is for ending an operation whose time is over. It is less than what httpapi keeps back to answer.
	releaseTime = 300 * time.Millisecond
)

// MailQueue takes the requests whose mails are to be sent; mailqueue.Queue does.
type MailQueue interface {
	Enqueue(ctx context.Context, requestID string) error
}

// CreateHandler serves POST /dxp-ux/v1/{businessId}/product.
type CreateHandler struct {
	Clients     *clientauth.Authenticator
	Content     *ContentStore
	Idempotency *idempotencystore.Store
	Provider    *ProviderClient
	Mails       *MailStore
	Queue       MailQueue
	Limits      Limits
}

// Serve creates a product, or renews the activation link of the one that is there. It answers 201 once the provider has
// granted the entitlement, the product and its mail are kept, and the mail is in its queue. The same client, businessId,
// X-Correlation-ID and body get the first answer again, or go on where a failure or a crash left the request.
func (h *CreateHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	if r.Method != http.MethodPost {
		return nil, fault.New(fault.MethodNotAllowed, "")
	}
	client, err := authenticate(ctx, h.Clients, r)
	if err != nil {
		return nil, err
	}
	business, err := h.Content.Business(ctx, r.PathParameter("businessId"))
	served := err == nil
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	if !mayAsk(client, r.PathParameter("businessId"), served) {
		return nil, fault.New(fault.Forbidden, "")
	}
	if r.MediaType() != "application/json" {
		return nil, fault.New(fault.UnsupportedMediaType, "")
	}
	product, bodyHash, err := decodeBody(r)
	if err = withRequestFaults(r, served, err); err != nil {
		return nil, err
	}
	key := "product#" + client.ID + "#" + business.ID + "#" + correlationID(r)
	operation, err := h.Idempotency.Begin(ctx, key, bodyHash, r.ID)
	if err != nil {
		return nil, err
	}
	if operation.Answer != nil {
		return operation.Answer, nil
	}
	record := Record{
		Tenant:        client.Tenant,
		BusinessID:    business.ID,
		ID:            ID(client.Tenant, business.ID, product),
		Product:       product,
		OperationID:   operation.ID,
		CorrelationID: correlationID(r),
	}
	var answer *httpapi.Response
	if err = h.fulfil(ctx, business, record, r.ID); err == nil {
		answer = created(r, business.ID, record.ID, product)
	}
	operation.End(ctx, slog.Default(), answer, err)
	return answer, err
}

// authenticate returns who the headers client_id and client_secret belong to. Whatever is wrong with them, the fault is
// Unauthenticated, after the same time.
func authenticate(ctx context.Context, clients *clientauth.Authenticator, r *httpapi.Request) (clientauth.Client, error) {
	presented := r.Header("client_secret")
	if utf8.RuneCountInString(presented) < minCredential {
		presented = "" // which no client has
	}
	client, err := clients.Authenticate(ctx, r.Header("client_id"), secret.NewText(presented))
	if err == nil {
		r.Client = client.ID
	}
	return client, err
}

// mayAsk reports whether a client may ask for a business unit. One that is not served is nobody's: a client of this API
// learns that from the request's validation.
func mayAsk(client clientauth.Client, businessID string, served bool) bool {
	if client.Has(clientauth.ScopeDXPProduct) || client.Has(clientauth.ScopeDXPProduct+":"+businessID) {
		return true
	}
	for _, scope := range client.Scopes {
		if strings.HasPrefix(scope, clientauth.ScopeDXPProduct+":") {
			return !served
		}
	}
	return false
}

// decodeBody returns the product of the body, and the hash by which the same body is known again.
func decodeBody(r *httpapi.Request) (Product, [sha256.Size]byte, error) {
	body, err := r.Body()
	if err != nil {
		return Product{}, [sha256.Size]byte{}, err
	}
	hash := sha256.New()
	product, err := DecodeProduct(io.TeeReader(body, hash))
	return product, [sha256.Size]byte(hash.Sum(nil)), err
}

// withRequestFaults adds the faults of the path and the headers to those of the body.
func withRequestFaults(r *httpapi.Request, served bool, bodyErr error) error {
	var faults fault.Violations
	businessID, sent := r.PathParameter("businessId"), r.Header("x-correlation-id")
	switch {
	case !isCountryCode(businessID):
		faults.Add(fault.BadValue, "businessId must be a country code of two capital letters")
	case !served:
		faults.Add(fault.BadValue, "businessId %s is not a country that is served", businessID)
	}
	switch {
	case strings.TrimSpace(sent) == "":
		faults.Add(fault.Missing, "X-Correlation-ID must be provided")
	case correlationID(r) == "":
		faults.Add(fault.BadValue, "X-Correlation-ID must be at most %d printable ASCII characters", maxCorrelationID)
	}
	var failure *fault.Error
	switch {
	case errors.As(bodyErr, &failure) && failure.Code == fault.Invalid:
		faults = append(faults, failure.Violations...)
	case errors.As(bodyErr, &failure) && failure.Code == fault.Malformed:
		faults.Add(fault.Malformed, "%s", failure.Message)
	case bodyErr != nil:
		return bodyErr
	}
	return faults.Err()
}

// correlationID returns the request's X-Correlation-ID, or "" if there is none that an answer's header may carry.
func correlationID(r *httpapi.Request) string {
	id := strings.TrimSpace(r.Header("x-correlation-id"))
	if len(id) > maxCorrelationID || strings.ContainsFunc(id, notPrintableASCII) {
		return ""
	}
	return id
}

func withCorrelation(r *httpapi.Request, response *httpapi.Response) *httpapi.Response {
	if id := correlationID(r); id != "" {
		response.With("x-correlation-id", id)
	}
	return response
}
