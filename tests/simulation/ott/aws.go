package ott

import (
	"crypto/md5" //nolint:gosec // SQS's own checksum
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"carillon/tests/simulation/bubble"
)

// awsTransport is a process's way to SQS, Secrets Manager and EventBridge, on which calls take time, fail, lose their
// answers, and processes die.
type awsTransport struct {
	world   *world
	process *bubble.Process
}

// refusal is an error that a service answers.
type refusal struct {
	status int
	code   string
}

// Error returns the code.
func (r *refusal) Error() string { return r.code }

// RoundTrip carries out a call.
func (t *awsTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return nil, err
	}
	p, w := t.process, t.world
	f := &w.Faults
	service, operation, _ := strings.Cut(request.Header.Get("X-Amz-Target"), ".")
	var call awsCall
	if err := json.Unmarshal(raw, &call); err != nil {
		return nil, err
	}
	about, name := call.about(operation)
	if name == "" {
		name = string(raw)
	}
	d := w.Dice("aws", p.ID, operation, name)
	before, after := d.Between(time.Millisecond, 8*time.Millisecond), d.Between(time.Millisecond/2, 3*time.Millisecond)
	fails, lost := d.Chance(f.SendFails), d.Chance(f.AnswerLost)
	killed, killedBefore := d.Chance(f.Killed), d.Chance(0.5)
	if operation == "GetSecretValue" {
		// When a kept secret is read again is not for the seed to say: it takes no time, so that it makes no
		// difference.
		before, after, fails, lost, killed = 0, 0, false, false, false
	}
	if err := bubble.Sleep(request.Context(), before); err != nil {
		return nil, err
	}
	if killed && killedBefore {
		p.Kill("before " + operation)
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	if fails {
		p.Hit(about, "%s fails", operation)
		return awsRefusal(request, &refusal{http.StatusServiceUnavailable, "ServiceUnavailable"}), nil
	}
	var answer any
	switch service {
	case "AmazonSQS":
		answer, err = w.sqs(p, operation, &call, d)
	case "secretsmanager":
		answer, err = w.secrets.call(operation, &call)
	case "AWSEvents":
		answer, err = w.bus.put(&call, d)
	default:
		return nil, fmt.Errorf("there is no %s", request.URL)
	}
	if killed {
		p.Kill("after " + operation)
		return nil, bubble.ErrKilled
	}
	if err := bubble.Sleep(request.Context(), after); err != nil {
		return nil, err
	}
	if p.IsDead() {
		return nil, bubble.ErrKilled
	}
	if lost {
		p.Hit(about, "the answer to %s is lost", operation)
		return nil, io.ErrUnexpectedEOF
	}
	if refused, ok := err.(*refusal); ok { //nolint:errorlint // nothing is around it
		return awsRefusal(request, refused), nil
	}
	document, err := json.Marshal(answer)
	if err != nil {
		return nil, err
	}
	return bubble.NewAnswer(request, http.StatusOK, awsHeader(), document), nil
}

func awsHeader() http.Header { return http.Header{"Content-Type": {"application/x-amz-json-1.0"}} }

func awsRefusal(request *http.Request, r *refusal) *http.Response {
	document := fmt.Sprintf(`{"__type":%q,"message":"as the simulation has it"}`, r.code)
	return bubble.NewAnswer(request, r.status, awsHeader(), []byte(document))
}

// awsCall has the members of every operation.
type awsCall struct {
	sqsEntry
	ReceiptHandle     string
	VisibilityTimeout int
	Entries           []awsEntry

	Name, SecretString, VersionStage string
	SecretID                         string `json:"SecretId"`
}

// awsEntry is one of SendMessageBatch's, ChangeMessageVisibilityBatch's or PutEvents'.
type awsEntry struct {
	sqsEntry
	ReceiptHandle     string
	VisibilityTimeout int

	Source, DetailType, Detail, EventBusName string
}

type sqsEntry struct {
	ID                     string `json:"Id"`
	MessageBody            string
	DelaySeconds           int
	MessageGroupID         string `json:"MessageGroupId"`
	MessageDeduplicationID string `json:"MessageDeduplicationId"`
}

// about returns whose message a call is about, and what else tells it from others of its operation.
func (c *awsCall) about(operation string) (ottRequestID, name string) {
	switch operation {
	case "SendMessage":
		return c.ottRequestID(), c.MessageBody
	case "SendMessageBatch":
		if len(c.Entries) > 0 {
			return c.Entries[0].ottRequestID(), c.Entries[0].MessageBody
		}
	case "ChangeMessageVisibility":
		return "", c.ReceiptHandle
	case "CreateSecret", "DeleteSecret", "GetSecretValue":
		return "", c.Name + c.SecretID
	}
	return "", ""
}

// sqsAnswer is the answer to every operation: each reads its own members.
type sqsAnswer struct {
	MessageID        string `json:"MessageId,omitempty"`
	MD5OfMessageBody string `json:",omitempty"`
	SequenceNumber   string `json:",omitempty"`
	Successful       []sqsSent
	Failed           []sqsFailed
}

type sqsSent struct {
	ID               string `json:"Id"`
	MessageID        string `json:"MessageId"`
	MD5OfMessageBody string
}

type sqsFailed struct {
	ID          string `json:"Id"`
	SenderFault bool
	Code        string
	Message     string
}

func (w *world) sqs(p *bubble.Process, operation string, call *awsCall, d bubble.Dice) (any, error) {
	switch operation {
	case "ChangeMessageVisibility":
		if code := w.queue.changeVisibility(call.ReceiptHandle, call.VisibilityTimeout); code != "" {
			return nil, &refusal{http.StatusBadRequest, code}
		}
		return struct{}{}, nil
	case "SendMessage":
		call.Entries = []awsEntry{{sqsEntry: call.sqsEntry}}
	case "SendMessageBatch":
	default:
		return nil, fmt.Errorf("there is no %s", operation)
	}
	var answer sqsAnswer
	for _, entry := range call.Entries {
		id := entry.ottRequestID()
		if entry.MessageGroupID == "" || entry.MessageDeduplicationID == "" || entry.DelaySeconds != 0 {
			return nil, &refusal{http.StatusBadRequest, "com.amazonaws.sqs#InvalidParameterValue"}
		}
		if _, known := w.Owner(id); !known {
			for _, serving := range p.Serving() {
				if owner, known := w.Owner(serving); known {
					w.Own(id, owner)
				}
			}
		}
		if operation == "SendMessageBatch" && d.Chance(w.Faults.EntryRefused) {
			p.Hit(id, "SQS refuses an entry")
			answer.Failed = append(answer.Failed, sqsFailed{ID: entry.ID, Code: "InternalError", Message: "refused"})
			continue
		}
		sum := md5.Sum([]byte(entry.MessageBody)) //nolint:gosec // SQS's own checksum
		answer.MD5OfMessageBody, answer.MessageID = hex.EncodeToString(sum[:]), w.queue.send(entry.sqsEntry)
		answer.Successful = append(answer.Successful, sqsSent{
			ID: entry.ID, MessageID: answer.MessageID, MD5OfMessageBody: answer.MD5OfMessageBody,
		})
	}
	return answer, nil
}
