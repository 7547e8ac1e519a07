package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"carillon/shared/fault"
	"carillon/shared/httpapi"
	"carillon/shared/ott"
	"carillon/shared/token"
)

// Limits of a page of GET /ott/v1/registration/{platform}: registrations on it, and its number.
const (
	defaultPageSize = 50
	maxPageSize     = 1000
	maxPage         = 1_000_000_000
)

// maxListBody is how large a list's body may be, in bytes: Lambda takes 6 MB of an answer's JSON, in which the body is
// a text with its quotes escaped. A thousand registrations are a tenth of that, unless each has the longest names and
// URL.
const maxListBody = 5 << 20

type listAnswer struct {
	Count    int                  `json:"count"`
	Page     int                  `json:"page"`
	PageSize int                  `json:"pageSize"`
	Links    links                `json:"links"`
	Items    []registrationAnswer `json:"items"`
}

type links struct {
	Self     link  `json:"self"`
	Previous *link `json:"previous,omitempty"`
	Next     *link `json:"next,omitempty"`
}

type link struct {
	Href string `json:"href"`
}

// pageLinks links a page with its neighbours, where there are any; the previous page of one past the end is the last
// one.
func pageLinks(platform ott.Platform, page, pageSize, count int) links {
	to := func(page int) link {
		return link{fmt.Sprintf("/ott/v1/registration/%s?%%24page=%d&%%24pagesize=%d", platform, page, pageSize)}
	}
	last := max((count+pageSize-1)/pageSize, 1)
	l := links{Self: to(page)}
	if page > 1 {
		previous := to(min(page-1, last))
		l.Previous = &previous
	}
	if page < last {
		next := to(page + 1)
		l.Next = &next
	}
	return l
}

// ListHandler serves GET /ott/v1/registration/{platform}.
type ListHandler struct {
	Tokens        *token.Authority
	Registrations lister
}

// lister lists registrations; store.RegistrationReader does.
type lister interface {
	List(
		ctx context.Context, tenant string, platform ott.Platform, page, pageSize int,
	) (registrations []ott.StoredRegistration, count int, err error)
}

// Serve answers a page of the tenant's registrations with a platform, as store.RegistrationReader.List has it: $page (1
// if it is left out) of $pagesize (50) registrations. A page too large for Lambda is refused as a $pagesize that is.
func (h *ListHandler) Serve(ctx context.Context, r *httpapi.Request) (*httpapi.Response, error) {
	grant, err := authorize(ctx, h.Tokens, r, ott.ScopeRegistrationRead)
	if err != nil {
		return nil, err
	}
	var faults fault.Violations
	platform := pathPlatform(r, &faults)
	page := pageNumber(r.QueryParameter("$page"), 1, maxPage, "Page", &faults)
	pageSize := pageNumber(r.QueryParameter("$pagesize"), defaultPageSize, maxPageSize, "PageSize", &faults)
	if err := faults.Err(); err != nil {
		return nil, err
	}
	registrations, count, err := h.Registrations.List(ctx, grant.Tenant, platform, page, pageSize)
	if err != nil {
		return nil, err
	}
	answer := listAnswer{
		Count: count, Page: page, PageSize: pageSize,
		Links: pageLinks(platform, page, pageSize, count),
		Items: make([]registrationAnswer, len(registrations)),
	}
	for i, registration := range registrations {
		answer.Items[i] = answerOf(registration)
	}
	response := httpapi.JSON(http.StatusOK, answer)
	if len(response.Body) > maxListBody {
		faults.Add(fault.BadValue, "PageSize is invalid")
		return nil, faults.Err()
	}
	return response, nil
}

// pageNumber reads a number from 1 to limit of a query, or adds to faults that it is none.
func pageNumber(text string, absent, limit int, name string, faults *fault.Violations) int {
	if text == "" {
		return absent
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > limit {
		faults.Add(fault.BadValue, "%s is invalid", name)
	}
	return n
}
