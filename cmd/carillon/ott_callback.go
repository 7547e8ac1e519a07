package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"carillon/provision"
	"carillon/shared/fault"
	"carillon/shared/ott"
	"carillon/shared/ott/callback"
	"carillon/shared/ott/store"
	"carillon/shared/secret"
	"carillon/shared/secretstore"
)

// OttCallbackCmd calls the API as a platform does.
type OttCallbackCmd struct {
	Platform   string `arg:"" enum:"messenger,line" help:"messenger or line."`
	PropertyID string `arg:"" name:"property-id" help:"The registered page id or channel id."`
	Text       string `placeholder:"TEXT" xor:"what" help:"What somebody writes (hi)."`
	File       string `short:"f" placeholder:"FILE" xor:"what" help:"Send this body instead, byte for byte; - is standard input."`
	Verify     bool   `xor:"what" help:"Send what the platform tries an endpoint with: Messenger's handshake, or LINE's empty list of events."`
	URL        string `placeholder:"URL" help:"Base URL of the API: the stack's output ApiUrl. With --local it is known."`
	Output
}

// Help is the long help.
func (OttCallbackCmd) Help() string {
	return `Sends one callback to the API, signed with the secret of the registration as the platform signs it, and prints the answer.
The event that it carries is on the event bus then (and on /_local/events of the local run), marked by nothing as a try.

It needs dynamodb:GetItem on the registrations table and secretsmanager:GetSecretValue on the secrets under <stack>/ott/.

Example:

    carillon ott callback messenger 1732555047025799 --local --text "Where is my order?"
    carillon ott callback line 1234567890 --url https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com --verify
    carillon ott callback line 1234567890 --local -f events.json`
}

// callbackTimeout is how long an answer may take: API Gateway gives up after 30 seconds.
const callbackTimeout = 35 * time.Second

// maxCallback is the largest body that API Gateway and Lambda take, in bytes.
const maxCallback = 6 << 20

// Validate refuses a URL that the secret's signature should not go to.
func (c *OttCallbackCmd) Validate() error {
	if c.URL == "" {
		return nil
	}
	u, err := url.Parse(c.URL)
	if err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" &&
		(u.Scheme == "https" || u.Scheme == "http" && isLoopback(u.Hostname())) {
		return nil
	}
	return errors.New("--url is the https URL that the stack's output ApiUrl shows (http only on this machine)")
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// answered is what the command prints as JSON.
type answered struct {
	Status    int    `json:"status"`
	RequestID string `json:"requestId"`
	Body      string `json:"body"`
}

// Run sends the callback.
func (c *OttCallbackCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	base := c.URL
	if base == "" {
		base = b.url
	}
	if base == "" {
		return fmt.Errorf(
			"where the API is, --url must say: `aws cloudformation describe-stacks --stack-name %s --query \"Stacks[0].Outputs[?OutputKey=='ApiUrl'].OutputValue\" --output text`",
			b.stack,
		)
	}
	credentials, err := c.credentials(ctx, b)
	if err != nil {
		return err
	}
	endpoint := strings.TrimSuffix(base, "/") + "/ott/v1/callback/" + c.Platform + "/" + url.PathEscape(c.PropertyID)
	request, want, err := c.request(ctx, streams.In, endpoint, credentials)
	if err != nil {
		return err
	}
	answer, err := exchange(request)
	if err != nil {
		return err
	}
	if err := c.print(streams.Out, answer); err != nil {
		return err
	}
	switch {
	case answer.Status != http.StatusOK:
		return fmt.Errorf("the API answered %d to %s %s", answer.Status, request.Method, endpoint)
	case answer.Body != want:
		return errors.New("the API answered something else than the challenge")
	}
	return nil
}

func (c *OttCallbackCmd) print(out io.Writer, answer answered) error {
	if c.json() {
		return printJSON(out, answer)
	}
	text := fmt.Sprintf(
		"%d %s, request id %s\n",
		answer.Status,
		http.StatusText(answer.Status),
		printable(answer.RequestID),
	)
	if answer.Body != "" {
		text += printable(answer.Body) + "\n"
	}
	_, err := io.WriteString(out, text)
	return err
}

// credentials reads what the property is registered with.
func (c *OttCallbackCmd) credentials(ctx context.Context, b bundle) (ott.Credentials, error) {
	secrets := store.NewCredentials(b.registrations().RegistrationReader, secret.NewCache(secretstore.New(b.secrets)))
	_, credentials, err := secrets.Load(ctx, ott.Platform(c.Platform), c.PropertyID)
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); ok && missing != nil {
		return ott.Credentials{}, fmt.Errorf("table %s-registrations: %w", b.stack, provision.ErrNoStack)
	}
	if fault.Is(err, fault.NotFound) {
		return ott.Credentials{}, fmt.Errorf(
			"no registration %s of %s in %s. POST /ott/v1/registration makes one",
			c.PropertyID,
			c.Platform,
			b.where,
		)
	}
	return credentials, err
}

