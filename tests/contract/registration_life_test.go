package contract_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"carillon/local"
	"carillon/provision"
	"carillon/shared/ott"
)

var (
	registrationList   = endpoint{operation: http.MethodGet, path: "/ott/v1/registration/{platform}"}
	registrationGet    = endpoint{operation: http.MethodGet, path: "/ott/v1/registration/{platform}/{ottPropertyId}"}
	registrationDelete = endpoint{operation: http.MethodDelete, path: "/ott/v1/registration/{platform}/{ottPropertyId}"}
)

func propertyPath(platform, id string) string {
	return "/ott/v1/registration/" + platform + "/" + url.PathEscape(id)
}

func get(t *testing.T, c local.DemoClient, platform, id string) answer {
	t.Helper()
	return send(t, registrationGet.at(propertyPath(platform, id)), "", "Authorization", ottBearer(t, c, ""))
}

func remove(t *testing.T, c local.DemoClient, platform, id string) answer {
	t.Helper()
	return send(t, registrationDelete.at(propertyPath(platform, id)), "", "Authorization", ottBearer(t, c, ""))
}

// page is the body of a list.
type page struct {
	Count, Page, PageSize int
	Links                 map[string]struct{ Href string }
	Items                 []json.RawMessage
}

func list(t *testing.T, c local.DemoClient, target string) page {
	t.Helper()
	a := send(t, registrationList.at(target), "", "Authorization", ottBearer(t, c, ""))
	require.Equal(t, 200, a.Status, "%s", a.Body)
	var p page
	require.NoError(t, json.Unmarshal([]byte(a.Body), &p))
	return p
}

// ownTenant is a client whose tenant nobody else is, so that its list holds what the test registers.
func ownTenant(t *testing.T) local.DemoClient {
	t.Helper()
	id := "contract-" + unique()
	secret, err := provision.NewClients(bundle.SecretsManager(), bundle.Demo.AWS.Stack).
		Add(context.Background(), provision.Client{
			ID: id, Tenant: id, Scopes: []string{ott.ScopeRegistrationRead, ott.ScopeRegistrationWrite},
		})
	require.NoError(t, err)
	secrets.add(secret)
	return local.DemoClient{ClientID: id, ClientSecret: secret}
}

func registerAs(t *testing.T, c local.DemoClient, body object) {
	t.Helper()
	for _, name := range []string{"applicationSecret", "pageAccessToken", "callbackVerifyToken", "channelSecret", "customerConnectSecret"} {
		for _, value := range membersNamed(body.text(t), name) {
			secrets.add(value)
		}
	}
	a := send(t, registration, body.text(t), "Authorization", ottBearer(t, c, ""))
	require.Equal(t, 201, a.Status, "%s", a.Body)
}

// shown is how a registration comes back that was never used: its members without the secrets, flags as booleans, and
// apiVersion.
func shown(body object, members ...string) string {
	attributes := body["ottPlatformAttributes"].(object)
	texts := make([]string, len(members))
	for i, member := range members {
		value, _ := json.Marshal(attributes[member])
		texts[i] = fmt.Sprintf("%q:%s", member, value)
	}
	return fmt.Sprintf(
		`{"ottPlatformName":%q,"ottPlatformAttributes":{%s,"apiVersion":"v2.0"},"credentials":{"state":"unknown"}}`,
		body["ottPlatformName"],
		strings.Join(texts, ","),
	)
}

func shownPage(body object) string {
	return shown(body, "applicationId", "pageId", "pageName", "endpointUrl", "isActive")
}

func shownChannel(body object) string {
	return shown(body, "channelId", "channelName", "endpointUrl", "isTransactional", "isTestChannel", "isActive")
}

