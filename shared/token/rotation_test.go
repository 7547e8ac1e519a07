package token_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/shared/fault"
	"carillon/shared/secret"
)

func TestKeyThatWasRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		before := issue(t, newAuthority(k))
		k.rotate("key-2", "another key of thirty-two bytes!")
		a := newAuthority(k)
		after := issue(t, a)
		for _, signed := range []string{before, after} {
			_, err := authenticate(t, a, signed)
			require.NoError(t, err, "the current key and the one before it verify")
		}
		k.rotate("key-3", "yet another key of many letters!")
		assertRefused(t, newAuthority(k), before)
		_, err := authenticate(t, newAuthority(k), after)
		assert.NoError(t, err)
	})
}

// Another process rotates and issues; this one still keeps the old key and must take the new token.
func TestKeyThatWasRotatedAMomentAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		a := newAuthority(k)
		before := issue(t, a)
		pass(15 * time.Second)
		k.rotate("key-2", "another key of thirty-two bytes!")
		after := issue(t, newAuthority(k))
		_, err := authenticate(t, a, after)
		require.NoError(t, err)
		_, err = authenticate(t, a, before)
		assert.NoError(t, err)
	})
}

// A process that was sent a forged token has looked for a key before the first one and keeps that there is none.
func TestFirstRotationAMomentAfterAForgedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		a := newAuthority(k)
		before := issue(t, a)
		assertRefused(
			t,
			a,
			forge(
				t,
				jwt.SigningMethodHS256,
				[]byte("guess"),
				func(header map[string]any, _ jwt.MapClaims) { header["kid"] = "guess" },
			),
		)
		pass(time.Second)
		k.rotate("key-2", "another key of thirty-two bytes!")
		_, err := authenticate(t, a, issue(t, newAuthority(k)))
		require.NoError(t, err)
		_, err = authenticate(t, a, before)
		assert.NoError(t, err, "nobody is logged out")
	})
}

// One process issues with the key it keeps while another one has read the new key already.
func TestTokenOfAProcessThatKeepsTheOldKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		old := newAuthority(k)
		issue(t, old)
		k.rotate("key-2", "another key of thirty-two bytes!")
		_, err := authenticate(t, newAuthority(k), issue(t, old))
		assert.NoError(t, err)
	})
}

func TestUnknownKeysCostFewReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		a := newAuthority(k)
		signed := issue(t, a)
		for i := range 1000 {
			forged := forge(
				t,
				jwt.SigningMethodHS256,
				[]byte("guess"),
				func(header map[string]any, _ jwt.MapClaims) { header["kid"] = fmt.Sprint("guess", i) },
			)
			assertRefused(t, a, forged)
			pass(10 * time.Millisecond)
		}
		assert.LessOrEqual(
			t,
			k.reads.Load(),
			int64(22),
			"reads in ten seconds: each second the current key, and the one before it, which there is not",
		)
		_, err := authenticate(t, a, signed)
		assert.NoError(t, err)
	})
}

func TestKeyThatCannotBeReadIsNoRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		signed := issue(t, newAuthority(k))
		down := errors.New("Secrets Manager is down")
		k.failure = down
		_, err := authenticate(t, newAuthority(k), signed)
		require.ErrorIs(t, err, down)
		assert.False(t, fault.Is(err, fault.Unauthenticated))

		k.failure = nil
		a := newAuthority(k)
		issue(t, a)
		k.failure = down
		_, err = authenticate(t, a, signed)
		require.NoError(t, err, "a key that is kept still verifies")
		forged := forge(t, jwt.SigningMethodHS512, []byte("x"), func(map[string]any, jwt.MapClaims) {})
		assertRefused(t, a, forged) // what is wrong without a key needs none
	})
}

func TestStackWithoutASigningKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeyring()
		a := newAuthority(k)
		signed := issue(t, a)
		clear(k.versions)
		_, err := newAuthority(k).Issue(t.Context(), client, nil)
		require.ErrorIs(t, err, secret.ErrNotFound)
		_, err = authenticate(t, newAuthority(k), signed)
		require.ErrorIs(t, err, secret.ErrNotFound)
		assert.False(t, fault.Is(err, fault.Unauthenticated), "the stack's fault, not the token's")
	})
}