// request is the callback, and the body that its answer must have.
func (c *OttCallbackCmd) request(
	ctx context.Context,
	in io.Reader,
	endpoint string,
	credentials ott.Credentials,
) (request *http.Request, want string, err error) {
	platform := ott.Platform(c.Platform)
	if c.Verify && platform == ott.Messenger {
		want = strconv.Itoa(int(time.Now().Unix()))
		query := url.Values{
			"hub.mode":         {"subscribe"},
			"hub.challenge":    {want},
			"hub.verify_token": {credentials.CallbackVerifyToken.Reveal()},
		}
		request, err = http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"?"+query.Encode(), nil)
		return request, want, err
	}
	body, err := c.body(in)
	if err != nil {
		return nil, "", err
	}
	if request, err = http.NewRequestWithContext(ctx, http.MethodPost, endpoint, bytes.NewReader(body)); err != nil {
		return nil, "", err
	}
	request.Header.Set("Content-Type", "application/json")
	name, value := callback.Sign(platform, credentials, body)
	request.Header.Set(name, value)
	return request, "", nil
}

func (c *OttCallbackCmd) body(in io.Reader) ([]byte, error) {
	text := cmp.Or(c.Text, "hi")
	switch {
	case c.File == "-":
		return readCallback(in, "standard input")
	case c.File != "":
		file, err := os.Open(c.File)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // it was only read
		return readCallback(file, c.File)
	case c.Platform == string(ott.Messenger):
		return json.Marshal(messengerCallback(c.PropertyID, text, time.Now()))
	case c.Verify:
		return json.Marshal(lineCallback())
	default:
		return json.Marshal(lineCallback(lineMessageEvent(text, time.Now())))
	}
}

func readCallback(from io.Reader, name string) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(from, maxCallback+1))
	if err == nil && len(body) > maxCallback {
		err = fmt.Errorf("%s is larger than 6 MB, which the API does not take", name)
	}
	return body, err
}

type object map[string]any

// messengerCallback is how Messenger tells that a person wrote to a page.
func messengerCallback(pageID, text string, at time.Time) object {
	event := object{
		"sender": object{"id": "6000000000000001"}, "recipient": object{"id": pageID}, "timestamp": at.UnixMilli(),
		"message": object{"mid": "m_" + rand.Text(), "text": text},
	}
	return object{
		"object": "page",
		"entry":  []object{{"id": pageID, "time": at.UnixMilli(), "messaging": []object{event}}},
	}
}

// lineCallback is how LINE tells events to a bot.
func lineCallback(events ...object) object {
	return object{"destination": "U" + strings.Repeat("0", 32), "events": append([]object{}, events...)}
}

// lineMessageEvent is an event of a person who wrote to a channel.
func lineMessageEvent(text string, at time.Time) object {
	return object{
		"type":           "message",
		"mode":           "active",
		"timestamp":      at.UnixMilli(),
		"webhookEventId": rand.Text(),
		"replyToken":     replyToken(),
		"source": object{
			"type":   "user",
			"userId": "U" + strings.Repeat("1", 32),
		},
		"deliveryContext": object{"isRedelivery": false},
		"message":         object{"type": "text", "id": strconv.FormatInt(at.UnixNano(), 10), "text": text},
	}
}

// replyToken has the form of LINE's.
func replyToken() string {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	return hex.EncodeToString(raw)
}

// exchange sends a request and reads what of the answer a person may want.
func exchange(request *http.Request) (answered, error) {
	client := &http.Client{
		Timeout:       callbackTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	response, err := client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return answered{}, failed.Err // its text quotes the URL, which may hold the verify token
	}
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = response.Body.Close() }() // it was only read
	body, err := io.ReadAll(io.LimitReader(response.Body, maxCallback))
	return answered{response.StatusCode, response.Header.Get("X-Request-Id"), string(body)}, err
}
