// Package provider asks the entitlement provider, Bango Resale, for the entitlements of products (docs/contract.md §3).
package provider

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/go-json-experiment/json"

	"carillon/shared/clock"
	"carillon/shared/environment"
	"carillon/shared/fault"
	"carillon/shared/httpclient"
	"carillon/shared/product"
	"carillon/shared/sanitize"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// The limits of a call to the provider.
const (
	dialTimeout       = 3 * time.Second
	maxAnswer         = 1 << 20 // bytes
	maxActivationURL  = 10_000  // characters
	defaultRetryAfter = 5 * time.Second
)

// Client asks the provider for entitlements. It is safe for concurrent use.
type Client struct {
	endpoint   string
	hosts      ActivationHosts
	secrets    secret.Reader
	secretName string
	timeout    time.Duration
	clock      clock.Clock
	client     *http.Client
}

// New returns a client of the provider at baseURL, whose activation links are on hosts, and whose credentials are the
// secret of that name: the JSON {"username","password"}. An entitlement takes timeout at most, both attempts of a
// rotation together. It returns the error of httpclient.ParseURL for an address that is not a partner's.
func New(
	baseURL string, hosts ActivationHosts, secrets secret.Reader, secretName string, timeout time.Duration,
	clock clock.Clock,
) (*Client, error) {
	u, err := httpclient.ParseURL(baseURL)
	if err != nil {
		return nil, err
	}
	return &Client{
		endpoint:   u.JoinPath("v1", "entitlement").String(),
		hosts:      hosts,
		secrets:    secrets,
		secretName: secretName,
		timeout:    timeout,
		clock:      clock,
		client:     httpclient.New(httpclient.Options{DialTimeout: dialTimeout}),
	}, nil
}

// Open returns a client of the provider at PROVIDER_URL with the credentials of the secret that PROVIDER_SECRET names,
// read in the background by now, and with the hosts of ACTIVATION_HOSTS.
func Open(env *environment.Variables, config aws.Config) *Client {
	hosts, err := ParseActivationHosts(env.List("ACTIVATION_HOSTS"))
	env.Reject("ACTIVATION_HOSTS", err)
	secrets, secretName := secret.NewCache(secretstore.Open(config)), env.String("PROVIDER_SECRET")
	client, err := New(env.String("PROVIDER_URL"), hosts, secrets, secretName, product.ProviderTime, clock.System{})
	env.Reject("PROVIDER_URL", err)
	secrets.Warm(secret.Current, secretName)
	return client
}

// requestBody is what the provider is asked. There is no entitlementId in it, on purpose: the provider reads one as the
// id of a new entitlement, and renews the link of a pending one for a request that is the same as the first.
type requestBody struct {
	CustomerIdentifier string `json:"customerIdentifier"`
	MerchantAccountKey string `json:"merchantAccountKey"`
	ProductKey         string `json:"productKey"`
	OfferKey           string `json:"offerKey"`
}

// Entitle asks for an entitlement. To the provider a request is the same one however often it is sent under the same
// requestID. Entitle returns faults: ProviderRefused with the provider's words; BadGateway if it fails, answers what it
// should not, or does not take our credentials; GatewayTimeout; Unavailable, with the wait that it asks for, if it is
// asked too often or says that it is not available. Else it returns the error of the reader of secrets.
func (p *Client) Entitle(
	ctx context.Context, requestID string, request product.EntitlementRequest,
) (product.Entitlement, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	body, err := json.Marshal(requestBody(request))
	if err != nil {
		return product.Entitlement{}, err
	}
	version, err := p.secrets.Get(ctx, p.secretName, secret.Current, secret.AnyAge)
	if err != nil {
		return product.Entitlement{}, err
	}
	entitlement, err := p.send(ctx, requestID, body, version)
	if !errors.Is(err, errUnauthorized) {
		return entitlement, err
	}
	// The credentials may have been rotated a moment ago.
	fresh, readErr := p.secrets.Get(ctx, p.secretName, secret.Current, 0)
	if readErr != nil || fresh.ID == version.ID {
		return product.Entitlement{}, err
	}
	return p.send(ctx, requestID, body, fresh)
}

// errUnauthorized says that the provider does not take our credentials.
var errUnauthorized = errors.New("the provider does not take our credentials")

// errSecret says that our credentials cannot be read.
var errSecret = errors.New(`provider: the provider's secret is not the JSON {"username","password"}`)

type credentialsBody struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

