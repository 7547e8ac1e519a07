package product_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"carillon/shared/product"
)

// withContacts is a body whose billing account has these contacts.
func withContacts(contacts ...string) string {
	return `{"productSpecification":{"id":"p"},"@baseType":"product","@type":"OTT","@referredType":"DISNEY",` +
		`"billingAccount":{"id":"1","contact":[` + strings.Join(contacts, ",") + `]}}`
}

// contact has members, may be none, and media.
func contact(members string, media ...string) string {
	return `{` + members + `"contactMedium":[` + strings.Join(media, ",") + `]}`
}

// mail is a medium of an address with members, may be none.
func mail(name, members string) string {
	return `{` + members + `"characteristic":{"emailAddress":"` + name + `@b.co"}}`
}

const (
	phone     = `{"mediumType":"telephoneNumber","characteristic":{"phoneNumber":"+5071234567"}}`
	primary   = `"contactType":"primary",`
	preferred = `"preferred":true,`
	past      = `"validFor":{"startDateTime":"2025-01-01T00:00:00Z","endDateTime":"2026-11-30T09:59:59.999Z"},`
	future    = `"validFor":{"startDateTime":"2026-11-30T10:00:00.001Z"},`
)

// docs/contract.md §3: the mail goes to the contact that is meant.
func TestTheMailGoesToTheContactThatIsMeant(t *testing.T) {
	for name, test := range map[string]struct {
		contacts []string
		meant    string
		shown    []string // the addresses of each contact, those of one parted by blanks
	}{
		"the first of equals": {[]string{contact("", mail("a", ""), mail("b", "")), contact("", mail("c", ""))}, "a",
			[]string{"a b", "c"}},
		"primary before others": {[]string{contact(`"contactType":"secondary",`, mail("a", preferred)),
			contact(primary, mail("b", ""), mail("c", ""))}, "b", []string{"a", "b c"}},
		"primary in capitals": {[]string{contact("", mail("a", "")),
			contact(`"contactType":"Primary",`, mail("b", ""))}, "b", []string{"a", "b"}},
		"the first primary": {[]string{contact(primary, mail("a", "")), contact(primary, mail("b", ""))}, "a",
			[]string{"a", "b"}},
		"preferred before others": {[]string{contact(primary, mail("a", ""), mail("b", `"preferred":false,`),
			mail("c", preferred), mail("d", preferred))}, "c", []string{"a b c d"}},
		"preferred of another primary": {[]string{contact(primary, mail("a", "")), contact(primary,
			mail("b", preferred))}, "b", []string{"a", "b"}},
		"a contact that was": {[]string{contact(primary+past, mail("a", preferred)), contact("", mail("b", ""))}, "b",
			[]string{"a", "b"}},
		"a contact that will be": {[]string{contact(primary+future, mail("a", "")), contact("", mail("b", ""))}, "b",
			[]string{"a", "b"}},
		"a medium that was":     {[]string{contact(primary, mail("a", preferred+past), mail("b", ""))}, "b", []string{"a b"}},
		"a medium that will be": {[]string{contact("", mail("a", future), mail("b", ""))}, "b", []string{"a b"}},
		"a contact that was, a medium that is": {[]string{contact(past, mail("a", `"validFor":{},`)),
			contact("", mail("b", ""))}, "b", []string{"a", "b"}},
		"valid from now": {[]string{contact(`"validFor":{"startDateTime":"2026-11-30T10:00:00Z"},`, mail("a", ""))},
			"a", []string{"a"}},
		"valid until now": {[]string{contact(`"validFor":{"endDateTime":"2026-11-30T10:00:00+0000"},`, mail("a", ""))},
			"a", []string{"a"}},
		"valid until a day's end": {[]string{contact(`"validFor":{"endDateTime":"2026-11-30"},`, mail("a", ""))}, "a",
			[]string{"a"}},
		"valid since yesterday's end": {[]string{contact(`"validFor":{"startDateTime":"2026-11-30","endDateTime":null},`,
			mail("a", ""))}, "a", []string{"a"}},
		"no end at all": {[]string{contact(`"validFor":null,`, mail("a", `"validFor":{},"preferred":null,`))}, "a",
			[]string{"a"}},
		"other media": {[]string{contact(primary, phone, mail("a", "")), contact("", phone),
			contact("", `{"mediumType":"postalAddress"}`, mail("b", ""))}, "a", []string{"a", "b"}},
		"an address of another medium": {[]string{contact(primary, mail("a", `"mediumType":"fax",`), mail("b", ""))},
			"b", []string{"b"}},
		"names of mail": {[]string{contact("", mail("a", `"mediumType":"Email",`), mail("b", `"mediumType":"e-mail",`),
			mail("c", `"mediumType":"emailAddress",`), mail("d", `"mediumType":" ",`),
			mail("e", `"mediumType":null,`))}, "a", []string{"a b c d e"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := product.DecodeProduct(strings.NewReader(withContacts(test.contacts...)), now)
			require.NoError(t, err)
			assert.Equal(t, test.meant+"@b.co", p.Email())
			var shown []string
			for _, c := range p.BillingAccount.Contacts {
				shown = append(shown, strings.ReplaceAll(strings.Join(c.Emails, " "), "@b.co", ""))
			}
			assert.Equal(t, test.shown, shown)
		})
	}
}

