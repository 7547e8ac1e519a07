package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"carillon/provision"
)

// ClientCmd groups what can be done to API clients.
type ClientCmd struct {
	Add    ClientAddCmd    `cmd:"" help:"Add a client; its generated secret is shown once."`
	List   ClientListCmd   `cmd:"" help:"List the clients, without their secrets."`
	Rotate ClientRotateCmd `cmd:"" help:"Give a client a new secret; the one until now stays valid for a while."`
	Remove ClientRemoveCmd `cmd:"" help:"Remove a client and its secrets for good."`
}

// Output is how a command prints what it has to say.
type Output struct {
	Output string `enum:"text,json" default:"text" short:"o" help:"Format on standard output: ${enum}."`
}

func (o Output) json() bool { return o.Output == "json" }

// issued is what add and rotate print, once.
type issued struct {
	ClientID     string   `json:"clientId"`
	ClientSecret string   `json:"clientSecret"`
	Tenant       string   `json:"tenant,omitempty"`
	Scopes       []string `json:"scopes,omitempty"`
	// PreviousValidUntil is when the secret until now stops working.
	PreviousValidUntil *time.Time `json:"previousValidUntil,omitempty"`
}

// print writes the secret alone to standard output, so that it can be piped, or all of it as JSON.
func (c issued) print(streams *Streams, o Output) error {
	if o.json() {
		return printJSON(streams.Out, c)
	}
	_, err := fmt.Fprintln(streams.Out, c.ClientSecret)
	return err
}

// ClientAddCmd adds a client.
type ClientAddCmd struct {
	ID     string   `arg:"" name:"id" help:"The client id: 5 to 128 letters, digits, _ . @ -"`
	Tenant string   `required:"" placeholder:"TENANT" help:"On whose behalf it calls; for ENGAGE the provider. 1 to 64 letters, digits, _ . -"`
	Scope  []string `required:"" placeholder:"SCOPE" help:"What it may do; repeat for more."`
	Output
}

// Help is the long help.
func (ClientAddCmd) Help() string {
	return `The secret, 256 random bits, is written to standard output and kept in Secrets Manager; nothing shows it again.

Scopes: ` + provision.KnownScopes() + `.

Example:

    carillon client add acme-ott --tenant acme --scope ott_registration_write --scope ott_registration_read
    carillon client add acme-shop --tenant acme --scope dxp_product:PA > acme-shop.secret`
}

// Validate refuses a client that cannot be, before anything is called. What is missing altogether is the parser's to
// say.
func (c *ClientAddCmd) Validate() error {
	if c.ID == "" || c.Tenant == "" || len(c.Scope) == 0 {
		return nil
	}
	return c.client().Check()
}

func (c *ClientAddCmd) client() provision.Client {
	return provision.Client{ID: c.ID, Tenant: c.Tenant, Scopes: c.Scope}
}

// Run adds the client.
func (c *ClientAddCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	if err := b.clients.StackExists(ctx); err != nil {
		return err
	}
	secret, err := b.clients.Add(ctx, c.client())
	if err != nil {
		return err
	}
	note(streams, "Added client %s of tenant %s to %s. Its secret is shown this once:", c.ID, c.Tenant, b.where)
	return issued{ClientID: c.ID, ClientSecret: secret, Tenant: c.Tenant, Scopes: c.Scope}.print(streams, c.Output)
}

// ClientListCmd lists the clients.
type ClientListCmd struct {
	Output
}

// Help is the long help.
func (ClientListCmd) Help() string {
	return `Reads no secret, and needs no right to. Times are UTC.

Example:

    carillon client list
    carillon client list --output json --stack carillon-test`
}

// Run lists the clients.
func (c *ClientListCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	clients, err := b.clients.List(ctx)
	if err != nil {
		return err
	}
	if c.json() {
		return printJSON(streams.Out, clients)
	}
	if len(clients) == 0 {
		note(streams, "No clients in %s. `carillon client add` adds one.", b.where)
		return nil
	}
	table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "CLIENT\tTENANT\tSCOPES\tCREATED\tROTATED")
	for _, client := range clients {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", client.ID, orDash(client.Tenant),
			orDash(strings.Join(client.Scopes, ",")), moment(client.Created), moment(client.Rotated))
	}
	return table.Flush()
}

// ClientRotateCmd gives a client a new secret.
type ClientRotateCmd struct {
	ID     string        `arg:"" name:"id" help:"The client id."`
	Window time.Duration `default:"24h" placeholder:"DURATION" help:"The stack's rotation window, only to say until when the former secret works (${default})."`
	Output
}

// Help is the long help.
func (ClientRotateCmd) Help() string {
	return `The new secret is written to standard output, once. The one until now stays valid for the stack's rotation
window (24h unless the stack was deployed with another), so the partner can change over without a gap. The one
before that stops working at once.

If a secret has leaked, rotate twice: then the leaked one is no longer the former one. Functions may accept it
a few minutes more, as long as they keep what they have read.

Example:

    carillon client rotate acme-ott > acme-ott.secret`
}

// Run rotates the secret.
func (c *ClientRotateCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	last, err := b.clients.Rotated(ctx, c.ID)
	if err != nil {
		return err
	}
	secret, err := b.clients.Rotate(ctx, c.ID)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	until := now.Add(c.Window).Truncate(time.Second)
	if !last.IsZero() && last.Add(c.Window).After(now) {
		note(
			streams,
			"The secret from before %s was still valid and has stopped working with this second rotation.",
			moment(last),
		)
	}
	note(
		streams,
		"Rotated client %s in %s. The secret until now stays valid until %s. The new one is shown this once:",
		c.ID,
		b.where,
		moment(until),
	)
	return issued{ClientID: c.ID, ClientSecret: secret, PreviousValidUntil: &until}.print(streams, c.Output)
}

// ClientRemoveCmd removes a client.
type ClientRemoveCmd struct {
	ID string `arg:"" name:"id" help:"The client id."`
}

// Help is the long help.
func (ClientRemoveCmd) Help() string {
	return `Deletes the client's secrets without a recovery period: they never work again, even if a client of the same id
is added, which is possible at once. Functions may accept the client a few minutes more, as long as they keep
what they have read, and tokens that it holds live out their minutes.

Example:

    carillon client remove acme-ott`
}

// Run removes the client.
func (c *ClientRemoveCmd) Run(ctx context.Context, streams *Streams, target *Target) error {
	b, err := target.open(ctx)
	if err != nil {
		return err
	}
	if err := b.clients.Remove(ctx, c.ID); err != nil {
		return err
	}
	note(streams, "Removed client %s from %s.", c.ID, b.where)
	return nil
}

// note tells a person something; scripts read standard output.
func note(streams *Streams, format string, args ...any) {
	_, _ = fmt.Fprintf(streams.Err, format+"\n", args...)
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z")
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
