package standin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
)

// mailsShown is how many mails the page shows.
const mailsShown = 20

// Mail stands between the bundle and SES: it passes every call on to the emulator, keeps each mail that the emulator
// accepts, and tells afterwards what became of it, as SES does through EventBridge: a mail to SES's mailbox simulator
// has the end that AWS documents, one to this stand-in's own simulator (mail_feedback.go) any other end, and the rest
// is delivered. SetAccount has SES refuse mails for a fault of the account. Its methods are safe for concurrent use.
type Mail struct {
	emulator emulator

	mu       sync.Mutex
	config   MailConfig
	account  string // its fault, empty for none
	received []Message
	feedback sync.WaitGroup
}

// MailConfig is what a mailbox needs once the emulator runs.
type MailConfig struct {
	// Endpoint is the emulator's.
	Endpoint string
	// Events publishes what becomes of mails.
	Events *eventbridge.Client
	// EventTypes are the event types that are published, as CloudFormation spells them, by configuration set. A mail
	// that names another set is refused.
	EventTypes map[string][]string
	// AccountID and Region stand in the events.
	AccountID, Region string
	// Log takes what goes wrong in the background; nil drops it.
	Log func(line string)
}

// Message is an accepted mail as /_local/mail shows it.
type Message struct {
	At   time.Time `json:"at"`
	From string    `json:"from"`
	// To is the receiver, several of them separated by a comma and a space.
	To      string `json:"to"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	HTML    string `json:"html"`
}

// sendEmail is the request of SES's SendEmail, as far as the bundle uses it.
type sendEmail struct {
	FromEmailAddress     string
	ConfigurationSetName string
	Destination          struct{ ToAddresses, CcAddresses, BccAddresses []string }
	EmailTags            []struct{ Name, Value string }
	Content              struct {
		Simple *struct {
			Subject struct{ Data string }
			Body    struct {
				Text, Html struct{ Data string } //nolint:revive // as SES spells it
			}
		}
	}
}

// tagPattern is what SES takes as the name or the value of a tag.
var tagPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,255}$`)

// NewMail makes a mailbox without an emulator: see Connect.
func NewMail() *Mail { return &Mail{} }

// Connect tells the mailbox about the emulator. Until then no call succeeds.
func (m *Mail) Connect(config MailConfig) error {
	if config.Log == nil {
		config.Log = func(string) {}
	}
	m.mu.Lock()
	m.config = config
	m.mu.Unlock()
	return m.emulator.connect(config.Endpoint)
}

// Close returns when what became of the mails so far has been told.
func (m *Mail) Close() { m.feedback.Wait() }

// Name is mail.
func (m *Mail) Name() string { return "mail" }

// Received is every mail, as Messages.
func (m *Mail) Received() []any {
	messages := m.Messages()
	list := make([]any, len(messages))
	for i, message := range messages {
		list[i] = message
	}
	return list
}

// Messages is every mail that was accepted since the last Empty, oldest first.
func (m *Mail) Messages() []Message {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.received)
}

// Newest is the last n mails, the newest first.
func (m *Mail) Newest(n int) []Message {
	messages := m.Messages()
	slices.Reverse(messages)
	return messages[:min(n, len(messages))]
}

// Empty forgets them, and mends the account.
func (m *Mail) Empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received, m.account = nil, ""
}

// accountFault is how SES refuses a mail for a fault of the account. In message, FROM and TO stand for the addresses.
type accountFault struct {
	code, message string
	simulated     bool // mails to SES's simulator too
}

// The words of SES: https://docs.aws.amazon.com/ses/latest/dg/troubleshoot-error-messages.html and the errors of
// SendEmail in https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html
var accountFaults = map[string]accountFault{
	"paused":    {"SendingPausedException", "Email sending is paused for this account.", true},
	"suspended": {"AccountSuspendedException", "The account's ability to send email is restricted.", true},
	"mailFrom":  {"MailFromDomainNotVerifiedException", "Mail FROM domain is not verified.", true},
	"unverified": {
		"MessageRejected",
		"Email address is not verified. The following identities failed the check in region REGION: FROM", true,
	},
	"sandbox": {
		"MessageRejected",
		"Email address is not verified. The following identities failed the check in region REGION: TO", false,
	},
	"quota": {"LimitExceededException", "Daily message quota exceeded.", true},
}