// docs/contract.md §1: register, get, list, override, delete, and the same id again at once.
func TestRegistrationLife(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		valid      func() object
		shown      func(object) string
		id, naming string
	}{
		"messenger": {messengerPage, shownPage, "pageId", "pageName"},
		"line":      {lineChannel, shownChannel, "channelId", "channelName"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, path := ownTenant(t), "/ott/v1/registration/"+name
			first := test.valid()
			id := dig(first, []any{"ottPlatformAttributes", test.id}).(string)
			secretNames := map[string]bool{}
			for range 2 { // the second time after its deletion
				registerAs(t, c, first)
				require.Equal(t, test.shown(first), get(t, c, name, id).Body)
				secretNames[stringOf(registrationItem(t, name, id)["secretName"])] = true

				second := test.valid().
					set(id, "ottPlatformAttributes", test.id).
					set("Renamed, é \"", "ottPlatformAttributes", test.naming)
				registerAs(t, c, second.set(0, "ottPlatformAttributes", "isActive"))
				want := test.shown(second.set(false, "ottPlatformAttributes", "isActive"))
				a := get(t, c, name, id)
				require.Equal(t, 200, a.Status)
				require.Equal(t, want, a.Body)
				secretNames[stringOf(registrationItem(t, name, id)["secretName"])] = true

				p := list(t, c, path)
				require.Equal(t, 1, p.Count)
				require.Equal(t, want, string(p.Items[0]))

				a = remove(t, c, name, id)
				require.Equal(t, 204, a.Status, "%s", a.Body)
				require.Zero(t, list(t, c, path).Count)
				for _, a := range []answer{get(t, c, name, id), remove(t, c, name, id)} {
					require.Equal(t, 404, a.Status)
					require.JSONEq(
						t,
						`{"message":"The registration does not exist","errorcode":30003,"documentation":""}`,
						a.Body,
					)
				}
			}
			require.Len(t, secretNames, 4, "each registering has a secret of its own")
			for secretName := range secretNames {
				_, err := bundle.SecretsManager().
					GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(secretName)})
				require.Error(t, err, "the credentials are deleted with the registration")
			}
		})
	}
}

// docs/contract.md §1: an id belongs to the tenant that registered it: another gets 403 for a POST and 404 for GET and DELETE.
func TestRegistrationOfAnotherTenant(t *testing.T) {
	t.Parallel()
	body := lineChannel()
	id := dig(body, []any{"ottPlatformAttributes", "channelId"}).(string)
	require.Equal(t, 201, register(t, body.text(t)).Status)
	unknown := get(t, bundle.Demo.OTTOther, "line", unique())
	foreign := get(t, bundle.Demo.OTTOther, "line", id)
	require.Equal(t, 404, foreign.Status)
	require.Equal(t, unknown.Body, foreign.Body, "nobody learns what others have registered")
	a := remove(t, bundle.Demo.OTTOther, "line", id)
	require.Equal(t, 404, a.Status)
	require.Equal(t, unknown.Body, a.Body)
	require.Equal(
		t,
		shownChannel(body),
		get(t, ottTeammate, "line", id).Body,
		"another client of the same tenant sees it, as it was",
	)
	require.Equal(t, 204, remove(t, ottTeammate, "line", id).Status)
	other := send(t, registration, body.text(t), "Authorization", ottBearer(t, bundle.Demo.OTTOther, ""))
	require.Equal(t, 201, other.Status, "an id that was deleted is anybody's: %s", other.Body)
	require.Equal(t, 404, get(t, bundle.Demo.OTT, "line", id).Status)
}

