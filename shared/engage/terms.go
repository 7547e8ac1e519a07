package engage

import "time"

// Terms are when a push is delivered, and how: they are the same for all of its chunks, and never change.
type Terms struct {
	NotBefore     time.Time // when it was accepted, or later
	TTLSeconds    int
	KeepAfterCall bool
}

// DeliverBefore is when what is not delivered expires.
func (t Terms) DeliverBefore() time.Time {
	return t.NotBefore.Add(time.Duration(t.TTLSeconds) * time.Second)
}
