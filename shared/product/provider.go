package product

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"carillon/shared/fault"
	"carillon/shared/hostname"
	"carillon/shared/httpclient"
	"carillon/shared/secret"
)

// The limits of a call to the provider.
const (
	// ProviderTimeout is how long the provider may take for an entitlement, both attempts of a rotation together. It is
	// less than an operation's lock (package idempotency), so that nobody takes over what is still being asked for.
	ProviderTimeout     = 8 * time.Second
	providerDialTimeout = 3 * time.Second
	maxProviderAnswer   = 1 << 20 // bytes
	maxForeignText      = 256     // characters of a text from elsewhere that is kept or shown
	maxActivationURL    = 4096    // characters
	defaultRetryAfter   = 5 * time.Second
)

// Secrets reads a version of a secret, at most maxAge old; secret.Cache does.
type Secrets interface {
	Get(ctx context.Context, name string, stage secret.Stage, maxAge time.Duration) (secret.Version, error)
}

// ProviderClient asks the entitlement provider, Bango Resale, for entitlements. It is safe for concurrent use.
type ProviderClient struct {
	endpoint   string
	hosts      ActivationHosts
	secrets    Secrets
	secretName string
	timeout    time.Duration
	client     *http.Client
}

// NewProviderClient returns a client of the provider at baseURL, whose activation links are on hosts, and whose credentials
// are the secret of that name: the JSON {"username","password"}. An entitlement takes timeout at most. It returns an error
// if baseURL is not https; http will do for this machine alone.
func NewProviderClient(baseURL string, hosts ActivationHosts, secrets Secrets, secretName string, timeout time.Duration) (*ProviderClient, error) {
	u, err := url.Parse(baseURL)
	switch {
	case err != nil:
		return nil, errors.New("product: the provider's URL is not a URL") // the cause quotes it, with what it may hold
	case u.Scheme != "https" && (u.Scheme != "http" || !hostname.IsThisMachine(u.Hostname())) || u.Host == "":
		return nil, errors.New("product: the provider's URL must be https")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("product: the provider's URL must not have credentials, a query or a fragment")
	}
	return &ProviderClient{
		endpoint:   u.JoinPath("v1", "entitlement").String(),
		hosts:      hosts,
		secrets:    secrets,
		secretName: secretName,
		timeout:    timeout,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy:               http.ProxyFromEnvironment,
				DialContext:         (&net.Dialer{Timeout: providerDialTimeout}).DialContext,
				TLSHandshakeTimeout: providerDialTimeout,
				ForceAttemptHTTP2:   true,
				MaxIdleConnsPerHost: 2,
				IdleConnTimeout:     90 * time.Second,
			},
			// A redirect is answered like any other status that is no answer: the credentials go to one address only.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// EntitlementRequest is what the provider is asked for. There is no entitlementId in it, on purpose: the provider reads
// one as the id of a new entitlement, and renews the link of a pending one for a request that is the same as the first.
type EntitlementRequest struct {
	CustomerIdentifier string `json:"customerIdentifier"`
	MerchantAccountKey string `json:"merchantAccountKey"`
	ProductKey         string `json:"productKey"`
	OfferKey           string `json:"offerKey"`
}

// Entitlement is what the provider grants.
type Entitlement struct {
	ID                string
	ActivationURL     secret.Text // https; empty if the customer need not activate anything
	ActivationExpires time.Time   // zero if the provider does not say
}

// Entitle asks for an entitlement. To the provider a request is the same one however often it is sent under the same
// requestID. Entitle returns faults: one with the provider's words where it refuses (a 400 of contract.md §3); BadGateway
// if it fails, answers what it should not, or does not take our credentials; GatewayTimeout; Unavailable if it is asked
// too often. Else it returns the error of Secrets.
func (p *ProviderClient) Entitle(ctx context.Context, requestID string, request EntitlementRequest) (Entitlement, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return Entitlement{}, err
	}
	version, err := p.secrets.Get(ctx, p.secretName, secret.Current, secret.AnyAge)
	if err != nil {
		return Entitlement{}, err
	}
	entitlement, err := p.send(ctx, requestID, body, version)
	if !errors.Is(err, errUnauthorized) {
		return entitlement, err
	}
	// The credentials may have been rotated a moment ago.
	fresh, readErr := p.secrets.Get(ctx, p.secretName, secret.Current, 0)
	if readErr != nil || fresh.ID == version.ID {
		return Entitlement{}, err
	}
	return p.send(ctx, requestID, body, fresh)
}

// errUnauthorized says that the provider does not take our credentials.
var errUnauthorized = errors.New("the provider does not take our credentials")

type providerCredentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (p *ProviderClient) send(ctx context.Context, requestID string, body []byte, version secret.Version) (Entitlement, error) {
	var credentials providerCredentials
	if err := json.Unmarshal([]byte(version.Value.Reveal()), &credentials); err != nil || credentials.Username == "" {
		// Without the cause, which may quote the secret.
		return Entitlement{}, errors.New(`product: the provider's secret is not the JSON {"username","password"}`)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint, bytes.NewReader(body))
	if err != nil {
		return Entitlement{}, err
	}
	request.SetBasicAuth(credentials.Username, credentials.Password)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-RequestIdentifier", requestID)
	// Not sent: it lets the transport repeat the request on a new connection when the kept one turns out to be dead.
	request.Header["Idempotency-Key"] = nil
	response, err := p.client.Do(request)
	if err != nil {
		return Entitlement{}, callFault(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxProviderAnswer+1))
	if err != nil {
		return Entitlement{}, callFault(err)
	}
	return p.outcome(response, text)
}

