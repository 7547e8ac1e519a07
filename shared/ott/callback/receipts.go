package callback

import (
	"context"
	"time"

	"carillon/shared/jsonbody"
	"carillon/shared/ott"
)

// receiptBody is the part of a Messenger event that is a receipt
// (https://developers.facebook.com/docs/messenger-platform/reference/webhook-events/message-deliveries, message-reads).
// What it tells is of the messages that the page sent to the sender of the event.
type receiptBody struct {
	Sender   jsonbody.Object[receiptSender] `json:"sender"`
	Delivery jsonbody.Object[receiptMarks]  `json:"delivery"`
	Read     jsonbody.Object[receiptMarks]  `json:"read"`
}

type receiptSender struct {
	ID jsonbody.Value `json:"id"`
}

type receiptMarks struct {
	MIDs      jsonbody.Array[jsonbody.Value] `json:"mids"`
	Watermark jsonbody.Value                 `json:"watermark"`
}

// maxReceiptIDs is how many messages a receipt names that are looked at: its watermark covers the others.
const maxReceiptIDs = 100

// person is whom receipts of a registration come from.
type person struct{ tenant, propertyID, id string }

// receipts returns the receipts among the events that are published, by person, in the order in which they came.
func receipts(publications []Publication) map[person][]ott.Receipt {
	found := map[person][]ott.Receipt{}
	for _, p := range publications {
		if p.Registration.Platform != ott.Messenger {
			continue // LINE has none for what is pushed
		}
		for _, event := range p.Events {
			id, receipt, ok := receiptOf(event, p.ReceivedAt)
			if !ok {
				continue
			}
			from := person{p.Registration.Tenant, p.Registration.PropertyID, id}
			found[from] = append(found[from], receipt)
		}
	}
	return found
}

// receiptOf reads a receipt, and whom it is from. An event that is none, or says nothing that can be used, is not ok.
func receiptOf(event Event, received time.Time) (id string, receipt ott.Receipt, ok bool) {
	if event.Channel != "messaging" && event.Channel != "standby" {
		return "", ott.Receipt{}, false
	}
	var body receiptBody
	if decode(event.JSON, &body) != nil {
		return "", ott.Receipt{}, false
	}
	marks := body.Delivery.Value
	receipt.Kind = ott.DeliveredReceipt
	if body.Read.IsObject() {
		receipt.Kind, marks = ott.ReadReceipt, body.Read.Value
	}
	receipt.At = event.Time
	if receipt.At.IsZero() || receipt.At.After(received) {
		receipt.At = received
	}
	// What was sent after this callback came cannot have been read, whatever the watermark says.
	if mark := moment(marks.Watermark); !mark.IsZero() {
		receipt.Watermark = mark
		if mark.After(received) {
			receipt.Watermark = received
		}
	}
	for _, mid := range marks.MIDs.Items[:min(len(marks.MIDs.Items), maxReceiptIDs)] {
		if mid.IsString() && mid.Text != "" {
			receipt.MessageIDs = append(receipt.MessageIDs, mid.Text)
		}
	}
	id = body.Sender.Value.ID.Text
	return id, receipt, id != "" && (!receipt.Watermark.IsZero() || len(receipt.MessageIDs) > 0)
}

// receiptsAtOnce bounds how many people's receipts of one callback are kept at the same time.
const receiptsAtOnce = 8

// receiptBook keeps receipts; store.Messages does.
type receiptBook interface {
	AddReceipts(ctx context.Context, tenant, conversation string, receipts ...ott.Receipt) error
}