// docs/contract.md §1: {"count","page","pageSize","links":{"self","previous","next"},"items"}.
func TestRegistrationListPages(t *testing.T) {
	t.Parallel()
	c, ids := ownTenant(t), []string{"00", "0042", "a?b=%c é", "z"}
	for _, id := range ids {
		registerAs(t, c, messengerPage().set(unique()[:8]+id, "ottPlatformAttributes", "pageId"))
	}
	registerAs(t, c, lineChannel())
	whole := list(t, c, "/ott/v1/registration/messenger")
	require.Equal(t, []int{4, 1, 50}, []int{whole.Count, whole.Page, whole.PageSize})
	require.Len(t, whole.Items, 4)
	require.Equal(
		t,
		map[string]struct{ Href string }{"self": {"/ott/v1/registration/messenger?%24page=1&%24pagesize=50"}},
		whole.Links,
	)

	// From page to page by the links, there and back.
	var there []json.RawMessage
	target := "/ott/v1/registration/messenger?$pagesize=3"
	first := list(t, c, target)
	require.NotContains(t, first.Links, "previous")
	there = append(there, first.Items...)
	last := list(t, c, first.Links["next"].Href)
	require.NotContains(t, last.Links, "next")
	require.Equal(t, whole.Items, append(there, last.Items...))
	require.Equal(t, first, list(t, c, last.Links["previous"].Href))
	past := list(t, c, "/ott/v1/registration/messenger?$page=7&$pagesize=3")
	require.Equal(t, []int{4, 7, 3, 0}, []int{past.Count, past.Page, past.PageSize, len(past.Items)})
	require.Equal(t, last, list(t, c, past.Links["previous"].Href))
	require.Equal(t, "/ott/v1/registration/messenger?%24page=7&%24pagesize=3", past.Links["self"].Href)

	for _, item := range whole.Items {
		var one struct{ OttPlatformAttributes struct{ PageID string } }
		require.NoError(t, json.Unmarshal(item, &one))
		require.Equal(
			t,
			string(item),
			get(t, c, "messenger", one.OttPlatformAttributes.PageID).Body,
			"an id of any letters is found by its path",
		)
	}
}

// docs/contract.md §1: bad values of the path and of the query are the aggregate's.
func TestRegistrationListInvalid(t *testing.T) {
	t.Parallel()
	bearer := ottBearer(t, bundle.Demo.OTT, "")
	for target, want := range map[string][]string{
		"telegram":                               {"OttPlatformName"},
		"LINE":                                   {"OttPlatformName"},
		"line?$page=0":                           {"Page"},
		"line?$page=two":                         {"Page"},
		"line?%24pagesize=0":                     {"PageSize"},
		"line?%24pagesize=1001":                  {"PageSize"},
		"line?$page=-1&$pagesize=5.0":            {"Page", "PageSize"},
		"telegram?$pagesize=&$page=1e1":          {"OttPlatformName", "Page"},
		"telegram?$pagesize=none&$page=any&$x=y": {"OttPlatformName", "Page", "PageSize"},
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			var faults []fault
			for _, name := range want {
				faults = append(faults, fault{Message: name + " is invalid", ErrorCode: badValue})
			}
			requireFaults(
				t,
				send(t, registrationList.at("/ott/v1/registration/"+target), "", "Authorization", bearer),
				faults,
			)
		})
	}
	for _, e := range []endpoint{registrationGet, registrationDelete} {
		requireFaults(
			t,
			send(t, e.at(propertyPath("telegram", "1")), "", "Authorization", bearer),
			[]fault{{Message: "OttPlatformName is invalid", ErrorCode: badValue}},
		)
	}
}

// docs/contract.md §1, rows "no, bad or expired token" and "token lacks the scope", for list, get and delete.
func TestRegistrationLifeNeedsItsScope(t *testing.T) {
	t.Parallel()
	body := messengerPage()
	id := dig(body, []any{"ottPlatformAttributes", "pageId"}).(string)
	require.Equal(t, 201, register(t, body.text(t)).Status)
	for _, test := range []struct {
		endpoint endpoint
		less     string
	}{
		{registrationList.at("/ott/v1/registration/messenger"), "ott_registration_write ott_send"},
		{registrationGet.at(propertyPath("messenger", id)), "ott_registration_write ott_send"},
		{registrationDelete.at(propertyPath("messenger", id)), "ott_registration_read ott_send"},
	} {
		for name, bearer := range badBearers(t, ottBearer(t, bundle.Demo.OTT, "")) {
			a := send(t, test.endpoint, "", "Authorization", bearer)
			require.Equal(t, 401, a.Status, "%s: %s", name, a.Body)
			require.JSONEq(t, `{"message":"Not Authorized","errorcode":0,"documentation":""}`, a.Body)
		}
		a := send(t, test.endpoint, "", "Authorization", ottBearer(t, bundle.Demo.OTT, test.less))
		require.Equal(t, 403, a.Status)
		require.JSONEq(t, insufficientPrivileges, a.Body)
	}
	require.Equal(t, 200, get(t, bundle.Demo.OTT, "messenger", id).Status)
}