func callFault(err error) error {
	var network net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		return fault.Wrap(fault.GatewayTimeout, err)
	}
	return fault.Wrap(fault.BadGateway, err)
}

// providerAnswer is the provider's answer, of a grant and of a refusal.
type providerAnswer struct {
	EntitlementID   string `json:"entitlementId"`
	ResponseCode    string `json:"responseCode"`
	ResponseMessage string `json:"responseMessage"`
	Parameters      struct {
		URL       string `json:"url"`
		URLExpiry string `json:"urlExpiry"` // RFC 3339
	} `json:"parameters"`
}

// The provider's response codes, and one for those who answer in its place.
const (
	codeOK             = "OK"
	codeActionRequired = "CLIENT_ACTION_REQUIRED"
	codeBadRequest     = "BAD_REQUEST"
	codeNotFound       = "NOT_FOUND"
	codeNotAvailable   = "NOT_AVAILABLE"
	codeAlreadyExists  = "ALREADY_EXISTS"
	codeUnauthorized   = "UNAUTHORIZED"
	codeTooMany        = "TOO_MANY_REQUESTS"
	codeInternalError  = "INTERNAL_ERROR"
	codeUnavailable    = "SERVICE_UNAVAILABLE"
	codeTimeout        = "timeout"
)

var responseCodes = []string{
	codeOK, codeActionRequired, codeBadRequest, codeNotFound, codeNotAvailable, codeAlreadyExists,
	codeUnauthorized, codeTooMany, codeInternalError, codeUnavailable,
}

// statusCodes are the response codes that an HTTP status stands for where the body has none, as a gateway's has. A bare
// 400 or 404 is not among them: the provider's own refusal says what it refuses.
var statusCodes = map[int]string{
	http.StatusUnauthorized:    codeUnauthorized,
	http.StatusForbidden:       codeUnauthorized,
	http.StatusTooManyRequests: codeTooMany,
	http.StatusRequestTimeout:  codeTimeout,
	http.StatusGatewayTimeout:  codeTimeout,
}

// outcome reads an answer by its response code, or by its status if it has none.
func (p *ProviderClient) outcome(response *http.Response, text []byte) (Entitlement, error) {
	var answer providerAnswer
	if len(text) > maxProviderAnswer || json.Unmarshal(text, &answer) != nil {
		answer = providerAnswer{} // a body that is half right is wrong
	}
	code := answer.ResponseCode
	if !slices.Contains(responseCodes, code) {
		code = statusCodes[response.StatusCode]
	}
	// What the log is told. The body stays out of it: it may hold an activation link.
	said := fmt.Errorf("the provider answered %d %q", response.StatusCode, printable(answer.ResponseCode))
	switch code {
	case codeOK, codeActionRequired:
		if response.StatusCode >= 200 && response.StatusCode < 300 {
			return answer.entitlement(p.hosts)
		}
	case codeBadRequest, codeNotFound, codeNotAvailable, codeAlreadyExists:
		message := code
		if detail := printable(answer.ResponseMessage); detail != "" {
			message += "-" + detail
		}
		return Entitlement{}, &fault.Error{Code: providerRefused, Message: message, Cause: said}
	case codeUnauthorized:
		return Entitlement{}, fault.Wrap(fault.BadGateway, errUnauthorized)
	case codeTooMany:
		return Entitlement{}, &fault.Error{Code: fault.Unavailable, RetryAfter: cmp.Or(httpclient.RetryAfter(response.Header, time.Now()), defaultRetryAfter), Cause: said}
	case codeTimeout:
		return Entitlement{}, fault.Wrap(fault.GatewayTimeout, said)
	}
	return Entitlement{}, fault.Wrap(fault.BadGateway, said)
}

// entitlement checks what was granted. It returns a fault BadGateway for a grant that nobody could use, or should.
func (a providerAnswer) entitlement(hosts ActivationHosts) (Entitlement, error) {
	if a.EntitlementID == "" || printable(a.EntitlementID) != a.EntitlementID {
		return Entitlement{}, fault.Wrap(fault.BadGateway, errors.New("the provider answered without a usable entitlementId"))
	}
	granted := Entitlement{ID: a.EntitlementID, ActivationURL: secret.NewText(a.Parameters.URL)}
	if a.Parameters.URL == "" && a.ResponseCode == codeActionRequired {
		return Entitlement{}, fault.Wrap(fault.BadGateway, errors.New("the provider answered without the activation link"))
	}
	if a.Parameters.URL != "" {
		switch host, ok := activationHost(a.Parameters.URL); {
		case !ok:
			return Entitlement{}, fault.Wrap(fault.BadGateway, errors.New("the provider's activation link is not an https URL"))
		case !hosts.allow(host):
			return Entitlement{}, fault.Wrap(fault.BadGateway, errors.New("the provider's activation link is on a host that is not allowed"))
		}
	}
	if a.Parameters.URLExpiry != "" {
		expires, err := time.Parse(time.RFC3339, a.Parameters.URLExpiry)
		if err != nil {
			return Entitlement{}, fault.Wrap(fault.BadGateway, errors.New("the provider's urlExpiry is not an RFC 3339 time"))
		}
		granted.ActivationExpires = expires
	}
	return granted, nil
}

// printable returns the first characters of a foreign text that can be shown.
func printable(text string) string {
	text = strings.TrimSpace(strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, text))
	if utf8.RuneCountInString(text) > maxForeignText {
		text = string([]rune(text)[:maxForeignText])
	}
	return text
}
