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
	Platform   string   `arg:"" enum:"messenger,line" help:"messenger or line."`
	PropertyID string   `arg:"" name:"property-id" help:"The registered page id or channel id: the path that is called, and whose secret signs."`
	Text       string   `placeholder:"TEXT" xor:"what" help:"What somebody writes (hi)."`
	Receipt    string   `placeholder:"KIND" xor:"what" help:"Send Messenger's receipt instead: delivered or read."`
	File       string   `short:"f" placeholder:"FILE" xor:"what" help:"Send this body instead, byte for byte; - is standard input."`
	Verify     bool     `xor:"what" help:"Send what the platform tries an endpoint with: Messenger's handshake, or LINE's empty list of events."`
	From       string   `placeholder:"ID" help:"The person who writes, or has got or read messages: a page-scoped id, or LINE's user id."`
	Page       []string `placeholder:"ID" sep:"none" help:"Another page that has an entry in the same call, after the path's own (Messenger); repeatable."`
	Channel    string   `placeholder:"NAME" help:"messaging, or standby: as Messenger tells an app that does not own the conversation (messaging)."`
	Mid        []string `placeholder:"MID" sep:"none" help:"A message that --receipt delivered names; repeatable."`
	Watermark  string   `placeholder:"TIME" help:"Until when all messages of the conversation were delivered or read, as in 2026-02-10T15:58:20Z or milliseconds since 1970 (now)."`
	URL        string   `placeholder:"URL" help:"Base URL of the API: the stack's output ApiUrl. With --local it is known."`
	Output
}

// Help is the long help.
func (OttCallbackCmd) Help() string {
	return `Sends one callback to the API, signed with the secret of the registration as the platform signs it, and prints the answer.
The event that it carries is on the event bus then (and on /_local/events of the local run), marked by nothing as a try.

An entry is published for the page that it names, if that page's registration has the same application secret. Those of other pages are dropped, and the answer is 200 all the same; the log of ott-callback counts them.

It needs dynamodb:GetItem on the registrations table and secretsmanager:GetSecretValue on the secrets under <stack>/ott/.

Example:

    carillon ott callback messenger 1732555047025799 --local --text "Where is my order?"
    carillon ott callback messenger 1732555047025799 --local --page 104107172642410 --page 98427 --channel standby
    carillon ott callback messenger 1732555047025799 --local --from 6000000000000001 --receipt delivered --mid m_AbCd
    carillon ott callback messenger 1732555047025799 --local --from 6000000000000001 --receipt read --watermark 2026-02-10T15:58:20Z
    carillon ott callback line 1234567890 --url https://a1b2c3d4e5.execute-api.us-east-1.amazonaws.com --verify
    carillon ott callback line 1234567890 --local -f events.json`
}

// callbackTimeout is how long an answer may take: API Gateway gives up after 30 seconds.
const callbackTimeout = 35 * time.Second

// maxCallback is the largest body that API Gateway and Lambda take, in bytes.
const maxCallback = 6 << 20

// Validate refuses what goes together with nothing that is sent, and a URL that the secret's signature should not go
// to.
func (c *OttCallbackCmd) Validate() error {
	if err := c.validateBody(); err != nil {
		return err
	}
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

func (c *OttCallbackCmd) validateBody() error {
	made := c.File == "" && !c.Verify
	ofMessenger := len(c.Page) > 0 || c.Channel != "" || c.Receipt != ""
	_, err := c.watermark(time.Time{})
	switch {
	case ofMessenger && c.Platform != string(ott.Messenger):
		return errors.New("--page, --channel and --receipt are Messenger's")
	case (ofMessenger || c.From != "") && !made:
		return errors.New("--from, --page, --channel and --receipt do not go with --file and --verify")
	case c.Channel != "" && c.Channel != "messaging" && c.Channel != "standby":
		return errors.New("--channel is messaging or standby")
	case c.Receipt != "" && c.Receipt != "delivered" && c.Receipt != "read":
		return errors.New("--receipt is delivered or read")
	case len(c.Mid) > 0 && c.Receipt != "delivered":
		return errors.New("--mid goes with --receipt delivered: Messenger names no message that was read")
	case c.Watermark != "" && c.Receipt == "":
		return errors.New("--watermark goes with --receipt")
	}
	return err
}

// watermark returns the time that --watermark says, or another one if it says none.
func (c *OttCallbackCmd) watermark(otherwise time.Time) (time.Time, error) {
	if c.Watermark == "" {
		return otherwise, nil
	}
	if millis, err := strconv.ParseInt(c.Watermark, 10, 64); err == nil {
		return time.UnixMilli(millis), nil
	}
	at, err := time.Parse(time.RFC3339, c.Watermark)
	if err != nil {
		return time.Time{}, errors.New("--watermark is a time as in 2026-02-10T15:58:20Z, or milliseconds since 1970")
	}
	return at, nil
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
		return c.messengerCallback(time.Now())
	case c.Verify:
		return json.Marshal(lineCallback())
	default:
		user := cmp.Or(c.From, "U"+strings.Repeat("1", 32))
		return json.Marshal(lineCallback(lineMessageEvent(user, cmp.Or(c.Text, "hi"), time.Now())))
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

// messengerCallback is how Messenger tells of a person and one page, or several pages of an app.
func (c *OttCallbackCmd) messengerCallback(at time.Time) ([]byte, error) {
	watermark, err := c.watermark(at)
	if err != nil {
		return nil, err
	}
	var entries []object
	for _, page := range append([]string{c.PropertyID}, c.Page...) {
		event := object{
			"sender":    object{"id": cmp.Or(c.From, "6000000000000001")},
			"recipient": object{"id": page},
			"timestamp": at.UnixMilli(),
		}
		switch c.Receipt {
		case "delivered":
			delivery := object{"watermark": watermark.UnixMilli()}
			if len(c.Mid) > 0 { // which Messenger does not always name
				delivery["mids"] = c.Mid
			}
			event["delivery"] = delivery
		case "read":
			event["read"] = object{"watermark": watermark.UnixMilli()}
		default:
			event["message"] = object{"mid": "m_" + rand.Text(), "text": cmp.Or(c.Text, "hi")}
		}
		entries = append(entries,
			object{"id": page, "time": at.UnixMilli(), cmp.Or(c.Channel, "messaging"): []object{event}})
	}
	return json.Marshal(object{"object": "page", "entry": entries})
}

// lineCallback is how LINE tells events to a bot.
func lineCallback(events ...object) object {
	return object{"destination": "U" + strings.Repeat("0", 32), "events": append([]object{}, events...)}
}

// lineMessageEvent is an event of a person who wrote to a channel.
func lineMessageEvent(userID, text string, at time.Time) object {
	return object{
		"type":           "message",
		"mode":           "active",
		"timestamp":      at.UnixMilli(),
		"webhookEventId": rand.Text(),
		"replyToken":     replyToken(),
		"source": object{
			"type":   "user",
			"userId": userID,
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
