package api

import (
	"context"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"carillon/shared/clientauth"
	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/product"
)

const (
	// maxAnswer is how large a page may be, in bytes of the JSON text that it becomes in Lambda's answer, which may
	// have 6 MB.
	maxAnswer = 5_500_000
	// maxLinks is how long the header Link may be, in bytes. It repeats the query four times; what is longer is left
	// out.
	maxLinks = 8192
)

// Lister gives a page an owner's products; store.Products does.
type Lister interface {
	List(ctx context.Context, tenant, businessID string, filters []product.Filter, page product.Page) error
}

// ListHandler serves GET /dxp-ux/v1/{businessId}/product.
type ListHandler struct {
	Clients  *clientauth.Authenticator
	Catalog  Catalog
	Products Lister
}

// Serve answers the products of the client's tenant in a business unit that match every filter of the query, in the
// order of their ids (docs/contract.md §3, TMF637 v4): at most limit of them from offset on, never more than maxPage or
// than an answer holds, with X-Total-Count, X-Result-Count and, where there are more than are answered, Link.
//
// A count of all that match needs a look at all of the business unit's products, so the time a list takes grows with
// them.
func (h *ListHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	client, business, err := admit(ctx, h.Clients, h.Catalog, r)
	if err != nil {
		return nil, err
	}
	var faults fault.Violations
	parameters := readFaults(r, business, &faults)
	p := &page{query: decodeQuery(parameters, &faults), collection: collectionURL(r)}
	if err := faults.Err(); err != nil {
		return nil, err
	}
	p.offerings = newOfferings(ctx, h.Catalog, business.ID)
	if err := h.Products.List(ctx, client.Tenant, business.ID, p.query.filters, p); err != nil {
		return nil, err
	}
	answer := readAnswer(r, p.products).
		With("x-total-count", strconv.Itoa(p.total)).
		With("x-result-count", strconv.Itoa(len(p.products)))
	if links := p.links(parameters); links != "" && len(links) <= maxLinks {
		answer.With("link", links)
	}
	return answer, nil
}

// page is an answer that is being filled. It is a product.Page.
type page struct {
	query      query
	collection string // URL
	offerings  *offerings

	total    int // of those that match
	products []jsontext.Value
	size     int  // of products, in bytes of Lambda's answer
	cut      bool // there was no room for the next one
}

func (p *page) full() bool { return p.cut || len(p.products) >= p.query.limit }

// Next asks for the number of the next products while nothing else of them matters: before the page, and after it.
func (p *page) Next() (number bool, most int) {
	switch {
	case len(p.query.filters) > 0:
		return false, 0 // nobody knows how many have to be looked at
	case p.total < p.query.offset:
		return true, p.query.offset - p.total
	case p.full():
		return true, 0
	}
	return false, p.query.limit - len(p.products)
}

// Skip counts products that are not looked at.
func (p *page) Skip(products int) { p.total += products }

// Add takes the next product. It returns an error if it cannot be shown, or DynamoDB's.
func (p *page) Add(next product.Shown) error {
	offering, err := p.offerings.of(next.OfferKey, next.Product)
	if err != nil {
		return err
	}
	shown := show(next, p.collection, offering)
	if !p.query.matches(shown) {
		return nil
	}
	p.total++
	if p.total <= p.query.offset || p.full() {
		return nil
	}
	text, err := shown.text(p.query.fields)
	if err != nil {
		return err
	}
	size := escapedSize(text)
	if p.size+size > maxAnswer && len(p.products) > 0 {
		p.cut = true
		return nil
	}
	p.products, p.size = append(p.products, text), p.size+size
	return nil
}

// escapedSize is how many bytes a JSON text has within another one's string, at most.
func escapedSize(text []byte) int {
	size := len(text) + 1 // the comma
	for _, b := range text {
		switch b {
		case '"', '\\':
			size++
		case 0xE2: // the first of three bytes of U+2028 and U+2029, which become six
			size += 3
		}
	}
	return size
}

// links returns the header Link of a page (RFC 8288, TMF630), or "" if there is nothing to page through.
func (p *page) links(parameters url.Values) string {
	q, step := p.query, p.query.limit
	if step == 0 || !q.paged && p.total <= len(p.products) {
		return ""
	}
	last := q.offset % step
	if p.total > last {
		last += (p.total - 1 - last) / step * step
	} else {
		last = 0
	}
	links := []string{p.link(parameters, "first", 0)}
	if q.offset > 0 {
		links = append(links, p.link(parameters, "prev", min(max(q.offset-step, 0), last)))
	}
	if next := q.offset + len(p.products); next < p.total {
		links = append(links, p.link(parameters, "next", next))
	}
	return strings.Join(append(links, p.link(parameters, "last", last)), ", ")
}

func (p *page) link(parameters url.Values, relation string, offset int) string {
	target := url.Values{}
	for name, values := range parameters {
		target[name] = values
	}
	target.Set("offset", strconv.Itoa(offset))
	target.Set("limit", strconv.Itoa(p.query.limit))
	return "<" + p.collection + "?" + target.Encode() + `>; rel="` + relation + `"`
}
