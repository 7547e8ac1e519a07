package api

import (
	"cmp"
	"context"
	"log/slog"
	"time"

	"github.com/aws/aws-lambda-go/lambdacontext"

	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/idempotency"
	"carillon/shared/metrics"
	"carillon/shared/product"
)

// LimitsFrom returns the limits that RESEND_WINDOW, RESENDS_PER_ACCOUNT and RESENDS_PER_ADDRESS say.
func LimitsFrom(env *environment.Variables) product.Limits {
	return product.Limits{
		Window:     env.Duration("RESEND_WINDOW"),
		PerAccount: env.Int("RESENDS_PER_ACCOUNT"),
		PerAddress: env.Int("RESENDS_PER_ADDRESS"),
	}
}

// providerReserve is what is left of a request's time when waiting for another one of the same product ends: time to
// ask the provider and to keep what it gives.
const providerReserve = product.ProviderTime + 2*time.Second

// fulfil does a request's work: it asks the provider for the product's entitlement, or for a new link of the one it
// has, keeps what it gives together with the mail, and enqueues that. Its steps can be repeated under the same
// operation:
//
//   - until the product and the mail are kept, the provider gives the same request the same answer again;
//   - once they are, all that is left is to enqueue the mail, and a job that comes twice mails once.
//
// sender is unique to this sending of the request. What is found out of the product is set in stored; nothing is if the
// mail was kept before.
func (h *CreateHandler) fulfil(
	ctx context.Context, business product.Business, stored *product.Stored, sender string,
) error {
	admission := product.Admission{
		RequestID:  stored.OperationID,
		Tenant:     stored.Tenant,
		BusinessID: stored.BusinessID,
		AccountID:  stored.BillingAccount.ID,
		Address:    stored.Email(),
	}
	mail, err := h.Mails.Admit(ctx, admission, h.Limits, h.Clock.Now())
	if err != nil {
		return err
	}
	if mail == nil {
		if mail, err = h.order(ctx, business, stored, admission, sender); err != nil {
			return err
		}
	}
	if mail.State != product.MailPending {
		return nil
	}
	return h.Queue.Enqueue(ctx, mail.RequestID)
}

// order asks the provider, alone for this product: two first requests at the same time must not make two entitlements,
// and of two links the later one must be the one that is kept last.
func (h *CreateHandler) order(
	ctx context.Context, business product.Business, stored *product.Stored, admission product.Admission, sender string,
) (*product.Mail, error) {
	unlock, err := h.lock(ctx, *stored, sender)
	if err != nil {
		h.giveBack(ctx, admission)
		return nil, err
	}
	defer h.endLock(ctx, unlock)
	offer, err := h.Catalog.Offer(ctx, business.ID, stored.Product)
	if err == nil {
		stored.Asked, err = h.asked(ctx, business, *stored, offer)
	}
	if err == nil {
		stored.Entitlement, err = h.Provider.Entitle(ctx, stored.OperationID, stored.Asked)
	}
	if err != nil {
		h.giveBack(ctx, admission)
		return nil, err
	}
	if stored.UnreadExpiry != "" {
		h.Log.LogAttrs(ctx, slog.LevelWarn, "the provider's urlExpiry cannot be read: the mail goes without it",
			slog.String("product", stored.ID),
			slog.String("looksLike", stored.UnreadExpiry),
			slog.Int("unreadExpiries", 1),
			slog.String("function", lambdacontext.FunctionName),
			metrics.Embedded("function", "unreadExpiries"))
	}
	mail := newMail(*stored, offer.Name, h.Clock.Now())
	former, err := h.Mails.Keep(ctx, *stored, mail)
	if err != nil {
		return nil, err // it may be kept all the same, so it stays counted
	}
	if former != "" {
		h.Log.WarnContext(ctx, "the provider gave a product another entitlement than it had",
			"product", stored.ID, "entitlement", stored.Entitlement.ID, "former", former)
	}
	return &mail, nil
}

// asked is what the provider is asked for: exactly what a product that is there was created with, else what is
// configured. Anything else would be another entitlement to the provider.
func (h *CreateHandler) asked(
	ctx context.Context, business product.Business, stored product.Stored, offer product.Offer,
) (product.EntitlementRequest, error) {
	asked, err := h.Products.Asked(ctx, stored.Tenant, stored.BusinessID, stored.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return product.EntitlementRequest{}, err
	}
	if err == nil && asked.ProductKey != "" {
		return asked, nil
	}
	return product.EntitlementRequest{
		CustomerIdentifier: cmp.Or(asked.CustomerIdentifier,
			product.CustomerIdentifier(business.ID, stored.BillingAccount.ID)),
		MerchantAccountKey: cmp.Or(offer.MerchantAccountKey, business.MerchantAccountKey),
		ProductKey:         offer.ProductKey,
		OfferKey:           offer.OfferKey,
	}, nil
}

// newMail is the mail of a request that the provider has granted.
func newMail(stored product.Stored, service string, now time.Time) product.Mail {
	mail := product.Mail{
		RequestID:   stored.OperationID,
		Tenant:      stored.Tenant,
		BusinessID:  stored.BusinessID,
		ProductID:   stored.ID,
		To:          stored.Email(),
		Service:     service,
		Link:        stored.ActivationURL,
		LinkExpires: stored.ActivationExpires,
		State:       product.MailPending,
		CreatedAt:   now,
	}
	if mail.Link.Reveal() == "" {
		mail.State = product.MailNone
	}
	return mail
}

// lock waits until no other request asks the provider for the product. A holder that dies keeps it for ten seconds.
func (h *CreateHandler) lock(
	ctx context.Context, stored product.Stored, sender string,
) (unlock func(context.Context) error, err error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-providerReserve))
		defer cancel()
	}
	return h.Operations.Lock(ctx, "entitlement#"+stored.Tenant+"#"+stored.BusinessID+"#"+stored.ID, sender)
}

func (h *CreateHandler) endLock(ctx context.Context, unlock func(context.Context) error) {
	if err := unlock(ctx); err != nil {
		h.Log.WarnContext(ctx, "a product stays locked for some seconds", "error", err)
	}
}

// giveBack uncounts a request that no mail comes of, also when its time is over. The same request again is counted
// again.
func (h *CreateHandler) giveBack(ctx context.Context, admission product.Admission) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), idempotency.EndTime)
	defer cancel()
	if err := h.Mails.GiveBack(ctx, admission); err != nil {
		h.Log.WarnContext(ctx, "a request that failed stays counted", "request", admission.RequestID, "error", err)
	}
}
