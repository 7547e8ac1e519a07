package product

import (
	"context"
	"log/slog"
	"time"
)

// providerReserve is what is left of a request's time when waiting for another one of the same product ends: time to ask
// the provider and to keep what it gives.
const providerReserve = ProviderTimeout + 2*time.Second

// fulfil does a request's work: it asks the provider for the product's entitlement, or for a new link of the one it has,
// keeps what it gives together with the mail, and enqueues that. Its steps can be repeated under the same operation:
//
//   - until the product and the mail are kept, the provider gives the same request the same answer again;
//   - once they are, all that is left is to enqueue the mail, and a message that comes twice mails once.
//
// sender is unique to this sending of the request.
func (h *CreateHandler) fulfil(ctx context.Context, business Business, record Record, sender string) error {
	admission := Admission{
		RequestID:  record.OperationID,
		Tenant:     record.Tenant,
		BusinessID: record.BusinessID,
		AccountID:  record.BillingAccount.ID,
		Address:    record.Email(),
	}
	mail, err := h.Mails.Admit(ctx, admission, h.Limits, time.Now())
	if err != nil {
		return err
	}
	if mail == nil {
		if mail, err = h.order(ctx, business, record, admission, sender); err != nil {
			return err
		}
	}
	if mail.State != MailPending {
		return nil
	}
	return h.Queue.Enqueue(ctx, mail.RequestID)
}

// order asks the provider, alone for this product: two first requests at the same time must not make two entitlements, and
// of two links the later one must be the one that is kept last.
func (h *CreateHandler) order(ctx context.Context, business Business, record Record, admission Admission, sender string) (*Mail, error) {
	lock, err := h.lock(ctx, record, sender)
	if err != nil {
		h.giveBack(ctx, admission)
		return nil, err
	}
	defer endLock(ctx, lock)
	offer, err := h.Content.Offer(ctx, business.ID, record.Product)
	if err == nil {
		record.Entitlement, err = h.Provider.Entitle(ctx, record.OperationID, EntitlementRequest{
			CustomerIdentifier: record.BillingAccount.ID,
			MerchantAccountKey: business.MerchantAccountKey,
			ProductKey:         offer.ProductKey,
			OfferKey:           offer.OfferKey,
		})
	}
	if err != nil {
		h.giveBack(ctx, admission)
		return nil, err
	}
	mail := newMail(record, offer.Name, time.Now())
	former, err := h.Mails.Keep(ctx, record, mail)
	if err != nil {
		return nil, err // it may be kept all the same, so it stays counted
	}
	if former != "" {
		slog.WarnContext(ctx, "the provider gave a product another entitlement than it had",
			"product", record.ID, "entitlement", record.Entitlement.ID, "former", former)
	}
	return &mail, nil
}

// newMail is the mail of a request that the provider has granted.
func newMail(record Record, service string, now time.Time) Mail {
	mail := Mail{
		RequestID:   record.OperationID,
		Tenant:      record.Tenant,
		BusinessID:  record.BusinessID,
		ProductID:   record.ID,
		To:          record.Email(),
		Service:     service,
		Link:        record.ActivationURL,
		LinkExpires: record.ActivationExpires,
		State:       MailPending,
		CreatedAt:   now,
	}
	if mail.Link.Reveal() == "" {
		mail.State = MailNone
	}
	return mail
}

// lock waits until no other request asks the provider for the product. A holder that dies keeps it for ten seconds.
func (h *CreateHandler) lock(ctx context.Context, record Record, sender string) (func(context.Context) error, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-providerReserve))
		defer cancel()
	}
	key := "entitlement#" + record.Tenant + "#" + record.BusinessID + "#" + record.ID
	return h.Idempotency.Lock(ctx, key, sender)
}

func endLock(ctx context.Context, unlock func(context.Context) error) {
	if err := unlock(ctx); err != nil {
		slog.WarnContext(ctx, "a product stays locked for some seconds", "error", err)
	}
}

// giveBack uncounts a request that no mail comes of. The same request again is counted again.
func (h *CreateHandler) giveBack(ctx context.Context, admission Admission) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	if err := h.Mails.GiveBack(ctx, admission); err != nil {
		slog.WarnContext(ctx, "a request that failed stays counted", "request", admission.RequestID, "error", err)
	}
}
