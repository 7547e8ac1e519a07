package deliver

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/go-json-experiment/json"

	"carillon/shared/environment"
	"carillon/shared/ott"
)

// What a rule matches these events by.
const (
	eventSource           = "carillon.ott"
	credentialsDetailType = "Credentials State Change"
)

// Bus puts events onto the bundle's EventBridge bus.
type Bus struct {
	client *eventbridge.Client
	name   string
}

// NewBus returns the bus of that name.
func NewBus(client *eventbridge.Client, name string) *Bus { return &Bus{client: client, name: name} }

// OpenBus returns the bus that EVENT_BUS names.
func OpenBus(env *environment.Variables, config aws.Config) *Bus {
	return NewBus(eventbridge.NewFromConfig(config), env.String("EVENT_BUS"))
}

// credentialsDetail is the detail of an event about a registration's credentials.
type credentialsDetail struct {
	Tenant        string                  `json:"tenant"`
	Platform      ott.Platform            `json:"platform"`
	OttPropertyID string                  `json:"ottPropertyId"`
	State         ott.CredentialStateName `json:"state"`
	Since         string                  `json:"since"`
	Reason        string                  `json:"reason,omitempty"`
}

// PutCredentials tells the bus what a platform says of a registration's credentials. It returns EventBridge's error.
func (b *Bus) PutCredentials(ctx context.Context, r ott.StoredRegistration, state ott.CredentialState) error {
	detail, err := json.Marshal(credentialsDetail{
		Tenant: r.Tenant, Platform: r.Platform, OttPropertyID: r.PropertyID,
		State: state.Name, Since: state.Since.UTC().Format(time.RFC3339Nano), Reason: state.Reason,
	})
	if err != nil {
		return err
	}
	out, err := b.client.PutEvents(ctx, &eventbridge.PutEventsInput{Entries: []types.PutEventsRequestEntry{{
		EventBusName: aws.String(b.name), Source: aws.String(eventSource), Time: aws.Time(state.Since),
		DetailType: aws.String(credentialsDetailType), Detail: aws.String(string(detail)),
	}}})
	if err != nil {
		return err
	}
	if out.FailedEntryCount > 0 && len(out.Entries) == 1 {
		return fmt.Errorf("deliver: EventBridge refused an event: %s", aws.ToString(out.Entries[0].ErrorCode))
	}
	return nil
}