func (p *Client) send(
	ctx context.Context, requestID string, body []byte, version secret.Version,
) (product.Entitlement, error) {
	var credentials credentialsBody
	err := json.Unmarshal([]byte(version.Value.Reveal()), &credentials)
	if err != nil || credentials.Username == "" {
		return product.Entitlement{}, errSecret // without the cause, which may quote it
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.endpoint, bytes.NewReader(body))
	if err != nil {
		return product.Entitlement{}, err
	}
	request.SetBasicAuth(credentials.Username, credentials.Password)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("X-RequestIdentifier", requestID)
	// Not sent: it lets the transport repeat the request on a new connection when the kept one turns out to be dead.
	request.Header["Idempotency-Key"] = nil
	response, err := p.client.Do(request)
	if err != nil {
		return product.Entitlement{}, callFault(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return product.Entitlement{}, callFault(err)
	}
	return p.outcome(response, text)
}

func callFault(err error) error {
	network, ok := errors.AsType[net.Error](err)
	if errors.Is(err, context.DeadlineExceeded) || ok && network.Timeout() {
		return fault.Wrap(fault.GatewayTimeout, err)
	}
	return fault.Wrap(fault.BadGateway, err)
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
	http.StatusUnauthorized:       codeUnauthorized,
	http.StatusForbidden:          codeUnauthorized,
	http.StatusTooManyRequests:    codeTooMany,
	http.StatusServiceUnavailable: codeUnavailable,
	http.StatusRequestTimeout:     codeTimeout,
	http.StatusGatewayTimeout:     codeTimeout,
}

// outcome reads an answer by its response code, or by its status if it has none.
func (p *Client) outcome(response *http.Response, text []byte) (product.Entitlement, error) {
	var answer answer
	if len(text) <= maxAnswer {
		answer, _ = readAnswer(text)
	}
	code := answer.responseCode
	if !slices.Contains(responseCodes, code) {
		code = statusCodes[response.StatusCode]
	}
	// What the log is told. The body stays out of it: it may hold an activation link.
	responseCode := sanitize.Text(answer.responseCode, sanitize.MaxReason)
	said := fmt.Errorf("the provider answered %d %q", response.StatusCode, responseCode)
	switch code {
	case codeOK, codeActionRequired:
		if response.StatusCode >= 200 && response.StatusCode < 300 {
			return answer.entitlement(p.hosts)
		}
	case codeBadRequest, codeNotFound, codeNotAvailable, codeAlreadyExists:
		message := code
		if detail := sanitize.Text(answer.responseMessage, sanitize.MaxReason); detail != "" {
			message += "-" + detail
		}
		return product.Entitlement{}, &fault.Error{Code: product.ProviderRefused, Message: message, Cause: said}
	case codeUnauthorized:
		return product.Entitlement{}, fault.Wrap(fault.BadGateway, errUnauthorized)
	case codeTooMany, codeUnavailable:
		after := cmp.Or(httpclient.RetryAfter(response.Header, p.clock.Now()), defaultRetryAfter)
		return product.Entitlement{}, &fault.Error{Code: fault.Unavailable, RetryAfter: after, Cause: said}
	case codeTimeout:
		return product.Entitlement{}, fault.Wrap(fault.GatewayTimeout, said)
	}
	return product.Entitlement{}, fault.Wrap(fault.BadGateway, said)
}

// entitlement checks what was granted. It returns a fault BadGateway for a grant that nobody could use, or should.
func (a answer) entitlement(hosts ActivationHosts) (product.Entitlement, error) {
	if a.entitlementID == "" || sanitize.Text(a.entitlementID, sanitize.MaxReason) != a.entitlementID {
		return unusable("the provider answered without a usable entitlementId")
	}
	granted := product.Entitlement{ID: a.entitlementID, ActivationURL: secret.NewText(a.url)}
	if a.url == "" && !a.urlOdd && a.responseCode == codeActionRequired {
		return unusable("the provider answered without the activation link")
	}
	if a.url != "" || a.urlOdd {
		switch host, ok := activationHost(a.url); {
		case !ok:
			return unusable("the provider's activation link is not an https URL")
		case !hosts.allow(host):
			return unusable("the provider's activation link is on a host that is not allowed")
		}
	}
	var readable bool
	if granted.ActivationExpires, readable = readExpiry(a.urlExpiry); !readable {
		granted.UnreadExpiry = shape(a.urlExpiry)
	}
	return granted, nil
}

func unusable(why string) (product.Entitlement, error) {
	return product.Entitlement{}, fault.Wrap(fault.BadGateway, errors.New(why))
}
