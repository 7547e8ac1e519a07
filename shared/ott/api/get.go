package api

import (
	"context"
	"net/http"
	"time"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// apiVersion is what every registration is shown with.
const apiVersion = "v2.0"

// registrationAnswer is a registration as the API shows it: none of its credentials is a member.
type registrationAnswer struct {
	OttPlatformName       ott.Platform      `json:"ottPlatformName"`
	OttPlatformAttributes any               `json:"ottPlatformAttributes"`
	Credentials           credentialsAnswer `json:"credentials"`
}

// credentialsAnswer is what the platform last said of a registration's credentials.
type credentialsAnswer struct {
	State  ott.CredentialStateName `json:"state"`
	Since  string                  `json:"since,omitempty"` // not while the state is unknown
	Reason string                  `json:"reason,omitempty"`
}

type messengerAnswer struct {
	ApplicationID string `json:"applicationId"`
	PageID        string `json:"pageId"`
	PageName      string `json:"pageName"`
	EndpointURL   string `json:"endpointUrl"`
	IsActive      bool   `json:"isActive"`
	APIVersion    string `json:"apiVersion"`
}

type lineAnswer struct {
	ChannelID       string `json:"channelId"`
	ChannelName     string `json:"channelName"`
	EndpointURL     string `json:"endpointUrl"`
	IsTransactional bool   `json:"isTransactional"`
	IsTestChannel   bool   `json:"isTestChannel"`
	IsActive        bool   `json:"isActive"`
	APIVersion      string `json:"apiVersion"`
}

func answerOf(r ott.StoredRegistration) registrationAnswer {
	credentials := credentialsAnswer{State: r.Credentials.Name, Reason: r.Credentials.Reason}
	if !r.Credentials.Since.IsZero() {
		credentials.Since = wireTime(r.Credentials.Since)
	}
	answer := registrationAnswer{OttPlatformName: r.Platform, Credentials: credentials}
	if r.Platform == ott.LINE {
		answer.OttPlatformAttributes = lineAnswer{
			ChannelID: r.PropertyID, ChannelName: r.Name, EndpointURL: r.EndpointURL,
			IsTransactional: r.IsTransactional, IsTestChannel: r.IsTestChannel, IsActive: r.IsActive,
			APIVersion: apiVersion,
		}
		return answer
	}
	answer.OttPlatformAttributes = messengerAnswer{
		ApplicationID: r.ApplicationID, PageID: r.PropertyID, PageName: r.Name, EndpointURL: r.EndpointURL,
		IsActive: r.IsActive, APIVersion: apiVersion,
	}
	return answer
}

// wireTime is a time as the OTT API shows it.
func wireTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

// GetHandler serves GET /ott/v1/registration/{platform}/{ottPropertyId}.
type GetHandler struct {
	Tokens        *token.Authority
	Registrations registrations
}

// registrations reads a registration; store.RegistrationReader does.
type registrations interface {
	Get(ctx context.Context, platform ott.Platform, propertyID string) (ott.StoredRegistration, error)
}

// Serve answers a registration as it is now, without its credentials. One that another tenant holds is answered as one
// that nobody has (docs/contract.md §1, row "unknown registration"), so that nobody learns who is registered.
func (h *GetHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeRegistrationRead)
	if err != nil {
		return nil, err
	}
	platform, propertyID, err := pathProperty(r)
	if err != nil {
		return nil, err
	}
	registration, err := h.Registrations.Get(ctx, platform, propertyID)
	if err != nil {
		return nil, err
	}
	if registration.Tenant != grant.Tenant {
		return nil, fault.New(fault.NotFound, "")
	}
	return httpapi.JSON(http.StatusOK, answerOf(registration)), nil
}