// SetAccount has SES refuse mails from now on for a fault of the account: paused, suspended, mailFrom (the custom MAIL
// FROM domain is not verified), unverified (the sender's identity is not), sandbox (nor are receivers, but for those of
// SES's simulator) or quota (the daily one is used up). Empty mends it. It returns an error for any other.
func (m *Mail) SetAccount(fault string) error {
	if _, known := accountFaults[fault]; !known && fault != "" {
		return fmt.Errorf("account must be empty or one of %s",
			strings.Join(slices.Sorted(maps.Keys(accountFaults)), ", "))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.account = fault
	return nil
}

// Told takes {"account": fault}, which is SetAccount.
func (m *Mail) Told(raw []byte) error {
	var body struct {
		Account *string `json:"account"`
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.Account == nil {
		return err
	}
	return m.SetAccount(*body.Account)
}

// accountRefuses is what SES says to a mail for a fault of the account; ok is true if that is nothing.
func (m *Mail) accountRefuses(config MailConfig, request sendEmail) (code, message string, ok bool) {
	m.mu.Lock()
	fault, faulty := accountFaults[m.account]
	m.mu.Unlock()
	to := request.Destination.ToAddresses
	if !faulty || !fault.simulated && !slices.ContainsFunc(to, func(a string) bool { return simulated(a) == "" }) {
		return "", "", true
	}
	return fault.code, strings.NewReplacer(
		"REGION", strings.ToUpper(config.Region), "FROM", request.FromEmailAddress, "TO", strings.Join(to, ", "),
	).Replace(fault.message), false
}

// ServeHTTP has the emulator do the call. What the emulator would not notice is refused here, as by SES.
func (m *Mail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || r.URL.Path != "/v2/email/outbound-emails" {
		m.emulator.forward(w, r)
		return
	}
	at := time.Now().UTC()
	body, err := io.ReadAll(r.Body)
	var request sendEmail
	if err == nil {
		err = json.Unmarshal(body, &request)
	}
	config := m.configuration()
	if err != nil {
		refuse(w, http.StatusBadRequest, "BadRequestException", err.Error())
		return
	}
	if status, code, message := config.refusal(request); status != 0 {
		refuse(w, status, code, message)
		return
	}
	if code, message, ok := m.accountRefuses(config, request); !ok {
		refuse(w, http.StatusBadRequest, code, message)
		return
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	out := m.emulator.forward(w, r)
	var accepted struct{ MessageId string } //nolint:revive // as SES spells it
	if out.status != http.StatusOK || json.Unmarshal(out.body.Bytes(), &accepted) != nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.received = append(m.received, Message{
		At: at, From: request.FromEmailAddress, To: strings.Join(request.Destination.ToAddresses, ", "),
		Subject: request.Content.Simple.Subject.Data,
		Text:    request.Content.Simple.Body.Text.Data, HTML: request.Content.Simple.Body.Html.Data,
	})
	m.feedback.Go(func() {
		if err := publish(context.Background(), config, feedback(config, request, accepted.MessageId, at)); err != nil {
			config.Log("mail: telling what became of a mail: " + err.Error())
		}
	})
}

// refusal is what SES says to what the emulator would take; status is 0 if that is nothing.
func (c MailConfig) refusal(request sendEmail) (status int, code, message string) {
	const badRequest = "BadRequestException"
	if request.Content.Simple == nil || len(request.Destination.CcAddresses)+len(request.Destination.BccAddresses) > 0 {
		return http.StatusBadRequest, badRequest, "The local run knows Simple content to ToAddresses alone."
	}
	if set := request.ConfigurationSetName; set != "" {
		if _, known := c.EventTypes[set]; !known {
			return http.StatusNotFound, "NotFoundException", fmt.Sprintf("Configuration set <%s> does not exist.", set)
		}
	}
	for _, tag := range request.EmailTags {
		if !tagPattern.MatchString(tag.Name) || !tagPattern.MatchString(tag.Value) {
			return http.StatusBadRequest, badRequest, "A tag holds ASCII letters, digits, underscores and dashes alone."
		}
	}
	return 0, "", ""
}

func (m *Mail) configuration() MailConfig {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.config
}

// refuse answers as AWS's REST services do.
func refuse(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-Errortype", code)
	writeJSON(w, status, map[string]string{"message": message})
}