func TestDecodeProductRefusesContactsThatNobodyIsMeantBy(t *testing.T) {
	const nobody = "billingAccount.contact must have an emailAddress that is valid now"
	const first = "billingAccount.contact[0]."
	tests := map[string]struct {
		contacts []string
		want     []string
	}{
		"phones alone":     {[]string{contact("", phone)}, []string{emailMember + " must be provided"}},
		"all of them past": {[]string{contact(past, mail("a", "")), contact("", mail("b", past))}, []string{nobody}},
		"an empty period": {
			[]string{contact(`"validFor":{"startDateTime":"2027-01-01","endDateTime":"2026-01-01"},`, mail("a", ""))},
			[]string{nobody},
		},
		"a bad address past": {
			[]string{contact(past, `{"characteristic":{"emailAddress":"x"}}`), contact("", mail("b", ""))},
			[]string{emailMember + " must be an email address"},
		},
		"mail with no address": {[]string{contact("", `{"mediumType":"email","characteristic":{}}`)},
			[]string{emailMember + " must be provided"}},
		"odd members": {[]string{contact(`"validFor":[],`, mail("a", `"mediumType":5,"preferred":"yes",`))}, []string{
			first + "validFor must be an object", first + "contactMedium[0].mediumType must be a string",
			first + "contactMedium[0].preferred must be a boolean",
		}},
		"odd times": {[]string{contact(`"validFor":{"startDateTime":5,"endDateTime":"tomorrow"},`, mail("a", ""))},
			[]string{
				first + "validFor.startDateTime must be a time as RFC 3339 has it",
				first + "validFor.endDateTime must be a time as RFC 3339 has it",
			}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := product.DecodeProduct(strings.NewReader(withContacts(test.contacts...)), now)
			assert.Equal(t, test.want, messages(t, err))
		})
	}
}

// Whatever the contacts, who is meant is who a plain look at all of them finds.
func TestWhoIsMeantAgreesWithAPlainLook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type medium struct {
			email string
			rank  int // the lower the better
		}
		var media []medium
		var contacts []string
		period := func() (text string, valid bool) {
			from := now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "from")) * time.Hour)
			to := now.Add(time.Duration(rapid.IntRange(-2, 2).Draw(t, "to")) * time.Hour)
			if rapid.Bool().Draw(t, "always") {
				return "", true
			}
			return fmt.Sprintf(`"validFor":{"startDateTime":%q,"endDateTime":%q},`, from.Format(time.RFC3339),
				to.Format(time.RFC3339)), !from.After(now) && !to.Before(now)
		}
		for range rapid.IntRange(1, 4).Draw(t, "contacts") {
			var own []string
			members, contactValid := period()
			rank := 2
			if rapid.Bool().Draw(t, "primary") {
				members, rank = members+primary, 0
			}
			for range rapid.IntRange(1, 3).Draw(t, "media") {
				mediumMembers, valid := period()
				m := medium{fmt.Sprintf("m%d", len(media)), rank + 1}
				if rapid.Bool().Draw(t, "preferred") {
					mediumMembers, m.rank = mediumMembers+preferred, rank
				}
				if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
					mediumMembers, valid = mediumMembers+`"mediumType":"sms",`, false
				}
				if !valid || !contactValid {
					m.rank = 9
				}
				media, own = append(media, m), append(own, mail(m.email, mediumMembers))
			}
			contacts = append(contacts, contact(members, own...))
		}
		want := slices.MinFunc(media, func(a, b medium) int { return a.rank - b.rank }) // the first of equals
		p, err := product.DecodeProduct(strings.NewReader(withContacts(contacts...)), now)
		if want.rank == 9 {
			if err == nil {
				t.Fatalf("%s is meant of nobody", p.Email())
			}
			return
		}
		if err != nil || p.Email() != want.email+"@b.co" {
			t.Fatalf("%s is meant, not %s: %v", p.Email(), want.email, err)
		}
	})
}
