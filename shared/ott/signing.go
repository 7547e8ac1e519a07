package ott

import (
	"time"

	"carillon/shared/secret"
)

// FormerSecret is a secret that signed a registration's callbacks before the registration was overridden.
type FormerSecret struct {
	Secret secret.Text
	Until  time.Time // when it is no longer right
}

// SigningSecrets returns what a platform may sign a registration's callbacks with at a time: Messenger with the
// application secret, LINE with the channel secret or the customer connect secret, and either with what was one of
// these until a short while ago. None of them is empty: anybody could sign with that.
func (c Credentials) SigningSecrets(platform Platform, at time.Time) []secret.Text {
	current := []secret.Text{c.ApplicationSecret}
	if platform == LINE {
		current = []secret.Text{c.ChannelSecret, c.CustomerConnectSecret}
	}
	var secrets []secret.Text
	for _, s := range current {
		if !s.IsZero() {
			secrets = append(secrets, s)
		}
	}
	for _, former := range c.Former {
		if !former.Secret.IsZero() && at.Before(former.Until) {
			secrets = append(secrets, former.Secret)
		}
	}
	return secrets
}

// FormerAfter returns what of these credentials signs on when others take their place at a time: each of their signing
// secrets until the end that is given, and what was former already until its own end, the latest end first. A secret
// that signs with the others too is none of them.
func (c Credentials) FormerAfter(platform Platform, others Credentials, at, until time.Time) []FormerSecret {
	known := map[string]bool{}
	others.Former = nil
	for _, s := range others.SigningSecrets(platform, at) {
		known[s.Reveal()] = true
	}
	var former []FormerSecret
	add := func(s secret.Text, until time.Time) {
		if !known[s.Reveal()] {
			known[s.Reveal()] = true
			former = append(former, FormerSecret{s, until})
		}
	}
	earlier := c.Former
	c.Former = nil
	for _, s := range c.SigningSecrets(platform, at) {
		add(s, until)
	}
	for _, f := range earlier { // in their order, which is that of their ends
		if !f.Secret.IsZero() && at.Before(f.Until) {
			add(f.Secret, f.Until)
		}
	}
	return former
}
