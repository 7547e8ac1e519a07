package mail

import (
	"cmp"
	"embed"
	html "html/template"
	"strconv"
	"strings"
	"sync"
	plain "text/template"
	"time"

	"carillon/shared/product"
	"carillon/shared/sanitize"
)

//go:embed mail.*
var files embed.FS

// maxService is how long a service's name may be in a mail, in characters: it is a part of the subject.
const maxService = 100

// rendered is a mail as it is sent.
type rendered struct{ subject, text, html string }

// language is what a mail's words are taken from. Its templates are parsed for the first mail that needs them.
type language struct {
	subject   string // before the service's name
	templates func() templates
	date      func(time.Time) string
}

type templates struct {
	text *plain.Template
	html *html.Template
}

func parse(name string) func() templates {
	return sync.OnceValue(func() templates {
		return templates{
			text: plain.Must(plain.ParseFS(files, "mail."+name+".txt")),
			html: html.Must(html.ParseFS(files, "mail."+name+".html")),
		}
	})
}

var (
	english = language{subject: "Activate ", templates: parse("en"), date: func(t time.Time) string {
		return t.Format("2 January 2006, 15:04")
	}}
	spanish = language{subject: "Active ", templates: parse("es"), date: func(t time.Time) string {
		return strconv.Itoa(t.Day()) + " de " + spanishMonths[t.Month()-1] + t.Format(" de 2006, 15:04")
	}}
)

var spanishMonths = [...]string{
	"enero", "febrero", "marzo", "abril", "mayo", "junio", "julio", "agosto", "septiembre", "octubre", "noviembre",
	"diciembre",
}

// languageOf returns the language of a country.
func languageOf(country string) language {
	switch country {
	case "AR", "BO", "CL", "CO", "CR", "CU", "DO", "EC", "ES", "GQ", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "PY",
		"SV", "UY", "VE":
		return spanish
	}
	return english
}

// render writes a mail: its subject, and its text in two forms that say the same. Nothing in it is loaded from
// elsewhere.
func render(m product.Mail) (rendered, error) {
	language := languageOf(m.BusinessID)
	data := struct{ Subject, Service, Link, Expires string }{
		Service: serviceName(m.Service), Link: m.Link.Reveal(),
	}
	data.Subject = language.subject + data.Service
	if !m.LinkExpires.IsZero() {
		data.Expires = language.date(m.LinkExpires.UTC())
	}
	var text, markup strings.Builder
	if err := language.templates().text.Execute(&text, data); err != nil {
		return rendered{}, err
	}
	if err := language.templates().html.Execute(&markup, data); err != nil {
		return rendered{}, err
	}
	return rendered{subject: data.Subject, text: text.String(), html: markup.String()}, nil
}

// serviceName makes a name fit for a subject: one line of printable characters. It may come from a caller's request.
func serviceName(name string) string {
	return cmp.Or(sanitize.Text(name, maxService), "streaming")
}
