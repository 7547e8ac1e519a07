package deliver

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/line/line-bot-sdk-go/v8/linebot/channel_access_token"
	"golang.org/x/sync/singleflight"

	"carillon/shared/secret"
)

const (
	// maxTokens is how many channels' tokens are kept.
	maxTokens = 1000
	// tokenMargin is how long before its end a token is used no more: a call begun with it must arrive before that.
	tokenMargin = time.Minute
)

// lineTokens are the stateless tokens of channels, by the secret that holds a registration's credentials: whoever
// registers a channel again gets tokens of the new credentials. LINE grants as many as one asks for, each for 15 minutes.
type lineTokens struct {
	client *http.Client
	clock  Clock
	flight singleflight.Group

	mu     sync.Mutex
	tokens *simplelru.LRU[string, lineToken]
}

type lineToken struct {
	value secret.Text
	until time.Time
}

func newLINETokens(client *http.Client, clock Clock) *lineTokens {
	tokens, err := simplelru.NewLRU[string, lineToken](maxTokens, nil)
	if err != nil {
		panic(err) // only for a limit below 1
	}
	return &lineTokens{client: client, clock: clock, tokens: tokens}
}

// get returns the channel's token, minted once for all who ask at the same time. It returns an error that is *Refused or *Again.
func (t *lineTokens) get(ctx context.Context, d Delivery) (secret.Text, error) {
	name := d.Registration.SecretName
	if kept, ok := t.kept(name); ok {
		return kept, nil
	}
	result := t.flight.DoChan(name, func() (any, error) {
		if kept, ok := t.kept(name); ok { // minted since it was looked for
			return kept, nil
		}
		// Not the caller's context: the others who wait must not fail with it. The client's time-out bounds it.
		return t.mint(context.WithoutCancel(ctx), d)
	})
	select {
	case <-ctx.Done():
		return secret.Text{}, broken("LINE", ctx.Err())
	case r := <-result:
		value, _ := r.Val.(secret.Text)
		return value, r.Err
	}
}

func (t *lineTokens) kept(name string) (secret.Text, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept, known := t.tokens.Get(name)
	return kept.value, known && t.clock.Now().Before(kept.until)
}

// drop forgets a token that LINE refuses, unless a newer one has taken its place.
func (t *lineTokens) drop(d Delivery, token secret.Text) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if kept, known := t.tokens.Get(d.Registration.SecretName); known && kept.value.Reveal() == token.Reveal() {
		t.tokens.Remove(d.Registration.SecretName)
	}
}

func (t *lineTokens) mint(ctx context.Context, d Delivery) (secret.Text, error) {
	api, err := channel_access_token.NewChannelAccessTokenAPI(channel_access_token.WithHTTPClient(t.client))
	if err != nil {
		return secret.Text{}, err
	}
	asked := t.clock.Now()
	response, granted, err := api.WithContext(ctx).IssueStatelessChannelTokenWithHttpInfo( //nolint:bodyclose // wholeAnswers has closed it
		"client_credentials", "", "", d.Registration.PropertyID, d.Credentials.ChannelSecret.Reveal())
	switch {
	case response == nil:
		return secret.Text{}, broken("LINE", err)
	case err != nil && response.StatusCode >= 200 && response.StatusCode <= 299, err == nil && granted.AccessToken == "":
		return secret.Text{}, &Again{Cause: errors.New("LINE answered something else than a token")}
	case err != nil:
		return secret.Text{}, refusal("LINE's token endpoint", response, lineError(response), d.Credentials.ChannelSecret)
	}
	value := secret.NewText(granted.AccessToken)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens.Add(d.Registration.SecretName, lineToken{value: value, until: asked.Add(time.Duration(granted.ExpiresIn)*time.Second - tokenMargin)})
	return value, nil
}
