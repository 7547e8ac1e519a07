package deliver

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/line/line-bot-sdk-go/v8/linebot/channel_access_token"

	"carillon/shared/cache"
	"carillon/shared/clock"
	"carillon/shared/secret"
)

const (
	// maxTokens is how many channels' tokens are kept.
	maxTokens = 1000
	// tokenMargin is how long before its end a token is used no more: a call begun with it must arrive before that.
	tokenMargin = time.Minute
)

// lineTokens are the stateless tokens of channels, by the secret that holds a registration's credentials: whoever
// registers a channel again gets tokens of the new credentials. LINE grants as many as one asks for, each for 15
// minutes.
type lineTokens struct {
	client *http.Client
	clock  clock.Clock
	kept   *cache.Cache[lineToken]
}

type lineToken struct {
	value    secret.Text
	lifetime time.Duration
}

func newLINETokens(client *http.Client, clock clock.Clock) *lineTokens {
	return &lineTokens{client: client, clock: clock, kept: cache.New(cache.Options[lineToken]{
		Limit:       maxTokens,
		Keep:        func(t lineToken) time.Duration { return t.lifetime - tokenMargin },
		ReadTimeout: callTimeout,
		Clock:       clock,
	})}
}

// get returns the channel's token, minted once for all who ask at the same time. It returns an error that is *Refused
// or *Again.
func (t *lineTokens) get(ctx context.Context, d Delivery) (secret.Text, error) {
	token, err := t.kept.Get(ctx, d.Registration.SecretName, cache.AnyAge,
		func(ctx context.Context) (lineToken, error) { return t.mint(ctx, d) })
	_, isRefused := errors.AsType[*Refused](err)
	_, isAgain := errors.AsType[*Again](err)
	if err != nil && !isRefused && !isAgain { // ctx's
		return secret.Text{}, broken("LINE", err, neverSent())
	}
	return token.value, err
}

// drop forgets a token that LINE refuses, unless a newer one has taken its place.
func (t *lineTokens) drop(d Delivery, refused secret.Text) {
	t.kept.Drop(d.Registration.SecretName, func(kept lineToken) bool { return kept.value.Reveal() == refused.Reveal() })
}

func (t *lineTokens) mint(ctx context.Context, d Delivery) (lineToken, error) {
	api, err := channel_access_token.NewChannelAccessTokenAPI(channel_access_token.WithHTTPClient(t.client))
	if err != nil {
		return lineToken{}, &Again{Cause: err} // of its own address, which is right
	}
	//nolint:bodyclose // wholeAnswers has closed it
	response, granted, err := api.WithContext(ctx).IssueStatelessChannelTokenWithHttpInfo(
		"client_credentials", "", "", d.Registration.PropertyID, d.Credentials.ChannelSecret.Reveal())
	switch {
	case response == nil:
		return lineToken{}, broken("LINE", err, neverSent())
	case err != nil && isSuccess(response), err == nil && granted.AccessToken == "":
		return lineToken{}, &Again{Cause: errors.New("LINE answered something else than a token"), Trouble: true}
	case err != nil:
		said := lineError(response)
		err = refusal("LINE's token endpoint", response, said, t.clock.Now(), d.Credentials.ChannelSecret)
		if refused, ok := errors.AsType[*Refused](err); ok {
			refused.Credentials = true
		}
		return lineToken{}, err
	}
	return lineToken{
		value:    secret.NewText(granted.AccessToken),
		lifetime: time.Duration(granted.ExpiresIn) * time.Second,
	}, nil
}
