package clientauth_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"carillon/shared/clientauth"
)

func TestRotationKeepsThePreviousSecretForItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("old", "ott_send"))
		pass(365 * 24 * time.Hour)
		v.put("client-1", document("new", "ott_registration_read"))
		a := newAuthenticator(v)

		client := assertGranted(t, a, "client-1", "new")
		assert.Equal(t, []string{"ott_registration_read"}, client.Scopes)
		client = assertGranted(t, a, "client-1", "old")
		assert.Equal(
			t,
			[]string{"ott_registration_read"},
			client.Scopes,
			"what a client may do is what its current version says",
		)
		assertRefused(t, a, "client-1", "wrong")

		pass(window - time.Second)
		assertGranted(t, a, "client-1", "old")
		pass(2 * time.Second)
		assertRefused(t, a, "client-1", "old")
		assertGranted(t, a, "client-1", "new")
	})
}

func TestRotationTwiceEndsTheFirstSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		for _, password := range []string{"first", "second", "third"} {
			v.put("client-1", document(password))
		}
		a := newAuthenticator(v)
		assertGranted(t, a, "client-1", "third")
		assertGranted(t, a, "client-1", "second")
		assertRefused(t, a, "client-1", "first")
	})
}

// A client that uses its new secret right after the rotation is let in, though the old one is kept in memory.
func TestRotationAMomentAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("old", "ott_send"))
		a := newAuthenticator(v)
		assertGranted(t, a, "client-1", "old")
		pass(time.Second)
		v.put("client-1", document("new", "ott_send"))
		assertGranted(t, a, "client-1", "new")
		assertGranted(t, a, "client-1", "old")
	})
}

// A guess has made the process look for a secret before the first one, and keep that there is none.
func TestFirstRotationAMomentAfterAGuess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("old", "ott_send"))
		a := newAuthenticator(v)
		assertRefused(t, a, "client-1", "guess")
		pass(time.Second)
		v.put("client-1", document("new", "ott_send"))
		assertGranted(t, a, "client-1", "new")
		assertGranted(t, a, "client-1", "old")
	})
}

// Only within a second of the last look-up does it have to ask again.
func TestRotationWithinTheRecheckAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("old"))
		a := newAuthenticator(v)
		assertGranted(t, a, "client-1", "old")
		v.put("client-1", document("new"))
		assertRefused(t, a, "client-1", "new")
		pass(time.Second)
		assertGranted(t, a, "client-1", "new")
	})
}

func TestRotationWithoutAWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("old"))
		v.put("client-1", document("new"))
		pass(1)
		a := newAuthenticator(v)
		a.RotationWindow = 0
		assertRefused(t, a, "client-1", "old")
		assertGranted(t, a, "client-1", "new")
	})
}

func TestRotationWhosePreviousSecretIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", `{"secret":""}`)
		v.put("client-1", document("new"))
		a := newAuthenticator(v)
		assertRefused(t, a, "client-1", "old")
		assertGranted(t, a, "client-1", "new")
	})
}

// A client that was removed gets in only as long as the cache keeps it: six minutes at the longest.
func TestRemovedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		v.put("client-1", document("password-1"))
		a := newAuthenticator(v)
		assertGranted(t, a, "client-1", "password-1")
		clear(v.versions)
		pass(6 * time.Minute)
		assertRefused(t, a, "client-1", "password-1")
	})
}

// A client that was just added gets in after fifteen seconds, though it was asked for too early.
func TestAddedClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVault()
		a := newAuthenticator(v)
		assertRefused(t, a, "client-1", "password-1")
		v.put("client-1", document("password-1"))
		pass(15 * time.Second)
		assertGranted(t, a, "client-1", "password-1")
	})
}

func TestGrantScopes(t *testing.T) {
	known := []string{"a", "b", "c"}
	tests := map[string]struct {
		held      []string
		requested string
		granted   []string
		ok        bool
	}{
		"all it holds, in the API's order": {[]string{"c", "a"}, "", []string{"a", "c"}, true},
		"blank is all":                     {[]string{"a"}, " \t ", []string{"a"}, true},
		"one of them":                      {[]string{"a", "b"}, "b", []string{"b"}, true},
		"some, in the API's order":         {[]string{"a", "b", "c"}, "c  a", []string{"a", "c"}, true},
		"one of them twice":                {[]string{"a", "b"}, "b b", []string{"b"}, true},
		"other APIs' scopes are left out":  {[]string{"a", "x"}, "", []string{"a"}, true},
		"one that it lacks":                {[]string{"a"}, "b", nil, false},
		"one that it holds and one not":    {[]string{"a"}, "a b", nil, false},
		"another API's":                    {[]string{"a", "x"}, "x", nil, false},
		"in another case":                  {[]string{"a"}, "A", nil, false},
		"separated by commas":              {[]string{"a", "b"}, "a,b", nil, false},
		"none":                             {nil, "", nil, false},
		"none of this API's":               {[]string{"x"}, "", nil, false},
		"half a scope":                     {[]string{"a"}, "a:PA", nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			granted, ok := clientauth.GrantScopes(clientauth.Client{Scopes: test.held}, known, test.requested)
			assert.Equal(t, test.ok, ok)
			if test.ok {
				assert.Equal(t, test.granted, granted)
			}
			assert.Equal(t, []string{"a", "b", "c"}, known)
		})
	}
}