// docs/contract.md §1: 50 registrations of one page, and deletions of it, at the same time leave item and secret of one
// of them, or neither.
func TestRegistrationOverridesAndDeletionsAtOnce(t *testing.T) {
	t.Parallel()
	c, id := ownTenant(t), unique()
	bearer := ottBearer(t, c, "")
	bodies := make([]string, 50)
	for i := range bodies {
		bodies[i] = messengerPage().set(id, "ottPlatformAttributes", "pageId").
			set(fmt.Sprint(i), "ottPlatformAttributes", "pageName").
			set(fmt.Sprint("secret of ", i), "ottPlatformAttributes", "applicationSecret").
			text(t)
	}
	registerAs(t, c, messengerPage().set(id, "ottPlatformAttributes", "pageId"))
	for i, a := range atOnce(t, len(bodies)+5, func(i int) (answer, error) {
		if i >= len(bodies) {
			return exchange(registrationDelete.at(propertyPath("messenger", id)), "", "Authorization", bearer)
		}
		return exchange(registration, bodies[i], "Authorization", bearer)
	}) {
		if i >= len(bodies) {
			require.Contains(t, []int{204, 404}, a.Status, "%s", a.Body)
			continue
		}
		require.Equal(t, 201, a.Status, "%s", a.Body)
	}
	live := 0
	for _, name := range secretsOf(t, "messenger#"+id) {
		if _, err := bundle.SecretsManager().
			GetSecretValue(context.Background(), &secretsmanager.GetSecretValueInput{SecretId: aws.String(name)}); err == nil {
			live++
		}
	}
	if a := get(t, c, "messenger", id); a.Status == 404 {
		require.Zero(t, live)
		return
	}
	item := registrationItem(t, "messenger", id)
	require.Equal(t, 1, live)
	require.Contains(t, secretString(t, stringOf(item["secretName"])), `"secret of `+stringOf(item["name"])+`"`)
}

// secretsOf lists the secrets of a property that are not deleted.
func secretsOf(t *testing.T, property string) []string {
	t.Helper()
	var names []string
	pages := secretsmanager.NewListSecretsPaginator(bundle.SecretsManager(), &secretsmanager.ListSecretsInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(context.Background())
		require.NoError(t, err)
		for _, entry := range page.SecretList {
			if entry.DeletedDate == nil && strings.HasSuffix(aws.ToString(entry.Description), " "+property) {
				names = append(names, aws.ToString(entry.Name))
			}
		}
	}
	return names
}

// docs/contract.md, common: clock skew is tolerated for iat and nbf. That none is for exp is a row of badBearers.
func TestTokenOfASkewedClock(t *testing.T) {
	t.Parallel()
	key := signingKey(t)
	for _, claim := range []string{"iat", "nbf"} {
		skewed := func(good string) string {
			claims := jwt.MapClaims{}
			parsed, _, err := jwt.NewParser().ParseUnverified(good[len("Bearer "):], claims)
			require.NoError(t, err)
			claims[claim] = time.Now().Add(45 * time.Second).Unix()
			skewed := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
			skewed.Header["kid"] = parsed.Header["kid"]
			signed, err := skewed.SignedString(key)
			require.NoError(t, err)
			return "Bearer " + signed
		}
		list := registrationList.at("/ott/v1/registration/line")
		a := send(t, list, "", "Authorization", skewed(ottBearer(t, bundle.Demo.OTT, "")))
		assert.Equal(t, 200, a.Status, "%s of an OTT token: %s", claim, a.Body)
		a = send(t, health, "", "Authorization", skewed(engageBearer(t, bundle.Demo.Engage.DemoClient)))
		assert.Equal(t, 200, a.Status, "%s of an ENGAGE token: %s", claim, a.Body)
	}
}
