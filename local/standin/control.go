package standin

import (
	_ "embed"
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"strings"
)

//go:embed page.html
var pageSource string

// html/template escapes everything that is shown: what partners were sent is not to be trusted.
var page = template.Must(template.New("page").Parse(pageSource))

const (
	// entriesShown is how many of a partner's entries the page shows, the newest ones.
	entriesShown = 20
	// entryShown is how much of one it shows, in bytes.
	entryShown = 4 << 10
)

// section is one partner on the page.
type section struct {
	Name, URL string
	Handsets  []Handset
	Chats     []Chat
	Mails     []Message
	Entries   []string
	More      int // entries that are not shown
}

// Listener is a Partner that can be told more than its next answers.
type Listener interface {
	// Told reads its own members of a JSON object that was POSTed to /_local/{name}; it leaves others alone.
	Told(raw []byte) error
}

// Control serves /_local/: GET of /_local/{name} is what the partner received as a JSON array, oldest first; DELETE
// empties it and its script; POST {"next":[Answer,…]} scripts its next answers, and what else it holds is the partner's
// own, if that is a Listener. /_local/ is a page for a person.
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_local/{$}", s.page)
	mux.Handle("GET /_local", http.RedirectHandler("/_local/", http.StatusMovedPermanently))
	mux.HandleFunc("GET /_local/{name}", s.named(func(w http.ResponseWriter, _ *http.Request, p *scripted) {
		writeJSON(w, http.StatusOK, received(p))
	}))
	mux.HandleFunc("DELETE /_local/{name}", s.named(func(w http.ResponseWriter, _ *http.Request, p *scripted) {
		p.clear()
		w.WriteHeader(http.StatusNoContent)
	}))
	mux.HandleFunc("POST /_local/{name}", s.named(func(w http.ResponseWriter, r *http.Request, p *scripted) {
		var body struct {
			Next []Answer `json:"next"`
		}
		raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err == nil {
			err = json.Unmarshal(raw, &body)
		}
		if listener, listens := p.Partner.(Listener); err == nil && listens {
			err = listener.Told(raw)
		}
		if err == nil {
			err = s.Script(p.Name(), body.Next...)
		}
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"message": err.Error()})
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	return mux
}

func (s *Server) named(serve func(http.ResponseWriter, *http.Request, *scripted)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		p := s.partner(r.PathValue("name"))
		if p == nil {
			writeJSON(w, http.StatusNotFound, map[string]string{"message": "there is no such stand-in"})
			return
		}
		serve(w, r, p)
	}
}

// received is never nil: an empty list is [] in JSON.
func received(p Partner) []any {
	if list := p.Received(); list != nil {
		return list
	}
	return []any{}
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	var sections []section
	for _, p := range s.partners {
		sec := section{Name: p.Name(), URL: s.URL(p.Name())}
		if viewer, is := p.Partner.(interface{ Handsets(n int) []Handset }); is {
			sec.Handsets = viewer.Handsets(handsetsShown)
		}
		if phones, are := p.Partner.(interface{ Chats(n int) []Chat }); are {
			sec.Chats = phones.Chats(chatsShown)
		}
		if mailbox, is := p.Partner.(interface{ Newest(n int) []Message }); is {
			sec.Mails = mailbox.Newest(mailsShown)
		}
		entries := received(p)
		if sec.More = max(0, len(entries)-entriesShown); sec.More > 0 {
			entries = entries[sec.More:]
		}
		for _, entry := range entries {
			raw, err := json.MarshalIndent(entry, "", "  ")
			if err != nil {
				raw = []byte(err.Error())
			}
			sec.Entries = append(sec.Entries, shortened(string(raw)))
		}
		sections = append(sections, sec)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// It holds for the mails too, whose frames have no address of their own: nothing in them runs, and nothing is
	// loaded.
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	_ = page.Execute(w, sections)
}

// shortened cuts a long text, between two characters.
func shortened(s string) string {
	if len(s) <= entryShown {
		return s
	}
	return strings.ToValidUTF8(s[:entryShown], "") + " …"
}
