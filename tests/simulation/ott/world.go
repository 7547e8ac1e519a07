package ott

import (
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"

	"carillon/tests/simulation/bubble"
)

// world is a run: all that its parts share. It is safe for concurrent use.
type world struct {
	*bubble.World
	scenario *Scenario
	tables   Tables
	queue    *fifo
	secrets  *secrets
	bus      *bus
	networks *networks

	mu      sync.Mutex
	clients []*clientLog // by order
	told    []*telling   // what Messenger told
	telling atomic.Int64 // callbacks that Messenger has still to send
}

type text struct{ S string }

type key struct{ ID, PK text }

func (k key) String() string { return k.ID.S + k.PK.S }

// readCall finds out what a call of DynamoDB is of.
func (w *world) readCall(_ *bubble.Process, operation string, body []byte) bubble.Call {
	var parsed struct {
		Key, Item     key
		IndexName     string
		TransactItems []map[string]struct{ Key, Item key }
		RequestItems  map[string]struct{ Keys []key }
	}
	_ = json.Unmarshal(body, &parsed) // what cannot be read is of nothing in particular; binary members are not read
	ids := []string{parsed.Key.String() + parsed.Item.String()}
	for _, item := range parsed.TransactItems {
		for _, write := range item {
			ids = append(ids, write.Key.String()+write.Item.String())
		}
	}
	for _, items := range parsed.RequestItems {
		for _, k := range items.Keys {
			ids = append(ids, k.String())
		}
	}
	c := bubble.Call{Name: operation + " " + strings.Join(ids, " ") + parsed.IndexName}
	for _, id := range ids {
		parts := strings.Split(id, "#")
		if len(parts) > 2 && (parts[1] == "message" || parts[1] == "progress") {
			c.ID = parts[2]
		}
	}
	return c
}
