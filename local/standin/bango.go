package standin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
)

// ActivationHost is the host of the activation URLs.
const ActivationHost = "activate.example.com"

// urlLife is how long an activation URL is valid.
const urlLife = 24 * time.Hour

// Bango is Bango Resale's entitlement API. An entitlement stays PENDING for ever: nobody opens the activation URL.
type Bango struct {
	username, password string
	productKeys        []string

	mu           sync.Mutex
	entitlements []*entitlement
	answers      map[string]answered // by X-RequestIdentifier
}

// entitlement is one as /_local/bango shows it.
type entitlement struct {
	At                 time.Time `json:"at"`
	EntitlementID      string    `json:"entitlementId"`
	CustomerIdentifier string    `json:"customerIdentifier"`
	MerchantAccountKey string    `json:"merchantAccountKey"`
	ProductKey         string    `json:"productKey"`
	OfferKey           string    `json:"offerKey"`
	Status             string    `json:"status"`
	// Creates counts the requests that created or renewed it; a replay by X-RequestIdentifier is none.
	Creates int    `json:"creates"`
	URL     string `json:"url"`
}

// answered is an answer to be replayed, and the request that it belongs to.
type answered struct {
	request createRequest
	status  int
	body    bangoAnswer
}

type createRequest struct {
	CustomerIdentifier string `json:"customerIdentifier"`
	MerchantAccountKey string `json:"merchantAccountKey"`
	ProductKey         string `json:"productKey"`
	OfferKey           string `json:"offerKey"`
	EntitlementID      string `json:"entitlementId"`
	NotificationURL    string `json:"notificationUrl"`
}

type bangoAnswer struct {
	EntitlementID   string           `json:"entitlementId,omitempty"`
	ResponseCode    string           `json:"responseCode"`
	ResponseMessage string           `json:"responseMessage"`
	Parameters      *bangoParameters `json:"parameters,omitempty"`
}

type bangoParameters struct {
	Action    string    `json:"action"`
	URL       string    `json:"url"`
	URLExpiry time.Time `json:"urlExpiry"`
}

// NewBango makes a provider that takes these Basic credentials and knows these product keys.
func NewBango(username, password string, productKeys []string) *Bango {
	return &Bango{
		username: username, password: password, productKeys: slices.Clone(productKeys),
		answers: map[string]answered{},
	}
}

// Name is bango.
func (b *Bango) Name() string { return "bango" }

// Received is every entitlement, in the order of their creation.
func (b *Bango) Received() []any {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]any, len(b.entitlements))
	for i, e := range b.entitlements {
		list[i] = *e
	}
	return list
}

// Empty forgets the entitlements, and the answers kept for replay.
func (b *Bango) Empty() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entitlements = nil
	clear(b.answers)
}

// ServeHTTP answers POST /v1/entitlement.
func (b *Bango) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	username, password, _ := r.BasicAuth()
	switch {
	case subtle.ConstantTimeCompare([]byte(username), []byte(b.username))&
		subtle.ConstantTimeCompare([]byte(password), []byte(b.password)) == 0:
		w.Header().Set("WWW-Authenticate", `Basic realm="Bango Resale"`)
		writeJSON(
			w,
			http.StatusUnauthorized,
			bangoAnswer{ResponseCode: "UNAUTHORIZED", ResponseMessage: "The credentials are invalid."},
		)
		return
	case r.URL.Path != "/v1/entitlement":
		writeJSON(
			w,
			http.StatusNotFound,
			bangoAnswer{ResponseCode: "NOT_FOUND", ResponseMessage: "There is no such resource."},
		)
		return
	case r.Method != http.MethodPost:
		writeJSON(
			w,
			http.StatusMethodNotAllowed,
			bangoAnswer{ResponseCode: "BAD_REQUEST", ResponseMessage: "The method is not supported."},
		)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var request createRequest
	if err != nil || json.Unmarshal(body, &request) != nil {
		writeJSON(
			w,
			http.StatusBadRequest,
			bangoAnswer{ResponseCode: "BAD_REQUEST", ResponseMessage: "The body is not valid."},
		)
		return
	}
	status, answer := b.answer(r.Header.Get("X-RequestIdentifier"), request)
	writeJSON(w, status, answer)
}

// answer replays the answer to a repeated request identifier, else creates.
func (b *Bango) answer(identifier string, request createRequest) (int, bangoAnswer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if earlier, ok := b.answers[identifier]; ok && identifier != "" {
		if earlier.request != request {
			return refusal("X-RequestIdentifier was used for another request.")
		}
		return earlier.status, earlier.body
	}
	status, body := b.create(request)
	if identifier != "" && status == http.StatusOK {
		b.answers[identifier] = answered{request, status, body}
	}
	return status, body
}

func (b *Bango) create(request createRequest) (int, bangoAnswer) {
	switch {
	case request.CustomerIdentifier == "":
		return refusal("CustomerIdentifier is required.")
	case request.MerchantAccountKey == "":
		return refusal("MerchantAccountKey is required.")
	case !slices.Contains(b.productKeys, request.ProductKey):
		return refusal("ProductKey is invalid.")
	}
	e := b.find(request)
	switch {
	case e == nil && request.EntitlementID != "":
		return http.StatusNotFound, bangoAnswer{
			ResponseCode:    "NOT_FOUND",
			ResponseMessage: "There is no such entitlement.",
		}
	case e == nil:
		e = &entitlement{
			At:                 time.Now().UTC(),
			EntitlementID:      uuid.NewString(),
			CustomerIdentifier: request.CustomerIdentifier,
			MerchantAccountKey: request.MerchantAccountKey,
			ProductKey:         request.ProductKey,
			OfferKey:           request.OfferKey,
			Status:             "PENDING",
		}
		b.entitlements = append(b.entitlements, e)
	}
	e.Creates++
	e.URL = "https://" + ActivationHost + "/" + rand.Text()
	return http.StatusOK, bangoAnswer{
		EntitlementID:   e.EntitlementID,
		ResponseCode:    "CLIENT_ACTION_REQUIRED",
		ResponseMessage: "The customer has to open the activation URL.",
		Parameters: &bangoParameters{
			Action:    "ACTIVATE",
			URL:       e.URL,
			URLExpiry: time.Now().UTC().Add(urlLife).Truncate(time.Second),
		},
	}
}

// find returns the pending entitlement that an identical create renews.
func (b *Bango) find(request createRequest) *entitlement {
	for _, e := range b.entitlements {
		if e.CustomerIdentifier == request.CustomerIdentifier && e.ProductKey == request.ProductKey &&
			e.MerchantAccountKey == request.MerchantAccountKey && e.OfferKey == request.OfferKey &&
			(request.EntitlementID == "" || request.EntitlementID == e.EntitlementID) {
			return e
		}
	}
	return nil
}

func refusal(message string) (int, bangoAnswer) {
	return http.StatusBadRequest, bangoAnswer{ResponseCode: "BAD_REQUEST", ResponseMessage: message}
}
